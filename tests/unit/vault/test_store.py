"""The vault as everybody uses it: snapshots, changes, versions."""

import os
import stat
from pathlib import Path

import pytest

from dso.errors import (
    FileAccessError,
    InsecurePermissionsError,
    InvalidSecretError,
    SecretNotFoundError,
    VaultBusyError,
    VaultNotFoundError,
    VaultWriteError,
)
from dso.secret import SecretValue
from dso.system.files import locked
from dso.vault import edit
from dso.vault.backup import restore
from dso.vault.store import KEPT_VERSIONS, MAX_SECRET_BYTES, Vault


def _set(name, value):
    with Vault.edit() as vault:
        return vault.set(name, SecretValue(value))


@pytest.mark.parametrize(
    "value",
    [b"x", b"\0", b"$a$$ \" ' \\ \n\r\n", "pässwörd €".encode(), bytes(range(256)), os.urandom(MAX_SECRET_BYTES)],
    ids=["short", "nul", "shell", "utf8", "binary", "1MiB"],
)
def test_value_survives_to_the_byte(vault_file, value):
    _set("shop/x", value)
    assert Vault.open().get("shop/x").reveal() == value


def test_empty_and_too_large_values_are_refused_and_nothing_is_written(vault_file):
    before = Path(vault_file).read_bytes()
    for value in (b"", bytes(MAX_SECRET_BYTES + 1)):
        with pytest.raises(InvalidSecretError):
            _set("shop/x", value)
    with pytest.raises(InvalidSecretError):
        _set("shop", b"x")
    assert Path(vault_file).read_bytes() == before


def test_versions_count_on_and_five_former_ones_are_kept(vault_file):
    for number in range(1, 10):
        assert _set("shop/x", b"value %d" % number) == number
    vault = Vault.open()
    assert vault.versions("shop/x") == [9, 8, 7, 6, 5, 4]
    assert len(vault.versions("shop/x")) == KEPT_VERSIONS
    assert vault.get("shop/x", 4).reveal() == b"value 4"
    with pytest.raises(SecretNotFoundError, match="no version 3") as refusal:
        vault.get("shop/x", 3)
    assert "9, 8, 7" in refusal.value.hint


def test_file_shows_neither_names_nor_values(vault_file):
    _set("shop/api_key", b"hunter2")
    with open(vault_file, "rb") as stream:
        data = stream.read()
    assert not [text for text in (b"shop", b"api_key", b"hunter2") if text in data]


def test_older_copy_of_the_file_is_taken_for_the_vault(vault_file):
    """No promise but a limit, which docs/security.md states: nothing outside the file tells which is the newest."""
    _set("shop/x", b"old")
    with open(vault_file, "rb") as stream:
        older = stream.read()
    _set("shop/x", b"new")
    with open(vault_file, "wb") as stream:
        stream.write(older)
    assert Vault.open().get("shop/x").reveal() == b"old"


def test_dropped_versions_leave_the_file(vault_file):
    for number in range(1, 20):
        _set("shop/x", bytes([number]) * 1000)
    assert os.path.getsize(vault_file) < 1000 * (KEPT_VERSIONS + 2)


def test_same_value_makes_no_version_and_no_write(vault_file):
    _set("shop/x", b"same")
    before = os.stat(vault_file)
    assert _set("shop/x", b"same") == 1
    assert os.stat(vault_file).st_ino == before.st_ino


def test_rollback_is_a_new_version_with_the_old_value(vault_file):
    for value in (b"one", b"two", b"three"):
        _set("shop/x", value)
    with Vault.edit() as vault:
        assert vault.rollback("shop/x") == (2, 4)
    with Vault.edit() as vault:
        assert vault.rollback("shop/x", 1) == (1, 5)
    stored = Vault.open()
    assert [stored.get("shop/x", number).reveal() for number in stored.versions("shop/x")] == [
        b"one",
        b"two",
        b"three",
        b"two",
        b"one",
    ]


def test_rollback_without_an_earlier_version_is_an_error(vault_file):
    _set("shop/x", b"one")
    with pytest.raises(SecretNotFoundError, match="no earlier version"), Vault.edit() as vault:
        vault.rollback("shop/x")


def test_removal_takes_all_versions_and_counts_anew(vault_file):
    _set("shop/x", b"canary one")
    _set("shop/x", b"canary two")
    with Vault.edit() as vault:
        vault.remove(["shop/x"])
    assert not Vault.open().has("shop/x")
    assert _set("shop/x", b"new") == 1


def test_removal_of_several_is_all_or_nothing(vault_file):
    _set("shop/x", b"1")
    with pytest.raises(SecretNotFoundError, match="2 secrets"), Vault.edit() as vault:
        vault.remove(["shop/x", "shop/y", "shop/z"])
    assert Vault.open().names() == ["shop/x"]


def test_rename_keeps_the_versions(vault_file):
    _set("shop/x", b"1")
    _set("shop/x", b"2")
    with Vault.edit() as vault:
        vault.rename("shop/x", "shop/y")
        vault.rename("shop/y", "shop/y")
    assert Vault.open().names() == ["shop/y"]
    assert Vault.open().versions("shop/y") == [2, 1]


def test_changes_are_seen_inside_the_edit_and_by_the_next_reader(vault_file):
    with Vault.edit() as vault:
        vault.set("b/x", SecretValue(b"1"))
        vault.set("a/x", SecretValue(b"22"))
        assert vault.names() == ["a/x", "b/x"]
        assert vault.has("b/x")
        assert vault.get("b/x").reveal() == b"1"
        assert Vault.open().names() == []
    infos = Vault.open().infos()
    assert [(info.name, info.version, info.size) for info in infos] == [("a/x", 1, 2), ("b/x", 1, 1)]
    assert Vault.open().names("b") == ["b/x"]
    assert [info.name for info in Vault.open().infos("a")] == ["a/x"]


def test_exception_inside_an_edit_writes_nothing_and_frees_the_lock(vault_file):
    before = Path(vault_file).read_bytes()
    with pytest.raises(SecretNotFoundError), Vault.edit() as vault:  # noqa: PT012  # the second call raises
        vault.set("shop/x", SecretValue(b"1"))
        vault.remove(["shop/y"])
    assert Path(vault_file).read_bytes() == before
    assert _set("shop/x", b"2") == 1


def test_snapshot_does_not_change_when_the_file_does(vault_file):
    _set("shop/x", b"1")
    snapshot = Vault.open()
    _set("shop/x", b"2")
    assert snapshot.get("shop/x").reveal() == b"1"


def test_edit_reads_what_others_wrote_before_it_got_the_lock(vault_file):
    editing = Vault.edit()
    _set("shop/x", b"by another")
    with editing as vault:
        vault.set("shop/y", SecretValue(b"1"))
    assert Vault.open().names() == ["shop/x", "shop/y"]


def test_every_write_has_a_fresh_nonce_and_keeps_the_header(vault_file):
    contents = []
    for number in range(5):
        _set("shop/x", b"%d" % number)
        contents.append(Path(vault_file).read_bytes())
    headers = {content[: content.index(b"\n")] for content in contents}
    nonces = {content[content.index(b"\n") + 1 :][:12] for content in contents}
    assert (len(headers), len(nonces)) == (1, 5)


def test_file_is_ours_alone_whatever_the_umask(vault_file):
    before = os.umask(0)
    try:
        _set("shop/x", b"1")
    finally:
        os.umask(before)
    modes = {
        name: stat.S_IMODE(os.stat(os.path.dirname(vault_file) + "/" + name).st_mode) for name in _files(vault_file)
    }
    assert modes == {"master.key": 0o600, "vault.enc": 0o600, "vault.lock": 0o600}


@pytest.mark.parametrize("which", ["directory", "file"])
def test_a_vault_of_another_user_is_refused(vault_file, which):
    os.chown(os.path.dirname(vault_file) if which == "directory" else vault_file, 2001, 2001)
    for attempt in (Vault.open, lambda: Vault.edit().__enter__(), lambda: restore(__file__)):
        with pytest.raises(InsecurePermissionsError, match="belongs to user 2001, and you are user 0"):
            attempt()
    assert "vault.lock" not in _files(vault_file)


def test_symbolic_link_to_a_vault_stays_one(vault_file, tmp_path):
    real = tmp_path / "real.enc"
    os.rename(vault_file, real)
    os.symlink(real, vault_file)
    _set("shop/x", b"1")
    assert os.path.islink(vault_file)
    assert Vault.open().names() == ["shop/x"]


def test_missing_vault_says_how_to_create_one(scratch_home):
    for attempt in (Vault.open, lambda: Vault.edit().__enter__()):
        with pytest.raises(VaultNotFoundError) as refusal:
            attempt()
        assert "docker dso init" in refusal.value.hint


def test_vault_that_is_a_directory_is_an_access_error(scratch_home):
    os.makedirs(scratch_home / ".dso" / "vault.enc", 0o700)
    os.chmod(scratch_home / ".dso", 0o700)
    with pytest.raises(FileAccessError, match="is a directory"):
        Vault.open()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_directory_that_others_may_write_is_refused_with_the_chmod(vault_file, mode):
    directory = os.path.dirname(vault_file)
    os.chmod(directory, mode)
    with pytest.raises(InsecurePermissionsError) as refusal:
        Vault.open()
    assert refusal.value.hint == f"chmod 700 {directory}"


def test_lock_held_too_long_is_busy(vault_file, monkeypatch):
    monkeypatch.setattr(edit, "LOCK_TIMEOUT", 0.01)
    with locked(os.path.dirname(vault_file) + "/vault.lock"), pytest.raises(VaultBusyError):
        _set("shop/x", b"1")


def test_readers_do_not_wait_for_the_lock(vault_file):
    with Vault.edit():
        assert Vault.open().names() == []


def test_stale_temporary_files_are_cleaned_by_the_next_write(vault_file):
    stale = os.path.dirname(vault_file) + "/.vault.enc.0123456789abcdef.tmp"
    for path in (stale, os.path.dirname(vault_file) + "/.vault.enc.note"):
        with open(path, "w"):
            pass
    _set("shop/x", b"1")
    assert _files(vault_file) == [".vault.enc.note", "master.key", "vault.enc", "vault.lock"]


def test_vault_that_would_be_too_large_is_refused(vault_file, monkeypatch):
    monkeypatch.setattr(edit, "MAX_PLAINTEXT_BYTES", 1000)
    with pytest.raises(VaultWriteError, match="256 MiB"):
        _set("shop/x", bytes(1000))
    assert Vault.open().names() == []


def _files(vault_file):
    return sorted(os.listdir(os.path.dirname(vault_file)))
