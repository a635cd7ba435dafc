"""The local vault: read it, change it, and never lose it."""

from __future__ import annotations

import os

from dso import paths
from dso.errors import FileAccessError, InvalidSecretError, SecretNotFoundError, VaultNotFoundError
from dso.secret import SecretValue
from dso.system.files import TooLongError, check_directory, check_owner, read_file
from dso.vault.format import MAX_FILE_BYTES, damaged, decrypt, parse_header
from dso.vault.payload import Payload, Version
from dso.vault.unlock import Unlock

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.vault.edit import Editing
    from dso.vault.format import Header

MAX_SECRET_BYTES = 1 << 20
KEPT_VERSIONS = 6  # the current one and five before it


class SecretInfo:
    """What may be shown of a secret, or of one version of it: everything but the value.

    `version` counts from 1, `updated_at` is in seconds since 1970, `size` in bytes.
    """

    __slots__ = ("name", "size", "updated_at", "version")

    def __init__(self, name: str, version: Version) -> None:
        self.name = name
        self.version = version.number
        self.updated_at = version.updated_at
        self.size = len(version.content)


class Vault:
    """A snapshot of the vault, read and decrypted once. `EditableVault` is the kind that can change.

    `id` is 32 hexadecimal digits, `mac_key` 32 random bytes for keyed MACs over resolved secrets
    (replaced by `rekey`), `path` the file, `header` its readable part, `slot_id` the slot that
    opened it.
    """

    def __init__(self, path: str, header: Header, payload: Payload, slot_id: str) -> None:
        self.path = path
        self.header = header
        self.slot_id = slot_id
        self._payload = payload

    @classmethod
    def open(cls, path: str | None = None, unlock: Unlock | None = None) -> Vault:
        """Read the vault.

        Args:
            path: the vault file; `~/.dso/vault.enc` by default.
            unlock: the keys to try; those of the environment by default.

        Raises:
            VaultNotFoundError: there is none.
            VaultDamagedError, VaultVersionError: it cannot be read.
            WrongKeyError: it cannot be unlocked.
        InsecurePermissionsError: another user owns the vault, its directory or the key file, or may change them.
            FileAccessError: the file cannot be read.
        """
        path = vault_path(path)
        data, header = read_vault_file(path)
        return cls.from_bytes(data, header, path, unlock or Unlock())

    @classmethod
    def from_bytes(cls, data: bytes, header: Header, path: str, unlock: Unlock) -> Vault:
        """Decrypt the bytes of a vault file; `path` is where they are from. Raises as `open` does."""
        payload = Payload(decrypt(header, unlock.data_key(header, path), data, path))
        return cls(path, header, payload, unlock.slot_id)

    @staticmethod
    def edit(path: str | None = None, unlock: Unlock | None = None) -> Editing:
        """`with Vault.edit() as vault:` changes the vault; see `dso.vault.edit.Editing`."""
        from dso.vault.edit import Editing

        return Editing(vault_path(path), unlock or Unlock())

    @property
    def id(self) -> str:
        """The vault's id, which it keeps for ever."""
        return self.header.vault_id

    @property
    def mac_key(self) -> bytes:
        """The key for `dso.secret.mac`."""
        return bytes.fromhex(str(self._payload.meta["mac_key"]))

    @property
    def created(self) -> int:
        """When the vault was created, in seconds since 1970."""
        return int(str(self._payload.meta["created"]))

    def get(self, name: str, version: int | None = None) -> SecretValue:
        """A secret's value, of the current or a kept version; raises SecretNotFoundError."""
        versions = self._versions(name)
        if version is None:
            return SecretValue(bytes(versions[0].content))
        for candidate in versions:
            if candidate.number == version:
                return SecretValue(bytes(candidate.content))
        raise SecretNotFoundError(
            f"{name} has no version {version}",
            hint="kept are: " + ", ".join(str(candidate.number) for candidate in versions),
        )

    def has(self, name: str) -> bool:
        """Whether there is such a secret."""
        return self._find(name) is not None

    def names(self, namespace: str | None = None) -> list[str]:
        """The full names of all secrets, or of those in a namespace, sorted."""
        return in_namespace(self._payload.names(), namespace)

    def infos(self, namespace: str | None = None) -> list[SecretInfo]:
        """What may be shown of each secret, sorted by name."""
        prefix = f"{namespace}/" if namespace else ""
        return [SecretInfo(name, versions[0]) for name, versions in self._payload.entries() if name.startswith(prefix)]

    def history(self, name: str) -> list[SecretInfo]:
        """What may be shown of each kept version, newest first; raises SecretNotFoundError."""
        return [SecretInfo(name, version) for version in self._versions(name)]

    def versions(self, name: str) -> list[int]:
        """The numbers of the kept versions, newest first; raises SecretNotFoundError."""
        return [version.number for version in self._versions(name)]

    def verify(self) -> tuple[int, int]:
        """Read every entry; returns how many secrets and versions there are. Raises VaultDamagedError."""
        return self._payload.verify()

    def _find(self, name: str) -> Sequence[Version] | None:
        return self._payload.versions(name)

    def _versions(self, name: str) -> Sequence[Version]:
        versions = self._find(name)
        if versions is None:
            from dso.vault.names import missing_error

            raise missing_error([name], self.names())
        return versions


def vault_path(path: str | None = None) -> str:
    """Where the vault file really is: symbolic links are followed, since a rename would replace them."""
    return os.path.realpath(path or paths.vault_file())


def read_vault_file(path: str) -> tuple[bytes, Header]:
    """The bytes of a vault file and its header, which is checked; see `Vault.open` for what it raises."""
    check_directory(os.path.dirname(path))
    check_owner(path)
    try:
        data = read_vault_bytes(path, "the vault")
    except FileAccessError as error:
        if isinstance(error.__cause__, FileNotFoundError | NotADirectoryError):
            raise VaultNotFoundError(f"there is no vault at {path}", hint="create one with `docker dso init`") from None
        raise
    return data, parse_header(data, path)


def read_vault_bytes(path: str, what: str, *, pipes: bool = False) -> bytes:
    """The bytes of a file that should be a vault; raises VaultDamagedError if it is too large to be one."""
    try:
        return read_file(path, what, MAX_FILE_BYTES, pipes=pipes)
    except FileAccessError as error:
        if isinstance(error.__cause__, TooLongError):
            raise damaged(path, "it is larger than 256 MiB, and no vault is") from None
        raise


def in_namespace(names: list[str], namespace: str | None) -> list[str]:
    """Those of the names that are in the namespace, or all when it is None."""
    return [name for name in names if name.startswith(f"{namespace}/")] if namespace else names


def check_value(name: str, value: SecretValue) -> None:
    """Refuse what the vault does not keep: an empty value, or one over 1 MiB (InvalidSecretError)."""
    if not len(value):
        raise InvalidSecretError(f"the value for {name} is empty", hint="an empty secret is most often a mistake")
    if len(value) > MAX_SECRET_BYTES:
        raise InvalidSecretError(
            f"the value for {name} has {len(value)} bytes; {MAX_SECRET_BYTES} (1 MiB) is the most",
            hint="keep large files elsewhere and store the key that decrypts them",
        )
