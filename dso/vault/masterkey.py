"""Replacing `~/.dso/master.key` together with the vault that it opens, although they are two files."""

from __future__ import annotations

import os

from dso import paths
from dso.errors import FileAccessError, UsageError
from dso.system.files import reason, sync_directory, write_atomic
from dso.vault.edit import write_vault
from dso.vault.keys import add_slot, remove_slot
from dso.vault.slots import KEY_BYTES, KEYFILE, open_data_key, private_key
from dso.vault.store import Vault
from dso.vault.unlock import NEW_KEY_SUFFIX, Unlock, read_key_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dso.vault.format import Header
    from dso.vault.slots import Slot


def replace_master_key(path: str | None = None, unlock: Unlock | None = None) -> Slot:
    """Draw a new key for `~/.dso/master.key`, and a new data key; returns the new key's slot.

    The new key is written beside the old one, then the vault that it opens, then the key takes the
    old one's place. The vault's rename decides: a crash before it leaves everything as it was, a
    crash after it leaves a vault that the key beside opens, where every command looks for it.

    Raises:
        UsageError: it is not master.key that opens the vault.
        FileAccessError: the new key cannot be written; nothing was changed.
        and what `Vault.edit` raises.
    """
    key_path = paths.master_key_file()
    with Vault.edit(path, unlock) as vault:
        old = _slot_of(vault.header, key_path)
        if old is None:
            old = _slot_of(vault.header, key_path + NEW_KEY_SUFFIX)
            if old is None:
                raise UsageError(
                    f"{key_path} is not a key to this vault, so there is none to replace",
                    hint="`docker dso vault add-key --keyfile FILE` adds one; "
                    "`docker dso vault rekey` replaces the data key",
                )
            _take_place(key_path)  # an earlier call was interrupted
        key = os.urandom(KEY_BYTES)
        try:
            write_atomic(key_path + NEW_KEY_SUFFIX, key.hex().encode() + b"\n")
        except OSError as error:
            raise FileAccessError(f"cannot write {key_path + NEW_KEY_SUFFIX}: {reason(error)}") from error
        slot = add_slot(vault, KEYFILE, key)
        remove_slot(vault, old.id)
        write_vault(vault)
        vault.changed = False
        _take_place(key_path)
    return slot


def _slot_of(header: Header, path: str) -> Slot | None:
    """The slot that the key in a file opens."""
    if not os.path.lexists(path):
        return None
    key = read_key_file(path)
    for slot in header.slots:
        if slot.type == KEYFILE and open_data_key(slot, private_key(key, header.vault_id, slot), header.vault_id):
            return slot
    return None


def _take_place(key_path: str) -> None:
    os.rename(key_path + NEW_KEY_SUFFIX, key_path)
    sync_directory(os.path.dirname(key_path))
