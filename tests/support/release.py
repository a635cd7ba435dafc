"""Small signed releases for tests of the installer: laid out as `make dist` does, with stand-ins for the programs."""

from __future__ import annotations

import hashlib
import io
import os
import platform
import tarfile
import time
from typing import NamedTuple

from build.release import latest, signing
from tests.support.process import ROOT

INSTALLER = os.path.join(ROOT, "installer")
PROVIDERS = ("vault", "aws", "azure", "huawei")
UNITS = ("dso-agent.service", "dso-agent.socket", "dso-volume.socket")
ARCH = platform.machine()
_SIGNATURES = frozenset({"SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.csr"})

# What a program answers when it is asked for its version or, by Docker, for its metadata.
_STAND_IN = """#!/bin/sh
# {name} {version}
echo '{{"SchemaVersion": "0.1.0", "Version": "{version}"}}'
"""


class Key(NamedTuple):
    """An Ed25519 key: its private half as a file, its public half as install.sh has it."""

    path: str
    public: str

    @classmethod
    def make(cls, directory: str) -> Key:
        """A new key in `directory`."""
        path = signing.throw_away_key(os.path.join(directory, "key.pem"))
        return cls(path, signing.public_key(path))

    def sign(self, content: bytes, directory: str) -> dict[str, bytes]:
        """SHA256SUMS with this content and its signatures, by name."""
        path = os.path.join(directory, "SHA256SUMS")
        with open(path, "wb") as file:
            file.write(content)
        signing.sign(self.path, path)
        found = {}
        for name in _SIGNATURES:
            with open(os.path.join(directory, name), "rb") as file:
                found[name] = file.read()
            os.unlink(os.path.join(directory, name))
        return found


class Release:
    """A release: `tree` has its files by name until `pack` is called.

    Attributes:
        directory: what a base URL would serve: the tarball, install.sh, `latest`.
        tarball: the tarball's path.
        script: install.sh's path.
    """

    def __init__(self, version: str, key: Key, directory: str, *, arch: str = ARCH) -> None:
        self.version = version
        self.key = key
        self.top = f"dso-{version}-linux-{arch}"
        self.directory = directory
        self.tarball = os.path.join(directory, f"{self.top}.tar.gz")
        self.script = os.path.join(directory, "install.sh")
        self.tree = _tree(version, key)
        self.extra: list[tuple[tarfile.TarInfo, bytes]] = []  # entries after the others, unsigned

    def use(self, binaries: str, *names: str) -> None:
        """Take these programs from a directory, instead of stand-ins."""
        for name in names:
            with open(os.path.join(binaries, name), "rb") as file:
                self.tree[f"bin/{name}"] = file.read()

    def sign(self) -> None:
        """Make SHA256SUMS and its signatures of what is there now."""
        names = sorted(set(self.tree) - _SIGNATURES)
        sums = "".join(f"{hashlib.sha256(self.tree[name]).hexdigest()}  {name}\n" for name in names).encode()
        self.tree |= self.key.sign(sums, self.directory)

    def pack(self, *, sign: bool = True) -> Release:
        """Write everything to `directory`; with `sign=False` what was signed before is signed still."""
        os.makedirs(self.directory, exist_ok=True)
        if sign:
            self.sign()
        with tarfile.open(self.tarball, "w:gz", compresslevel=1) as archive:
            for name, content in sorted(self.tree.items()):
                entry = tarfile.TarInfo(f"{self.top}/{name}")
                entry.mode = 0o755 if name.startswith("bin/") or name.endswith(".sh") else 0o644
                _add(archive, entry, content)
            for entry, content in self.extra:
                _add(archive, entry, content)
        signed = latest.render(self.version, self.key.path, time.time())
        for name, text in (("install.sh", self.tree["install.sh"]), ("latest", signed)):
            with open(os.path.join(self.directory, name), "wb") as file:
                file.write(text)
        return self


def _add(archive: tarfile.TarFile, entry: tarfile.TarInfo, content: bytes) -> None:
    entry.size = len(content)
    archive.addfile(entry, io.BytesIO(content))


def installer(key: Key) -> bytes:
    """install.sh with a release key, as `make dist` makes it."""
    with open(os.path.join(INSTALLER, "install.sh"), "rb") as file:
        source = file.read()
    assert source.count(b"'@RELEASE_KEY@'") == 1
    return source.replace(b"'@RELEASE_KEY@'", f"'{key.public}'".encode())


def _tree(version: str, key: Key) -> dict[str, bytes]:
    tree = {"VERSION": f"{version}\n".encode(), "install.sh": installer(key), "LICENSE": b"ours\n"}
    programs = ["docker-dso", "dso-agent", *(f"dso-provider-{each}" for each in PROVIDERS)]
    tree |= {f"bin/{name}": _STAND_IN.format(name=name, version=version).encode() for name in programs}
    for name in ("uninstall.sh", "sysusers.d/dso.conf", *(f"systemd/{unit}" for unit in UNITS)):
        with open(os.path.join(INSTALLER, name), "rb") as file:
            tree[name] = file.read()
    pages = ("man/man1/docker-dso.1", "man/man1/docker-dso-up.1", "man/man5/dso.yaml.5", "man/man8/dso-agent.8")
    completions = ("bash/docker-dso", "zsh/_docker-dso", "fish/docker-dso.fish")
    rest = (*pages, *(f"completions/{name}" for name in completions), "licenses/some/LICENSE.txt", "sbom.cdx.json")
    return tree | {name: f"{name} of {version}\n".encode() for name in rest}
