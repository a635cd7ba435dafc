"""Backups: checked before they count."""

import os
from pathlib import Path

import pytest

from dso.errors import FileAccessError, FileExistsRefusedError, VaultDamagedError, VaultVersionError, WrongKeyError
from dso.secret import SecretValue
from dso.vault.backup import back_up, restore
from dso.vault.keys import new_vault
from dso.vault.slots import KEYFILE
from dso.vault.store import Vault


@pytest.fixture
def filled(vault_file):
    with Vault.edit() as vault:
        vault.set("shop/x", SecretValue(b"one"))
    return vault_file


def _change():
    with Vault.edit() as vault:
        vault.set("shop/x", SecretValue(b"two"))


def test_backup_is_the_encrypted_file_for_its_owner_alone(filled, tmp_path):
    target = tmp_path / "copy"
    back_up(str(target), replace=False)
    assert target.read_bytes() == Path(filled).read_bytes()
    assert target.stat().st_mode & 0o777 == 0o600


def test_backup_replaces_only_when_told(filled, tmp_path):
    target = tmp_path / "copy"
    target.write_text("precious")
    with pytest.raises(FileExistsRefusedError):
        back_up(str(target), replace=False)
    assert target.read_text() == "precious"
    back_up(str(target), replace=True)
    assert target.read_bytes() == Path(filled).read_bytes()


def test_damaged_vault_makes_no_backup(filled, tmp_path):
    with open(filled, "ab") as file:
        file.write(b"x")
    with pytest.raises(VaultDamagedError):
        back_up(str(tmp_path / "copy"), replace=False)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("target", ["", "missing/copy"])
def test_target_that_cannot_be_written_is_an_access_error(filled, tmp_path, target):
    with pytest.raises(FileAccessError):
        back_up(str(tmp_path / target), replace=True)


def test_vault_is_no_target_for_its_own_backup(filled):
    with pytest.raises(FileAccessError, match="the vault itself"):
        back_up(filled, replace=True)


def test_restore_brings_the_backup_back_and_keeps_the_former_vault(filled, tmp_path):
    target = str(tmp_path / "copy")
    back_up(target, replace=False)
    _change()
    former = Path(filled).read_bytes()
    _, kept = restore(target)
    assert Vault.open().get("shop/x").reveal() == b"one"
    assert kept is not None
    assert kept == filled + ".before-restore"
    assert Path(kept).read_bytes() == former
    assert os.stat(kept).st_mode & 0o777 == 0o600
    _, again = restore(target)
    assert again == filled + ".before-restore.2"
    assert Path(kept).read_bytes() == former


def test_restore_replaces_a_damaged_vault(filled, tmp_path):
    target = str(tmp_path / "copy")
    back_up(target, replace=False)
    Path(filled).write_bytes(b"garbage")
    restore(target)
    assert Vault.open().get("shop/x").reveal() == b"one"


def test_restore_works_on_a_machine_without_a_vault(filled, tmp_path):
    target = str(tmp_path / "copy")
    back_up(target, replace=False)
    os.unlink(filled)
    assert restore(target)[1] is None
    assert Vault.open().get("shop/x").reveal() == b"one"


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", VaultDamagedError),
        (b"garbage", VaultDamagedError),
        (new_vault(KEYFILE, bytes(32)), WrongKeyError),
        (new_vault(KEYFILE, bytes(32)).replace(b":1,", b":7,", 1), VaultVersionError),
    ],
    ids=["empty", "garbage", "other key", "newer"],
)
def test_what_is_no_backup_leaves_the_vault_untouched(filled, tmp_path, content, error):
    source = tmp_path / "source"
    source.write_bytes(content)
    before = sorted(os.listdir(os.path.dirname(filled))), Path(filled).read_bytes()
    with pytest.raises(error):
        restore(str(source))
    with pytest.raises(FileAccessError):
        restore(str(tmp_path / "missing"))
    assert (sorted(os.listdir(os.path.dirname(filled))), Path(filled).read_bytes()) == before
