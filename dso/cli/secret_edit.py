"""`docker dso secret edit`: a value in the user's editor, in a file that is memory."""

from __future__ import annotations

import os

from dso.cli.output import note, warn
from dso.errors import EditorError
from dso.secret import SecretValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from types import FrameType
    from typing import NoReturn

_DEFAULT_EDITOR = "vi"
_VIM_NAMES = ("vim", "nvim", "gvim", "rvim", "rgvim", "evim", "gview", "rview", "rgview")  # also vim.basic, vimx...
_MAX_PROGRAM = 64 * 1024 * 1024  # bytes of an editor
_OLD_NAMES = ("vi", "view", "ex")  # Vim on most machines, but also BusyBox and nvi, which do not know these options
# What keeps Vim from writing copies elsewhere: swap file, registers, backup, undo file.
_VIM_OPTIONS = ("-n", "-i", "NONE", "-c", "set nobackup nowritebackup noundofile")


def run(args: argparse.Namespace) -> int:
    """Edit one secret; nothing is stored if the value stays as it was or the editor fails."""
    from dso.vault.names import parse_name
    from dso.vault.store import Vault, check_value
    from dso.vault.unlock import Unlock

    name = parse_name(args.ref)
    unlock = Unlock()  # one for both, so that a passphrase is asked for once
    before = Vault.open(unlock=unlock)
    old, known_version = before.get(name), before.versions(name)[0]
    new = edit(old, name.rpartition("/")[2], keep_newline=args.raw)
    if new == old:
        note(f"{name}: unchanged")
        return 0
    check_value(name, new)
    with Vault.edit(unlock=unlock) as vault:
        found_version = vault.versions(name)[0] if vault.has(name) else 0
        number = vault.set(name, new)
    if found_version != known_version:
        warn(f"{name} was changed by somebody else meanwhile; `docker dso secret history {name}` has their version")
    note(f"{name}: stored version {number}")
    return 0


def edit(value: SecretValue, file_name: str, *, keep_newline: bool) -> SecretValue:
    """What the user makes of a value in $VISUAL or $EDITOR.

    Many editors end the last line of a file whether it was ended or not; a newline that was not
    there before is dropped again unless `keep_newline`.

    Raises:
        EditorError: the editor failed, or left no file.
        NoMemoryFileError: there is no place in memory to put the file.
    """
    from signal import SIGHUP, SIGTERM, signal

    from dso.system.memory_directory import private_memory_directory, remove_abandoned

    remove_abandoned()
    before = [(number, signal(number, _leave)) for number in (SIGTERM, SIGHUP)]  # so that the directory is wiped
    try:
        with private_memory_directory() as directory:
            edited = _edit_file(f"{directory}/{file_name}", value.reveal())
    finally:
        for number, handler in before:
            signal(number, handler)
    if not keep_newline and not value.reveal().endswith(b"\n"):
        edited = edited.removesuffix(b"\n")
    return SecretValue(edited)


def _edit_file(path: str, content: bytes) -> bytes:
    from dso.errors import FileAccessError
    from dso.system.files import read_file, reason, write_new
    from dso.vault.store import MAX_SECRET_BYTES

    try:
        write_new(path, content)
    except OSError as error:
        raise EditorError(f"cannot write {path}: {reason(error)}") from error
    _run_editor(path)
    try:
        return read_file(path, "the file", MAX_SECRET_BYTES + 1)  # a newline may still go
    except FileAccessError as error:
        raise EditorError(f"the editor left no value: {error.message}", hint="nothing was changed") from error


def _run_editor(path: str) -> None:
    from dso.system.proc import attach

    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or _DEFAULT_EDITOR
    # As git does it: the variable may hold arguments and quotes, so the shell reads it.
    code = attach(["/bin/sh", "-c", f'{editor} "$@"', editor, *_options(editor), path])
    if code != 0:
        raise EditorError(
            f"the editor ({editor}) ended with exit code {code}",
            hint="nothing was changed; VISUAL or EDITOR names the editor",
        )


def _options(editor: str) -> tuple[str, ...]:
    """Options for Vim, which is also what `vi` often is; `editor` is a command line with arguments and quotes."""
    from shlex import split

    try:
        words = split(editor)
    except ValueError:
        return ()  # the shell will say what is wrong
    # Variables for the editor, and words that only start it, may come first.
    program = next((word for word in words if "=" not in word and word not in ("env", "exec", "command")), "")
    return _VIM_OPTIONS if _is_vim(program) else ()


def _is_vim(program: str) -> bool:
    if os.path.basename(program).startswith(_VIM_NAMES):
        return True
    for directory in os.environ.get("PATH", "").split(":"):
        found = os.path.join(directory, program)  # an absolute path stays as it is
        if os.path.isfile(found) and os.access(found, os.X_OK):
            target = os.path.basename(os.path.realpath(found))
            return target.startswith(_VIM_NAMES) or (target in _OLD_NAMES and _says_it_is_vim(found))
    return False


def _says_it_is_vim(path: str) -> bool:
    """Whether a program that is called `vi` is Vim itself or, as on Fedora, a script that starts it."""
    from dso.errors import FileAccessError
    from dso.system.files import read_file

    try:
        content = read_file(path, "the editor", _MAX_PROGRAM)
    except FileAccessError:
        return False
    return b"Vi IMproved" in content or (content.startswith(b"#!") and b"vim" in content)


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt
