"""The Unix sockets the agent listens on: its own, or those systemd opened for it."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import stat
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from dso.agent.connections import BACKLOG
from dso.errors import AgentSocketError
from dso.system.systemd import listen_sockets

if TYPE_CHECKING:
    from typing import Self

_MAX_PATH = 107  # bytes, sockaddr_un without its final NUL
_LOCK_PATIENCE = 5.0
_AGENT_NAMES = ("agent", "dso.socket", "dso-agent.socket")
_VOLUME_NAMES = ("volume", "dso-volume.socket", "dso-agent-volume.socket")


class Listening(NamedTuple):
    """A socket that listens; `inode` is what tells its file from a later agent's, None if it is not ours to remove."""

    listener: socket.socket
    path: str
    inode: tuple[int, int] | None

    @classmethod
    def activated(cls, found: socket.socket) -> Self:
        """One that systemd opened, and will remove."""
        return cls(found, str(found.getsockname()), None)

    def remove(self) -> None:
        """Remove its file, if it is still the one we made."""
        if self.inode is None:
            return
        with suppress(OSError):
            about = os.lstat(self.path)
            if (about.st_dev, about.st_ino) == self.inode:
                os.unlink(self.path)


def activated_sockets(agent_path: str, volume_path: str | None) -> tuple[Listening | None, Listening | None]:
    """The sockets systemd hands over, for the API and for the volume driver; by their names, else by their paths.

    Raises:
        AgentSocketError: systemd hands over something nobody knows what to do with.
    """
    agent: Listening | None = None
    volume: Listening | None = None
    for name, found in listen_sockets():
        one = Listening.activated(found)
        if found.family != socket.AF_UNIX:
            raise AgentSocketError(f"the socket {name!r} that systemd passes is no Unix socket", hint=_UNIT_HINT)
        if name in _VOLUME_NAMES or (name not in _AGENT_NAMES and _same(one.path, volume_path)):
            volume = one
        elif name in _AGENT_NAMES or _same(one.path, agent_path):
            agent = one
        else:
            raise AgentSocketError(
                f"systemd passes a socket {name!r} at {one.path}, which is neither the agent's nor the volume driver's",
                hint=_UNIT_HINT,
            )
    return agent, volume


_UNIT_HINT = "in the socket units: `FileDescriptorName=agent` or `volume`, and `ListenStream=` with a path"


def bind(path: str, *, group: int | None) -> Listening:
    """Listen on a Unix socket of our own: 0660 with a group, 0600 without.

    A file that a dead agent left is replaced. Between the moments in which the file appears and in which it has its
    owner, nobody but us may connect.

    Raises:
        AgentSocketError: an agent listens there already, or the place cannot be used.
    """
    if len(os.fsencode(path)) > _MAX_PATH:
        raise AgentSocketError(
            f"{path} is too long for a socket: at most {_MAX_PATH} bytes", hint="choose a shorter one with --socket"
        )
    directory = os.path.dirname(path) or "."
    try:
        _make_reachable(directory)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _lock(lock)  # two agents that start at once: one of them finds the other
            _remove_stale(path)
            return _listen(path, group)
        finally:
            os.close(lock)
    except OSError as error:
        raise AgentSocketError(
            f"cannot listen at {path}: {error.strerror or error}",
            hint="choose another place: `agent.socket` in dso.yaml, --socket or DSO_SOCKET_PATH",
        ) from error


def _make_reachable(directory: str) -> None:
    """Make a directory that the socket's users can pass, whatever our umask is."""
    umask = os.umask(0o022)
    try:
        os.makedirs(directory, exist_ok=True)
    finally:
        os.umask(umask)


def _lock(descriptor: int) -> None:
    """Lock a directory. Anybody who can read it could hold the lock, so that it is not waited for long."""
    deadline = time.monotonic() + _LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno != errno.EWOULDBLOCK or time.monotonic() > deadline:
                return
            time.sleep(0.02)
        else:
            return


def _remove_stale(path: str) -> None:
    try:
        about = os.lstat(path)
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(about.st_mode):
        raise AgentSocketError(f"{path} exists and is no socket", hint="remove it, or choose another with --socket")
    with socket.socket(socket.AF_UNIX) as probe:
        probe.setblocking(False)
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except BlockingIOError:
            pass  # somebody listens and is busy
    raise AgentSocketError(
        f"another agent listens at {path} already",
        hint="stop it first (`sudo systemctl stop dso-agent`), or give this one a socket of its own with --socket",
    )


def _listen(path: str, group: int | None) -> Listening:
    listening = socket.socket(socket.AF_UNIX)
    umask = os.umask(0o177)
    try:
        listening.bind(path)
        about = os.lstat(path)
        if group is not None:
            os.chown(path, -1, group, follow_symlinks=False)
            os.chmod(path, 0o660)
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    finally:
        os.umask(umask)
    return Listening(listening, path, (about.st_dev, about.st_ino))


def _same(path: str, other: str | None) -> bool:
    """Whether two paths are of one file; /var/run is a link to /run."""
    return other is not None and os.path.realpath(path) == os.path.realpath(other)
