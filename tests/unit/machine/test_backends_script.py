"""build/machine/backends.sh builds a server once, and says why where it cannot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.fake_go import GoMachine
from tests.support.process import ROOT

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.process import Result

SCRIPT = os.path.join(ROOT, "build", "machine", "backends.sh")
GO = """#!/bin/sh
echo "$@" >>"$RECORD"
[ "$1" = env ] && { echo go1.26.1; exit; }
[ -z "$FAKE_FAILURE" ] || { echo "go: $FAKE_FAILURE" >&2; exit 1; }
while [ "$1" != -o ]; do shift; done
echo server >"$2"
chmod +x "$2"
"""


class Machine(GoMachine):
    def run(self, *, failure: str = "", ci: str = "") -> Result:
        return self.script(SCRIPT, failure=failure, CI=ci)

    def builds(self) -> int:
        return self.calls("build")

    def left(self) -> list[str]:
        """What is in the cache besides servers."""
        return [name for name in os.listdir(self.cache / "dso-tests") if not name.startswith("hashicorp-")]


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path, GO)


def test_builds_once_and_prints_where_it_is(machine: Machine):
    first, second = machine.run(), machine.run()
    assert (first.returncode, second.returncode) == (0, 0)
    assert first.out == second.out
    path = first.out.strip()
    assert path.startswith(str(machine.cache / "dso-tests" / "hashicorp-"))
    assert os.access(path, os.X_OK)
    assert machine.builds() == 1
    assert second.err == ""
    assert machine.left() == ["lock"]


def test_what_cannot_be_built_is_no_failure_and_has_no_path(machine: Machine):
    result = machine.run(failure="no such module")
    assert (result.returncode, result.out) == (0, "")
    assert "no such module" in result.err
    assert result.err.splitlines()[-1].startswith("backends.sh: no HashiCorp Vault server: ")
    assert machine.left() == ["lock"]


def test_what_cannot_be_built_fails_ci(machine: Machine):
    result = machine.run(failure="no such module", ci="true")
    assert (result.returncode, result.out) == (1, "")


def test_failed_build_is_tried_again(machine: Machine):
    machine.run(failure="network")
    assert machine.run().out.strip()
    assert machine.builds() == 2
