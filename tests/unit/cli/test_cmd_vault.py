"""`docker dso vault`: keys, backups, checks."""

import json
import os

import pytest

from dso.errors import (
    FileAccessError,
    FileExistsRefusedError,
    InsecurePermissionsError,
    UsageError,
    VaultDamagedError,
    VaultNotFoundError,
    WrongKeyError,
)
from dso.vault import slots
from dso.vault.store import Vault


@pytest.fixture(autouse=True)
def quick_argon2(monkeypatch):
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)


@pytest.fixture
def keeper(owner):
    """An owner of one secret."""
    owner.ok("secret", "set", "shop/x", stdin=b"v")
    return owner


@pytest.fixture
def passphrase_file(tmp_path, monkeypatch):
    path = tmp_path / "passphrase"
    path.write_bytes(b"correct horse\n")
    path.chmod(0o600)
    monkeypatch.setenv("DSO_PASSPHRASE_FILE", str(path))
    return path


def _status(user):
    return json.loads(user.ok("vault", "status", "--format", "json").out)


def test_status_with_a_key_tells_everything_but_values(keeper):
    status = _status(keeper)
    vault = Vault.open()
    assert (status["id"], status["format"], status["secrets"], status["mode"]) == (vault.id, 1, 1, "0600")
    assert status["size"] == os.path.getsize(vault.path)
    assert [slot["type"] for slot in status["slots"]] == ["keyfile"]
    assert status["unlocked_by"] == status["slots"][0]["id"]
    assert status["problems"] == []
    table = keeper.ok("vault", "status").out
    assert vault.id in table
    assert "keyfile" in table


def test_status_without_a_key_tells_what_the_header_says(keeper):
    keeper.key_file.unlink()
    status = _status(keeper)
    assert status["secrets"] is None
    assert "master.key does not exist" in status["locked"]
    assert len(status["slots"]) == 1
    assert "Locked:" in keeper.ok("vault", "status").out


def test_status_asks_nobody(keeper, passphrase_file, monkeypatch):
    keeper.ok("vault", "add-key", "--passphrase")
    monkeypatch.delenv("DSO_PASSPHRASE_FILE")
    keeper.key_file.unlink()

    def asked(_prompt):
        raise AssertionError("asked")

    monkeypatch.setattr("dso.system.terminal.ask_hidden", asked)
    assert _status(keeper)["secrets"] is None


def test_check_reads_everything(keeper):
    assert "1 secrets" in keeper.ok("vault", "check").out


def test_check_finds_damage_and_permissions(keeper):
    keeper.vault_file.chmod(0o644)
    done = keeper.dso("vault", "check")
    assert done.code == InsecurePermissionsError.code
    assert f"chmod 600 {keeper.vault_file}" in done.err
    assert "open to other users" in keeper.ok("vault", "status").err
    with keeper.vault_file.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"\0")
    assert keeper.dso("vault", "check").code == VaultDamagedError.code


def test_rekey_keeps_every_way_to_unlock(keeper, passphrase_file):
    keeper.ok("vault", "add-key", "--passphrase")
    before = Vault.open()
    done = keeper.ok("vault", "rekey")
    assert "re-creates the containers" in done.err
    assert Vault.open().mac_key != before.mac_key
    keeper.key_file.unlink()
    assert keeper.ok("secret", "get", "shop/x").stdout == b"v"


def test_rekey_with_a_new_master_key(keeper):
    old = keeper.key_file.read_text()
    done = keeper.ok("vault", "rekey", "--new-master-key")
    new = keeper.key_file.read_text()
    assert new != old
    assert new.strip() not in done.out + done.err
    assert keeper.ok("secret", "get", "shop/x").stdout == b"v"
    keeper.key_file.write_text(old)
    assert keeper.dso("secret", "get", "shop/x").code == WrongKeyError.code


def test_add_key_writes_a_new_private_key_or_takes_an_existing_one(keeper, tmp_path, monkeypatch):
    tmp_path.chmod(0o700)
    path = tmp_path / "recovery.key"
    keeper.ok("vault", "add-key", "--keyfile", str(path))
    assert path.stat().st_mode & 0o777 == 0o600
    assert keeper.dso("vault", "add-key", "--keyfile", str(path)).code == UsageError.code
    assert len(_status(keeper)["slots"]) == 2
    keeper.key_file.unlink()
    monkeypatch.setenv("DSO_MASTER_KEY", path.read_text().strip())
    assert keeper.ok("secret", "get", "shop/x").stdout == b"v"
    path.chmod(0o644)
    assert keeper.dso("vault", "add-key", "--keyfile", str(path)).code == InsecurePermissionsError.code


def test_key_file_that_was_written_for_nothing_is_removed(keeper, tmp_path):
    keeper.key_file.unlink()
    assert keeper.dso("vault", "add-key", "--keyfile", str(tmp_path / "new.key")).code == WrongKeyError.code
    assert not (tmp_path / "new.key").exists()
    assert keeper.dso("vault", "add-key", "--keyfile", str(tmp_path / "no" / "new.key")).code == FileAccessError.code


@pytest.mark.parametrize("words", [(), ("--passphrase", "--keyfile", "x"), ("--passphrase",), ("--passphrase=x",)])
def test_add_key_command_lines_that_make_no_sense(keeper, words):
    assert keeper.dso("vault", "add-key", *words).code == UsageError.code
    assert len(_status(keeper)["slots"]) == 1


def test_remove_key_wants_another_way_in(keeper, passphrase_file, monkeypatch):
    with monkeypatch.context() as patch:
        patch.delenv("DSO_PASSPHRASE_FILE")
        slot = _status(keeper)["unlocked_by"]
        assert keeper.dso("vault", "remove-key", slot).code == UsageError.code
    keeper.ok("vault", "add-key", "--passphrase")
    monkeypatch.delenv("DSO_PASSPHRASE_FILE")
    done = keeper.dso("vault", "remove-key", slot)
    assert done.code == UsageError.code
    assert "--force" in done.err
    assert len(_status(keeper)["slots"]) == 2
    monkeypatch.setenv("DSO_PASSPHRASE_FILE", str(passphrase_file))
    keeper.ok("vault", "remove-key", slot)
    assert [one["type"] for one in _status(keeper)["slots"]] == ["passphrase"]
    assert keeper.dso("vault", "remove-key", "ffffffff").code == UsageError.code


def test_remove_key_by_force(keeper, tmp_path):
    tmp_path.chmod(0o700)
    slot = _status(keeper)["unlocked_by"]
    keeper.ok("vault", "add-key", "--keyfile", str(tmp_path / "k"))
    keeper.ok("vault", "remove-key", slot, "--force")
    assert keeper.dso("secret", "get", "shop/x").code == WrongKeyError.code


def test_backup_and_restore(keeper, tmp_path):
    copy = tmp_path / "copy"
    assert "1 secrets" in keeper.ok("vault", "backup", str(copy)).err
    assert keeper.dso("vault", "backup", str(copy)).code == FileExistsRefusedError.code
    keeper.ok("vault", "backup", str(copy), "--force")
    keeper.ok("secret", "set", "shop/x", stdin=b"changed")
    done = keeper.ok("vault", "restore", str(copy))
    assert "before-restore" in done.err
    assert keeper.ok("secret", "get", "shop/x").stdout == b"v"


def test_restore_of_what_is_no_backup_changes_nothing(keeper, tmp_path):
    (tmp_path / "x").write_bytes(b"garbage")
    assert keeper.dso("vault", "restore", str(tmp_path / "x")).code == VaultDamagedError.code
    assert keeper.dso("vault", "restore", str(tmp_path / "missing")).code == FileAccessError.code
    assert keeper.ok("secret", "get", "shop/x").stdout == b"v"


def test_restore_on_a_new_machine(keeper, tmp_path, monkeypatch):
    keeper.ok("vault", "backup", str(tmp_path / "copy"))
    monkeypatch.setenv("DSO_MASTER_KEY", keeper.key_file.read_text().strip())
    monkeypatch.setenv("HOME", str(tmp_path))
    keeper.ok("vault", "restore", str(tmp_path / "copy"))
    assert (tmp_path / ".dso").stat().st_mode & 0o777 == 0o700
    assert keeper.ok("secret", "get", "shop/x").stdout == b"v"


@pytest.mark.parametrize("words", [("status",), ("check",), ("rekey",), ("backup", "x"), ("add-key", "--keyfile", "x")])
def test_without_a_vault_every_command_says_how_to_make_one(user, words, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o700)
    done = user.dso("vault", *words)
    assert done.code == VaultNotFoundError.code
    assert "docker dso init" in done.err
    assert not (tmp_path / "x").exists()
