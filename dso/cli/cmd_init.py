"""`docker dso init`: create the vault."""

from __future__ import annotations

import os

from dso import paths
from dso.cli.output import note, say, say_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_DESCRIPTION = """\
Create the vault ~/.dso/vault.enc and the key that opens it, ~/.dso/master.key. Safe to run again: what exists is
never overwritten."""
_EPILOG = """\
examples:
  docker dso init                  a random key in ~/.dso/master.key opens the vault
  docker dso init --passphrase     a passphrase opens it, and no key is stored

With DSO_MASTER_KEY set (64 hexadecimal digits), that key opens the vault and no key file is written.
With DSO_PASSPHRASE_FILE set, --passphrase takes the passphrase from that file instead of asking.
Either variable has to open the vault while it is set: no other key is tried in its place.
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    import argparse

    parser = subparsers.add_parser(
        "init",
        help="Create the vault",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--passphrase", action="store_true", help="open the vault with a passphrase, store no key")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Create the directory, the key and the vault; what exists stays as it is."""
    from dso.vault.edit import VaultLock
    from dso.vault.store import vault_path

    _say_whose_home()
    path = vault_path()
    _make_directory(os.path.dirname(path))
    with VaultLock(path):
        if os.path.lexists(path):
            _report_existing(path, wants_passphrase=args.passphrase)
        elif args.passphrase:
            _create_with_passphrase(path)
        else:
            _create_with_key(path)
    return 0


def _say_whose_home() -> None:
    if os.geteuid() != 0:
        return
    user = os.environ.get("SUDO_USER", "")
    own = f"; without sudo, {user} would get one of their own" if user and user != "root" else ""
    note(f"running as root: the vault is for root, in HOME={paths.home()}{own}")


def _make_directory(directory: str) -> None:
    from dso.errors import FileAccessError
    from dso.system.files import check_directory, reason

    try:
        os.mkdir(directory, 0o700)
        os.chmod(directory, 0o700)  # whatever the umask
    except FileExistsError:
        check_directory(directory)
        if os.path.islink(paths.vault_file()):
            return  # to a directory that is not DSO's: /dev, if somebody made the vault a link to a device
        if os.stat(directory).st_mode & 0o077 and os.stat(directory).st_uid == os.geteuid():
            os.chmod(directory, 0o700)
            note(f"{directory} could be read by other users; it is 0700 now")
    except OSError as error:
        raise FileAccessError(
            f"cannot create {directory}: {reason(error)}", hint="HOME must be a directory that you may write to"
        ) from error


def _report_existing(path: str, *, wants_passphrase: bool) -> None:
    """Say that there is a vault; an error if it is damaged, or nothing that exists here could open it."""
    from dso.vault.slots import KEYFILE, PASSPHRASE
    from dso.vault.store import read_vault_file
    from dso.vault.unlock import Unlock, without_passphrase_file

    _, header = read_vault_file(path)
    types = {slot.type for slot in header.slots}
    if KEYFILE in types and PASSPHRASE not in types:
        environment = without_passphrase_file() if wants_passphrase else None
        Unlock(environment=environment, ask=lambda _prompt: None).data_key(header, path)
    say(f"There is a vault already: {path} (id {header.vault_id}). Nothing was changed.")
    if wants_passphrase and PASSPHRASE not in types:
        note("it has no passphrase yet: add one with `docker dso vault add-key --passphrase`")


def _create_with_key(path: str) -> None:
    from dso.vault.keys import create_vault
    from dso.vault.slots import KEYFILE
    from dso.vault.unlock import given, parse_key

    _refuse(paths.PASSPHRASE_FILE_VARIABLE, "the vault would be opened by a key", "add --passphrase")
    variable = given(paths.MASTER_KEY_VARIABLE, os.environ)
    if variable is not None:
        key, source = parse_key(variable, paths.MASTER_KEY_VARIABLE), f"the key in {paths.MASTER_KEY_VARIABLE}"
    else:
        key, source = _key_in_file(paths.master_key_file())
    header = create_vault(path, KEYFILE, key)
    _report_created(path, header.vault_id, source)
    if variable is None:
        note("whoever has both files has the secrets: back them up apart from each other (`docker dso vault backup`)")


def _key_in_file(path: str) -> tuple[bytes, str]:
    from dso.vault.keys import write_key_file
    from dso.vault.unlock import read_key_file

    if os.path.lexists(path):
        return read_key_file(path), f"the key that was in {path} already"
    return write_key_file(path), f"the new key in {path}"


def _create_with_passphrase(path: str) -> None:
    from dso.vault.keys import create_vault, new_passphrase
    from dso.vault.slots import PASSPHRASE

    _refuse(paths.MASTER_KEY_VARIABLE, "the vault would be opened by a passphrase", "leave --passphrase out")
    passphrase = new_passphrase()
    header = create_vault(path, PASSPHRASE, passphrase)
    _report_created(path, header.vault_id, "your passphrase")
    note("nobody can recover a forgotten passphrase; `docker dso vault add-key` adds a second way in")


def _refuse(variable: str, but: str, remedy: str) -> None:
    """A vault that the key in a variable does not open would be of no use while the variable is set."""
    from dso.errors import UsageError

    if variable in os.environ:
        raise UsageError(f"{variable} is set, and {but}", hint=f"{remedy}, or unset {variable}; nothing was created")


def _report_created(path: str, vault_id: str, opened_by: str) -> None:
    say(f"Created the vault {path} (id {vault_id}), opened by {opened_by}.")
    say_lines(
        "\nNext:\n"
        "  docker dso secret set shop/db_password      store a secret (asks for it)\n"
        "  docker dso env import .env shop             or take over a .env file\n"
        "then write in compose.yaml\n"
        "  environment:\n"
        "    DB_PASSWORD: dso://shop/db_password\n"
        "and start the stack with\n"
        "  docker dso up"
    )
