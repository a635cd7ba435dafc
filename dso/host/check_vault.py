"""The vault of whoever asks."""

from __future__ import annotations

import os
import stat

from dso import paths
from dso.errors import DsoError, VaultNotFoundError, WrongKeyError
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding
from dso.host.machine import set_mode

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def vault() -> tuple[list[Finding], str | None]:
    """The vault's findings and its id; none of either where there is no vault.

    Everything in it is read, if a key is at hand; nobody is asked for a passphrase.
    """
    from dso.vault.slots import PASSPHRASE
    from dso.vault.store import Vault, read_vault_file, vault_path
    from dso.vault.unlock import Unlock

    path = vault_path()
    try:
        data, header = read_vault_file(path)
    except VaultNotFoundError:
        return [], None
    except DsoError as error:
        return [*_permissions(path), Finding("vault", ERROR, error.message, "", error.hint or _RESTORE)], None
    findings = _permissions(path)
    try:
        opened = Vault.from_bytes(data, header, path, Unlock(ask=lambda _prompt: None))
        secrets, versions = opened.verify()
        findings.append(Finding("vault", OK, f"{path}: {secrets} secrets, {versions} versions, all decrypted"))
    except DsoError as error:
        needs_passphrase = isinstance(error, WrongKeyError) and any(slot.type == PASSPHRASE for slot in header.slots)
        if needs_passphrase:
            what = f"{path} takes a passphrase, so nothing in it was looked at"
            findings.append(Finding("vault", NOTE, what, error.message, "docker dso vault check"))
        else:
            findings.append(Finding("vault", ERROR, error.message, f"{path} cannot be read", error.hint or _RESTORE))
    return findings, header.vault_id


_RESTORE = "docker dso vault restore BACKUP"


def _permissions(path: str) -> list[Finding]:
    found = []
    for checked, mode in ((os.path.dirname(path), 0o700), (path, 0o600), (paths.master_key_file(), 0o600)):
        try:
            status = os.stat(checked)
        except OSError:
            continue
        if status.st_mode & 0o077:
            what = f"{checked} is open to other users (mode {stat.S_IMODE(status.st_mode):04o})"
            is_own = status.st_uid == os.geteuid()
            remedy = f"chmod {mode:o} {checked}"
            found.append(Finding("vault", ERROR, what, "", remedy, _close(checked) if is_own else None))
        if status.st_uid not in (os.geteuid(), 0):
            what = f"{checked} belongs to user {status.st_uid}, not to you"
            found.append(Finding("vault", WARNING, what, "that user can read and replace it", f"ls -ld {checked}"))
    return found


def _close(path: str) -> Callable[[], None]:
    return lambda: set_mode(path, 0o077)
