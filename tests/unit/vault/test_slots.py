"""Sealing the data key to a slot."""

import tracemalloc

import pytest

from dso.vault import slots
from dso.vault.slots import KEYFILE, PASSPHRASE, new_slot, open_data_key, private_key, public_key, seal_data_key

VAULT_ID = "ab" * 16
KEY = bytes(range(32))


def _sealed(slot_type=KEYFILE, key=KEY, data_key=b"d" * 32):
    slot = new_slot(slot_type, 1)
    private = private_key(key, VAULT_ID, slot)
    return seal_data_key(slot, public_key(private), VAULT_ID, data_key), private


def test_slot_opens_with_its_key_only():
    slot, private = _sealed()
    assert open_data_key(slot, private, VAULT_ID) == b"d" * 32
    assert open_data_key(slot, private_key(bytes(32), VAULT_ID, slot), VAULT_ID) is None


@pytest.mark.parametrize("changed", ["id", "type", "kdf"])
def test_slot_is_bound_to_what_it_says(changed):
    slot, private = _sealed()
    setattr(slot, changed, "fedcba98")
    assert open_data_key(slot, private, VAULT_ID) is None
    assert open_data_key(slot, private_key(KEY, VAULT_ID, slot), VAULT_ID) is None


def test_slot_is_bound_to_its_vault():
    slot, private = _sealed()
    assert open_data_key(slot, private, "cd" * 16) is None


def test_data_key_can_be_replaced_without_the_slots_key():
    slot, private = _sealed()
    again = seal_data_key(slot, public_key(private), VAULT_ID, b"e" * 32)
    assert open_data_key(again, private, VAULT_ID) == b"e" * 32
    assert again.ephemeral != slot.ephemeral


def test_one_key_in_two_slots_or_vaults_gives_unrelated_key_pairs():
    first, second = new_slot(KEYFILE, 1), new_slot(KEYFILE, 1)
    found = {private_key(KEY, vault_id, slot) for slot in (first, second) for vault_id in (VAULT_ID, "cd" * 16)}
    assert len(found) == 4


def test_point_of_small_order_opens_nothing():
    slot, private = _sealed()
    slot.ephemeral = bytes(32)
    assert open_data_key(slot, private, VAULT_ID) is None


@pytest.mark.parametrize("length", [0, 59, 61])
def test_sealed_key_of_another_length_opens_nothing(length):
    slot, private = _sealed()
    slot.sealed = bytes(length)
    assert open_data_key(slot, private, VAULT_ID) is None


def test_passphrase_key_is_argon2id_as_the_reference_implementation_has_it():
    # src/test.c in P-H-C/phc-winner-argon2: Argon2id, version 19, t=2, m=2^16, p=1.
    kdf = slots.argon2id_text(65536, 2, 1, b"somesalt")
    expected = "09316115d5cf24ed5a15a31a3ba326e5cf32edc24702987c02b6566f61913cf7"
    assert slots.passphrase_key(b"password", kdf).hex() == expected


def test_new_passphrase_slot_has_the_parameters_of_rfc_9106():
    memory, passes, lanes, salt = slots.parse_argon2id(new_slot(PASSPHRASE, 1).kdf)
    assert (memory, passes, lanes, len(salt)) == (64 * 1024, 3, 4, 16)


@pytest.mark.parametrize(
    "kdf",
    [
        "none",
        "scrypt$n=1$00",
        "argon2id$v=16$m=64,t=1,p=1$" + "00" * 16,
        "argon2id$v=19$m=64,t=1$" + "00" * 16,
        "argon2id$v=19$m=64,p=1,t=1$" + "00" * 16,
        "argon2id$v=19$m=64,t=1,p=1,x=1$" + "00" * 16,
        "argon2id$v=19$m=-64,t=1,p=1$" + "00" * 16,
        "argon2id$v=19$m=,t=1,p=1$" + "00" * 16,
        "argon2id$v=19$m=\u0666,t=1,p=1$" + "00" * 16,
        "argon2id$v=19$m=64,t=1,p=1$xyz",
        "argon2id$v=19$m=64,t=1,p=1$",
        "argon2id$v=19$m=64,t=0,p=1$" + "00" * 16,
        "argon2id$v=19$m=64,t=1,p=1$" + "00" * 7,
        "argon2id$v=19$m=64,t=1,p=1$" + "00" * 65,
        "argon2id$v=19$m=31,t=1,p=4$" + "00" * 16,
        "argon2id$v=19$m=1048577,t=1,p=1$" + "00" * 16,
        "argon2id$v=19$m=64,t=17,p=1$" + "00" * 16,
        "argon2id$v=19$m=1048576,t=5,p=1$" + "00" * 16,
    ],
)
def test_malformed_or_absurd_parameters_are_refused_before_any_work(kdf):
    tracemalloc.start()
    with pytest.raises(ValueError, match="its "):
        slots.passphrase_key(b"pw", kdf)
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()
