"""Start of `dso-agent`."""

import os
import sys

from dso.entry import failure


def run() -> int:
    """Run the agent and return its exit code; no exception gets past this function, since its text may hold a value."""
    try:
        sys.excepthook, sys.unraisablehook = failure.end, failure.ignored
        from dso.agent.main import main

        code = main(sys.argv)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # see above
        return failure.report(error)
    return code


if __name__ == "__main__":
    os._exit(run())  # nothing is left to clear up
