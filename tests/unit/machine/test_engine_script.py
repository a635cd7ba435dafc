"""build/machine/engine.sh leaves a machine alone that has what it would install."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT, Result, run

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = os.path.join(ROOT, "build", "machine", "engine.sh")
DOCKER = """#!/bin/sh
case "$*" in
    "version --format"*) [ -n "$FAKE_ENGINE" ] && echo "$FAKE_ENGINE" ;;
    "compose version --short") [ -n "$FAKE_COMPOSE" ] && echo "$FAKE_COMPOSE" ;;
    *) exit 1 ;;
esac
"""
RECORDER = '#!/bin/sh\necho "$0" "$@" >>"$RECORD"\nexit 1\n'
CHANGES_THE_MACHINE = ("apt-get", "dockerd", "systemctl", "setsid", "flock", "mkdir", "rm", "kill")


class Machine:
    """A PATH on which Docker is as told and everything that would change the machine is recorded."""

    def __init__(self, directory: Path) -> None:
        self.record = directory / "record"
        self._path = directory / "bin"
        self._path.mkdir()
        for name, text in {
            "docker": DOCKER,
            "id": '#!/bin/sh\necho "$FAKE_USER"\n',
            **dict.fromkeys(CHANGES_THE_MACHINE, RECORDER),
        }.items():
            (self._path / name).write_text(text)
            (self._path / name).chmod(0o755)

    def run(self, *args: str, engine: str = "", compose: str = "", user: int = 0) -> Result:
        path = f"{self._path}:/usr/bin:/bin"
        env = {
            "PATH": path,
            "FAKE_ENGINE": engine,
            "FAKE_COMPOSE": compose,
            "FAKE_USER": str(user),
            "RECORD": str(self.record),
        }
        return run([SCRIPT, *args], env=env, check=False)

    def changes(self) -> str:
        return self.record.read_text() if self.record.exists() else ""


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.mark.parametrize("compose", ["2.24.0", "v2.24.6", "2.26.1-4", "2.39.2", "2.100.0", "v5.0.1", "3.0"])
def test_engine_with_a_recent_compose_is_left_as_it_is(machine: Machine, compose: str) -> None:
    done = machine.run("ensure", engine="26.1.5", compose=compose)
    assert (done.returncode, machine.changes()) == (0, "")
    assert done.err == f"engine.sh: Engine 26.1.5, Compose {compose}\n"


@pytest.mark.parametrize("compose", ["", "2.23.3", "v2.3.4", "1.29.2", "2.2.40"])
def test_old_compose_is_not_taken_for_a_recent_one(machine: Machine, compose: str) -> None:
    done = machine.run("ensure", engine="26.1.5", compose=compose, user=65534)
    assert (done.returncode, machine.changes()) == (1, "")
    assert "no Docker Engine with Compose 2.24 or later answers here; as root" in done.err


def test_run_hands_back_the_exit_code_and_stops_no_engine_it_did_not_start(machine: Machine) -> None:
    done = machine.run("run", "sh", "-c", "echo here; exit 7", engine="26.1.5", compose="2.26.1")
    assert (done.returncode, done.out, machine.changes()) == (7, "here\n", "")


@pytest.mark.parametrize("words", [[], ["start"]])
def test_unknown_command_is_a_usage_error(machine: Machine, words: list[str]) -> None:
    assert machine.run(*words, engine="26.1.5", compose="2.26.1").returncode == 2
