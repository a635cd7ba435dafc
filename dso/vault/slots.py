"""Slots: the ways to unlock a vault. Each holds the data key, sealed so that one key or passphrase opens it.

A slot's key (the bytes of a key file, or what Argon2id makes of a passphrase) yields an X25519 key
pair, and the data key is sealed to the public half. So the data key can be replaced without having
every slot's key at hand, and somebody who once could open the vault learns nothing that opens a
later one (docs/decisions/0002-slots-hold-public-keys.md). The public halves are kept inside the
encrypted part only. Bytes and formulas are specified in docs/vault-format.md.
"""

from __future__ import annotations

import os

from dso.system.native import aesgcm, argon2id, blake2b_256, x25519_private, x25519_public

KEYFILE = "keyfile"
PASSPHRASE = "passphrase"  # noqa: S105  # a type's name

KEY_BYTES = 32
NONCE_BYTES = 12
TAG_BYTES = 16
NO_KDF = "none"
MAX_KDF_TEXT = 256
ID_DIGITS = 8

_SLOT_CONTEXT = b"dso-vault/1 slot\0"
_WRAP_CONTEXT = b"dso-vault/1 wrap\0"

# Argon2id, the second recommended option of RFC 9106 section 4: 3 passes over 64 MiB in 4 lanes.
_PASSES = 3
_MEMORY_KIB = 64 * 1024
_LANES = 4
_SALT_BYTES = 16

# What a header may ask for, so that a hostile one cannot eat all memory or time. Work is passes x memory in KiB; a
# vault with 16 slots of ours asks for 3 million.
_MAX_PASSES = 16
_MAX_MEMORY_KIB = 256 * 1024
_MAX_LANES = 16
_MAX_WORK = 1024 * 1024
MAX_WORK_OF_ALL = 4 * 1024 * 1024
_MIN_SALT_BYTES = 8
_MAX_SALT_BYTES = 64

_LAST_DATE = 253_402_300_799  # the end of the year 9999

_MEMBERS = ("id", "type", "created", "kdf", "ephemeral", "sealed")


class Slot:
    """One slot as the header has it.

    `id` is 8 hexadecimal digits, `type` "keyfile", "passphrase" or one that this version does not
    know, `created` seconds since 1970, `kdf` the parameters of the key derivation, `ephemeral` and
    `sealed` the sealed data key, `extra` members that this version does not know and keeps.
    """

    __slots__ = ("created", "ephemeral", "extra", "id", "kdf", "sealed", "type")

    def __init__(
        self,
        slot_id: str,
        slot_type: str,
        created: int,
        kdf: str,
        *,
        ephemeral: bytes = b"",
        sealed: bytes = b"",
        extra: dict[str, object] | None = None,
    ) -> None:
        self.id = slot_id
        self.type = slot_type
        self.created = created
        self.kdf = kdf
        self.ephemeral = ephemeral
        self.sealed = sealed
        self.extra = extra or {}

    @classmethod
    def from_members(cls, members: object) -> Slot:
        """Read a slot out of the header's JSON; raises ValueError saying what is wrong with it."""
        if not isinstance(members, dict):
            raise ValueError("a slot is no JSON object")  # noqa: TRY004  # about the file, not about a type
        slot_id, slot_type, created, kdf, ephemeral, sealed = (members.get(name) for name in _MEMBERS)
        if not (isinstance(slot_id, str) and len(slot_id) == ID_DIGITS and _is_hex(slot_id)):
            raise ValueError("a slot's id is not 8 hexadecimal digits")
        if not (_is_plain(slot_type) and _is_plain(kdf) and isinstance(created, int) and 0 <= created <= _LAST_DATE):
            raise ValueError(f"slot {slot_id} lacks its type, date or key derivation")
        if not (isinstance(ephemeral, str) and isinstance(sealed, str) and _is_hex(ephemeral) and _is_hex(sealed)):
            raise ValueError(f"slot {slot_id} lacks its sealed key")
        extra = {name: value for name, value in members.items() if name not in _MEMBERS}
        return cls(
            slot_id,
            str(slot_type),
            created,
            str(kdf),
            ephemeral=bytes.fromhex(ephemeral),
            sealed=bytes.fromhex(sealed),
            extra=extra,
        )

    def members(self) -> dict[str, object]:
        """The slot as the header's JSON has it."""
        return {
            "id": self.id,
            "type": self.type,
            "created": self.created,
            "kdf": self.kdf,
            "ephemeral": self.ephemeral.hex(),
            "sealed": self.sealed.hex(),
            **self.extra,
        }


def private_key(key: bytes, vault_id: str, slot: Slot) -> bytes:
    """The slot's X25519 private key, from the key of its key file or what `passphrase_key` returns."""
    return blake2b_256(_SLOT_CONTEXT + _binding(vault_id, slot), key)


def public_key(private: bytes) -> bytes:
    """The public half, to which data keys are sealed."""
    return x25519_private(private).public_key().public_bytes_raw()


def seal_data_key(slot: Slot, public: bytes, vault_id: str, data_key: bytes) -> Slot:
    """The slot with another data key in it; everything else of it is kept."""
    secret = x25519_private(os.urandom(KEY_BYTES))
    ephemeral = secret.public_key().public_bytes_raw()
    shared = secret.exchange(x25519_public(public))
    binding = _binding(vault_id, slot)
    nonce = os.urandom(NONCE_BYTES)
    wrapping_key = blake2b_256(_WRAP_CONTEXT + ephemeral + public + binding, shared)
    sealed = nonce + aesgcm()(wrapping_key).encrypt(nonce, data_key, binding)
    return Slot(slot.id, slot.type, slot.created, slot.kdf, ephemeral=ephemeral, sealed=sealed, extra=dict(slot.extra))


def open_data_key(slot: Slot, private: bytes, vault_id: str) -> bytes | None:
    """The data key in the slot, or None when this is not the slot's private key (or the slot was changed)."""
    if len(slot.ephemeral) != KEY_BYTES or len(slot.sealed) != NONCE_BYTES + KEY_BYTES + TAG_BYTES:
        return None
    own = x25519_private(private)
    try:
        shared = own.exchange(x25519_public(slot.ephemeral))
    except ValueError:  # a point of small order, which no honest writer draws
        return None
    binding = _binding(vault_id, slot)
    own_public = own.public_key().public_bytes_raw()
    wrapping_key = blake2b_256(_WRAP_CONTEXT + slot.ephemeral + own_public + binding, shared)
    return open_sealed(wrapping_key, slot.sealed, binding)


def open_sealed(key: bytes, sealed: bytes | memoryview, associated: bytes) -> bytes | None:
    """Decrypt nonce + AES-256-GCM ciphertext + tag; None when the key is another or a bit was changed."""
    try:
        return aesgcm()(key).decrypt(bytes(sealed[:NONCE_BYTES]), sealed[NONCE_BYTES:], associated)
    except Exception as error:
        # By name, since the class's module is imported by `cryptography` only when it raises it.
        if type(error).__name__ == "InvalidTag":
            return None
        raise


def new_slot(slot_type: str, created: int) -> Slot:
    """A slot without a data key yet: a random id, and for a passphrase a random salt."""
    kdf = NO_KDF
    if slot_type == PASSPHRASE:
        kdf = argon2id_text(_MEMORY_KIB, _PASSES, _LANES, os.urandom(_SALT_BYTES))
    return Slot(os.urandom(4).hex(), slot_type, created, kdf)


def argon2id_text(memory_kib: int, passes: int, lanes: int, salt: bytes) -> str:
    """Argon2id's parameters as a slot stores them."""
    return f"argon2id$v=19$m={memory_kib},t={passes},p={lanes}${salt.hex()}"


def passphrase_key(passphrase: bytes, kdf: str) -> bytes:
    """32 bytes of Argon2id over a passphrase; raises ValueError if the parameters are malformed or absurd."""
    memory_kib, passes, lanes, salt = parse_argon2id(kdf)
    return argon2id()(salt=salt, length=KEY_BYTES, iterations=passes, lanes=lanes, memory_cost=memory_kib).derive(
        passphrase
    )


def parse_argon2id(kdf: str) -> tuple[int, int, int, bytes]:
    """(memory in KiB, passes, lanes, salt); raises ValueError if the parameters are malformed or absurd."""
    start, parameters, salt_hex = (*kdf.rsplit("$", 2), "", "")[:3]
    if start != "argon2id$v=19" or not _is_hex(salt_hex):
        raise ValueError("its key derivation is not one that this version knows")
    numbers = {}
    for part in parameters.split(","):
        name, _, digits = part.partition("=")
        if not (digits.isascii() and digits.isdigit()):
            raise ValueError("its Argon2id parameters are malformed")
        numbers[name] = int(digits)
    if list(numbers) != ["m", "t", "p"]:
        raise ValueError("its Argon2id parameters are malformed")
    memory_kib, passes, lanes = numbers.values()
    salt = bytes.fromhex(salt_hex)
    sane = (
        1 <= passes <= _MAX_PASSES
        and 1 <= lanes <= _MAX_LANES
        and 8 * lanes <= memory_kib <= _MAX_MEMORY_KIB
        and memory_kib * passes <= _MAX_WORK
        and _MIN_SALT_BYTES <= len(salt) <= _MAX_SALT_BYTES
    )
    if not sane:
        raise ValueError("its Argon2id parameters ask for an absurd amount of memory or time")
    return memory_kib, passes, lanes, salt


def _binding(vault_id: str, slot: Slot) -> bytes:
    """What a sealed data key is bound to, so that no slot passes for another or with other parameters."""
    return f"{vault_id}\0{slot.id}\0{slot.type}\0{slot.kdf}".encode()


def _is_plain(text: object) -> bool:
    """Short printable ASCII: no NUL above all, which separates the parts of what a slot is bound to."""
    return isinstance(text, str) and 0 < len(text) <= MAX_KDF_TEXT and text.isascii() and text.isprintable()


def _is_hex(text: str) -> bool:
    return len(text) % 2 == 0 and set(text) <= set("0123456789abcdef")
