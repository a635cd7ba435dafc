"""Opening a file that root's dso.yaml names, in places where others may write too: a token that a sidecar renews."""

from __future__ import annotations

import os
import stat
from typing import NamedTuple

LARGEST = 1 << 20  # bytes of one file
_MOST_LINKS = 40  # as the kernel has it
_STEP = os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC


class Found(NamedTuple):
    """What a file holds, and what tells that it was replaced or changed."""

    content: bytes
    signature: tuple[int, ...]


class ForeignLinkError(OSError):
    """A link that is not root's leads to a file of somebody else: who made it may not read that file."""


def signature(path: str) -> tuple[int, ...] | None:
    """What tells that a file was replaced or changed; None if it is not there."""
    try:
        return _signature(os.stat(path))
    except OSError:
        return None


def read_file(path: str) -> Found:
    """A file's content, links followed: each has to belong to root, to the agent's user, or to the file's owner.

    Every step is taken from a directory that is open, so that nobody can put another one in its place meanwhile.

    Raises:
        OSError: it is not there, no regular file, too large, or a link that must not be followed leads to it.
    """
    descriptor, owners = _walk(path)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise OSError(0, "it is no regular file", path)
        if status.st_size > LARGEST:
            raise OSError(0, f"it is larger than {LARGEST >> 20} MiB", path)
        if owners - {0, os.geteuid(), status.st_uid}:
            raise ForeignLinkError(0, f"a link of user {max(owners)} leads to a file of user {status.st_uid}", path)
        file = os.open(f"/proc/self/fd/{descriptor}", os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    finally:
        os.close(descriptor)
    try:
        return Found(_read(file), _signature(os.fstat(file)))
    finally:
        os.close(file)


def _read(file: int) -> bytes:
    pieces = []
    left = LARGEST + 1
    while left and (piece := os.read(file, left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def _signature(status: os.stat_result) -> tuple[int, ...]:
    return status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_size, status.st_dev, status.st_mode


def _walk(path: str) -> tuple[int, set[int]]:
    """The file at the end of a path, open for looking at only, and the owners of the links on the way there."""
    owners: set[int] = set()
    links = 0
    ahead = path.split("/")[::-1]
    here = os.open("/", _STEP | os.O_DIRECTORY)
    try:
        while ahead:
            part = ahead.pop()
            if part in ("", "."):
                continue
            step = os.open(part, _STEP, dir_fd=here)
            status = os.fstat(step)
            if not stat.S_ISLNK(status.st_mode):
                os.close(here)
                here = step
                continue
            target = os.readlink("", dir_fd=step)
            os.close(step)
            links += 1
            if links > _MOST_LINKS:
                raise OSError(40, "Too many levels of symbolic links", path)  # noqa: TRY301  # `here` is closed below
            owners.add(status.st_uid)
            ahead += target.split("/")[::-1]
            if target.startswith("/"):
                os.close(here)
                here = os.open("/", _STEP | os.O_DIRECTORY)
    except BaseException:
        os.close(here)
        raise
    return here, owners
