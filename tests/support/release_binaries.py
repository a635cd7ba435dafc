"""The binaries of a release, and old machines without Python to run them on.

`make test` freezes them with the interpreter of releases before; docs/releasing.md has the whole.
"""

from __future__ import annotations

import os
import platform
import shutil
from typing import TYPE_CHECKING

from build.release import bundled
from tests.support.process import PYTHON, ROOT, Result, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

WORK = os.path.join(ROOT, ".build", "release")
VENV = os.path.join(WORK, "venv")
PROVIDERS = ("aws", "azure", "huawei", "vault")
NAMES = ("docker-dso", "dso-agent", *(f"dso-provider-{name}" for name in PROVIDERS))
BINARIES = {name: os.path.join(WORK, "frozen", name) for name in NAMES}
DEBIANS = ("bullseye", "bookworm", "trixie")


def interpreter() -> str:
    """The directory of the release interpreter (build/release/interpreter.sh)."""
    with open(os.path.join(WORK, "interpreter"), encoding="utf-8") as file:
        return file.read().strip()


def accepted_sources() -> list[str]:
    """What this machine's mirror has not as a release should, by name: `make test` takes what it has."""
    return bundled.Release(VENV, interpreter()).to_accept


def make_tarball(directory: Path, key: str, *, when: int = 1_700_000_000) -> str:
    """Put a release together, signed with a key; the path of the tarball."""
    environment = {"DSO_SIGNING_KEY": key, "SOURCE_DATE_EPOCH": str(when), "PATH": os.environ["PATH"]}
    environment["DSO_ACCEPT_SOURCES"] = " ".join(accepted_sources())
    words = ["--venv", VENV, "--interpreter", interpreter(), "--work", str(directory), "--output", str(directory)]
    run([PYTHON, "-m", "build.release.dist", *words, *BINARIES.values()], cwd=ROOT, env=environment)
    version = run([BINARIES["dso-agent"], "--version"]).out.split()[-1]
    return str(directory / f"dso-{version}-linux-{platform.machine()}.tar.gz")


class OldMachine:
    """A Debian release with its essential packages, the binaries, no network and no Python."""

    def __init__(self, release: str, directory: Path) -> None:
        script = os.path.join(ROOT, "build", "machine", "roots.sh")
        archive = run([script, release], timeout=600).out.strip()
        self.root = directory / release
        self.root.mkdir()
        run(["tar", "-C", str(self.root), "--exclude=./dev/*", "-xf", archive])
        programs = self.root / "usr" / "local" / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        for name, path in BINARIES.items():
            shutil.copy(path, programs / name)

    def words(self, *words: str) -> list[str]:
        """The command that runs a command on it."""
        enter = ["unshare", "--mount", "--net", *([] if os.geteuid() == 0 else ["--map-root-user", "--pid", "--fork"])]
        mounts = f"mount -t proc proc {self.root}/proc && mount --rbind /dev {self.root}/dev"
        return [*enter, "sh", "-c", f'{mounts} && exec chroot {self.root} "$@"', "sh", *words]

    def run(self, *words: str, input: bytes | str | None = None, env: Mapping[str, str] | None = None) -> Result:  # noqa: A002
        """Run a command on it, without the variables of this machine; it has to succeed."""
        clean = {"HOME": "/root", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", **(env or {})}
        return run(self.words(*words), input=input, env=clean)
