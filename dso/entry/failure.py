"""How a program ends of an exception that nothing else deals with: with a line, and never with a traceback.

An exception's text may hold a secret's value; those of `dso.errors` never do.
"""

from posix import _exit, write

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

INTERRUPTED = 130  # 128 + SIGINT


def report(error: BaseException) -> int:
    """Say what happened; the exit code that goes with it."""
    from dso.errors import DsoError

    if isinstance(error, KeyboardInterrupt):
        return INTERRUPTED
    if isinstance(error, DsoError):
        tell("".join([f"Error: {error.message}\n", *(f"  hint: {line}\n" for line in error.hint.splitlines())]))
        return error.code
    _tell_of_defect(type(error))
    return DsoError.code


def tell(text: str) -> None:
    """Write to stderr, whatever has become of `sys.stderr`."""
    try:
        write(2, text.encode("utf-8", "surrogateescape"))
    except OSError:
        return  # there is nobody to tell


def end(*details: object) -> "NoReturn":
    """For `sys.excepthook`."""
    error = details[1]
    _exit(report(error if isinstance(error, BaseException) else SystemError()))


def ignored(*details: object) -> None:
    """For `sys.unraisablehook` and `threading.excepthook`: an exception in a destructor, a callback or a thread.

    A ^C that came just then would be lost with it, so it ends the process, as SIGKILL may at any time.
    """
    kind: object = getattr(details[0], "exc_type", None)
    if kind is KeyboardInterrupt:
        _exit(INTERRUPTED)
    _tell_of_defect(kind if isinstance(kind, type) else type(details[0]))


def _tell_of_defect(kind: type) -> None:
    tell(f"Error: DSO failed in a way it should not: {kind.__name__}\n")
