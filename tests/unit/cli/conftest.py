"""A user at the command line, in this process."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

import pytest

from dso import paths
from dso.cli.main import main

if TYPE_CHECKING:
    from pathlib import Path


class Done(NamedTuple):
    """What a command did."""

    code: int
    stdout: bytes
    err: str

    @property
    def out(self) -> str:
        return self.stdout.decode()


class User:
    """Somebody with a HOME of their own, who runs commands without a terminal."""

    def __init__(self, home: Path, capfdbinary: pytest.CaptureFixture[bytes]) -> None:
        self.home = home
        self.dso_dir = home / ".dso"
        self.vault_file = self.dso_dir / "vault.enc"
        self.key_file = self.dso_dir / "master.key"
        self._capture = capfdbinary

    def dso(self, *words: str, stdin: bytes = b"") -> Done:
        """Run `docker-dso WORDS` with these bytes on standard input."""
        kept = os.dup(0)
        given = os.memfd_create("stdin")
        os.write(given, stdin)
        os.lseek(given, 0, os.SEEK_SET)
        os.dup2(given, 0)
        try:
            code = main(["docker-dso", *words])
        finally:
            os.dup2(kept, 0)
            os.close(kept)
            os.close(given)
        out, err = self._capture.readouterr()
        return Done(code, out, err.decode())

    def ok(self, *words: str, stdin: bytes = b"") -> Done:
        """Run a command that has to succeed."""
        done = self.dso(*words, stdin=stdin)
        assert done.code == 0, done.err
        return done


@pytest.fixture
def user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]) -> User:
    """A user without a vault, and without a terminal that could be asked at."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    for name in (*paths.PRIVATE_VARIABLES, "SUDO_USER", "VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dso.system.terminal.ask_hidden", lambda _prompt: None)
    return User(home, capfdbinary)


@pytest.fixture
def owner(user: User) -> User:
    """A user with an empty vault."""
    user.ok("init")
    return user
