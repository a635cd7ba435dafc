"""Where `docker dso secret set` takes a value from: a file, chance, the terminal or standard input."""

from __future__ import annotations

import os

from dso.errors import FileAccessError, InvalidSecretError, UsageError
from dso.secret import SecretValue
from dso.system.files import TooLongError, read_file, read_input

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"  # 64: six bits each, no bias
_DEFAULT_LENGTH = 32  # 192 bits
_SHORTEST = 8
_LONGEST = 4096


def sort_out_generate(args: argparse.Namespace) -> tuple[str, int | None]:
    """The REF, and how many characters to generate or None.

    argparse takes `--generate shop/key` for a length: a word that is no number is the REF.
    """
    ref, generate = args.ref, args.generate
    if ref is None and generate and not _is_number(generate):
        ref, generate = generate, ""
    if ref is None:
        raise UsageError("the REF is missing", hint="docker dso secret set NAMESPACE/NAME")
    if generate is None:
        return ref, None
    if args.from_file is not None:
        raise UsageError("--generate and --from-file contradict each other")
    if generate == "":
        return ref, _DEFAULT_LENGTH
    if not _is_number(generate) or not _SHORTEST <= int(generate) <= _LONGEST:
        raise UsageError(f"--generate takes a length between {_SHORTEST} and {_LONGEST}, not {generate!r}")
    return ref, int(generate)


def read_value(args: argparse.Namespace, name: str, length: int | None) -> SecretValue:
    """The value to store under `name`; `length` is what `sort_out_generate` said.

    Raises:
        FileAccessError: the file cannot be read.
        UsageError: the two entries at the prompt differ.
        InvalidSecretError: there is more on standard input than a secret may have.
    """
    if length is not None:
        return SecretValue(generate(length))
    if args.from_file is not None and args.from_file != "-":
        return SecretValue(_read_named_file(args.from_file))
    if args.from_file is None and os.isatty(0):
        return SecretValue(_ask(name))
    value = _read_input()
    if args.from_file is None and not args.raw:
        value = without_last_newline(value)
    if not value:
        raise InvalidSecretError(
            f"nothing came on standard input for {name}",
            hint="pipe the value in, or use --from-file FILE, --generate, or a terminal",
        )
    return SecretValue(value)


def generate(length: int) -> bytes:
    """Random url-safe characters, each of them equally likely."""
    return bytes(_ALPHABET[byte & 63] for byte in os.urandom(length))


def without_last_newline(value: bytes) -> bytes:
    """The value without one newline (LF or CR LF) at its end, which editors and `echo` add to text."""
    return value[:-2] if value.endswith(b"\r\n") else value.removesuffix(b"\n")


def _read_named_file(path: str) -> bytes:
    from dso.vault.store import MAX_SECRET_BYTES

    try:
        return read_file(path, "the file", MAX_SECRET_BYTES, pipes=True)
    except FileAccessError as error:
        if isinstance(error.__cause__, TooLongError):
            raise _too_large(path) from None
        raise


def _too_large(source: str) -> InvalidSecretError:
    from dso.vault.store import MAX_SECRET_BYTES

    return InvalidSecretError(f"{source} has more than {MAX_SECRET_BYTES} bytes (1 MiB)")


def _ask(name: str) -> bytes:
    from dso.system.terminal import ask_twice

    value = ask_twice(f"Value for {name}: ", "The same again: ")
    if value is None:
        raise UsageError("there is no terminal to ask at", hint="give the value on standard input, or --from-file FILE")
    return value


def _read_input() -> bytes:
    from dso.vault.store import MAX_SECRET_BYTES

    try:
        return read_input(MAX_SECRET_BYTES + 2)  # a newline may still go
    except FileAccessError as error:
        if isinstance(error.__cause__, TooLongError):
            raise _too_large("standard input") from None
        raise


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < _DEFAULT_LENGTH
