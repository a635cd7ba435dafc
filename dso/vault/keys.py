"""A vault's keys: create it, rotate its data key, add and remove ways to unlock it."""

from __future__ import annotations

import os
import time

from dso import paths
from dso.errors import FileAccessError, FileExistsRefusedError, UsageError, VaultWriteError, WrongKeyError
from dso.system.files import reason, write_new
from dso.vault.format import MAX_SLOTS, Header, build_header, encrypt, parse_header
from dso.vault.payload import build_payload
from dso.vault.slots import (
    KEY_BYTES,
    KEYFILE,
    PASSPHRASE,
    Slot,
    new_slot,
    open_data_key,
    passphrase_key,
    private_key,
    public_key,
    seal_data_key,
)
from dso.vault.unlock import given, read_passphrase_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dso.vault.edit import EditableVault
    from dso.vault.unlock import Unlock


def create_vault(path: str, slot_type: str, secret: bytes) -> Header:
    """Write a new, empty vault with one slot, and return its header.

    Args:
        path: the vault file, which must not exist.
        slot_type: `KEYFILE` or `PASSPHRASE` of `dso.vault.slots`.
        secret: the 32 bytes of the key file, or the passphrase.

    Raises:
        FileExistsError: something is there already; it is untouched.
        VaultWriteError: it could not be written, and is not there.
    """
    data = new_vault(slot_type, secret)
    try:
        write_new(path, data)
    except FileExistsError:
        raise
    except OSError as error:
        raise VaultWriteError(f"cannot write the vault {path}: {reason(error)}") from error
    return parse_header(data, path)


def new_vault(slot_type: str, secret: bytes) -> bytes:
    """The bytes of a new, empty vault; see `create_vault` for the arguments."""
    vault_id = os.urandom(16).hex()
    now = int(time.time())
    slot = new_slot(slot_type, now)
    public = _public_key(slot, vault_id, secret)
    data_key = os.urandom(KEY_BYTES)
    header = build_header(vault_id, (seal_data_key(slot, public, vault_id, data_key),))
    meta = {"created": now, "mac_key": os.urandom(32).hex(), "slots": {slot.id: public.hex()}}
    return encrypt(header, data_key, build_payload(meta, {}))


def write_key_file(path: str) -> bytes:
    """Draw a random key and write it to a new file (0600, 64 hexadecimal digits and a newline).

    Raises:
        FileExistsRefusedError: something is there already; it is untouched.
        FileAccessError: it cannot be written.
    """
    key = os.urandom(KEY_BYTES)
    try:
        write_new(path, key.hex().encode() + b"\n")
    except FileExistsError:
        raise FileExistsRefusedError(f"{path} exists already", hint="it was not touched; name another file") from None
    except OSError as error:
        raise FileAccessError(f"cannot write the key file {path}: {reason(error)}") from error
    return key


def new_passphrase() -> bytes:
    """A passphrase for a new slot: out of the file DSO_PASSPHRASE_FILE names, else asked for twice.

    Raises:
        UsageError: there is no terminal to ask at, the entries differ, or it is empty.
    """
    path = given(paths.PASSPHRASE_FILE_VARIABLE, os.environ)
    if path is not None:
        return read_passphrase_file(path)
    from dso.system.terminal import ask_twice

    passphrase = ask_twice("New passphrase: ", "The same again: ")
    if passphrase is None:
        raise UsageError(
            "there is no terminal to ask for a passphrase",
            hint=f"put it in a file only you can read, and its path in {paths.PASSPHRASE_FILE_VARIABLE}",
        )
    if not passphrase:
        raise UsageError("the passphrase is empty", hint="nothing was changed; try again")
    return passphrase


def rekey(vault: EditableVault) -> None:
    """Draw a new data key and a new `mac_key`, and seal the data key to every slot.

    No slot's own key is needed for that: their public keys are in the vault.

    Raises:
        UsageError: a slot of a type from the future keeps its data key in another way.
    """
    data_key = os.urandom(KEY_BYTES)
    publics = _public_keys(vault)
    foreign = [slot.id for slot in vault.header.slots if slot.id not in publics]
    if foreign:
        raise UsageError(
            f"slot {', '.join(foreign)} was made by a newer docker-dso, and this one cannot hand it a new data key",
            hint="use the newer one, or remove the slot: `docker dso vault remove-key SLOT`",
        )
    slots = (seal_data_key(slot, bytes.fromhex(publics[slot.id]), vault.id, data_key) for slot in vault.header.slots)
    vault.header = build_header(vault.id, tuple(slots))
    vault.data_key = data_key
    vault.meta["mac_key"] = os.urandom(32).hex()
    vault.changed = True


def add_slot(vault: EditableVault, slot_type: str, secret: bytes) -> Slot:
    """Let one more key or passphrase open the vault; see `create_vault` for the arguments.

    Raises:
        UsageError: there are 16 slots already.
    """
    if len(vault.header.slots) >= MAX_SLOTS:
        raise UsageError(f"the vault has {MAX_SLOTS} slots, and no room for more", hint="remove one that is not used")
    taken = {slot.id for slot in vault.header.slots}
    slot = new_slot(slot_type, int(time.time()))
    while slot.id in taken:
        slot = new_slot(slot_type, slot.created)
    public = _public_key(slot, vault.id, secret)
    slot = seal_data_key(slot, public, vault.id, vault.data_key)
    vault.meta["slots"] = {**_public_keys(vault), slot.id: public.hex()}
    vault.header = build_header(vault.id, (*vault.header.slots, slot))
    vault.changed = True
    return slot


def remove_slot(vault: EditableVault, slot_id: str) -> None:
    """Take away a way to unlock, and rotate the data key, which whoever used it may know.

    Raises:
        UsageError: there is no such slot, or it is the last one.
    """
    if vault.header.slot(slot_id) is None:
        listed = ", ".join(slot.id for slot in vault.header.slots)
        raise UsageError(f"the vault has no slot {slot_id!r}", hint=f"it has: {listed} (`docker dso vault status`)")
    left = tuple(slot for slot in vault.header.slots if slot.id != slot_id)
    if not left:
        raise UsageError(
            f"slot {slot_id} is the only one: without it nothing could open the vault",
            hint="add another key first: `docker dso vault add-key`",
        )
    publics = _public_keys(vault)
    publics.pop(slot_id, None)
    vault.meta["slots"] = publics
    vault.header = Header(b"", vault.id, left)  # `rekey` builds the line
    rekey(vault)


def refuse_known_key(header: Header, key: bytes) -> None:
    """Raise UsageError if a key file's key opens the vault already."""
    for slot in header.slots:
        if slot.type == KEYFILE and open_data_key(slot, private_key(key, header.vault_id, slot), header.vault_id):
            raise UsageError(f"that key opens the vault already (slot {slot.id})")


def prove_other_slot(header: Header, slot_id: str, unlock: Unlock, path: str) -> None:
    """Open the vault without one of its slots, so that its removal locks nobody out.

    Raises:
        UsageError: nothing at hand (nor a passphrase that is asked for) opens any other slot.
    """
    left = tuple(slot for slot in header.slots if slot.id != slot_id)
    if not left:
        return  # `remove_slot` refuses it
    try:
        unlock.data_key(Header(header.line, header.vault_id, left), path, any_way=True)
    except WrongKeyError as error:
        raise UsageError(
            f"without slot {slot_id} no key at hand would open the vault",
            hint=f"{error.hint}\n--force removes the slot all the same",
        ) from error


def _public_key(slot: Slot, vault_id: str, secret: bytes) -> bytes:
    key = passphrase_key(secret, slot.kdf) if slot.type == PASSPHRASE else secret
    return public_key(private_key(key, vault_id, slot))


def _public_keys(vault: EditableVault) -> dict[str, str]:
    listed = vault.meta.get("slots")
    return {str(slot): str(key) for slot, key in listed.items()} if isinstance(listed, dict) else {}
