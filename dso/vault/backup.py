"""Copies of the vault: encrypted as it is, checked before they count."""

from __future__ import annotations

import errno
import os

from dso.errors import FileAccessError, FileExistsRefusedError, VaultWriteError
from dso.system.files import check_directory, check_owner, reason, sync_directory, write_atomic, write_new
from dso.vault.edit import VaultLock, write_vault_bytes
from dso.vault.format import parse_header
from dso.vault.store import Vault, read_vault_bytes, read_vault_file, vault_path
from dso.vault.unlock import Unlock

_KEPT_SUFFIX = ".before-restore"


def back_up(target: str, *, replace: bool, path: str | None = None, unlock: Unlock | None = None) -> Vault:
    """Copy the vault to `target` (0600) after reading every secret in it; returns what was copied.

    Raises:
        FileExistsRefusedError: `target` exists, and `replace` is false.
        FileAccessError: `target` cannot be written; no part of it is left.
        and what `Vault.open` raises.
    """
    path = vault_path(path)
    if os.path.isdir(target):
        raise FileAccessError(f"{target} is a directory", hint=f"name a file, such as {target.rstrip('/')}/vault.enc")
    data, header = read_vault_file(path)
    vault = Vault.from_bytes(data, header, path, unlock or Unlock())
    vault.verify()
    if os.path.lexists(target) and os.path.realpath(target) == path:
        raise FileAccessError(f"{target} is the vault itself")
    try:
        (write_atomic if replace else write_new)(target, data, None)  # a stick with FAT has no modes
    except FileExistsError:
        raise FileExistsRefusedError(f"{target} exists already", hint="--force replaces it") from None
    except OSError as error:
        raise FileAccessError(f"cannot write {target}: {reason(error)}") from error
    return vault


def restore(source: str, path: str | None = None, unlock: Unlock | None = None) -> tuple[Vault, str | None]:
    """Put the backup `source` in the vault's place, if it is one, whole, and the keys at hand open it.

    Returns the restored vault and where the former one is kept now, if there was one.

    Raises:
        VaultDamagedError, VaultVersionError, WrongKeyError: about `source`; the vault is untouched.
        VaultWriteError: the vault cannot be written; it is untouched.
        InsecurePermissionsError: the directory belongs to another user, or others may write to it.
    """
    path = vault_path(path)
    check_directory(os.path.dirname(path))
    check_owner(path)
    data = read_vault_bytes(source, "the backup", pipes=True)
    vault = Vault.from_bytes(data, parse_header(data, source), source, unlock or Unlock())
    vault.verify()
    _make_directory(os.path.dirname(path))
    with VaultLock(path):
        kept = _keep_former(path)
        write_vault_bytes(path, data)
    return vault, kept


def _keep_former(path: str) -> str | None:
    if not os.path.lexists(path):
        return None
    number = 1
    while True:
        kept = path + _KEPT_SUFFIX + (f".{number}" if number > 1 else "")
        try:
            _keep(path, kept)
        except FileExistsError:
            number += 1
        except OSError as error:
            raise VaultWriteError(
                f"cannot keep the former vault as {kept}: {reason(error)}", hint="the vault is untouched"
            ) from error
        else:
            return kept


def _keep(path: str, kept: str) -> None:
    """Give the former vault, whatever it is and however large, a second name; a copy where the file system has none."""
    try:
        os.link(path, kept, follow_symlinks=False)
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.ENOTSUP):
            raise
        write_new(kept, read_vault_bytes(path, "the former vault"))
    else:
        sync_directory(os.path.dirname(kept))


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise VaultWriteError(f"cannot create {directory}: {reason(error)}") from error
