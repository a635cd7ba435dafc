"""Start of `docker-dso`: answer Docker at once, else run the command line."""

import os
import sys

from dso.entry.metadata import answer_and_exit

BROKEN_PIPE = 141  # 128 + SIGPIPE, as a shell sees `cat` end when nobody reads on
INTERRUPTED = 130
UNEXPECTED = 70


def run() -> int:
    """Run the command line; nothing it raises gets past this function."""
    try:
        from dso.cli.main import main

        return flush(main(sys.argv))
    except BrokenPipeError:
        return BROKEN_PIPE
    except KeyboardInterrupt:
        return INTERRUPTED
    except BaseException as error:  # noqa: BLE001  # a traceback, which anybody else would print, may show values
        os.write(2, f"Error: DSO failed in a way it should not: {type(error).__name__}\n".encode())
        return UNEXPECTED


def flush(code: int) -> int:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    return code


if __name__ == "__main__":
    answer_and_exit(sys.argv)
    os._exit(run())  # skips the interpreter's own clearing up, which takes longer than many commands
