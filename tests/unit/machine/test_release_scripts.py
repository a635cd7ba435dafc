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

# Debian's mirror: lists name three versions of each source, and the files of the newest are missing, but of those in
# $WHOLE. It has no security updates if $SECURITY is empty, and its lists have run out if $EXPIRED is not.
APT_GET = """#!/bin/sh
case "$*" in
    *indextargets*Debian-Security*) echo "$SECURITY"; exit ;;
    *indextargets*) echo "$MIRROR"; exit ;;
    *"source --download-only"*=2-1)
        for each; do :; done
        case " $WHOLE " in *" ${each%=*} "*) ;; *) exit 100 ;; esac ;;
esac
echo "$@" >>"$RECORD"
case "$*" in
    *"source --download-only"*)
        for each; do :; done
        version=${each#*=}
        [ -e "${each%=*}_$version.dsc" ] || echo "signed" >"${each%=*}_$version.dsc" ;;
    *Check-Valid-Until=true*update*) [ -z "$EXPIRED" ] || { echo "E: Release file is expired" >&2; exit 100; } ;;
esac
"""
APT_CACHE = """#!/bin/sh
for name; do :; done
case "$*" in
    *showsrc*)
        for version in 1-9 1-10 2-1; do
            printf 'Package: %s\\nVersion: %s\\nFormat: 3.0\\nChecksums-Sha256:\\n' "$name" "$version"
            printf ' %s 7 %s_%s.dsc\\nHomepage: x\\n\\n' "$SUM" "$name" "$version"
        done
        exit ;;
esac
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

    def run(self, script: str, *words: str, mirror: str = "http://mirror", **variables: str) -> Result:
        """Run a script; `variables` say what the mirror is like, and what is accepted."""
        env = {
            "PATH": f"{self._programs}:/usr/bin:/bin",
            "HOME": "/nonexistent",
            "XDG_CACHE_HOME": str(self.cache.parent),
            "RECORD": str(self.record),
            "MIRROR": mirror,
            "SECURITY": "http://security",
            "WHOLE": "",
            "EXPIRED": "",
            "SUM": hashlib.sha256(b"signed\n").hexdigest(),
            **variables,
        }
        return run([script, *words], env=env, check=False)

    def keep(self) -> Path:
        """An interpreter as if the scripts had built it."""
        names = [f"{name}.sh" for name in ("interpreter", "libraries", "cpython", "zcc", "common")]
        content = b"".join(Path(SCRIPTS, name).read_bytes() for name in [*names, "requirements.txt"])
        path = self.cache / f"interpreter-{hashlib.sha256(content).hexdigest()[:16]}-0123456789abcdef"
        path.mkdir()
        (path / "sources").write_text("".join(f"{name} 1-10\n" for name in SOURCES))
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


def test_no_release_is_made_of_sources_that_were_kept_unless_each_is_named(machine: Machine) -> None:
    kept = machine.keep()
    done = machine.run(f"{SCRIPTS}/interpreter.sh", "--newest", mirror="")
    assert (done.returncode, done.out) == (2, "")
    assert "whether Debian has newer sources cannot be told" in done.err
    accepted = " ".join(["lists=cached", *(f"{name}=1-10" for name in SOURCES)])
    assert f'DSO_ACCEPT_SOURCES="{accepted}"' in done.err
    for one in accepted.split():
        others = accepted.replace(one, one + "1")
        done = machine.run(f"{SCRIPTS}/interpreter.sh", "--newest", mirror="", DSO_ACCEPT_SOURCES=others)
        assert (done.returncode, done.out) == (2, ""), one
        assert f'DSO_ACCEPT_SOURCES="{one}"' in done.err
    done = machine.run(f"{SCRIPTS}/interpreter.sh", "--newest", mirror="", DSO_ACCEPT_SOURCES=accepted)
    assert (done.returncode, done.out) == (0, f"{kept}\n")
    listed = [f"{name} 1-10 unknown" for name in SOURCES]
    assert (kept / "listed").read_text().splitlines() == [*listed, "lists cached checked"]


def test_no_release_is_made_with_a_former_interpreter_when_sources_are_refused(machine: Machine) -> None:
    machine.keep()
    done = machine.run(f"{SCRIPTS}/interpreter.sh", "--newest")
    assert (done.returncode, done.out) == (2, "")
    assert "cannot be told" not in done.err
    assert 'DSO_ACCEPT_SOURCES="python3.13=1-10 openssl=1-10 expat=1-10 zlib=1-10 libffi=1-10"' in done.err


def test_without_a_mirror_and_an_interpreter_it_says_what_is_missing(machine: Machine) -> None:
    done = machine.run(f"{SCRIPTS}/interpreter.sh", mirror="")
    assert (done.returncode, done.out) == (1, "")
    assert "no Debian mirror in the apt sources of this machine" in done.err


def test_sources_are_the_newest_of_stable_whose_files_are_there(machine: Machine) -> None:
    done = machine.run(f"{SCRIPTS}/sources.sh", "list", WHOLE="expat")
    newest = {name: "2-1" if name == "expat" else "1-10" for name in SOURCES}
    assert done.out.splitlines() == ["lists unchecked checked", *(f"{name} {newest[name]} 2-1" for name in SOURCES)]
    assert "the mirror lists openssl 2-1, but has not its files: trying the one before" in done.err
    assert "3-1" not in done.err


# What releases are made of

ACCEPTED = " ".join(f"{name}=1-10" for name in SOURCES if name != "expat")


def test_a_release_is_made_of_the_newest_sources(machine: Machine) -> None:
    done = machine.run(f"{SCRIPTS}/sources.sh", "list", "--strict", WHOLE=" ".join(SOURCES))
    assert done.returncode == 0
    assert done.out.splitlines() == [f"{name} 2-1 2-1" for name in SOURCES]


def test_an_older_source_than_the_mirror_lists_is_an_error_unless_it_is_named_with_its_version(
    machine: Machine,
) -> None:
    done = machine.run(f"{SCRIPTS}/sources.sh", "list", "--strict", WHOLE="expat")
    assert done.returncode == 2
    assert "zlib 1-10 is not the newest, 2-1" in done.err
    assert f'DSO_ACCEPT_SOURCES="{ACCEPTED}"' in done.err, "what to type, whole"
    for wrong in ("zlib=1-9", "zlib=2-1", "zlib", "zlib=", "zlib=1-1", "expat=1-10", "*"):
        given = ACCEPTED.replace("zlib=1-10", wrong)
        done = machine.run(f"{SCRIPTS}/sources.sh", "list", "--strict", WHOLE="expat", DSO_ACCEPT_SOURCES=given)
        assert done.returncode == 2, wrong
        assert 'DSO_ACCEPT_SOURCES="zlib=1-10"' in done.err
    done = machine.run(f"{SCRIPTS}/sources.sh", "list", "--strict", WHOLE="expat", DSO_ACCEPT_SOURCES=ACCEPTED)
    assert done.returncode == 0
    assert "zlib 1-10 2-1" in done.out.splitlines()
    assert "zlib 1-10 is not the newest, 2-1 (accepted by name: zlib=1-10)" in done.err


def test_a_machine_without_a_mirror_of_security_updates_is_an_error_unless_it_is_named(machine: Machine) -> None:
    words = (f"{SCRIPTS}/sources.sh", "list", "--strict")
    done = machine.run(*words, WHOLE=" ".join(SOURCES), SECURITY="")
    assert done.returncode == 2
    assert 'DSO_ACCEPT_SOURCES="security-mirror=none"' in done.err
    done = machine.run(*words, WHOLE=" ".join(SOURCES), SECURITY="", DSO_ACCEPT_SOURCES="security-mirror=none")
    assert done.returncode == 0
    assert done.out.splitlines()[0] == "security-mirror none present"
    assert machine.run(f"{SCRIPTS}/sources.sh", "list", SECURITY="").returncode == 0, "everyday builds go on"


def test_lists_that_have_run_out_are_an_error_unless_they_are_named(machine: Machine) -> None:
    """Whatever the machine's own configuration of apt says: a mirror that stopped at some day lists no fixes."""
    words = (f"{SCRIPTS}/sources.sh", "list", "--strict")
    done = machine.run(*words, WHOLE=" ".join(SOURCES), EXPIRED="yes")
    assert (done.returncode, done.out) == (1, "")
    assert "not valid any more" in done.err
    done = machine.run(*words, WHOLE=" ".join(SOURCES), EXPIRED="yes", DSO_ACCEPT_SOURCES="lists=unchecked")
    assert done.returncode == 0
    assert done.out.splitlines()[0] == "lists unchecked checked"
    assert machine.run(f"{SCRIPTS}/sources.sh", "list", EXPIRED="yes").returncode == 0, "everyday builds go on"


def test_a_source_that_is_not_what_the_signed_list_says_is_not_unpacked(machine: Machine, tmp_path: Path) -> None:
    (machine.cache / "sources").mkdir()
    changed = machine.cache / "sources" / "zlib_1-10.dsc"
    changed.write_text("changed\n")
    done = machine.run(f"{SCRIPTS}/sources.sh", "unpack", str(tmp_path), "zlib", "1-10")
    assert done.returncode == 1
    assert "zlib_1-10.dsc: FAILED" in done.err
    assert "the source of zlib 1-10 is not what Debian signed" in done.err
    done = machine.run(f"{SCRIPTS}/sources.sh", "unpack", str(tmp_path), "zlib", "9-9")
    assert "the list of sources has no checksums of zlib 9-9" in done.err
    changed.write_text("signed\n")
    done = machine.run(f"{SCRIPTS}/sources.sh", "unpack", str(tmp_path), "zlib", "1-10")
    assert "dpkg-source" in done.err, "which this is no source for"


def test_a_cache_of_another_user_is_not_taken(machine: Machine) -> None:
    machine.keep()
    os.chown(machine.cache, 61234, 61234)
    done = machine.run(f"{SCRIPTS}/interpreter.sh")
    assert (done.returncode, done.out) == (1, "")
    assert f"{machine.cache} belongs to another user" in done.err


def test_sources_come_with_a_configuration_and_state_of_their_own(machine: Machine) -> None:
    machine.run(f"{SCRIPTS}/sources.sh", "list")
    for asked in machine.record.read_text().splitlines():
        assert f"Dir::State={machine.cache}/apt" in asked
        assert f"Dir::Etc::SourceList={machine.cache}/apt/sources.list" in asked
        assert "Acquire::AllowInsecureRepositories=false" in asked
        assert "APT::Get::AllowUnauthenticated=false" in asked
    lines = (machine.cache / "apt" / "sources.list").read_text().splitlines()
    assert lines
    assert all(line.startswith("deb-src [signed-by=/usr/share/keyrings/") for line in lines)


def test_shellcheck_finds_nothing() -> None:
    scripts = [os.path.join(SCRIPTS, name) for name in os.listdir(SCRIPTS) if name.endswith(".sh")]
    assert len(scripts) > 5
    run(["shellcheck", "-x", "-P", ROOT, *scripts, os.path.join(ROOT, "build", "machine", "roots.sh")])
