"""Where volumes have to be mounted for the Engine to see them: in the mount name space of the machine's first process.

A hardened unit (`ProtectSystem=`, `PrivateTmp=` and others) gives the agent a mount name space of its own, out of which
nothing goes. So whatever concerns mounted volumes is done by threads that have entered PID 1's name space: several, so
that one volume with much to write or overwrite keeps no other waiting. All else, the configuration, the plugins and
their temporary files, stays inside.
"""

from __future__ import annotations

import ctypes
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import wraps
from typing import TYPE_CHECKING, Concatenate, ParamSpec, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
T = TypeVar("T")

_CLONE_FS, _CLONE_NEWNS = 0x200, 0x20000  # <linux/sched.h>
_FIRST = "/proc/1"

THREADS = 16  # volumes that are worked on at a time


class MountSpace:
    """Does things where the Engine sees the mounts below one directory; every method may block."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._outside: ThreadPoolExecutor | None = None
        self._is_known = False
        self._here = threading.local()
        self._deciding = threading.Lock()

    def run(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """The result of `work`; raises what it raises.

        It is done here if this is PID 1's name space, if we may not enter that, or if it has something else at the
        directory (the agent is in a container).
        """
        if getattr(self._here, "is_outside", False):
            return work(*args, **kwargs)
        with self._deciding:
            if not self._is_known:
                self._outside = self._enter() if self._is_apart() else None
                self._is_known = True
        if self._outside is None:
            return work(*args, **kwargs)

        def outside() -> T:
            self._go_outside()
            return work(*args, **kwargs)

        return self._outside.submit(outside).result()

    def _is_apart(self) -> bool:
        try:
            if os.readlink(f"{_FIRST}/ns/mnt") == os.readlink("/proc/self/ns/mnt"):
                return False
            os.makedirs(self._directory, mode=0o700, exist_ok=True)
            inside = os.stat(self._directory)
            outside = os.stat(f"{_FIRST}/root{os.path.realpath(self._directory)}")
        except OSError:
            return False
        return (outside.st_dev, outside.st_ino) == (inside.st_dev, inside.st_ino)

    def _enter(self) -> ThreadPoolExecutor | None:
        threads = ThreadPoolExecutor(THREADS, "mounts")
        try:
            threads.submit(self._go_outside).result()
        except OSError:
            threads.shutdown()
            return None
        return threads

    def _go_outside(self) -> None:
        """Have this thread be outside from now on; raises OSError."""
        if not getattr(self._here, "is_outside", False):
            _enter_first()
            self._here.is_outside = True


class _HasSpace(Protocol):
    space: MountSpace


S = TypeVar("S", bound=_HasSpace)


def in_space(method: Callable[Concatenate[S, P], T]) -> Callable[Concatenate[S, P], T]:
    """A method that is done in its object's `space`."""

    @wraps(method)
    def run(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self.space.run(method, self, *args, **kwargs)

    return run


def _enter_first() -> None:
    """Move this thread to PID 1's mount name space; raises OSError.

    It takes CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE, and a root and working directory that are this
    thread's alone (setns(2)).
    """
    space = os.open(f"{_FIRST}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_FS) or libc.setns(space, _CLONE_NEWNS):
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number))
    finally:
        os.close(space)
