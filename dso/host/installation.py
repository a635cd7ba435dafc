"""What the installer has put where: its manifest, and the programs that Cloud Mode needs."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

from dso.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dso.host.machine import Host

HOME = "/usr/local/lib/dso"
AGENT = "/usr/local/bin/dso-agent"
OWN_TYPES = ("vault", "aws", "azure", "huawei")
_UNIT_DIRS = ("/usr/local/lib/systemd/system", "/usr/lib/systemd/system")  # where the installer puts them
_UNIT = f"{_UNIT_DIRS[0]}/dso-agent.service"
_PLUGIN_DIR = b"Environment=DSO_PLUGIN_DIR="
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


class InstalledFile(NamedTuple):
    """A file of the manifest: where it is, and what it was when it was installed."""

    path: str
    sha256: str
    mode: int


class Flaw(NamedTuple):
    """Something wrong with a program: what, and what mends it."""

    path: str
    what: str
    remedy: str
    is_safe: bool = False  # the remedy is one chmod, which takes nothing away from anybody who should have it


class Installation(NamedTuple):
    """What the manifest says; `version` is "" where there is none.

    `flaws`: who else could have written the manifest. Then nothing of what it says is here.
    """

    home: str
    version: str = ""
    has_agent: bool = False
    providers: tuple[str, ...] = ()
    files: tuple[InstalledFile, ...] = ()
    flaws: tuple[Flaw, ...] = ()

    @property
    def agent(self) -> str:
        """Where the agent's program is."""
        path = self.home.removesuffix("/lib/dso") + "/bin/dso-agent"
        return next((one.path for one in self.files if one.path == path), AGENT)

    @property
    def plugin_dir(self) -> str:
        """Where the providers' plugins are."""
        return self.home + "/plugins"

    @property
    def installer(self) -> str:
        """The installer that came with what is installed, which has the release key."""
        return self.home + "/install.sh"

    def unit(self, name: str) -> InstalledFile | None:
        """A unit as it was installed."""
        paths = [f"{directory}/{name}" for directory in _UNIT_DIRS]
        return next((one for one in self.files if one.path in paths), None)


def find_installation(host: Host) -> Installation:
    """The system-wide installation, whatever prefix it has.

    A manifest says what root runs and what is removed, so one that others than root could have written counts for
    nothing: see `Installation.flaws`.
    """
    home = HOME
    if not host.exists(f"{home}/manifest") and not trust_flaws(host, _UNIT):
        for line in (host.read(_UNIT) or b"").splitlines():
            if line.startswith(_PLUGIN_DIR):
                home = os.path.dirname(line.removeprefix(_PLUGIN_DIR).decode("utf-8", "replace").strip('"'))
    manifest = f"{home}/manifest"
    flaws = tuple(trust_flaws(host, manifest)) if host.exists(manifest) else ()
    return Installation(home, flaws=flaws) if flaws else parse_manifest(home, host.read(manifest))


def parse_manifest(home: str, content: bytes | None) -> Installation:
    """Read `manifest`; lines of kinds that are not known are left to later versions."""
    version, has_agent, providers, files = "", False, "", []
    for line in (content or b"").decode("utf-8", "replace").splitlines():
        kind, _, rest = line.partition(" ")
        if kind == "version":
            version = rest.strip()
        elif kind == "agent":
            has_agent = rest.strip() == "yes"
        elif kind == "providers":
            providers = rest
        elif kind == "file":
            digest, mode, path = [*rest.split(" ", 2), "", ""][:3]
            if path and mode.isdigit():
                files.append(InstalledFile(path, digest, int(mode, 8)))
    return Installation(home, version, has_agent, tuple(providers.split()), tuple(files))


def program_flaws(host: Host, installation: Installation, path: str, *, is_own: bool = True) -> list[Flaw]:
    """What is wrong with a program that root, or whoever uses Docker, runs: missing, changeable by others, not ours.

    It is started, to ask for its version, only if nobody but root could have written it.
    """
    real = host.real_path(path)
    status = host.status(real)
    if status is None:
        return [Flaw(path, "is missing", reinstall(installation))]
    flaws = trust_flaws(host, path)
    if flaws:
        return flaws
    if not stat.S_IXOTH & status.st_mode or not stat.S_ISREG(status.st_mode):
        return [Flaw(real, "is not executable", f"chmod 755 {real}", is_safe=stat.S_ISREG(status.st_mode))]
    installed = next((one for one in installation.files if one.path == path), None)
    if installed and _sha256(host, path) not in ("", installed.sha256):
        return [Flaw(path, "is not the file that was installed", reinstall(installation))]
    return _version_flaws(host, installation, path) if is_own else []


def trust_flaws(host: Host, path: str) -> list[Flaw]:
    """Who but root could change a file: its owner, its mode, and those of every directory above, links followed."""
    flaws = []
    real = host.real_path(path)
    for place in dict.fromkeys((path, *_above(path), real, *_above(real))):
        status = host.status(place)
        if status is None or stat.S_ISLNK(status.st_mode):
            continue
        if status.st_uid != 0:
            flaws.append(Flaw(place, f"belongs to user {status.st_uid}, not to root", f"chown root:root {place}"))
        sticky = stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX
        if status.st_mode & _OTHERS_MAY_WRITE and not sticky:
            is_safe = place.startswith((HOME, "/etc/dso")) or place == path
            flaws.append(Flaw(place, "can be changed by other users", f"chmod go-w {place}", is_safe=is_safe))
    return flaws


def by_age(version: str) -> str:
    """Compares as the installer compares versions: numbers as numbers, 1.0.0-rc1 before 1.0.0."""
    from re import match, sub

    base = match(r"\d+\.\d+\.\d+(?![-0-9])", version)
    key = f"{base[0]}~{version[base.end() :]}" if base else version
    return sub(r"\d+", lambda digits: digits[0].zfill(12), key)


def reinstall(installation: Installation, version: str = VERSION) -> str:
    """How to get programs that are missing or wrong."""
    if installation.version and installation.has_agent:
        return f"install {version} again: sh {installation.installer} --offline dso-{version}-linux-ARCH.tar.gz"
    return "`docker dso system setup --from TARBALL` installs them from a release of this version"


def needed_programs(installation: Installation, types: Iterable[str], plugin_dir: str = "") -> list[str]:
    """The agent, and the plugins for these types of providers."""
    directory = plugin_dir or installation.plugin_dir
    return [installation.agent, *(f"{directory}/dso-provider-{one}" for one in dict.fromkeys(types))]


def type_of(path: str) -> str:
    """The type of provider that a plugin is for."""
    return os.path.basename(path).removeprefix("dso-provider-")


def _above(path: str) -> list[str]:
    found = []
    while path != "/":
        path = os.path.dirname(path)
        found.append(path)
    return found


def _sha256(host: Host, path: str) -> str:
    from hashlib import sha256

    digest = sha256()
    try:
        with open(host.path(path), "rb") as file:
            while piece := file.read(1 << 20):
                digest.update(piece)
    except OSError:
        return ""
    return digest.hexdigest()


def _version_flaws(host: Host, installation: Installation, path: str) -> list[Flaw]:
    from dso.host.machine import said

    finished = host.run([host.path(path), "--version"])
    text = finished.stdout.decode("utf-8", "replace").strip()
    if finished.code or not text:
        return [Flaw(path, f"does not run: {said(finished)}", reinstall(installation))]
    version = text.split()[-1]
    if version != VERSION:
        return [Flaw(path, f"is version {version}, and docker-dso is {VERSION}", reinstall(installation))]
    return []
