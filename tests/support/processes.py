"""What runs, asked of /proc."""

from __future__ import annotations

import os
from typing import NamedTuple


class Process(NamedTuple):
    """A process and its words; `name` is the base name of the program."""

    pid: int
    argv: tuple[str, ...]

    @property
    def name(self) -> str:
        return os.path.basename(self.argv[0]) if self.argv else ""


def descendants(pid: int) -> list[Process]:
    """The processes below one, parents before children."""
    found: list[Process] = []
    waiting = [pid]
    while waiting:
        children = _children(waiting.pop(0))
        waiting += children
        found += [Process(child, argv(child)) for child in children]
    return found


def argv(pid: int) -> tuple[str, ...]:
    """The command line of a process; empty when it has ended."""
    try:
        with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as stream:
            return tuple(stream.read().split("\0")[:-1])
    except OSError:
        return ()


def in_directory(directory: str) -> list[Process]:
    """The processes that work in a directory, whoever started them."""
    found = []
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        try:
            if os.readlink(f"/proc/{pid}/cwd") == directory:
                found.append(Process(pid, argv(pid)))
        except OSError:
            continue
    return found


def waits_for_input(pid: int, program: str) -> bool:
    """Whether a process runs a program, and reads its standard input."""
    with open(f"/proc/{pid}/syscall") as stream:
        call = stream.read().split()
    number = {"x86_64": "0", "aarch64": "63"}[os.uname().machine]  # read(2)
    return os.readlink(f"/proc/{pid}/exe") == os.path.realpath(program) and call[:2] == [number, "0x0"]


def _children(pid: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{pid}/task"):
            with open(f"/proc/{pid}/task/{thread}/children", encoding="ascii") as stream:
                found += map(int, stream.read().split())
    except OSError:
        return []
    return found
