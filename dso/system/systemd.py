"""What systemd hands to a service and wants to hear from it, by its documented protocols and without its library.

Outside systemd every function here does nothing.
"""

from __future__ import annotations

import os

from dso.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from socket import socket

_FIRST_DESCRIPTOR = 3  # SD_LISTEN_FDS_START
_NAMELESS = "unknown"  # what sd_listen_fds_with_names(3) calls those without a name
_SEND_TIMEOUT = 2.0
_USEC = 1_000_000


def listen_sockets() -> list[tuple[str, socket]]:
    """The sockets systemd listens on for us, with their names: `FileDescriptorName=`, else the unit's.

    The list is empty if there are none, or they are meant for another process (sd_listen_fds(3)).
    They are closed in children, and the variables leave the environment, so that no child can
    mistake them for its own: a second call finds nothing.

    Raises:
        ConfigError: the unit passes something we cannot accept connections on.
    """
    pid, count, names = (os.environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"))
    if not _is_ours(pid) or not _is_count(count):
        return []
    descriptors = range(_FIRST_DESCRIPTOR, _FIRST_DESCRIPTOR + int(count))
    named = names.split(":") if names else []
    return [
        (named[index] if len(named) == len(descriptors) else _NAMELESS, _listening(descriptor))
        for index, descriptor in enumerate(descriptors)
    ]


def notify(*states: str) -> bool:
    """Tell systemd: `READY=1`, `STATUS=...`, `STOPPING=1`, `WATCHDOG=1` and others of sd_notify(3).

    Returns whether it was sent. It is never an error, neither outside systemd nor when systemd does
    not take it: the service can do nothing about that.
    """
    address = _notify_address()
    if not address:
        return False
    import _socket

    message = "\n".join(state.replace("\n", " ") for state in states)
    try:
        sender = _socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM | _socket.SOCK_CLOEXEC)
        try:
            sender.settimeout(_SEND_TIMEOUT)  # a stuck systemd must not make us so
            sender.sendto(message.encode("utf-8", "surrogateescape"), _socket.MSG_NOSIGNAL, address)
        finally:
            sender.close()
    except (OSError, ValueError):
        return False
    return True


def notify_reloading() -> bool:
    """Tell systemd that the configuration is read again; `READY=1` ends it. `Type=notify-reload` needs the time."""
    from time import CLOCK_MONOTONIC, clock_gettime_ns

    return notify("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")


def watchdog_interval() -> float | None:
    """How often to send `WATCHDOG=1`, in seconds; None: nobody watches (sd_watchdog_enabled(3)).

    It is half of `WatchdogSec=`, as that page recommends.
    """
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    if not _is_count(usec) or (pid and not _is_ours(pid)):
        return None
    return int(usec) / _USEC / 2


def logs_to_journal() -> bool:
    """Whether standard error is the journal itself, as `JOURNAL_STREAM` says (systemd.exec(5)).

    It keeps the time of each line, and takes `<N>` at its start as the level (sd-daemon(3)).
    """
    stream = os.environ.get("JOURNAL_STREAM")
    if not stream:
        return False
    try:
        about = os.fstat(2)
    except OSError:
        return False
    return stream == f"{about.st_dev}:{about.st_ino}"


def _is_ours(pid: str) -> bool:
    return pid == str(os.getpid())


def _is_count(text: str) -> bool:
    """Whether a variable holds a whole number above 0, in plain digits."""
    return text.isascii() and text.isdigit() and int(text) > 0


def _listening(descriptor: int) -> socket:
    from socket import SO_ACCEPTCONN, SOL_SOCKET, socket

    try:
        os.set_inheritable(descriptor, False)
        found = socket(fileno=descriptor)
        if found.getsockopt(SOL_SOCKET, SO_ACCEPTCONN):
            return found
        found.detach()
    except OSError:
        pass  # no socket at all
    raise ConfigError(
        f"systemd passed descriptor {descriptor}, which is no socket that listens",
        hint="the socket unit needs `ListenStream=` and `Accept=no`",
    )


def _notify_address() -> bytes | str | None:
    path = os.environ.get("NOTIFY_SOCKET", "")
    if path.startswith("/"):
        return path
    # abstract: the kernel has a NUL where the variable has an @
    return b"\0" + os.fsencode(path[1:]) if path.startswith("@") and path != "@" else None
