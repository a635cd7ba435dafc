"""What is installed: programs and units, compared with the manifest and with each other."""

from __future__ import annotations

import os
import stat

from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding
from dso.host.installation import OWN_TYPES, Flaw, needed_programs, program_flaws, reinstall
from dso.host.units import SERVICE, SOCKETS, systemctl
from dso.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dso.host.installation import Installation
    from dso.host.machine import Host
    from dso.host.units import Unit

_JOURNALS = (".journal", ".journal.done")


def programs(host: Host, installation: Installation, types: Iterable[str], plugin_dir: str) -> list[Finding]:
    """The agent, and every plugin that is installed or that the configuration needs."""
    wanted = list(dict.fromkeys([*types, *installation.providers]))
    found = []
    for path in needed_programs(installation, wanted, plugin_dir):
        is_own = path == installation.agent or any(path.endswith(f"/dso-provider-{one}") for one in OWN_TYPES)
        flaws = program_flaws(host, installation, path, is_own=is_own)
        found += [_of_flaw(host, flaw) for flaw in flaws]
        if not flaws:
            version = f" {VERSION}" if is_own else ", not one of ours"
            found.append(Finding("programs", OK, f"{path}{version}"))
    return list(dict.fromkeys([*found, *interrupted(host, installation)]))


def _of_flaw(host: Host, flaw: Flaw) -> Finding:
    fix = _chmod(host, flaw) if flaw.is_safe and host.uid == 0 else None
    remedy = f"sudo {flaw.remedy}" if flaw.remedy.startswith("ch") else flaw.remedy
    cause = "the agent runs as root, and so does whatever is in that file" if flaw.remedy.startswith("ch") else ""
    return Finding("programs", ERROR, f"{flaw.path} {flaw.what}", cause, remedy, fix)


def _chmod(host: Host, flaw: Flaw) -> Callable[[], None]:
    allow = 0o755 if flaw.remedy.startswith("chmod 755") else 0
    return lambda: host.set_mode(flaw.path, stat.S_IWGRP | stat.S_IWOTH, allow=allow)


def interrupted(host: Host, installation: Installation) -> list[Finding]:
    """An installation that did not come to its end, or whose manifest others could have written."""
    found = [_of_flaw(host, flaw) for flaw in installation.flaws]
    if any(host.exists(f"{installation.home}/{name}") for name in _JOURNALS):
        what = "an installation of DSO was interrupted"
        cause = f"{installation.home}/.journal lists what it has to put back"
        found.append(Finding("programs", ERROR, what, cause, "run the installer again: it goes on with that"))
    return found


def units(host: Host, installation: Installation, states: Mapping[str, Unit], *, is_set_up: bool) -> list[Finding]:
    """Are they as they were installed, enabled, active?"""
    missing = [name for name, unit in states.items() if unit.load == "not-found"]
    if missing:
        what = f"systemd does not know {', '.join(missing)}"
        return [Finding("units", ERROR, what, "the agent cannot be started", reinstall(installation))]
    found = [finding for unit in states.values() for finding in _unit(host, installation, unit)]
    if any(unit.needs_reload for unit in states.values()):
        what = "units have changed on the disk, and systemd uses the former ones"
        fix = _call(host, "daemon-reload") if host.uid == 0 else None
        found.append(Finding("units", WARNING, what, "", "sudo systemctl daemon-reload", fix))
    found += _running(host, states, is_set_up=is_set_up)
    return found or [Finding("units", OK, "the agent's units are enabled and active, and as they were installed")]


def _unit(host: Host, installation: Installation, unit: Unit) -> list[Finding]:
    if unit.load == "masked":
        return [Finding("units", ERROR, f"{unit.name} is masked", "", f"sudo systemctl unmask {unit.name}")]
    found = []
    if unit.load != "loaded":
        cause = f"systemd says: {unit.load}"
        found.append(Finding("units", ERROR, f"{unit.name} is faulty", cause, f"systemd-analyze verify {unit.path}"))
    shipped = installation.unit(unit.name)
    if shipped and unit.path and os.path.realpath(unit.path) != os.path.realpath(shipped.path):
        what = f"{unit.path} takes the place of the installed {unit.name}"
        cause = "upgrades do not change it"
        remedy = (
            f"if it is not meant to: sudo rm {unit.path} && sudo systemctl daemon-reload; changes belong in a drop-in"
        )
        found.append(Finding("units", WARNING, what, cause, remedy))
    elif shipped and _is_changed(host, shipped.path, shipped.sha256):
        what = f"{shipped.path} is not as it was installed"
        remedy = f"own changes belong in a drop-in (sudo systemctl edit {unit.name}); then {reinstall(installation)}"
        found.append(Finding("units", WARNING, what, "the next upgrade replaces it", remedy))
    if unit.drop_ins:
        found.append(Finding("units", NOTE, f"{unit.name} is changed by {', '.join(unit.drop_ins)}"))
    return found


def _is_changed(host: Host, path: str, digest: str) -> bool:
    from hashlib import sha256

    content = host.read(path)
    return content is not None and sha256(content).hexdigest() != digest


def _running(host: Host, states: Mapping[str, Unit], *, is_set_up: bool) -> list[Finding]:
    disabled = [name for name, unit in states.items() if not unit.is_enabled and unit.is_there]
    stopped = [name for name, unit in states.items() if not unit.is_active and unit.is_there]
    if not is_set_up and len(stopped) == len(states):
        what = "the agent is installed and not set up"
        return [Finding("units", NOTE, what, "", "sudo docker dso system setup")]
    found = []
    if disabled:
        what = f"{', '.join(disabled)} not enabled"
        cause = "after a reboot, containers with file secrets would not start"
        fix = _call(host, "enable", *disabled) if host.uid == 0 and not stopped else None
        found.append(Finding("units", WARNING, what, cause, "sudo docker dso system enable", fix))
    failed = [name for name in stopped if states[name].active == "failed"]
    if SERVICE in failed:
        what = f"{SERVICE} has failed ({states[SERVICE].result})"
        cause = _last_words(host) or "its log says why: docker dso system logs -n 20"
        found.append(Finding("units", ERROR, what, cause, "mend that, then: sudo docker dso system restart"))
        stopped = [name for name in stopped if name != SERVICE]
    if stopped:
        what = f"{', '.join(stopped)} not active"
        cause = "`docker dso` and the Engine cannot reach the agent" if {*stopped} & {*SOCKETS} else ""
        fix = _start(host, stopped, disabled) if host.uid == 0 else None
        found.append(Finding("units", ERROR, what, cause, "sudo docker dso system enable", fix))
    return found


def _last_words(host: Host) -> str:
    shown = host.run(["journalctl", f"--unit={SERVICE}", "--lines=20", "--no-pager", "--output=cat", "--priority=3"])
    lines = [line for line in shown.stdout.decode("utf-8", "replace").splitlines() if line and line[:2] != "--"]
    return lines[-1] if lines and not shown.code else ""


def _start(host: Host, stopped: list[str], disabled: list[str]) -> Callable[[], None] | None:
    """Start what is enabled and does not run; what was disabled, somebody wanted so."""
    meant = [name for name in stopped if name not in disabled]
    if not meant:
        return None

    def fix() -> None:
        host.run(["systemctl", "reset-failed", *meant])
        systemctl(host, "start", *meant)

    return fix


def _call(host: Host, *words: str) -> Callable[[], None]:
    return lambda: systemctl(host, *words)
