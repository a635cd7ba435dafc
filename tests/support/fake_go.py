"""A machine with a Go of its own, for the scripts that compile programs with it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.process import Result, run

if TYPE_CHECKING:
    from pathlib import Path


class GoMachine:
    """Its Go is a shell script, which finds the file to write down its arguments in as $RECORD."""

    def __init__(self, directory: Path, go: str) -> None:
        self.cache = directory / "cache"
        self._record = directory / "record"
        self._path = directory / "bin"
        self._path.mkdir()
        (self._path / "go").write_text(go)
        (self._path / "go").chmod(0o755)

    def script(self, *argv: str, failure: str = "", **environment: str) -> Result:
        """Run a script; Go sees $FAKE_FAILURE."""
        env = {
            "PATH": f"{self._path}:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "XDG_CACHE_HOME": str(self.cache),
            "RECORD": str(self._record),
            "FAKE_FAILURE": failure,
            **environment,
        }
        return run(list(argv), env=env, check=False)

    def calls(self, command: str) -> int:
        """How often Go was asked for a command of its own."""
        return self._record.read_text().count(f"{command} ") if self._record.exists() else 0
