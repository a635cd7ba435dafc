"""Values that leave DSO: as a file of the user's own, or on standard output."""

from __future__ import annotations

import os
import sys

from dso.errors import FileAccessError, FileExistsRefusedError, UnsuitableValueError

STDOUT = "-"


def write_out(content: bytes, output: str, *, force: bool) -> None:
    """Write to standard output (`-`), or to a file that only its owner can read (0600).

    Raises:
        UnsuitableValueError: standard output is a terminal, which would not show them as they are.
        FileExistsRefusedError: the file exists, and `force` is not set.
        FileAccessError: it cannot be written.
    """
    if output == STDOUT:
        if os.isatty(1):
            check_showable(content, "one of the values", "write them to a file: -o FILE")
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        _write_file(output, content, force=force)


def write_value(value: bytes, name: str, to_file: str) -> None:
    """Write a secret's value to standard output, byte for byte; a terminal gets a newline after it.

    Args:
        value: the bytes.
        name: what errors call it.
        to_file: the command that writes it to a file.

    Raises:
        UnsuitableValueError: standard output is a terminal, and would do something else than show it.
        FileAccessError: it cannot be written.
    """
    from dso.system.files import reason, write_all

    on_terminal = os.isatty(1)
    if on_terminal:
        check_showable(value, name, to_file)
    if sys.stdout is not None:
        sys.stdout.flush()
    try:
        write_all(1, value + b"\n" if on_terminal else value)
    except BrokenPipeError:
        raise
    except OSError as error:
        raise FileAccessError(f"cannot write to standard output: {reason(error)}") from error


def check_showable(value: bytes, name: str, to_file: str) -> None:
    """Raise UnsuitableValueError if a terminal would not show it as it is: no text, or something that steers it."""
    if is_text(value):
        text = value.decode().replace("\r\n", "\n")
        if all(each.isprintable() or each in "\t\n" for each in text):
            return
    raise UnsuitableValueError(f"{name} has bytes that a terminal cannot show", hint=to_file)


def warn_of_plaintext(output: str) -> None:
    """Say what is in a file now, and what to do about it."""
    from dso.cli.output import warn

    warn(f"{output} holds them in plaintext: remove it when it is no longer needed, and keep it out of Git")


def is_text(value: bytes) -> bool:
    """Whether it is UTF-8."""
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def fault_as_variable(value: bytes) -> str:
    """Why a value cannot be a variable's; "" if it can."""
    if b"\x00" in value:
        return "has a NUL byte, which no variable can hold"
    return "" if is_text(value) else "is not UTF-8 text"


def _write_file(path: str, content: bytes, *, force: bool) -> None:
    from dso.system.files import reason, write_atomic, write_new

    try:
        if not force:
            write_new(path, content, nameless=True)
        elif os.path.lexists(path) and not os.path.isfile(path):
            raise FileAccessError(f"{path} is no regular file", hint="leave -o out to write to standard output")
        else:
            write_atomic(os.path.realpath(path), content, nameless=True)
    except FileExistsError:
        raise FileExistsRefusedError(f"{path} exists", hint="--force replaces it") from None
    except OSError as error:
        raise FileAccessError(f"cannot write {path}: {reason(error)}") from error
