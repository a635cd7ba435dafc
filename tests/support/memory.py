"""What processes take of the machine: memory, descriptors, threads, as the kernel counts them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

KIB = 1024
MIB = 1024 * KIB


def resident(pids: Iterable[int]) -> int:
    """The resident memory of processes together, in bytes; what they share counts for each of them."""
    return sum(_status(pid, "VmRSS") * KIB for pid in pids)


def peak(pid: int) -> int:
    """The most resident memory a process has ever had, in bytes."""
    return _status(pid, "VmHWM") * KIB


def proportional(pids: Iterable[int]) -> int:
    """The same, but what several processes share is divided among them (PSS)."""
    return sum(_field(f"/proc/{pid}/smaps_rollup", "Pss") * KIB for pid in pids)


def descriptors(pid: int) -> int:
    """How many descriptors a process has open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def threads(pid: int) -> int:
    """How many threads a process has."""
    return _status(pid, "Threads")


def _status(pid: int, name: str) -> int:
    return _field(f"/proc/{pid}/status", name)


def _field(path: str, name: str) -> int:
    with open(path, encoding="utf-8", errors="replace") as lines:
        for line in lines:
            key, _, value = line.partition(":")
            if key == name:
                return int(value.split()[0])
    raise AssertionError(f"{path} has no {name}")
