"""The agent's units: how they are, and starting, stopping and enabling them."""

from __future__ import annotations

from typing import NamedTuple

from dso.errors import ServiceError
from dso.host.machine import said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dso.host.machine import Host

SERVICE = "dso-agent.service"
SOCKETS = ("dso-agent.socket", "dso-volume.socket")
UNITS = (*SOCKETS, SERVICE)

_PROPERTIES = "Id,LoadState,ActiveState,SubState,UnitFileState,FragmentPath,DropInPaths,NeedDaemonReload,Result"
_LOG_LINES = 5


class Unit(NamedTuple):
    """A unit, in systemd's own words (`systemctl show`)."""

    name: str
    load: str = "not-found"
    active: str = "inactive"
    sub: str = "dead"
    enabled: str = ""
    path: str = ""
    drop_ins: tuple[str, ...] = ()
    needs_reload: bool = False
    result: str = ""

    @property
    def is_there(self) -> bool:
        """Whether systemd has it."""
        return self.load == "loaded"

    @property
    def is_active(self) -> bool:
        """Whether it runs, or listens."""
        return self.active in ("active", "reloading")

    @property
    def is_enabled(self) -> bool:
        """Whether it comes up with the machine."""
        return self.enabled == "enabled"


def unit_states(host: Host) -> dict[str, Unit]:
    """The units by name; those that systemd does not know are there with `load` "not-found"."""
    found = {name: Unit(name) for name in UNITS}
    if host.has_systemd:
        finished = host.run(["systemctl", "show", f"--property={_PROPERTIES}", *UNITS])
        for block in finished.stdout.decode("utf-8", "replace").split("\n\n"):
            unit = _parse(dict(line.partition("=")[::2] for line in block.splitlines()))
            if unit.name in found:
                found[unit.name] = unit
    return found


def _parse(shown: Mapping[str, str]) -> Unit:
    return Unit(
        shown.get("Id", ""),
        shown.get("LoadState", ""),
        shown.get("ActiveState", ""),
        shown.get("SubState", ""),
        shown.get("UnitFileState", ""),
        shown.get("FragmentPath", ""),
        tuple(shown.get("DropInPaths", "").split()),
        shown.get("NeedDaemonReload") == "yes",
        shown.get("Result", ""),
    )


def systemctl(host: Host, *words: str) -> None:
    """Run `systemctl WORDS`.

    Raises:
        ServiceError: it failed; with what it said, and the last lines of the agent's log.
    """
    finished = host.run(["systemctl", *words])
    if finished.code:
        raise ServiceError(
            f"`systemctl {' '.join(words)}` failed: {said(finished)}{_log(host)}",
            hint="`docker dso system doctor` looks for the cause; `docker dso system logs` shows the whole log",
        )


def enable(host: Host) -> None:
    """Have the units come up with the machine, and start them: sockets first. ServiceError."""
    systemctl(host, "enable", *UNITS)
    start(host)


def start(host: Host) -> None:
    """Start what does not run: sockets first, then the agent, which is waited for (`Type=notify`). ServiceError."""
    systemctl(host, "start", *SOCKETS)
    systemctl(host, "start", SERVICE)


def disable(host: Host) -> None:
    """Stop the agent and its sockets, and leave them out when the machine comes up. ServiceError."""
    systemctl(host, "disable", "--now", *reversed(UNITS))


def restore(host: Host, before: Mapping[str, Unit]) -> None:
    """Bring the units back to how they were: what ran runs, what was enabled is.

    Raises:
        ServiceError: that failed for one of them; the others were brought back all the same.
    """
    failed = None
    for words in restoring(before, unit_states(host)):
        try:
            systemctl(host, *words)
        except ServiceError as error:
            if words[0] != "reset-failed":  # which fails for units that systemd has forgotten already
                failed = failed or error
    if failed:
        raise failed


def restoring(before: Mapping[str, Unit], now: Mapping[str, Unit]) -> list[Sequence[str]]:
    """The calls of systemctl that bring the units back."""
    calls: list[Sequence[str]] = []
    stopped = [name for name in reversed(UNITS) if not before[name].is_active and now[name].active != "inactive"]
    if stopped:
        calls.append(("stop", *stopped))
        calls.append(("reset-failed", *stopped))
    disabled = [name for name in UNITS if now[name].is_enabled and not before[name].is_enabled]
    if disabled:
        calls.append(("disable", *disabled))
    enabled = [name for name in UNITS if before[name].is_enabled and not now[name].is_enabled]
    if enabled:
        calls.append(("enable", *enabled))
    started = [name for name in UNITS if before[name].is_active and not now[name].is_active]
    if started:
        calls.append(("start", *started))
    return calls


def _log(host: Host) -> str:
    shown = host.run(["journalctl", f"--unit={SERVICE}", f"--lines={_LOG_LINES}", "--no-pager", "--output=cat"])
    lines = [
        line for line in shown.stdout.decode("utf-8", "replace").splitlines() if line and not line.startswith("--")
    ]
    return "".join(f"\n  {line}" for line in lines) if not shown.code else ""
