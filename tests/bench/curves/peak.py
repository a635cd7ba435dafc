"""The peak memory of a program's own processes, exactly, whatever else they start.

`peak(argv, ...)` runs this file as a program of its own, so that it is a small process that forks, and waits for its
own children only.

wait4(2) would tell one figure for a child and all that the child has waited for, the largest: for `docker dso up`
that of Compose. It counts what the parent had at the time of the fork, too. So every process is stopped at its end
(ptrace(2), PTRACE_O_TRACEEXIT), when the kernel still knows its own high-water mark, VmHWM. Processes that become
another program are let go and cost nothing from there on.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_TRACEME, _CONT, _DETACH, _SETOPTIONS = 0, 7, 17, 0x4200
_FORK, _VFORK, _EXEC, _EXIT = 1, 2, 4, 6  # PTRACE_EVENT_*, and the bits of the options
_OPTIONS = (1 << _FORK) | (1 << _VFORK) | (1 << _EXEC) | (1 << _EXIT) | (1 << 20)  # the last: they end with us
_WALL = 0x40000000  # wait for all children; os has no name for it


def peak(argv: Sequence[str], env: Mapping[str, str], cwd: str) -> int:
    """Run a command to its end; the peak resident memory of its program's processes together, in bytes.

    The peaks of several processes are added, as if they had come at the same time. What the command prints is
    dropped.

    Raises:
        ChildFailedError: the command failed, or this machine allows no ptrace.
    """
    from tests.support.process import PYTHON, run

    return int(json.loads(run([PYTHON, "-SP", __file__, *argv], env=env, cwd=cwd).out))


def _main(argv: Sequence[str]) -> int:
    """Print the figure; returns the command's exit code."""
    trace = _ptrace()
    first = os.fork()
    if first == 0:
        trace(_TRACEME, 0, 0)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        os.execv(argv[0], list(argv))
    program = os.path.realpath(argv[0])
    found, code = 0, 0
    traced: set[int] = set()
    while True:
        try:
            pid, status = os.waitpid(-1, _WALL)
        except ChildProcessError:
            print(json.dumps(found))
            return code
        if not os.WIFSTOPPED(status):
            traced.discard(pid)
            code = os.waitstatus_to_exitcode(status) if pid == first else code
            continue
        event, number = status >> 16, os.WSTOPSIG(status)
        if pid not in traced:  # its first stop: the first child's is its exec, that of others a SIGSTOP
            traced.add(pid)
            number = 0
            if pid == first:
                trace(_SETOPTIONS, pid, _OPTIONS)
        elif event == _EXEC and os.readlink(f"/proc/{pid}/exe") != program:
            traced.discard(pid)
            trace(_DETACH, pid, 0)
            continue
        elif event == _EXIT:
            found += _high_water(pid)
        trace(_CONT, pid, 0 if event else number)


def _ptrace() -> Callable[[int, int, int], None]:
    """ptrace(request, pid, data); a process that was killed meanwhile is no error."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    libc.ptrace.restype = ctypes.c_long

    def trace(request: int, pid: int, data: int) -> None:
        if libc.ptrace(request, pid, None, data) < 0 and ctypes.get_errno() != errno.ESRCH:
            raise OSError(ctypes.get_errno(), "this machine does not allow ptrace, by which memory is measured")

    return trace


def _high_water(pid: int) -> int:
    with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as lines:
        for line in lines:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    sys.exit(_main(sys.argv[1:]))
