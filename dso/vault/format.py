"""The vault file: a header line, a nonce, and everything else encrypted. Specified in docs/vault-format.md.

A line of JSON that anybody can read and that is authenticated (`{"format":"dso-vault","version":1,
"id":...,"slots":[...],"sum":...}`), a nonce of 12 bytes, an AES-256-GCM ciphertext and its tag.
"""

from __future__ import annotations

import os

from dso.errors import VaultDamagedError, VaultVersionError
from dso.system.json_fast import dumps, loads
from dso.system.native import aesgcm, blake2b_256
from dso.vault.slots import NONCE_BYTES, TAG_BYTES, Slot, open_sealed

VERSION = 1
MAX_HEADER_BYTES = 64 * 1024
MAX_SLOTS = 16
ID_DIGITS = 32
MAX_PLAINTEXT_BYTES = 1 << 28  # reading a vault takes twice its size in memory
MAX_FILE_BYTES = MAX_HEADER_BYTES + NONCE_BYTES + MAX_PLAINTEXT_BYTES + TAG_BYTES

_PREFIX = b'{"format":"dso-vault","version":'
_SUM = b',"sum":"'
_RESTORE_HINT = "restore a backup with `docker dso vault restore FILE`; the damaged file is left as it is"


class Header:
    """The readable first line: `line` is it with its newline, `vault_id` 32 hexadecimal digits, `slots` the slots."""

    __slots__ = ("line", "slots", "vault_id")

    def __init__(self, line: bytes, vault_id: str, slots: tuple[Slot, ...]) -> None:
        self.line = line
        self.vault_id = vault_id
        self.slots = slots

    def slot(self, slot_id: str) -> Slot | None:
        """The slot with this id, or None."""
        return next((slot for slot in self.slots if slot.id == slot_id), None)


def build_header(vault_id: str, slots: tuple[Slot, ...]) -> Header:
    """The header of a vault with these slots."""
    body = dumps(
        {"format": "dso-vault", "version": VERSION, "id": vault_id, "slots": [slot.members() for slot in slots]}
    ).encode()[:-1]
    return Header(body + _SUM + blake2b_256(body).hex().encode() + b'"}\n', vault_id, slots)


def parse_header(data: bytes, path: str) -> Header:
    """Read the header at the start of a vault file's bytes; `path` is for the messages.

    Raises:
        VaultDamagedError: this is no vault, or its header is cut short or was changed.
        VaultVersionError: a newer format.
    """
    if not data:
        raise damaged(path, "it is empty")
    if not data.startswith(_PREFIX):
        if _PREFIX.startswith(data):
            raise damaged(path, "it is cut short")
        raise VaultDamagedError(
            f"{path} is not a DSO vault",
            hint="move it away and run `docker dso init`, or restore a backup with `docker dso vault restore FILE`",
        )
    end = data.find(b"\n", 0, MAX_HEADER_BYTES)
    _check_version(data[len(_PREFIX) : len(_PREFIX) + 20], path)
    if end < 0:
        raise damaged(path, "its header is cut short" if len(data) < MAX_HEADER_BYTES else "its header has no end")
    line = data[: end + 1]
    body, _, rest = line.rpartition(_SUM)
    if rest != blake2b_256(body).hex().encode() + b'"}\n':
        raise damaged(path, "its header was changed by something other than DSO")
    try:
        header = _read_header(line)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its header makes no sense: {error}") from error
    if len(data) < len(line) + NONCE_BYTES + TAG_BYTES:
        raise damaged(path, "it is cut short after the header")
    return header


def encrypt(header: Header, data_key: bytes, plaintext: bytes) -> bytes:
    """The bytes of a vault file."""
    nonce = os.urandom(NONCE_BYTES)
    return b"".join((header.line, nonce, aesgcm()(data_key).encrypt(nonce, plaintext, header.line)))


def decrypt(header: Header, data_key: bytes, data: bytes, path: str) -> bytes:
    """The plaintext of a vault file's bytes; raises VaultDamagedError if a bit of it was changed or is missing."""
    plaintext = open_sealed(data_key, memoryview(data)[len(header.line) :], header.line)
    if plaintext is None:
        raise damaged(path, "it was cut short or changed by something other than DSO")
    return plaintext


def damaged(path: str, fault: str) -> VaultDamagedError:
    """The error for a vault that has this fault."""
    return VaultDamagedError(f"the vault {path} is damaged: {fault}", hint=_RESTORE_HINT)


def _check_version(text: bytes, path: str) -> None:
    """Before anything else is read: of another version nothing but this number is known."""
    digits = text.split(b",", 1)[0]
    if digits.isdigit() and int(digits) > VERSION:
        raise VaultVersionError(
            f"the vault {path} has format {int(digits)}, and this docker-dso knows formats up to {VERSION}",
            hint="install a newer docker-dso; the vault is untouched",
        )


def _read_header(line: bytes) -> Header:
    members = loads(line.decode("ascii"))
    if not isinstance(members, dict) or members.get("version") != VERSION:
        raise ValueError("the version is missing")
    vault_id, listed = members.get("id"), members.get("slots")
    if not (isinstance(vault_id, str) and len(vault_id) == ID_DIGITS and vault_id.isalnum()):
        raise ValueError("the vault's id is missing")
    if not isinstance(listed, list) or not 1 <= len(listed) <= MAX_SLOTS:
        raise ValueError(f"there is not between 1 and {MAX_SLOTS} slots")
    slots = tuple(Slot.from_members(members) for members in listed)
    if len({slot.id for slot in slots}) != len(slots):
        raise ValueError("two slots have one id")
    return Header(line, vault_id, slots)
