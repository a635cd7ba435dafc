"""The steps of `docker dso system setup`, each with its undoing."""

from __future__ import annotations

import os
from typing import NamedTuple

from dso import paths
from dso.errors import DsoError, ServiceError, SetupFailedError
from dso.host.accounts import make_user, missing_users
from dso.host.installation import by_age, program_flaws, reinstall, trust_flaws
from dso.host.machine import said
from dso.host.transaction import Step
from dso.host.units import UNITS, restore, systemctl
from dso.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dso.host.installation import Flaw, Installation
    from dso.host.machine import Host
    from dso.host.units import Unit

HEALTHY_WITHIN = 60.0  # seconds; systemd itself has waited until the agent says that it is ready
_DIRECTORY_MODE = 0o755
_CONFIG_DIR = os.path.dirname(paths.SYSTEM_CONFIG)


class Programs(NamedTuple):
    """Programs that have to be right: those of ours, and plugins of others'."""

    own: Sequence[str]
    foreign: Sequence[str] = ()

    def flaws(self, host: Host, installation: Installation) -> list[Flaw]:
        """What is wrong with them."""
        return [
            flaw
            for path in (*self.own, *self.foreign)
            for flaw in program_flaws(host, installation, path, is_own=path in self.own)
        ]


def call(host: Host, *argv: str) -> None:
    """Run a program that has to succeed; ServiceError."""
    finished = host.run(argv)
    if finished.code:
        raise ServiceError(f"`{' '.join(argv)}` failed: {said(finished)}")


def install(host: Host, installation: Installation, source: str, providers: Iterable[str]) -> Step:
    """Have the installer put in place what is missing; it verifies the signature first.

    The undoing has it put the former choice of programs in place, if it has changed anything.
    """
    manifest = f"{installation.home}/manifest"
    former = host.read(manifest)
    wanted = sorted({*installation.providers, *providers})
    command = ["sh", host.path(installation.installer), "--offline", source, "--version", VERSION]
    prefix = installation.home.removesuffix("/lib/dso")
    if prefix != "/usr/local":
        command += ["--prefix", prefix]

    def apply() -> None:
        call(host, *command, "--providers", ",".join(wanted))

    def undo() -> None:
        if host.read(manifest) != former:
            kept = ["--providers", ",".join(installation.providers)] if installation.has_agent else ["--no-agent"]
            call(host, *command, *kept)

    return Step(f"install what is missing from {source}, after verifying its signature", apply, undo)


def check_source(host: Host, installation: Installation, source: str) -> None:
    """Refuse a `--from` that nobody here can verify.

    Raises:
        SetupFailedError: there is no such file, no installer that only root could have written, or what is installed
            is newer than this docker-dso, whose version would be installed.
    """
    if not os.path.exists(host.path(source)):
        raise SetupFailedError(
            f"there is no {source}", hint="--from takes a release: its tarball, or where it is unpacked"
        )
    if installation.version and by_age(installation.version) > by_age(VERSION):
        raise SetupFailedError(
            f"DSO {installation.version} is installed, and this docker-dso would install an older agent, {VERSION}",
            hint=f"use the docker-dso of version {installation.version}; to go back to {VERSION} on purpose:\n"
            f"sudo sh {installation.installer} --offline {source} --version {VERSION}",
        )
    theirs = "as root: sh install.sh --offline TARBALL, with the install.sh that you trust"
    if not installation.version or not host.exists(installation.installer):
        raise SetupFailedError(
            f"{source} cannot be verified: the release key is in {installation.installer}, which is missing",
            hint=theirs,
        )
    flaws = trust_flaws(host, installation.installer)
    if flaws:
        raise SetupFailedError(f"{source} cannot be verified: {flaws[0].path} {flaws[0].what}", hint=flaws[0].remedy)


def verify(host: Host, find: Callable[[], Installation], programs: Programs) -> Step:
    """Look at the programs: whose they are, who may change them, which version they are."""

    def apply() -> None:
        raise_for(programs.flaws(host, find()))

    return Step("verify owners, permissions and versions of the programs", apply)


def raise_for(flaws: Sequence[Flaw]) -> None:
    """SetupFailedError with all flaws, if there are any."""
    if flaws:
        found = "; ".join(f"{flaw.path} {flaw.what}" for flaw in flaws)
        hint = "\n".join(dict.fromkeys(flaw.remedy for flaw in flaws))
        raise SetupFailedError(f"not as it has to be: {found}", hint=hint)


def group(host: Host) -> Step:
    """Make the group whose members may use the agent."""

    def undo() -> None:
        if has_group(host):
            call(host, "groupdel", paths.AGENT_GROUP)

    def apply() -> None:
        call(host, "groupadd", "--system", paths.AGENT_GROUP)

    return Step(f"create the group {paths.AGENT_GROUP}", apply, undo)


def plugin_users(host: Host, missing: Sequence[str]) -> Step:
    """Make the users that plugins run as."""

    def undo() -> None:
        for name in missing:
            if name not in missing_users(host, missing):
                call(host, "userdel", name)

    def apply() -> None:
        for name in missing_users(host, missing):  # somebody else may have made one meanwhile
            make_user(host, name)

    return Step(f"create the users that plugins run as: {', '.join(missing)}", apply, undo)


def member(host: Host, user: str) -> Step:
    """Let a user use the agent."""

    def undo() -> None:
        if user in (members(host) or ()):
            call(host, "gpasswd", "-d", user, paths.AGENT_GROUP)

    return Step(
        f"add {user} to the group {paths.AGENT_GROUP}, whose members can read every secret of the agent",
        lambda: call(host, "gpasswd", "-a", user, paths.AGENT_GROUP),  # usermod knows /etc/passwd only, no directory
        undo,
    )


def members(host: Host) -> tuple[str, ...] | None:
    """Who is in the group, its users' main group aside; None: there is no group."""
    finished = host.run(["getent", "group", paths.AGENT_GROUP])
    if finished.code:
        return None
    listed = finished.stdout.decode("utf-8", "replace").strip().split(":")[-1]
    return tuple(name for name in listed.split(",") if name)


def has_group(host: Host) -> bool:
    """Whether the group is there."""
    return members(host) is not None


def directory(host: Host) -> Step:
    """/etc/dso."""
    path = host.path(_CONFIG_DIR)

    def apply() -> None:
        os.mkdir(path, _DIRECTORY_MODE)
        os.chmod(path, _DIRECTORY_MODE)  # whatever the umask is

    def undo() -> None:
        if os.path.isdir(path):
            os.rmdir(path)

    return Step(f"create {_CONFIG_DIR} (0755)", apply, undo)


def file(host: Host, path: str, content: str, mode: int, what: str) -> Step:
    """A file that is not there yet."""

    def apply() -> None:
        from dso.system.files import write_new

        write_new(host.path(path), content.encode(), mode)

    def undo() -> None:
        if host.read(path) == content.encode():
            os.unlink(host.path(path))

    return Step(f"write {path} ({mode:04o}): {what}", apply, undo)


def is_open(host: Host, path: str) -> bool:
    """Whether others than root can read a file, or change it; of a link, the file it leads to."""
    status = host.status(host.real_path(path))
    return status is not None and (status.st_uid != 0 or status.st_mode & 0o077 != 0)


def close(host: Host, path: str) -> Step:
    """Leave a file to root."""
    before = host.status(path)

    def undo() -> None:
        if before:
            os.chown(host.path(path), before.st_uid, before.st_gid, follow_symlinks=False)
            host.set_mode(path, 0, allow=before.st_mode & 0o7777)

    def apply() -> None:
        host.set_mode(path, 0o7177, allow=0o600, owner=0)

    return Step(f"make {path} readable for root only (0600)", apply, undo)


def start_units(host: Host, before: Mapping[str, Unit]) -> Step:
    """Enable and start what is not yet."""
    disabled = [name for name in UNITS if not before[name].is_enabled]
    stopped = [name for name in UNITS if not before[name].is_active]
    made = [path for path in (paths.SYSTEM_STATE_DIR, paths.SYSTEM_RUNTIME_DIR) if not host.exists(path)]

    def apply() -> None:
        if any(unit.needs_reload or not unit.is_there for unit in before.values()):
            systemctl(host, "daemon-reload")
        host.run(["systemctl", "reset-failed", *UNITS])  # so that former failures do not count
        if disabled:
            systemctl(host, "enable", *disabled)
        for name in stopped:
            systemctl(host, "start", name)

    def undo() -> None:
        restore(host, before)
        for path in made:
            _remove(host.path(path))

    words = [f"{verb} {', '.join(names)}" for verb, names in (("enable", disabled), ("start", stopped)) if names]
    same = disabled == stopped
    return Step(f"enable and start {', '.join(stopped)}" if same else " and ".join(words), apply, undo)


def _remove(directory: str) -> None:
    """Remove what an agent that did not come up has left: files, and directories that are empty."""
    for path, directories, names in os.walk(directory, topdown=False):
        for name in names:
            os.unlink(f"{path}/{name}")
        for name in directories:
            os.rmdir(f"{path}/{name}")
    if os.path.isdir(directory):
        os.rmdir(directory)


def health(answers: Callable[[], object]) -> Step:
    """Wait until the agent answers; `answers` raises DsoError while it does not."""

    def apply() -> None:
        from time import monotonic, sleep

        until = monotonic() + HEALTHY_WITHIN
        while True:
            try:
                answers()
            except DsoError:
                if monotonic() > until:
                    raise
                sleep(0.2)
            else:
                return

    return Step("wait until the agent answers", apply)


def missing_units(installation: Installation, states: Mapping[str, Unit]) -> str:
    """What is wrong with the units, so that they cannot be started; "" if nothing is."""
    missing = [name for name, unit in states.items() if unit.load == "not-found"]
    masked = [name for name, unit in states.items() if unit.load == "masked"]
    if masked:
        return f"{', '.join(masked)} masked: systemctl unmask {' '.join(masked)}"
    return f"systemd does not know {', '.join(missing)}; {reinstall(installation)}" if missing else ""
