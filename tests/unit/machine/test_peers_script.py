"""build/machine/peers.sh installs a program once, and says why where it cannot be had."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT, Result, run

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = os.path.join(ROOT, "build", "machine", "peers.sh")
GO = """#!/bin/sh
echo "$@" >>"$RECORD"
case $1 in
env) echo go1.26.1 ;;
install)
    [ -z "$FAKE_FAILURE" ] || { printf 'go: no\\n\\t%s\\n' "$FAKE_FAILURE" >&2; exit 1; }
    mkdir -p "$GOBIN"
    echo program >"$GOBIN/summon"
    chmod +x "$GOBIN/summon"
    ;;
version) printf '\\tpath\\tx\\n\\tmod\\tx\\tv1.2.3\\th1:x\\n' ;;
esac
"""


class Machine:
    """One with a Go of its own that writes down what it is asked to do."""

    def __init__(self, directory: Path) -> None:
        self.cache = directory / "cache"
        self._record = directory / "record"
        self._path = directory / "bin"
        self._path.mkdir()
        (self._path / "go").write_text(GO)
        (self._path / "go").chmod(0o755)

    def get(self, name: str, failure: str = "") -> Result:
        env = {
            "PATH": f"{self._path}:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "XDG_CACHE_HOME": str(self.cache),
            "RECORD": str(self._record),
            "FAKE_FAILURE": failure,
        }
        return run([SCRIPT, name], env=env, check=False)

    def builds(self) -> int:
        return self._record.read_text().count("install ")

    def kept(self) -> list[str]:
        return sorted(os.listdir(self.cache / "dso-bench"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_installs_once_and_prints_path_and_version(machine: Machine):
    first, second = machine.get("summon"), machine.get("summon")
    path, version = first.out.splitlines()
    assert (first.returncode, second.returncode, second.out, second.err) == (0, 0, first.out, "")
    assert os.access(path, os.X_OK)
    assert path.startswith(str(machine.cache / "dso-bench"))
    assert version == "1.2.3"
    assert machine.builds() == 1
    assert machine.kept() == ["lock", "summon-latest"]


def test_what_the_registry_refuses_is_told_in_its_own_words_and_tried_again(machine: Machine):
    refused = machine.get("summon", "this version is not available")
    assert (refused.returncode, refused.out) == (1, "")
    assert refused.err.splitlines()[-1].endswith("github.com/cyberark/summon: this version is not available")
    assert machine.kept() == ["lock"]
    assert machine.get("summon").returncode == 0


def test_only_peers_are_fetched(machine: Machine):
    result = machine.get("another-program")
    assert (result.returncode, result.out) == (1, "")
    assert "no peer is called another-program" in result.err
