"""Start of `docker-dso`: answers Docker at once, else runs the command line."""

import os
import sys

from dso.entry.metadata import answer_and_exit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

BROKEN_PIPE = 141  # 128 + SIGPIPE: how a shell sees `cat` end when nobody reads on


def run() -> int:
    """Run the command line and return its exit code; no exception gets past this function.

    What anybody further out would print, the interpreter or the boot loader, may hold a secret's value.
    """
    try:
        sys.excepthook, sys.unraisablehook = _end, _ignored
        _take_interrupts()
        sys.modules["gettext"] = _untranslated()
        from dso.cli.main import main
        from dso.system.memory import forbid_core_files

        forbid_core_files()
        return _flush(main(sys.argv))
    except BrokenPipeError:
        return BROKEN_PIPE
    except BaseException as error:  # noqa: BLE001  # see above
        from dso.entry.failure import report

        return report(error)


def _flush(code: int) -> int:
    """Write out what is buffered; FileAccessError if that fails."""
    try:
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # it is None when the descriptor is closed
                stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        from dso.errors import FileAccessError

        raise FileAccessError(f"cannot write the output: {error.strerror}") from None
    return code


def _end(*details: object) -> None:
    from dso.entry.failure import end

    end(*details)


def _ignored(*details: object) -> None:
    from dso.entry.failure import ignored

    ignored(*details)


def _take_interrupts() -> None:
    """Turn ^C into KeyboardInterrupt again, unless our parent has us ignore it.

    Until here it just ends the process, since the boot loader leaves it so: there is nothing yet to be told about.
    """
    from _signal import SIG_DFL, SIGINT, default_int_handler, getsignal, signal  # type: ignore[import-not-found]

    if getsignal(SIGINT) == SIG_DFL:
        signal(SIGINT, default_int_handler)


def _untranslated() -> "ModuleType":
    """Stands in for gettext, in which argparse looks up each of its words: 4 ms for nothing, DSO speaks English."""
    module = type(sys)("gettext")
    vars(module).update(gettext=lambda text: text, ngettext=lambda one, many, count: one if count == 1 else many)
    return module


if __name__ == "__main__":
    answer_and_exit(sys.argv)
    os._exit(run())  # without the interpreter's own clearing up, which takes longer than many commands
