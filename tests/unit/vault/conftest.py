"""A vault in a scratch HOME, and the key that opens it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.vault.keys import create_vault, write_key_file
from dso.vault.slots import KEYFILE
from dso.vault.store import vault_path

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def scratch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty HOME, and none of DSO's variables."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in paths.PRIVATE_VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return home


@pytest.fixture
def vault_file(scratch_home: Path) -> str:
    """An empty vault that `~/.dso/master.key` opens."""
    os.mkdir(scratch_home / ".dso", 0o700)
    path = vault_path()
    create_vault(path, KEYFILE, write_key_file(paths.master_key_file()))
    return path
