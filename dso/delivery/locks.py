"""Locks that keep several `docker dso` commands on one project out of each other's way.

Two files for each (Engine, project), held with flock(2), so that a process that dies gives its
locks back:

- *use*: shared by every command that may start containers, for as long as it runs; held
  exclusively by whoever takes a keeper away.
- *deliver*: exclusive while files are delivered.

They work between processes of one user on one machine; what protects keepers of other users and
other machines is said at `keeper.sweep`.
"""

from __future__ import annotations

import fcntl
import os

from dso import paths
from dso.errors import FileAccessError
from dso.system.files import leave_to_owner
from dso.system.native import blake2b_256

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class Lock:
    """A lock that is held until `release()` or the end of a `with` block.

    `descriptor` may be made inheritable: a child that has it keeps the lock if this process dies.
    """

    __slots__ = ("descriptor",)

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def release(self) -> None:
        """Give the lock back; a second call does nothing."""
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.release()


def use(engine_identity: str, project: str) -> Lock:
    """Say that this command uses the project's keeper; waits for one that is just being taken away."""
    return _take(engine_identity, project, "use", fcntl.LOCK_SH)


def take_over(engine_identity: str, project: str) -> Lock | None:
    """The project for oneself, if no other command uses it; None otherwise, at once."""
    try:
        return _take(engine_identity, project, "use", fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None


def deliver(engine_identity: str, project: str) -> Lock:
    """The right to deliver to the project; waits while another command does."""
    return _take(engine_identity, project, "deliver", fcntl.LOCK_EX)


def _take(engine_identity: str, project: str, purpose: str, operation: int) -> Lock:
    digest = blake2b_256(f"{engine_identity}\0{project}".encode()).hex()[:24]
    path = f"{_directory()}/{digest}.{purpose}"
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        leave_to_owner(path)
    except OSError as error:
        raise FileAccessError(
            f"cannot open the lock file {path}: {error.strerror}",
            hint=f"it has to belong to you: sudo chown -R $(id -u) {paths.dso_dir()}",
        ) from error
    try:
        fcntl.flock(descriptor, operation)
    except BaseException:
        os.close(descriptor)
        raise
    return Lock(descriptor)


def _directory() -> str:
    """`~/.dso/locks`, one place per user; where that cannot be written (a read-only home), $XDG_RUNTIME_DIR/dso."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    directory = paths.dso_dir() + "/locks"
    for candidate in (directory, f"{runtime}/dso") if runtime else (directory,):
        try:
            for each in (os.path.dirname(candidate), candidate):
                if not os.path.isdir(each):
                    os.makedirs(each, 0o700, exist_ok=True)
                    leave_to_owner(each)
        except OSError:
            continue
        if os.access(candidate, os.W_OK | os.X_OK):
            return candidate
    raise FileAccessError(
        f"there is no place for lock files: {directory} cannot be made or written",
        hint="make the home directory writable, or set XDG_RUNTIME_DIR",
    )
