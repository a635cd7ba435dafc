"""When a program gets to certain functions of its own, without another program to be built for it.

The program runs under ptrace(2) with breakpoints at functions that its symbol table still names, and the clock stands
still while it is stopped: what is left of the measuring is the two switches between processes at each stop. For
programs that are one process with one thread, on x86-64 Linux.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import struct
import time
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from tests.bench.measure import CommandFailedError
from tests.support.process import run

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.bench.measure import Case

_TRACEME, _PEEKUSER, _POKEUSER, _CONT, _SINGLESTEP, _SETOPTIONS = 0, 3, 6, 7, 9, 0x4200
_EVENT_EXIT = 6
_OPTIONS = (1 << _EVENT_EXIT) | (1 << 20)  # stop at the end; the program ends with us
_RIP, _RSP = 16 * 8, 19 * 8  # offsets in struct user
_INT3 = b"\xcc"
_NOT_STARTED = 127

_libc = ctypes.CDLL(None, use_errno=True)
_libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
_libc.ptrace.restype = ctypes.c_long


class Ended(NamedTuple):
    """When the program began its end, and when nothing was left of it, in ms since before its exec."""

    leaving: float
    gone: float


def follow(
    case: Case, symbols: Mapping[str, int], first: Sequence[str], reached: Callable[[str, float, Debugger], None]
) -> Ended:
    """Run a command to its end; at first there are breakpoints at the functions in `first`.

    `symbols` are the program's (`functions`). `reached` is told the name of the breakpoint and the time, in ms since
    before the exec, and may set others. Output is dropped.

    Raises:
        CommandFailedError: the command failed, has no such function, or this machine allows no ptrace.
    """
    debugger = Debugger(case, symbols)
    try:
        for name in first:
            debugger.break_at(name, debugger.address(name))
        return debugger.run(reached)
    finally:
        debugger.close()


def functions(program: str) -> dict[str, int]:
    """The functions that an executable exports: name to address in the file's own terms."""
    lines = (line.split() for line in run(["nm", "-D", "--defined-only", program]).out.splitlines())
    return {name: int(address, 16) for address, kind, name in lines if kind in "Tt"}


class Debugger:
    """A command that has just become its program, and is stopped."""

    def __init__(self, case: Case, symbols: Mapping[str, int]) -> None:
        self._label = case.label
        self._symbols = symbols
        self._breakpoints: dict[int, tuple[str, bytes]] = {}  # address to name, and the byte that belongs there
        self._paused = 0
        self._gone = False
        self._pid, self._begun = _start(case)
        self._stopped = time.perf_counter_ns()
        _ptrace(_SETOPTIONS, self._pid, 0, _OPTIONS)
        self._memory = os.open(f"/proc/{self._pid}/mem", os.O_RDWR | os.O_CLOEXEC)
        self._base = _base(self._pid)

    def address(self, name: str) -> int:
        """Where a function is; CommandFailedError if the program has none of that name."""
        try:
            return self._base + self._symbols[name]
        except KeyError:
            raise CommandFailedError(f"{self._label} has no function {name}: has its boot loader changed?") from None

    def break_at(self, name: str, address: int) -> None:
        """Stop there each time, until `forget`."""
        self._breakpoints[address] = (name, os.pread(self._memory, 1, address))
        os.pwrite(self._memory, _INT3, address)

    def forget(self, address: int) -> None:
        """Stop there no more."""
        _, there = self._breakpoints.pop(address)
        os.pwrite(self._memory, there, address)

    @property
    def here(self) -> int:
        """The address it is stopped at."""
        return _ptrace(_PEEKUSER, self._pid, _RIP, 0)

    @property
    def stack(self) -> int:
        """The stack pointer."""
        return _ptrace(_PEEKUSER, self._pid, _RSP, 0)

    def caller(self) -> int:
        """Where the function returns to; at its first instruction only."""
        found: int = struct.unpack("<Q", os.pread(self._memory, 8, self.stack))[0]
        return found

    def run(self, reached: Callable[[str, float, Debugger], None]) -> Ended:
        """Let it go to its end."""
        leaving = 0.0
        self._resume(0)
        while True:
            status = self._wait()
            now = self._now()
            if not os.WIFSTOPPED(status):
                self._check(status)
                return Ended(leaving, now)
            if status >> 16 == _EVENT_EXIT:
                leaving = now
                self._resume(0)
            elif os.WSTOPSIG(status) == signal.SIGTRAP:
                self._at_breakpoint(now, reached)
            else:
                self._resume(os.WSTOPSIG(status))

    def close(self) -> None:
        """End it, if it has not ended."""
        os.close(self._memory)
        if self._gone:
            return
        os.kill(self._pid, signal.SIGKILL)
        while not self._gone:
            if os.WIFSTOPPED(self._wait()):  # at its end
                _ptrace(_CONT, self._pid, 0, 0)

    def _at_breakpoint(self, now: float, reached: Callable[[str, float, Debugger], None]) -> None:
        address = _ptrace(_PEEKUSER, self._pid, _RIP, 0) - len(_INT3)
        name, there = self._breakpoints[address]
        _ptrace(_POKEUSER, self._pid, _RIP, address)
        reached(name, now, self)
        if address in self._breakpoints:  # one step without it
            os.pwrite(self._memory, there, address)
            _ptrace(_SINGLESTEP, self._pid, 0, 0)
            self._wait()
            os.pwrite(self._memory, _INT3, address)
        self._resume(0)

    def _now(self) -> float:
        """Ms since before the exec, without the time it stood still."""
        self._stopped = time.perf_counter_ns()
        return (self._stopped - self._begun - self._paused) / 1e6

    def _resume(self, number: int) -> None:
        """Let it go on, with a signal unless that is 0."""
        self._paused += time.perf_counter_ns() - self._stopped
        _ptrace(_CONT, self._pid, 0, number)

    def _wait(self) -> int:
        status = os.waitpid(self._pid, 0)[1]
        self._gone = not os.WIFSTOPPED(status)
        return status

    def _check(self, status: int) -> None:
        code = os.waitstatus_to_exitcode(status)
        if code:
            raise CommandFailedError(f"{self._label}: exit code {code} under ptrace")


def _start(case: Case) -> tuple[int, int]:
    """A child that has become the program and is stopped, and the time just before that, in ns."""
    with mmap.mmap(-1, 8) as begun:
        pid = os.fork()
        if pid == 0:
            _become(case, begun)
        _, status = os.waitpid(pid, 0)
        if not os.WIFSTOPPED(status):
            raise CommandFailedError(f"{case.label} cannot be started, or this machine allows no ptrace")
        return pid, struct.unpack("<q", begun[:])[0]


def _become(case: Case, begun: mmap.mmap) -> NoReturn:
    try:
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.chdir(case.cwd)
        _ptrace(_TRACEME, 0, 0, 0)
        begun[:] = struct.pack("<q", time.perf_counter_ns())
        os.execve(case.argv[0], case.argv, dict(case.env))
    finally:
        os._exit(_NOT_STARTED)


def _base(pid: int) -> int:
    """Where in memory the program's file begins."""
    program = os.readlink(f"/proc/{pid}/exe")
    with open(f"/proc/{pid}/maps", encoding="utf-8") as lines:
        for line in lines:
            place, _, offset, *_, path = line.split(maxsplit=5)
            if path.rstrip("\n") == program and int(offset, 16) == 0:
                return int(place.split("-")[0], 16)
    raise CommandFailedError(f"{program} is not where it runs")


def _ptrace(request: int, pid: int, address: int, data: int) -> int:
    """ptrace(2); OSError if it fails."""
    ctypes.set_errno(0)
    found = int(_libc.ptrace(request, pid, address, data))
    if found == -1 and ctypes.get_errno():
        raise OSError(ctypes.get_errno(), f"ptrace: {os.strerror(ctypes.get_errno())}")
    return found
