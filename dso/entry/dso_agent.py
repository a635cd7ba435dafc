"""Start of `dso-agent`."""

import os
import sys


def run() -> int:
    """Run the agent and return its exit code; no exception gets past this function, since its text may hold a value."""
    try:
        sys.excepthook = sys.unraisablehook = _say_nothing_of_values
        from dso.agent.main import main

        code = main(sys.argv)
        sys.stdout.flush()
    except BaseException as error:  # noqa: BLE001  # see above
        _say_nothing_of_values(type(error))
        return 70
    return code


def _say_nothing_of_values(*details: object) -> None:
    """For exceptions that nobody else catches."""
    first = details[0]  # an exception's class, or an object with one
    kind = first if isinstance(first, type) else getattr(first, "exc_type", type(first))
    try:
        os.write(2, f"Error: dso-agent failed in a way it should not: {kind.__name__}\n".encode())
    except OSError:
        return  # there is nobody to tell


if __name__ == "__main__":
    os._exit(run())  # nothing is left to clear up
