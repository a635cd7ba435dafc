"""`docker dso init`: creates, and never overwrites."""

import os
import stat

import pytest

from dso.errors import (
    FileAccessError,
    InsecurePermissionsError,
    UsageError,
    VaultDamagedError,
    WrongKeyError,
)
from dso.vault import slots
from dso.vault.store import Vault

KEY = bytes(range(32)).hex()


@pytest.fixture(autouse=True)
def quick_argon2(monkeypatch):
    monkeypatch.setattr(slots, "_MEMORY_KIB", 64)


def _snapshot(user):
    return {path.name: (path.read_bytes(), path.stat().st_mode) for path in user.dso_dir.iterdir()}


def test_init_makes_directory_key_and_vault_for_this_user_alone(user):
    before = os.umask(0)
    try:
        done = user.ok("init")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in user.dso_dir.iterdir()}
    assert modes == {"master.key": 0o600, "vault.enc": 0o600, "vault.lock": 0o600}
    assert stat.S_IMODE(user.dso_dir.stat().st_mode) == 0o700
    key = user.key_file.read_text()
    assert len(key) == 65
    assert bytes.fromhex(key)
    assert key.strip() not in done.out + done.err
    assert "docker dso up" in done.out
    assert Vault.open().names() == []


def test_second_init_changes_nothing_and_succeeds(owner):
    owner.ok("secret", "set", "shop/x", stdin=b"1")
    before = _snapshot(owner)
    for words in (("init",), ("init", "--passphrase")):
        done = owner.ok(*words)
        assert "There is a vault already" in done.out
        assert Vault.open().id in done.out
    assert "add-key --passphrase" in done.err
    assert _snapshot(owner) == before


def test_existing_key_is_used_and_not_overwritten(user):
    user.dso_dir.mkdir(0o700)
    user.key_file.write_text(KEY + "\n")
    user.key_file.chmod(0o600)
    done = user.ok("init")
    assert user.key_file.read_text() == KEY + "\n"
    assert "was in" in done.out
    assert Vault.open().names() == []


@pytest.mark.parametrize(
    ("content", "mode", "error"), [("garbage", 0o600, WrongKeyError), (KEY, 0o644, InsecurePermissionsError)]
)
def test_existing_key_that_will_not_do_is_an_error_and_no_vault_is_made(user, content, mode, error):
    user.dso_dir.mkdir(0o700)
    user.key_file.write_text(content)
    user.key_file.chmod(mode)
    assert user.dso("init").code == error.code
    assert not user.vault_file.exists()
    assert user.key_file.read_text() == content


def test_vault_without_its_key_is_explained(owner):
    owner.key_file.unlink()
    done = owner.dso("init")
    assert done.code == WrongKeyError.code
    assert "master.key does not exist" in done.err
    assert not owner.key_file.exists()


def test_damaged_vault_is_not_taken_for_none(owner):
    owner.vault_file.write_bytes(b"")
    assert owner.dso("init").code == VaultDamagedError.code
    assert owner.vault_file.read_bytes() == b""


def test_key_in_the_environment_opens_the_vault_and_is_written_nowhere(user, monkeypatch):
    monkeypatch.setenv("DSO_MASTER_KEY", KEY)
    done = user.ok("init")
    assert not user.key_file.exists()
    assert "DSO_MASTER_KEY" in done.out
    assert Vault.open().names() == []
    assert not [path for path in user.dso_dir.iterdir() if KEY in path.read_bytes().decode("latin-1")]


def test_passphrase_vault_has_no_key_file(user, tmp_path, monkeypatch):
    (tmp_path / "pw").write_bytes(b"correct horse\n")
    (tmp_path / "pw").chmod(0o600)
    monkeypatch.setenv("DSO_PASSPHRASE_FILE", str(tmp_path / "pw"))
    user.ok("init", "--passphrase")
    assert not user.key_file.exists()
    user.ok("secret", "set", "x", stdin=b"1")
    assert user.ok("secret", "get", "x").stdout == b"1"
    monkeypatch.delenv("DSO_PASSPHRASE_FILE")
    assert user.dso("secret", "get", "x").code == WrongKeyError.code
    assert "Nothing was changed" in user.ok("init").out


def test_passphrase_without_anybody_to_ask_is_an_error_and_makes_nothing(user):
    assert user.dso("init", "--passphrase").code == UsageError.code
    assert not user.vault_file.exists()


def test_passphrase_is_never_taken_from_argv(user):
    for words in (("--passphrase=secret",), ("--passphrase", "secret")):
        assert user.dso("init", *words).code == UsageError.code
    assert not user.vault_file.exists()


def test_directory_that_others_may_read_becomes_private(user):
    user.dso_dir.mkdir(0o755)
    assert "0700 now" in user.ok("init").err
    assert stat.S_IMODE(user.dso_dir.stat().st_mode) == 0o700


def test_directory_that_others_may_write_is_refused(user):
    user.dso_dir.mkdir()
    user.dso_dir.chmod(0o777)
    done = user.dso("init")
    assert done.code == InsecurePermissionsError.code
    assert f"chmod 700 {user.dso_dir}" in done.err
    assert list(user.dso_dir.iterdir()) == []


def test_missing_home_is_explained(user, monkeypatch):
    monkeypatch.setenv("HOME", str(user.home / "missing"))
    done = user.dso("init")
    assert done.code == FileAccessError.code
    assert "HOME" in done.err


def test_root_is_told_whose_home_it_is(user, monkeypatch):
    monkeypatch.setenv("SUDO_USER", "alice")
    done = user.ok("init")
    assert f"HOME={user.home}" in done.err
    assert "without sudo, alice" in done.err


def test_directory_that_the_vault_is_a_link_into_keeps_its_mode(user, tmp_path):
    """As root, `vault.enc -> /dev/zero` made /dev inaccessible to every other user."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    elsewhere.chmod(0o755)
    user.dso_dir.mkdir(0o700)
    (user.dso_dir / "vault.enc").symlink_to(elsewhere / "vault.enc")
    user.ok("init")
    assert stat.S_IMODE(elsewhere.stat().st_mode) == 0o755
