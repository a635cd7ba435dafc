"""Empty the page cache, so that the next program is read from the disk, as after a boot.

Root can empty all of it. Anybody can ask the kernel to forget single files, which it does unless a running program
holds them; shared libraries then stay. Whether it worked is found out, not assumed: in a container, on a file system
in memory and on some network file systems it does not.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_DROP_CACHES = "/proc/sys/vm/drop_caches"
_PAGES_AND_INODES = "3"


class Eviction(NamedTuple):
    """A way that works here: what it does, as the end of a sentence about the page cache, and doing it."""

    how: str
    evict: Callable[[], None]


def find_eviction(files: Sequence[str], drop_caches: str = _DROP_CACHES) -> Eviction | None:
    """The most thorough way that works here, tried on the first of these files; None if there is none.

    `files` are what the programs to be measured read; the way that needs no root forgets just these.
    """
    ways = (
        Eviction("was emptied (`drop_caches`)", lambda: _drop_all(drop_caches)),
        Eviction("was made to forget the programs and the files they read (`posix_fadvise`)", lambda: _forget(files)),
    )
    return next((way for way in ways if _works(way, files[0])), None)


def _drop_all(drop_caches: str) -> None:
    os.sync()  # only what is on the disk can be dropped
    with open(drop_caches, "w", encoding="ascii") as file:
        file.write(_PAGES_AND_INODES)


def _forget(files: Sequence[str]) -> None:
    for path in files:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def _works(way: Eviction, path: str) -> bool:
    try:
        with open(path, "rb") as file:
            file.read()
        before = is_cached(path)
        way.evict()
        return before and not is_cached(path)
    except OSError:  # not allowed, or a file system that cannot say
        return False


def is_cached(path: str) -> bool:
    """Whether the beginning of a file is in the page cache; OSError if its file system cannot say.

    Asking may have it read, so ask once and then evict again.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
