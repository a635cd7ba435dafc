"""`docker dso vault`: look after the vault."""

from __future__ import annotations

import os

from dso.cli.output import note

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_EPILOG = """\
examples:
  docker dso vault status
  docker dso vault backup /media/stick/vault.enc
  docker dso vault add-key --passphrase                a passphrase as a second way in
  docker dso vault add-key --keyfile ~/recovery.key    a new random key, for a safe place
  docker dso vault remove-key 1f2e3d4c                 SLOT is what `status` shows
"""


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    from dso.cli.groups import add_group

    add = add_group(
        subparsers,
        "vault",
        "Look after the vault: keys, backup, check",
        "Look after the vault: its keys, backups and health.",
        _EPILOG,
    )
    command = add("status", "Show the vault's id, slots and size; needs no key", run_status)
    command.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    command = add("rekey", "Replace the key that encrypts the vault; every slot goes on opening it", run_rekey)
    command.add_argument("--new-master-key", action="store_true", help="replace ~/.dso/master.key as well")
    command = add("add-key", "Let one more key or passphrase open the vault", run_add_key)
    kind = command.add_mutually_exclusive_group(required=True)
    kind.add_argument("--passphrase", action="store_true", help="a passphrase (asked for, or DSO_PASSPHRASE_FILE)")
    kind.add_argument("--keyfile", metavar="FILE", help="the key in FILE, which is created if it does not exist")
    command = add("remove-key", "Take a slot away and replace the key that encrypts the vault", run_remove_key)
    command.add_argument("slot", metavar="SLOT")
    command.add_argument("-f", "--force", action="store_true", help="even if no key at hand opens the vault afterwards")
    command = add("backup", "Copy the encrypted vault to FILE, after checking that it opens", run_backup)
    command.add_argument("file", metavar="FILE")
    command.add_argument("-f", "--force", action="store_true", help="replace FILE if it exists")
    command = add("restore", "Put a backup in the vault's place, after checking that it opens", run_restore)
    command.add_argument("file", metavar="FILE")
    add("check", "Decrypt the vault, read every secret, and look at permissions", run_check)


def run_status(args: argparse.Namespace) -> int:
    """Show what the readable part says, and what the rest says if a key is at hand."""
    from dso.cli.vault_status import print_status, status

    report = status()
    if args.format == "json":
        from dso.cli.output import print_json

        print_json(report)
    else:
        print_status(report)
    return 0


def run_check(_args: argparse.Namespace) -> int:
    """Read everything; exit with an error if anything is wrong."""
    from dso.cli.output import say
    from dso.cli.vault_status import check_permissions
    from dso.vault.store import Vault

    vault = Vault.open()
    secrets, versions = vault.verify()
    check_permissions(vault.path)
    say(f"The vault {vault.path} is sound: {secrets} secrets, {versions} versions, all decrypted.")
    return 0


def run_rekey(args: argparse.Namespace) -> int:
    """Replace the data key and the MAC key, and on request the key file, by one rename."""
    from dso.vault.keys import rekey
    from dso.vault.store import Vault

    if args.new_master_key:
        from dso.vault.masterkey import replace_master_key

        slot = replace_master_key()
        note(f"a new key is in ~/.dso/master.key (slot {slot.id}); the former one opens nothing but older copies")
    else:
        with Vault.edit() as vault:
            rekey(vault)
    _say_what_follows()
    return 0


def run_add_key(args: argparse.Namespace) -> int:
    """Add a slot."""
    from dso.vault.keys import add_slot, new_passphrase
    from dso.vault.slots import PASSPHRASE
    from dso.vault.store import Vault
    from dso.vault.unlock import Unlock, without_passphrase_file

    if args.keyfile is not None:
        return _add_key_file(args.keyfile)
    unlock = Unlock(environment=without_passphrase_file())
    Vault.open(unlock=unlock)  # the passphrase it has is asked for before the new one
    passphrase = new_passphrase()
    with Vault.edit(unlock=unlock) as vault:
        slot = add_slot(vault, PASSPHRASE, passphrase)
    note(f"the passphrase opens the vault now (slot {slot.id})")
    return 0


def _add_key_file(path: str) -> int:
    from dso.vault.keys import add_slot, refuse_known_key, write_key_file
    from dso.vault.slots import KEYFILE
    from dso.vault.store import Vault
    from dso.vault.unlock import read_key_file

    is_new = not os.path.lexists(path)
    key = write_key_file(path) if is_new else read_key_file(path)
    try:
        with Vault.edit() as vault:
            refuse_known_key(vault.header, key)
            slot = add_slot(vault, KEYFILE, key)
    except BaseException:
        if is_new:
            os.unlink(path)
        raise
    made = "a new key was written to" if is_new else "the key in"
    note(f"{made} {path}{' and' if is_new else ''} opens the vault now (slot {slot.id})")
    return 0


def run_remove_key(args: argparse.Namespace) -> int:
    """Remove a slot, if something that is left is known to work."""
    from dso.vault.keys import prove_other_slot, remove_slot
    from dso.vault.store import Vault
    from dso.vault.unlock import Unlock

    unlock = Unlock()
    vault = Vault.open(unlock=unlock)
    if not args.force:
        prove_other_slot(vault.header, args.slot, unlock, vault.path)
    with Vault.edit(unlock=unlock) as editable:
        remove_slot(editable, args.slot)
    note(f"slot {args.slot} is gone; copies of the vault made before still open with it")
    _say_what_follows()
    return 0


def run_backup(args: argparse.Namespace) -> int:
    """Copy the vault."""
    from dso.vault.backup import back_up

    vault = back_up(args.file, replace=args.force)
    note(f"{args.file} has the vault with its {len(vault.names())} secrets, encrypted; keep the key apart from it")
    return 0


def run_restore(args: argparse.Namespace) -> int:
    """Put a backup back; what was granted of another vault is not granted of this one."""
    from dso.grants.store import forget
    from dso.vault.backup import restore

    former = _vault_id()
    vault, kept = restore(args.file)
    note(f"restored {len(vault.names())} secrets from {args.file}")
    if kept:
        note(f"the former vault is kept as {kept}")
    if former != vault.id and forget(everything=True):
        note("it is another vault than before: no project has been granted any of it (`docker dso allow`)")
    return 0


def _vault_id() -> str | None:
    """The id of the vault that is there, None if none can be read."""
    from dso.errors import DsoError
    from dso.vault.store import read_vault_file, vault_path

    try:
        _, header = read_vault_file(vault_path())
    except DsoError:
        return None
    return header.vault_id


def _say_what_follows() -> None:
    note("the vault has a new data key; the next `docker dso up` re-creates the containers that have secrets")
