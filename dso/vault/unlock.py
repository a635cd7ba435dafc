"""Finding the key that opens a vault: the environment, the key file, a passphrase."""

from __future__ import annotations

import os

from dso import paths
from dso.errors import InsecurePermissionsError, WrongKeyError
from dso.system.files import check_directory, read_file
from dso.vault.slots import (
    KEY_BYTES,
    KEYFILE,
    MAX_WORK_OF_ALL,
    PASSPHRASE,
    open_data_key,
    parse_argon2id,
    passphrase_key,
    private_key,
)

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dso.vault.format import Header
    from dso.vault.slots import Slot

NEW_KEY_SUFFIX = ".new"  # of a key file that is just being replaced (dso.vault.masterkey)

_MAX_KEY_BYTES = 4096
_ATTEMPTS = 3
_OTHERS = 0o077


def without_passphrase_file() -> dict[str, str]:
    """The environment of a command to which DSO_PASSPHRASE_FILE gives a *new* passphrase, and not one that opens."""
    return {name: value for name, value in os.environ.items() if name != paths.PASSPHRASE_FILE_VARIABLE}


class Unlock:
    """The keys at hand: the one that DSO_MASTER_KEY or else DSO_PASSPHRASE_FILE gives, else the key file, the terminal.

    A key that a variable gives is used or is an error: another one is never tried in its place, for whoever gives a
    key wants to know that it is the vault's.

    What a passphrase or key yields is remembered, so that one object asks once however often the
    vault is read. `slot_id` is the slot that opened last.
    """

    __slots__ = ("_ask", "_environment", "_key_file", "_private_keys", "slot_id")

    def __init__(
        self,
        *,
        environment: Mapping[str, str] | None = None,
        key_file: str | None = None,
        ask: Callable[[str], bytes | None] | None = None,
    ) -> None:
        """Nothing is read yet.

        Args:
            environment: where the variables are looked up; the process's own by default.
            key_file: the key file; `~/.dso/master.key` by default.
            ask: asks for a passphrase, None when nobody can be asked; the terminal by default.
        """
        self._environment = os.environ if environment is None else environment
        self._key_file = key_file
        self._ask = ask
        self._private_keys: dict[tuple[str, str, str], bytes] = {}
        self.slot_id = ""

    def data_key(self, header: Header, path: str, *, any_way: bool = False) -> bytes:
        """The key that decrypts the vault at `path`.

        With `any_way` the question is whether anything at hand opens it: then a variable's key is one of several.

        Raises:
            WrongKeyError: the key that a variable gives does not open it, or nothing at hand does; the message says
                what was tried, the hint what would.
            InsecurePermissionsError: the key file belongs to another user or can be read by others.
            FileAccessError: a file that was named cannot be read.
        """
        for slot in header.slots:
            private = self._private_keys.get((header.vault_id, slot.id, slot.kdf))
            if private is not None:
                data_key = self._open(header, slot, private)
                if data_key is not None:
                    return data_key
        tried: list[str] = []
        for variable, attempt in (
            (paths.MASTER_KEY_VARIABLE, self._try_given_key),
            (paths.PASSPHRASE_FILE_VARIABLE, self._try_passphrase_file),
            ("", self._try_key_files),
            ("", self._try_passphrases),
        ):
            if variable and given(variable, self._environment) is None:
                tried.append(f"{variable} is not set")
                continue
            before = len(tried)
            data_key = attempt(header, tried)
            if data_key is not None:
                return data_key
            if variable and not any_way:
                raise WrongKeyError(
                    f"{variable} is set and does not unlock {path}: {'; '.join(tried[before:])}",
                    hint=f"correct it, or unset it to have the other ways tried; {_what_would_unlock(header)}",
                )
        raise WrongKeyError(f"no key at hand unlocks {path}: {'; '.join(tried)}", hint=_what_would_unlock(header))

    def _try_given_key(self, header: Header, tried: list[str]) -> bytes | None:
        key = parse_key(self._environment[paths.MASTER_KEY_VARIABLE], paths.MASTER_KEY_VARIABLE)
        return self._try_key(header, paths.MASTER_KEY_VARIABLE, key, tried) if _takes_keys(header, tried) else None

    def _try_key_files(self, header: Header, tried: list[str]) -> bytes | None:
        if not _takes_keys(header, tried):
            return None
        for source, key in self._keys(tried):
            data_key = self._try_key(header, source, key, tried)
            if data_key is not None:
                return data_key
        return None

    def _try_key(self, header: Header, source: str, key: bytes, tried: list[str]) -> bytes | None:
        for slot in header.slots:
            if slot.type == KEYFILE:
                data_key = self._open(header, slot, private_key(key, header.vault_id, slot))
                if data_key is not None:
                    return data_key
        tried.append(f"{source} is the key of another vault or an older one")
        return None

    def _keys(self, tried: list[str]) -> Iterator[tuple[str, bytes]]:
        path = self._key_file or paths.master_key_file()
        if os.path.lexists(path):
            yield path, read_key_file(path)
        else:
            tried.append(f"{path} does not exist")
        if os.path.lexists(path + NEW_KEY_SUFFIX):
            yield path + NEW_KEY_SUFFIX, read_key_file(path + NEW_KEY_SUFFIX)

    def _try_passphrase_file(self, header: Header, tried: list[str]) -> bytes | None:
        slots = _usable_passphrase_slots(header, tried)
        if not slots:
            return None
        path = self._environment[paths.PASSPHRASE_FILE_VARIABLE]
        data_key = self._try_passphrase(header, slots, read_passphrase_file(path))
        if data_key is None:
            tried.append(f"the passphrase in {path} is not the vault's")
        return data_key

    def _try_passphrases(self, header: Header, tried: list[str]) -> bytes | None:
        slots = _usable_passphrase_slots(header, tried)
        if not slots:
            return None
        for attempt in range(_ATTEMPTS):
            passphrase = self._ask_for_passphrase("Passphrase: " if not attempt else "Wrong, once more: ")
            if passphrase is None:
                tried.append("there is no terminal to ask for a passphrase")
                return None
            data_key = self._try_passphrase(header, slots, passphrase)
            if data_key is not None:
                return data_key
        tried.append(f"a wrong passphrase was typed {_ATTEMPTS} times")
        return None

    def _ask_for_passphrase(self, prompt: str) -> bytes | None:
        if self._ask is not None:
            return self._ask(prompt)
        from dso.system.terminal import ask_hidden

        return ask_hidden(prompt)

    def _try_passphrase(self, header: Header, slots: list[Slot], passphrase: bytes) -> bytes | None:
        for slot in slots:
            key = passphrase_key(passphrase, slot.kdf)
            data_key = self._open(header, slot, private_key(key, header.vault_id, slot))
            if data_key is not None:
                return data_key
        return None

    def _open(self, header: Header, slot: Slot, private: bytes) -> bytes | None:
        data_key = open_data_key(slot, private, header.vault_id)
        if data_key is not None:
            self._private_keys[header.vault_id, slot.id, slot.kdf] = private
            self.slot_id = slot.id
        return data_key


def given(variable: str, environment: Mapping[str, str]) -> str | None:
    """What a variable gives, None when it is not set; raises WrongKeyError when it is set and empty."""
    text = environment.get(variable)
    if text is not None and not text.strip():
        raise WrongKeyError(
            f"{variable} is set and empty",
            hint="give it a value, or unset it to have the other ways to unlock tried",
        )
    return text


def parse_key(text: str, source: str) -> bytes:
    """The 32 bytes of a key written as 64 hexadecimal digits; raises WrongKeyError naming the source."""
    stripped = text.strip()
    try:
        key = bytes.fromhex(stripped) if len(stripped) == 2 * KEY_BYTES else b""
    except ValueError:
        key = b""
    if len(key) != KEY_BYTES:
        raise WrongKeyError(
            f"{source} holds no key: it must be {2 * KEY_BYTES} hexadecimal digits",
            hint="put the right key there, or remove it to have the other ways to unlock tried",
        )
    return key


def read_key_file(path: str) -> bytes:
    """The key in a key file.

    Raises:
        InsecurePermissionsError: somebody else may read, change or replace it.
        FileAccessError: it cannot be read.
        WrongKeyError: it holds no key.
    """
    check_directory(os.path.dirname(os.path.abspath(path)))
    check_private(path, "the key file")
    text = read_file(path, "the key file", _MAX_KEY_BYTES)
    return parse_key(text.decode("ascii", "replace"), path)


def read_passphrase_file(path: str) -> bytes:
    """The passphrase in a file or pipe: its bytes without one newline at the end; raises as `read_key_file`."""
    what = f"the passphrase file ({paths.PASSPHRASE_FILE_VARIABLE})"
    check_private(path, what)
    passphrase = read_file(path, what, _MAX_KEY_BYTES, pipes=True)
    passphrase = passphrase.removesuffix(b"\n").removesuffix(b"\r")
    if not passphrase:
        raise WrongKeyError(f"{what} {path} is empty", hint="put the passphrase there")
    return passphrase


def check_private(path: str, what: str) -> None:
    """Refuse a regular file that belongs to another user, or that others may read or write."""
    import stat

    try:
        status = os.stat(path)
    except OSError:
        return  # reading it will say what is wrong
    if not stat.S_ISREG(status.st_mode):
        return  # a pipe or a device, as in DSO_PASSPHRASE_FILE=<(command)
    if status.st_uid not in (os.geteuid(), 0):
        raise InsecurePermissionsError(
            f"{what} {path} belongs to user {status.st_uid}, and you are user {os.geteuid()}",
            hint="run this as that user (under sudo, mind HOME), or give the key in DSO_MASTER_KEY",
        )
    if status.st_mode & _OTHERS:
        raise InsecurePermissionsError(
            f"{what} {path} can be read or changed by other users (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"chmod 600 {path}",
        )


def _takes_keys(header: Header, tried: list[str]) -> bool:
    if any(slot.type == KEYFILE for slot in header.slots):
        return True
    tried.append("no slot of it is for a key file")
    return False


def _usable_passphrase_slots(header: Header, tried: list[str]) -> list[Slot]:
    """The passphrase slots, without those whose parameters no honest writer chooses; none if they ask for too much."""
    usable = []
    faults: dict[str, list[str]] = {}
    work = 0
    for slot in header.slots:
        if slot.type == PASSPHRASE:
            try:
                memory_kib, passes, _, _ = parse_argon2id(slot.kdf)
            except ValueError as error:
                faults.setdefault(str(error), []).append(slot.id)
            else:
                usable.append(slot)
                work += memory_kib * passes
    tried.extend(f"passphrase slot {', '.join(ids)} cannot be used: {fault}" for fault, ids in faults.items())
    if work > MAX_WORK_OF_ALL:
        tried.append("its passphrase slots together ask for an absurd amount of time")
        return []
    if not usable:
        tried.append("no slot of it is for a passphrase that could be tried")
    return usable


def _what_would_unlock(header: Header) -> str:
    kinds = []
    for slot in header.slots:
        if slot.type == KEYFILE:
            kinds.append(f"the key of key-file slot {slot.id} in {paths.MASTER_KEY_VARIABLE} or ~/.dso/master.key")
        elif slot.type != PASSPHRASE:
            kinds.append(f"slot {slot.id} of type {slot.type!r}, with a newer docker-dso")
        elif _is_usable(slot):
            kinds.append(
                f"the passphrase of slot {slot.id}, in the file {paths.PASSPHRASE_FILE_VARIABLE} names or at the prompt"
            )
    if not kinds:
        kinds.append("nothing, as it is; restore a backup with `docker dso vault restore FILE`")
    return "what would unlock it: " + "\nor ".join(kinds)


def _is_usable(slot: Slot) -> bool:
    try:
        parse_argon2id(slot.kdf)
    except ValueError:
        return False
    return True
