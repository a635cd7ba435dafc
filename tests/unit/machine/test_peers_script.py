"""build/machine/peers.sh installs a program once, and says why where it cannot be had."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_go import GoMachine
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.process import Result

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


class Machine(GoMachine):
    def get(self, name: str, failure: str = "") -> Result:
        return self.script(SCRIPT, name, failure=failure)

    def builds(self) -> int:
        return self.calls("install")

    def kept(self) -> list[str]:
        return sorted(os.listdir(self.cache / "dso-bench"))


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, GO)


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
