"""build/release/*.sh ask Debian only when they have to, and take the newest source that can be had."""

from __future__ import annotations

import hashlib
import os
import shutil
from pathlib import Path

import pytest

from tests.support.process import ROOT, Result, run

SOURCES = ("python3.13", "openssl", "expat", "zlib", "libffi")
SCRIPTS = os.path.join(ROOT, "build", "release")

# Debian's mirror: lists name three versions of each source, and the files of the newest are missing.
APT_GET = """#!/bin/sh
case "$*" in
    *indextargets*) echo "$MIRROR" ;;
    *"source --download-only"*=2-1) exit 100 ;;
    *) echo "$@" >>"$RECORD" ;;
esac
"""
APT_CACHE = """#!/bin/sh
for name; do :; done
echo "$name | 1-9 | http://mirror trixie/main Sources"
echo "$name | 1-10 | http://mirror sid/main Sources"
echo "$name | 2-1 | http://mirror trixie-security/main Sources"
echo "$name | 3-1 | http://mirror sid/main Sources"
echo "$name | 2-1 | http://mirror trixie/main amd64 Packages"
"""


class Machine:
    """One with an apt of its own that writes down what it is asked to do, and an empty cache."""

    def __init__(self, directory: Path) -> None:
        self.cache = directory / "cache" / "dso-release"
        self.cache.mkdir(parents=True)
        self.record = directory / "record"
        self._programs = directory / "bin"
        self._programs.mkdir()
        for name, text in (("apt-get", APT_GET), ("apt-cache", APT_CACHE)):
            (self._programs / name).write_text(text)
            (self._programs / name).chmod(0o755)

    def run(self, script: str, *words: str, mirror: str = "http://mirror") -> Result:
        env = {
            "PATH": f"{self._programs}:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "XDG_CACHE_HOME": str(self.cache.parent),
            "RECORD": str(self.record),
            "MIRROR": mirror,
        }
        return run([script, *words], env=env, check=False)

    def keep(self) -> Path:
        """An interpreter as if the scripts had built it."""
        names = [f"{name}.sh" for name in ("interpreter", "libraries", "cpython", "zcc", "common")]
        content = b"".join(Path(SCRIPTS, name).read_bytes() for name in [*names, "requirements.txt"])
        path = self.cache / f"interpreter-{hashlib.sha256(content).hexdigest()[:16]}-0123456789abcdef"
        path.mkdir()
        return path


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_an_interpreter_that_is_there_is_taken_without_asking_anybody(machine: Machine) -> None:
    kept = machine.keep()
    assert machine.run(f"{SCRIPTS}/interpreter.sh").out == f"{kept}\n"
    assert not machine.record.exists()


def test_where_the_source_tree_is_does_not_matter(machine: Machine, tmp_path: Path) -> None:
    kept = machine.keep()
    shutil.copytree(os.path.join(ROOT, "build"), tmp_path / "elsewhere" / "build")
    assert machine.run(str(tmp_path / "elsewhere" / "build" / "release" / "interpreter.sh")).out == f"{kept}\n"


def test_without_a_mirror_the_former_interpreter_is_taken_and_that_is_said(machine: Machine) -> None:
    kept = machine.keep()
    done = machine.run(f"{SCRIPTS}/interpreter.sh", "--newest", mirror="")
    assert (done.returncode, done.out) == (0, f"{kept}\n")
    assert "whether Debian has newer sources cannot be told" in done.err


def test_without_a_mirror_and_an_interpreter_it_says_what_is_missing(machine: Machine) -> None:
    done = machine.run(f"{SCRIPTS}/interpreter.sh", mirror="")
    assert (done.returncode, done.out) == (1, "")
    assert "no Debian mirror in the apt sources of this machine" in done.err


def test_sources_are_the_newest_of_stable_whose_files_are_there(machine: Machine) -> None:
    done = machine.run(f"{SCRIPTS}/sources.sh", "list")
    assert set(done.out.splitlines()) == {f"{name} 1-10" for name in SOURCES}
    assert "the mirror lists openssl 2-1, but has not its files: trying the one before" in done.err
    assert "3-1" not in done.err


def test_sources_come_with_a_configuration_and_state_of_their_own(machine: Machine) -> None:
    machine.run(f"{SCRIPTS}/sources.sh", "list")
    for asked in machine.record.read_text().splitlines():
        assert f"Dir::State={machine.cache}/apt" in asked
        assert f"Dir::Etc::SourceList={machine.cache}/apt/sources.list" in asked
    lines = (machine.cache / "apt" / "sources.list").read_text().splitlines()
    assert lines
    assert all(line.startswith("deb-src [signed-by=/usr/share/keyrings/") for line in lines)


def test_shellcheck_finds_nothing() -> None:
    scripts = [os.path.join(SCRIPTS, name) for name in os.listdir(SCRIPTS) if name.endswith(".sh")]
    assert len(scripts) > 5
    run(["shellcheck", "-x", "-P", ROOT, *scripts, os.path.join(ROOT, "build", "machine", "roots.sh")])
