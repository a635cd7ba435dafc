"""Changing the vault: under its lock, all or nothing, and whole on the disk whatever happens."""

from __future__ import annotations

import os
import time

from dso.errors import SecretNotFoundError, VaultBusyError, VaultWriteError
from dso.system.files import locked, reason, remove_stale_temporaries, write_atomic
from dso.vault.format import MAX_PLAINTEXT_BYTES, decrypt, encrypt
from dso.vault.names import check_name, missing_error
from dso.vault.payload import Payload, Version, build_payload
from dso.vault.store import KEPT_VERSIONS, Vault, check_value, in_namespace, read_vault_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from dso.secret import SecretValue
    from dso.vault.format import Header
    from dso.vault.unlock import Unlock

LOCK_TIMEOUT = 60.0  # seconds; one holder needs milliseconds


class EditableVault(Vault):
    """A vault that is being changed, in memory; `Editing` writes it if `changed` is set.

    `meta` is the encrypted part's first line and `secrets` all versions by name; the functions in
    `dso.vault.keys` replace `header` and `data_key`.
    """

    def __init__(self, path: str, header: Header, payload: Payload, slot_id: str, data_key: bytes) -> None:
        super().__init__(path, header, payload, slot_id)
        self.data_key = data_key
        self.meta = payload.meta
        self.secrets: dict[str, list[Version]] = dict(payload.entries())
        self.changed = False

    def set(self, name: str, value: SecretValue) -> int:
        """Store a value as a new version and return its number; the value it has already makes none.

        Raises:
            InvalidSecretError: the name is malformed, or the value empty or larger than 1 MiB.
        """
        check_name(name)
        check_value(name, value)
        versions = self.secrets.get(name, [])
        if versions and versions[0].content == value.reveal():
            return versions[0].number
        number = versions[0].number + 1 if versions else 1
        self.secrets[name] = [Version(number, int(time.time()), value.reveal()), *versions][:KEPT_VERSIONS]
        self.changed = True
        return number

    def remove(self, names: Sequence[str]) -> None:
        """Remove secrets with all their versions; raises SecretNotFoundError naming all that do not exist."""
        missing = [name for name in names if name not in self.secrets]
        if missing:
            raise missing_error(missing, self.names())
        for name in names:
            self.secrets.pop(name, None)
            self.changed = True

    def rename(self, old: str, new: str) -> None:
        """Give a secret another name; its versions stay. What had that name is gone.

        Raises:
            SecretNotFoundError: there is no `old`.
            InvalidSecretError: `new` is malformed.
        """
        check_name(new)
        versions = list(self._versions(old))
        if new != old:
            del self.secrets[old]
            self.secrets[new] = versions
            self.changed = True

    def rollback(self, name: str, version: int | None = None) -> tuple[int, int]:
        """Make an earlier version (by default the one before the current) the current one, as a new version.

        Returns the number it had and the number it has now; raises SecretNotFoundError.
        """
        numbers = self.versions(name)
        if version is None:
            if len(numbers) == 1:
                raise SecretNotFoundError(f"{name} has no earlier version", hint="it was set only once")
            version = numbers[1]
        return version, self.set(name, self.get(name, version))

    def names(self, namespace: str | None = None) -> list[str]:
        """The full names of all secrets, or of those in a namespace, sorted."""
        return in_namespace(sorted(self.secrets), namespace)

    def _find(self, name: str) -> Sequence[Version] | None:
        return self.secrets.get(name)


class Editing:
    """`with Editing(path, unlock) as vault:` locks the vault, reads it, and at the end writes it if it was changed.

    An exception inside leaves the file as it was. Nobody is asked for a passphrase while the lock
    is held.

    Raises:
        VaultBusyError: others held the lock for a minute.
        VaultWriteError: the vault could not be written; the former one is in place.
        and what `Vault.open` raises.
    """

    __slots__ = ("_lock", "_path", "_unlock", "_vault")

    def __init__(self, path: str, unlock: Unlock) -> None:
        self._path = path
        self._unlock = unlock
        self._lock = VaultLock(path)
        self._vault: EditableVault | None = None

    def __enter__(self) -> EditableVault:
        _, header = read_vault_file(self._path)
        self._unlock.data_key(header, self._path)  # asks now, and remembers what it was told
        self._lock.__enter__()
        try:
            data, header = read_vault_file(self._path)
            data_key = self._unlock.data_key(header, self._path)
            payload = Payload(decrypt(header, data_key, data, self._path))
            self._vault = EditableVault(self._path, header, payload, self._unlock.slot_id, data_key)
        except BaseException as error:
            self._lock.__exit__(type(error), error, None)
            raise
        return self._vault

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._vault is not None  # noqa: S101  # __enter__ was there before
        try:
            if kind is None and self._vault.changed:
                write_vault(self._vault)
        finally:
            self._lock.__exit__(kind, error, trace)
            self._vault = None


class VaultLock:
    """`with VaultLock(path):` is what everybody who writes the vault at `path` does.

    Raises:
        VaultBusyError: others held it for a minute.
        VaultWriteError: the lock file cannot be opened.
    """

    __slots__ = ("_lock", "_path")

    def __init__(self, path: str) -> None:
        self._path = os.path.join(os.path.dirname(path), "vault.lock")
        self._lock = locked(self._path, LOCK_TIMEOUT)

    def __enter__(self) -> None:
        try:
            self._lock.__enter__()
        except TimeoutError as error:
            raise VaultBusyError(
                f"another docker-dso has been changing the vault for {LOCK_TIMEOUT:.0f} seconds",
                hint=f"see who: `fuser {self._path}`; nothing was changed, try again",
            ) from error
        except OSError as error:
            raise VaultWriteError(f"cannot lock the vault with {self._path}: {reason(error)}") from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, error, trace)


def write_vault(vault: EditableVault) -> None:
    """Write the vault under its lock; raises VaultWriteError, after which the former one is in place."""
    plaintext = build_payload(vault.meta, vault.secrets)
    if len(plaintext) > MAX_PLAINTEXT_BYTES:
        raise VaultWriteError(
            f"the vault would have {len(plaintext)} bytes; {MAX_PLAINTEXT_BYTES} (256 MiB) is the most",
            hint="remove secrets that are not needed; nothing was changed",
        )
    write_vault_bytes(vault.path, encrypt(vault.header, vault.data_key, plaintext))


def write_vault_bytes(path: str, data: bytes) -> None:
    """Put encrypted bytes in a vault's place; the caller holds the lock. Raises VaultWriteError."""
    remove_stale_temporaries(path)
    try:
        write_atomic(path, data, 0o600)
    except OSError as error:
        raise VaultWriteError(
            f"cannot write the vault {path}: {reason(error)}", hint="nothing was changed: the former vault is in place"
        ) from error
