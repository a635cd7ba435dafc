"""Values that leave DSO: as a file of the user's own, or on standard output."""

from __future__ import annotations

import os
import sys

from dso.errors import FileAccessError, FileExistsRefusedError

STDOUT = "-"


def write_out(content: bytes, output: str, *, force: bool) -> None:
    """Write to standard output (`-`), or to a file that only its owner can read (0600).

    Raises:
        FileExistsRefusedError: the file exists, and `force` is not set.
        FileAccessError: it cannot be written.
    """
    if output == STDOUT:
        sys.stdout.flush()
        sys.stdout.buffer.write(content)
        sys.stdout.buffer.flush()
    else:
        _write_file(output, content, force=force)


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
            write_new(path, content)
        elif os.path.lexists(path) and not os.path.isfile(path):
            raise FileAccessError(f"{path} is no regular file", hint="leave -o out to write to standard output")
        else:
            write_atomic(os.path.realpath(path), content)
    except FileExistsError:
        raise FileExistsRefusedError(f"{path} exists", hint="--force replaces it") from None
    except OSError as error:
        raise FileAccessError(f"cannot write {path}: {reason(error)}") from error
