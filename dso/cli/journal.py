"""Where the log of the agent in use is: in the journal, if systemd runs that agent, and this user may read it."""

from __future__ import annotations

import os

from dso import paths

UNIT = "dso-agent.service"
UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
BOOTED = "/run/systemd/system"  # there if systemd is PID 1: sd_booted(3)
JOURNAL_DIRECTORIES = ("/var/log/journal", "/run/log/journal")
PRIORITIES = {"debug": 7, "info": 6, "warning": 4, "error": 3}  # as dso.agent.logbook writes them


def is_agents(socket: str) -> bool:
    """Whether the agent at this socket is the one that systemd runs as UNIT, whether or not it answers."""
    return (
        os.path.isdir(BOOTED)
        and any(os.path.exists(f"{directory}/{UNIT}") for directory in UNIT_DIRECTORIES)
        and _is_on_path("journalctl")
        and _is_units(_listener(socket), socket)
    )


def is_readable() -> bool:
    """Whether this user may read the system's journal; root and the groups systemd-journal and adm may."""
    for directory in JOURNAL_DIRECTORIES:
        try:
            machines = os.listdir(directory)
        except OSError:
            continue
        if any(os.access(f"{directory}/{machine}/system.journal", os.R_OK) for machine in machines):
            return True
    return False


def command(*, follow: bool, lines: int | None, since: float | None, level: str) -> list[str]:
    """What shows the unit's log; `lines` and `since` None: all."""
    argv = ["journalctl", f"--unit={UNIT}", "--no-pager", "--output=short-iso", f"--priority={PRIORITIES[level]}"]
    argv.append("--lines=all" if lines is None else f"--lines={lines}")
    if since is not None:
        argv.append(f"--since=@{int(since)}")
    return [*argv, "--follow"] if follow else argv


def _listener(socket: str) -> int | None:
    """The process that listens at a socket, as far as that can be told: systemd's own if it made the socket."""
    import _socket

    from dso.system.http import peer_of

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        connection.settimeout(1.0)
        connection.connect(socket)
        return peer_of(connection)[0]
    except OSError:
        return None
    finally:
        connection.close()


def _is_units(pid: int | None, socket: str) -> bool:
    if pid is not None and pid > 1:
        try:
            with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
                return f"/{UNIT}" in file.read()
        except OSError:
            pass  # hidden: its socket has to tell
    return os.path.realpath(socket) == os.path.realpath(paths.SYSTEM_SOCKET)


def _is_on_path(program: str) -> bool:
    return any(os.access(f"{directory}/{program}", os.X_OK) for directory in os.get_exec_path())
