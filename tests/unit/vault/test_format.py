"""The vault file's header and encryption."""

import os

import pytest

from dso.errors import VaultDamagedError
from dso.vault.format import MAX_HEADER_BYTES, build_header, decrypt, encrypt, parse_header
from dso.vault.keys import new_vault
from dso.vault.slots import KEYFILE, Slot

KEY = bytes(32)


def test_every_bit_of_the_file_is_covered():
    data_key = os.urandom(32)
    header = build_header("0" * 32, (Slot("01234567", KEYFILE, 1, "none"),))
    data = encrypt(header, data_key, b"x")
    assert decrypt(parse_header(data, "x"), data_key, data, "x") == b"x"
    for position in range(len(data)):
        for bit in range(8):
            changed = bytearray(data)
            changed[position] ^= 1 << bit
            with pytest.raises(Exception, match=r"^(?!.*DSO failed)") as refusal:
                decrypt(parse_header(bytes(changed), "x"), data_key, bytes(changed), "x")
            assert type(refusal.value).__name__ in ("VaultDamagedError", "VaultVersionError")


def test_every_truncation_is_damage():
    data = new_vault(KEYFILE, KEY)
    header = parse_header(data, "x")
    for length in range(len(data)):
        with pytest.raises(VaultDamagedError):
            decrypt(parse_header(data[:length], "x"), KEY, data[:length], "x")
    assert header.slots[0].type == KEYFILE


def test_header_without_an_end_is_refused_without_reading_on():
    data = new_vault(KEYFILE, KEY)
    line, _, rest = data.partition(b"\n")
    with pytest.raises(VaultDamagedError, match="no end"):
        parse_header(line + b" " * MAX_HEADER_BYTES + b"\n" + rest, "x")


def test_nonce_and_key_differ_from_vault_to_vault():
    assert len({new_vault(KEYFILE, KEY)[-40:] for _ in range(20)}) == 20


def test_unknown_members_of_a_slot_survive_a_rewrite():
    slot = Slot("01234567", "tpm2", 1, "pcr7", extra={"policy": {"a": [1, None]}})
    header = build_header("0" * 32, (slot,))
    again = parse_header(header.line + bytes(28), "x")
    assert build_header(again.vault_id, again.slots).line == header.line


@pytest.mark.parametrize(
    "members",
    [
        [],
        {"id": "xyz"},
        {"id": "01234567", "type": "keyfile", "created": "1", "kdf": "none", "ephemeral": "", "sealed": ""},
        {"id": "01234567", "type": "key\0file", "created": 1, "kdf": "none", "ephemeral": "", "sealed": ""},
        {"id": "01234567", "type": "keyfile", "created": 1, "kdf": "x" * 300, "ephemeral": "", "sealed": ""},
        {"id": "01234567", "type": "keyfile", "created": 1, "kdf": "none", "ephemeral": "0", "sealed": ""},
        {"id": "01234567", "type": "keyfile", "created": 1, "kdf": "none", "ephemeral": "zz", "sealed": ""},
    ],
)
def test_malformed_slot_is_refused(members):
    with pytest.raises(ValueError, match="slot"):
        Slot.from_members(members)
