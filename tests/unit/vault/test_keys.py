"""Adding, removing and rotating keys."""

import os
import shutil
from pathlib import Path

import pytest

from dso import paths
from dso.errors import FileExistsRefusedError, UsageError, WrongKeyError
from dso.secret import SecretValue
from dso.vault import slots
from dso.vault.format import MAX_SLOTS, build_header, parse_header
from dso.vault.keys import (
    add_slot,
    create_vault,
    new_passphrase,
    prove_other_slot,
    refuse_known_key,
    rekey,
    remove_slot,
    write_key_file,
)
from dso.vault.masterkey import replace_master_key
from dso.vault.slots import KEYFILE, PASSPHRASE, Slot, open_data_key, private_key
from dso.vault.store import Vault
from dso.vault.unlock import Unlock, read_key_file

SECOND = bytes(range(32))


@pytest.fixture(autouse=True)
def quick_argon2(monkeypatch):
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)


def _unlock(key=None, passphrase=None):
    return Unlock(
        environment={"DSO_MASTER_KEY": key.hex()} if key else {}, key_file="/x", ask=lambda _prompt: passphrase
    )


def _data_key(data, key):
    header = parse_header(data, "x")
    found = [open_data_key(slot, private_key(key, header.vault_id, slot), header.vault_id) for slot in header.slots]
    return next((data_key for data_key in found if data_key), None)


def _public_keys(vault):
    return list(vault._payload.meta["slots"].values())


@pytest.fixture
def two_keys(vault_file):
    """A vault that ~/.dso/master.key, SECOND and the passphrase `pw` open."""
    with Vault.edit() as vault:
        vault.set("shop/x", SecretValue(b"value"))
        add_slot(vault, KEYFILE, SECOND)
        add_slot(vault, PASSPHRASE, b"pw")
    return vault_file


def test_every_added_way_opens(two_keys):
    for unlock in (None, _unlock(SECOND), _unlock(passphrase=b"pw")):
        assert Vault.open(unlock=unlock).get("shop/x").reveal() == b"value"


def test_rekey_rotates_data_key_and_mac_key_and_every_way_goes_on_opening(two_keys):
    before, old = Path(two_keys).read_bytes(), Vault.open()
    with Vault.edit() as vault:
        rekey(vault)
    after = Path(two_keys).read_bytes()
    assert _data_key(before, SECOND) != _data_key(after, SECOND)
    for unlock in (None, _unlock(SECOND), _unlock(passphrase=b"pw")):
        new = Vault.open(unlock=unlock)
        assert (new.id, new.get("shop/x").reveal()) == (old.id, b"value")
        assert new.mac_key != old.mac_key
    sealed = [{slot.sealed for slot in parse_header(data, "x").slots} for data in (before, after)]
    assert not sealed[0] & sealed[1]


def test_removed_key_opens_nothing_written_since(two_keys):
    removed = Vault.open().slot_id
    with Vault.edit(unlock=_unlock(SECOND)) as vault:
        remove_slot(vault, removed)
    with pytest.raises(WrongKeyError):
        Vault.open()
    for unlock in (_unlock(SECOND), _unlock(passphrase=b"pw")):
        assert Vault.open(unlock=unlock).get("shop/x").reveal() == b"value"


def test_whoever_had_a_removed_key_cannot_open_with_all_that_was_ever_in_the_vault(two_keys):
    """The old vault in clear (data key and public keys) and the new file: no way to the new data key."""
    old_file, master = Path(two_keys).read_bytes(), read_key_file(paths.master_key_file())
    known = Vault.open()
    old_data_key = _data_key(old_file, master)
    publics = [bytes.fromhex(public) for public in _public_keys(known)]
    with Vault.edit() as vault:
        remove_slot(vault, known.slot_id)
    new_file = Path(two_keys).read_bytes()
    header = parse_header(new_file, "x")
    from dso.vault.format import decrypt

    with pytest.raises(Exception, match="changed"):
        decrypt(header, old_data_key, new_file, "x")
    for candidate in (master, old_data_key, *publics):
        assert _data_key(new_file, candidate) is None
        for slot in header.slots:
            assert open_data_key(slot, candidate, header.vault_id) is None


def test_header_does_not_show_the_slots_public_keys(two_keys):
    publics = _public_keys(Vault.open())
    text = Path(two_keys).read_bytes().decode("latin-1")
    assert len(publics) == 3
    assert not [public for public in publics if public in text]


def test_last_slot_cannot_be_removed(vault_file):
    with Vault.edit() as vault, pytest.raises(UsageError, match="only one"):
        remove_slot(vault, vault.slot_id)
    assert Vault.open().names() == []


def test_unknown_slot_cannot_be_removed(vault_file):
    with Vault.edit() as vault, pytest.raises(UsageError, match="no slot 'ffffffff'") as refusal:
        remove_slot(vault, "ffffffff")
    assert Vault.open().slot_id in refusal.value.hint


def test_removal_wants_proof_that_something_else_opens(two_keys):
    vault = Vault.open()
    with pytest.raises(UsageError, match="no key at hand would open"):
        prove_other_slot(vault.header, vault.slot_id, _unlock(read_key_file(paths.master_key_file())), vault.path)
    for unlock in (_unlock(SECOND), _unlock(passphrase=b"pw")):
        prove_other_slot(vault.header, vault.slot_id, unlock, vault.path)


def test_as_many_slots_as_fit(vault_file):
    with Vault.edit() as vault:
        for number in range(MAX_SLOTS - 1):
            add_slot(vault, KEYFILE, bytes([number]) * 32)
        with pytest.raises(UsageError, match="16 slots"):
            add_slot(vault, KEYFILE, SECOND)
    assert len(Vault.open(unlock=_unlock(b"\x03" * 32)).header.slots) == MAX_SLOTS


def test_known_key_is_not_added_twice(two_keys):
    with pytest.raises(UsageError, match="opens the vault already"):
        refuse_known_key(Vault.open().header, SECOND)
    refuse_known_key(Vault.open().header, bytes(32))


def test_slot_from_the_future_is_kept_by_writes_and_named_by_rekey(vault_file):
    foreign = Slot("0badcafe", "tpm2", 1, "pcr7", extra={"policy": [1]})
    with Vault.edit() as vault:
        vault.header = build_header(vault.id, (*vault.header.slots, foreign))
        vault.changed = True
    with Vault.edit() as vault:
        vault.set("shop/x", SecretValue(b"1"))
    assert Vault.open().header.slot("0badcafe").members() == foreign.members()
    with Vault.edit() as vault, pytest.raises(UsageError, match="0badcafe"):
        rekey(vault)
    with Vault.edit() as vault:
        remove_slot(vault, "0badcafe")
    assert len(Vault.open().header.slots) == 1


def test_new_master_key_takes_the_old_ones_place_and_rights(two_keys):
    key_file = paths.master_key_file()
    old = read_key_file(key_file)
    slot = replace_master_key()
    assert read_key_file(key_file) != old
    assert Vault.open().slot_id == slot.id
    assert os.stat(key_file).st_mode & 0o777 == 0o600
    with pytest.raises(WrongKeyError):
        Vault.open(unlock=_unlock(old))
    assert Vault.open(unlock=_unlock(SECOND)).get("shop/x").reveal() == b"value"
    assert sorted(os.listdir(os.path.dirname(key_file))) == ["master.key", "vault.enc", "vault.lock"]


def test_master_key_of_another_vault_is_not_replaced(two_keys):
    key_file = paths.master_key_file()
    Path(key_file).write_bytes(b"00" * 32)
    with pytest.raises(UsageError, match="not a key to this vault"):
        replace_master_key(unlock=_unlock(SECOND))
    assert Path(key_file).read_bytes() == b"00" * 32


def test_existing_files_are_never_overwritten(vault_file):
    before = Path(vault_file).read_bytes()
    with pytest.raises(FileExistsError):
        create_vault(vault_file, KEYFILE, SECOND)
    with pytest.raises(FileExistsRefusedError):
        write_key_file(vault_file)
    assert Path(vault_file).read_bytes() == before


def test_vaults_are_never_alike(tmp_path):
    tmp_path.chmod(0o700)
    ids = set()
    for number in range(5):
        path = str(tmp_path / str(number))
        ids.add(create_vault(path, KEYFILE, SECOND).vault_id)
    assert len(ids) == 5
    shutil.rmtree(tmp_path)


def test_new_passphrase_comes_from_the_file_if_one_is_named(tmp_path, monkeypatch):
    path = tmp_path / "pw"
    path.write_bytes(b"correct horse\n")
    path.chmod(0o600)
    monkeypatch.setenv("DSO_PASSPHRASE_FILE", str(path))
    assert new_passphrase() == b"correct horse"


@pytest.mark.parametrize(("typed", "error"), [(None, "no terminal"), (b"", "empty")])
def test_new_passphrase_must_be_typed(monkeypatch, typed, error):
    monkeypatch.delenv("DSO_PASSPHRASE_FILE", raising=False)
    monkeypatch.setattr("dso.system.terminal.ask_twice", lambda *_prompts: typed)
    with pytest.raises(UsageError, match=error):
        new_passphrase()
