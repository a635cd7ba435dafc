"""Which keys are tried, in which order, and what is said when none opens the vault."""

import os
from pathlib import Path

import pytest

from dso import paths
from dso.errors import FileAccessError, InsecurePermissionsError, WrongKeyError
from dso.vault import slots
from dso.vault.format import Header, parse_header
from dso.vault.keys import add_slot, create_vault, new_vault, write_key_file
from dso.vault.slots import KEYFILE, PASSPHRASE, Slot
from dso.vault.store import Vault
from dso.vault.unlock import Unlock, read_key_file, read_passphrase_file

KEY = bytes(range(32))
OTHER = bytes(32)


@pytest.fixture(autouse=True)
def quick_argon2(monkeypatch):
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)


def _never_asked(_prompt):
    raise AssertionError("nobody may be asked")


def _asker(answer):
    """Somebody who always gives this answer, and what they were asked."""
    prompts = []

    def ask(prompt):
        prompts.append(prompt)
        return answer

    return ask, prompts


def _private_file(path, content):
    path.write_bytes(content)
    path.chmod(0o600)
    return str(path)


def _open(ways, tmp_path, *, environment=None, key_file=None, ask=_never_asked):
    """Open a vault that has a slot for each of `ways`; the id of the slot that did it."""
    path = str(tmp_path / "vault.enc")
    tmp_path.chmod(0o700)
    create_vault(path, *ways[0])
    first = ways[0][1]
    given = {"DSO_MASTER_KEY": first.hex()} if ways[0][0] == KEYFILE else {}
    unlock = Unlock(environment=given, key_file="/x", ask=lambda _prompt: first)
    for way in ways[1:]:
        with Vault.edit(path, unlock) as vault:
            add_slot(vault, *way)
    unlock = Unlock(environment=environment or {}, key_file=key_file or str(tmp_path / "none.key"), ask=ask)
    header = parse_header(Path(path).read_bytes(), path)
    unlock.data_key(header, path)
    return [slot.id for slot in header.slots].index(unlock.slot_id)


def test_variable_comes_before_the_key_file(tmp_path):
    key_file = _private_file(tmp_path / "k", OTHER.hex().encode() + b"\n")
    ways = [(KEYFILE, OTHER), (KEYFILE, KEY)]
    assert _open(ways, tmp_path, environment={"DSO_MASTER_KEY": KEY.hex()}, key_file=key_file) == 1


@pytest.mark.parametrize("text", [OTHER.hex(), "00", "", " "], ids=["another vault's", "malformed", "empty", "blank"])
@pytest.mark.parametrize("way", [(KEYFILE, KEY), (PASSPHRASE, b"pw")], ids=["key file", "passphrase"])
def test_key_in_the_variable_opens_the_vault_or_is_an_error_although_others_would_open_it(tmp_path, text, way):
    key_file = _private_file(tmp_path / "k", KEY.hex().encode() + b"\n")
    phrase = _private_file(tmp_path / "pw", b"pw")
    environment = {"DSO_MASTER_KEY": text, "DSO_PASSPHRASE_FILE": phrase}
    with pytest.raises(WrongKeyError, match="DSO_MASTER_KEY") as refusal:
        _open([(KEYFILE, KEY), (PASSPHRASE, b"pw"), way][-1:], tmp_path, environment=environment, key_file=key_file)
    assert "unset it" in refusal.value.hint or "remove it" in refusal.value.hint


@pytest.mark.parametrize("content", [b"wrong", b"", None], ids=["wrong", "empty", "unreadable"])
def test_passphrase_in_the_variables_file_opens_the_vault_or_is_an_error_although_the_key_file_would(tmp_path, content):
    key_file = _private_file(tmp_path / "k", KEY.hex().encode() + b"\n")
    path = str(tmp_path / "none") if content is None else _private_file(tmp_path / "pw", content)
    error = FileAccessError if content is None else WrongKeyError
    for ways in ([(KEYFILE, KEY), (PASSPHRASE, b"pw")], [(KEYFILE, KEY)]):
        with pytest.raises(error if len(ways) > 1 else WrongKeyError, match="DSO_PASSPHRASE_FILE"):
            _open(ways, tmp_path, environment={"DSO_PASSPHRASE_FILE": path}, key_file=key_file)
        (tmp_path / "vault.enc").unlink()


def test_empty_passphrase_variable_is_an_error(tmp_path):
    with pytest.raises(WrongKeyError, match="DSO_PASSPHRASE_FILE is set and empty"):
        _open([(PASSPHRASE, b"pw")], tmp_path, environment={"DSO_PASSPHRASE_FILE": ""}, ask=lambda _prompt: b"pw")


def test_passphrase_file_comes_before_the_key_file(tmp_path):
    key_file = _private_file(tmp_path / "k", KEY.hex().encode())
    environment = {"DSO_PASSPHRASE_FILE": _private_file(tmp_path / "pw", b"pw")}
    assert _open([(KEYFILE, KEY), (PASSPHRASE, b"pw")], tmp_path, environment=environment, key_file=key_file) == 1


def test_key_file_comes_before_the_passphrase(tmp_path):
    key_file = _private_file(tmp_path / "k", KEY.hex().encode())
    assert _open([(PASSPHRASE, b"pw"), (KEYFILE, KEY)], tmp_path, key_file=key_file) == 1


def test_passphrase_file_opens_and_loses_one_newline(tmp_path):
    for content in (b"pw", b"pw\n", b"pw\r\n"):
        path = _private_file(tmp_path / "pw", content)
        assert _open([(PASSPHRASE, b"pw")], tmp_path, environment={"DSO_PASSPHRASE_FILE": path}) == 0
        (tmp_path / "vault.enc").unlink()


def test_passphrase_is_asked_for_only_when_nothing_else_opens(tmp_path):
    assert _open([(PASSPHRASE, b"pw")], tmp_path, ask=lambda _prompt: b"pw") == 0


def test_wrong_passphrase_is_asked_for_three_times(tmp_path):
    ask, prompts = _asker(b"wrong")
    with pytest.raises(WrongKeyError, match="typed 3 times"):
        _open([(PASSPHRASE, b"pw")], tmp_path, ask=ask)
    assert len(prompts) == 3


def test_passphrase_is_asked_for_once_for_a_whole_edit(tmp_path):
    path = str(tmp_path / "vault.enc")
    tmp_path.chmod(0o700)
    create_vault(path, PASSPHRASE, b"pw")
    ask, prompts = _asker(b"pw")
    unlock = Unlock(environment={}, key_file="/x", ask=ask)
    Vault.open(path, unlock)
    with Vault.edit(path, unlock):
        pass
    assert len(prompts) == 1


def test_nobody_is_asked_while_the_lock_is_held(tmp_path):
    from dso.system.files import locked

    path = str(tmp_path / "vault.enc")
    tmp_path.chmod(0o700)
    create_vault(path, PASSPHRASE, b"pw")

    def ask(_prompt):
        with locked(str(tmp_path / "vault.lock"), 0):
            return b"pw"

    with Vault.edit(path, Unlock(environment={}, key_file="/x", ask=ask)):
        pass


def test_error_says_what_was_tried_and_what_would_unlock(tmp_path):
    with pytest.raises(WrongKeyError) as refusal:
        _open([(KEYFILE, KEY), (PASSPHRASE, b"pw")], tmp_path, ask=lambda _prompt: None)
    assert "DSO_MASTER_KEY is not set" in refusal.value.message
    assert "none.key does not exist" in refusal.value.message
    assert "no terminal" in refusal.value.message
    assert "key-file slot" in refusal.value.hint
    assert "DSO_PASSPHRASE_FILE" in refusal.value.hint


def test_sixteen_slots_that_cannot_be_used_are_told_once_and_no_way_to_unlock(tmp_path):
    kdf = "argon2id$v=19$m=1048576,t=1,p=1$" + "00" * 16
    hostile = [Slot(f"{number:08x}", PASSPHRASE, 1, kdf) for number in range(16)]
    with pytest.raises(WrongKeyError) as refusal:
        Unlock(environment={}, key_file=str(tmp_path / "none.key"), ask=_never_asked).data_key(
            Header(b"", "0" * 32, tuple(hostile)), "x"
        )
    assert refusal.value.message.count("Argon2id") == 1
    assert "0000000f" in refusal.value.message
    assert "vault restore" in refusal.value.hint
    assert "passphrase of slot" not in refusal.value.hint


def test_error_never_shows_a_key(tmp_path):
    for text in (KEY.hex(), KEY.hex()[:-1], "hunter2"):
        with pytest.raises(WrongKeyError) as refusal:
            _open([(KEYFILE, OTHER)], tmp_path, environment={"DSO_MASTER_KEY": text})
        assert text not in refusal.value.message + refusal.value.hint
        (tmp_path / "vault.enc").unlink()


@pytest.mark.parametrize("text", ["00", "z" * 64, "00" * 33, "0" * 63, "00 " * 32])
def test_variable_that_holds_no_key_is_an_error_at_once(text):
    data = new_vault(KEYFILE, KEY)
    with pytest.raises(WrongKeyError, match="DSO_MASTER_KEY holds no key"):
        Unlock(environment={"DSO_MASTER_KEY": text}).data_key(parse_header(data, "x"), "x")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o610, 0o777])
def test_key_file_that_others_may_touch_is_refused_with_the_chmod(tmp_path, mode):
    tmp_path.chmod(0o700)
    path = _private_file(tmp_path / "k", KEY.hex().encode())
    os.chmod(path, mode)
    for read in (read_key_file, read_passphrase_file):
        with pytest.raises(InsecurePermissionsError) as refusal:
            read(path)
        assert refusal.value.hint == f"chmod 600 {path}"


def test_key_file_of_another_user_is_refused(tmp_path):
    tmp_path.chmod(0o700)
    path = _private_file(tmp_path / "k", KEY.hex().encode())
    os.chown(path, 2001, 2001)
    with pytest.raises(InsecurePermissionsError, match="belongs to user 2001"):
        read_key_file(path)


def test_key_file_in_a_directory_that_others_may_write_is_refused(tmp_path):
    path = _private_file(tmp_path / "k", KEY.hex().encode())
    tmp_path.chmod(0o770)
    with pytest.raises(InsecurePermissionsError, match="replace files"):
        read_key_file(path)


@pytest.mark.parametrize("content", [b"", b"\n", b"abc", b"\xff" * 64, bytes(64), b"0" * 65])
def test_key_file_without_a_key_is_refused(tmp_path, content):
    tmp_path.chmod(0o700)
    with pytest.raises(WrongKeyError, match="64 hexadecimal digits"):
        read_key_file(_private_file(tmp_path / "k", content))


def test_huge_key_file_is_not_read(tmp_path):
    tmp_path.chmod(0o700)
    with pytest.raises(FileAccessError, match="more than 4096"):
        read_key_file(_private_file(tmp_path / "k", bytes(5000)))


def test_passphrase_from_a_pipe_is_taken(tmp_path):
    reader, writer = os.pipe()
    os.write(writer, b"pw\n")
    os.close(writer)
    assert read_passphrase_file(f"/dev/fd/{reader}") == b"pw"
    os.close(reader)


def test_empty_or_missing_passphrase_file_is_an_error(tmp_path):
    with pytest.raises(WrongKeyError, match="is empty"):
        read_passphrase_file(_private_file(tmp_path / "pw", b"\n"))
    with pytest.raises(FileAccessError, match="no such file"):
        read_passphrase_file(str(tmp_path / "none"))


def test_argon2_is_not_run_for_a_key_file(vault_file, monkeypatch):
    monkeypatch.setattr("dso.vault.unlock.passphrase_key", _never_asked)
    assert Vault.open().names() == []


def test_written_key_file_is_private_and_readable(tmp_path):
    tmp_path.chmod(0o700)
    path = str(tmp_path / "new.key")
    key = write_key_file(path)
    assert read_key_file(path) == key
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert Path(path).read_bytes() == key.hex().encode() + b"\n"


def test_default_key_file_is_in_the_dso_directory(vault_file):
    assert paths.master_key_file() == os.path.dirname(vault_file) + "/master.key"
    assert Vault.open().slot_id
