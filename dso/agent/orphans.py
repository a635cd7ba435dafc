"""Processes that plugins have started and left behind: they come to the agent, which ends them."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import suppress
from ctypes import CDLL

from dso.agent.launch import PROGRAMS

_LOG = logging.getLogger("dso.agent.orphans")
_PR_SET_CHILD_SUBREAPER = 36  # <sys/prctl.h>
_ROUNDS = 100  # each ends what has come to us by then, which may itself have left others
_PAUSE = 0.01


class Orphans:
    """The agent's children that are nobody's program. For the thread of the event loop alone, which is the main one.

    A process that leaves the session and the parent it had comes to the agent, and not to init, once it has been told
    to `adopt`. Nothing says which plugin it was started by, but only which user it has.
    """

    def __init__(self) -> None:
        """It adopts nothing yet."""
        self._adopts = False

    def adopt(self) -> None:
        """Be the parent of whatever loses its own below this process, for as long as the event loop runs."""
        if not self._adopts:
            self._adopts = not CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self.reap)

    def reap(self) -> None:
        """Have those that have ended go from the table of processes; plugins' programs are left to who watches them."""
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid in PROGRAMS:
                    return  # it hides those behind it until it is waited for: then comes `end`
                os.waitpid(ended.si_pid, 0)

    async def end(self, uid: int | None = None) -> None:
        """End those of a user, or all; theirs too, as they come to us. They get no time to clear up."""
        for _ in range(_ROUNDS if self._adopts else 0):
            self.reap()
            found = [pid for pid in _children() if pid not in PROGRAMS and uid in (None, _user(pid))]
            if not found:
                return
            for pid in found:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)  # nobody else has the number: it is waited for in this thread alone
            await asyncio.sleep(_PAUSE)
        if self._adopts:
            _LOG.warning("processes that a plugin has left start others as fast as they are ended")


def _children() -> list[int]:
    """The children of this process that run."""
    own, found = str(os.getpid()), []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError), open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
            state, parent = file.read().rpartition(") ")[2].split(" ", 2)[:2]
            if parent == own and state not in "ZX":
                found.append(int(name))
    return found


def _user(pid: int) -> int | None:
    """Whom a process runs as. The owner of its directory in /proc would be root, if it may not be dumped."""
    with suppress(OSError), open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as file:
        for line in file:
            if line.startswith("Uid:"):
                return int(line.split()[1])
    return None
