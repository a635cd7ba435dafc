"""The kernel's tables of mounts (proc_pid_mountinfo(5)): which there are, and who else uses one of ours."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


class Entry(NamedTuple):
    """A mount: of which file system (`device`, `root` in it), where (`point`), on top of which (`parent`)."""

    id: int
    parent: int
    device: str
    root: str
    point: str
    kind: str
    source: str


class Place(NamedTuple):
    """The very directory something is mounted on, whatever path leads to it: a file system and a path in it."""

    device: str
    path: str


def parse(text: str) -> list[Entry]:
    """The entries of a mountinfo file; lines that are not as specified are left out."""
    found = []
    for line in text.removesuffix("\n").split("\n"):  # others than newlines stand for themselves in a path
        left, separator, right = line.partition(" - ")
        fields, tail = left.split(" "), right.split(" ")
        if separator and len(fields) >= 6 and len(tail) >= 2:  # noqa: PLR2004  # as many as are specified
            mount, parent, device, root, point = fields[:5]
            entry = Entry(int(mount), int(parent), device, _plain(root), _plain(point), tail[0], _plain(tail[1]))
            found.append(entry)
    return found


def _plain(text: str) -> str:
    """Blanks, newlines and backslashes are written as three octal digits."""
    first, *rest = text.split("\\")
    return first + "".join(chr(int(part[:3], 8)) + part[3:] for part in rest)


def read(process: int | str = "self", proc: str = "/proc") -> list[Entry]:
    """The mounts a process sees; raises OSError."""
    with open(f"{proc}/{process}/mountinfo", encoding="utf-8", errors="surrogateescape", newline="\n") as lines:
        return parse(lines.read())


def place_of(entry: Entry, table: Iterable[Entry]) -> Place | None:
    """What a mount is mounted on; None if its parent cannot be seen from there."""
    for parent in table:
        if parent.id == entry.parent:
            inside = entry.point[len(parent.point.rstrip("/")) :]
            return Place(parent.device, parent.root.rstrip("/") + inside)
    return None


def topmost(entries: Sequence[Entry], point: str) -> Entry | None:
    """The mount at a path that is seen there: of several on top of each other the last."""
    return next((entry for entry in reversed(entries) if entry.point == point), None)


def number(device: int) -> str:
    """A device as the tables write it."""
    return f"{os.major(device)}:{os.minor(device)}"


class Usage(NamedTuple):
    """Which file systems (devices) are used; `is_complete`: every process could be looked at."""

    devices: set[str]
    is_complete: bool


def usage(places: Mapping[str, Place], proc: str = "/proc") -> Usage:
    """Which file systems are mounted anywhere but at their own place: those that a container uses.

    Every mount name space is looked at. What is mounted on the same directory as ours is no use:
    name spaces that began as copies of the host's have that (services of systemd, containers
    that mount all of `/`). A container has it somewhere in its own root file system.

    Args:
        places: where each file system (device) is mounted by us.
        proc: the proc file system to ask.
    """
    used: set[str] = set()
    seen: set[str] = set()
    is_complete = True
    for process in filter(str.isdigit, os.listdir(proc)):
        try:
            space = os.readlink(f"{proc}/{process}/ns/mnt")
            if space in seen:
                continue
            table = read(process, proc)
        except PermissionError:
            is_complete = is_complete and process == _INIT
            continue
        except OSError:
            continue  # it has ended
        seen.add(space)
        for entry in table:
            if entry.device in places and entry.device not in used and place_of(entry, table) != places[entry.device]:
                used.add(entry.device)
    return Usage(used, is_complete)


_INIT = "1"  # no container's process; a sandbox may hide it
