"""A directory in memory that belongs to a plugin's user, and is never swapped out where the kernel can do that."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from dso.agent import mountinfo

if TYPE_CHECKING:
    from collections.abc import Callable

    from dso.agent.isolation.accounts import Account

SIZE = "16m"
_INODES = 2048
_FLAGS = ctypes.c_ulong(2 | 4 | 8)  # MS_NOSUID, MS_NODEV, MS_NOEXEC of <sys/mount.h>
_DETACH = 2  # MNT_DETACH
_IN_MEMORY = ("tmpfs", "ramfs")
_SOURCE = "dso-credentials"


class NotInMemoryError(OSError):
    """The directory is on a disk, and nothing can be mounted there."""


def make(path: str, account: Account) -> None:
    """Make a directory, 0500, in a file system of its own if this process may mount one.

    Raises:
        NotInMemoryError: it may not, and what is there is on a disk.
        OSError: it cannot be made.
    """
    os.mkdir(path, 0o700)
    if not _mount(path, account) and not _is_in_memory(path):
        os.rmdir(path)
        raise NotInMemoryError(0, "it is on a disk, and no file system in memory can be mounted there", path)
    try:
        os.chown(path, account.uid, account.gid)
        os.chmod(path, 0o500)
    except BaseException:
        remove(path)
        raise


def remove(path: str) -> None:
    """Take a directory away with all that is in it, as far as that goes."""
    from shutil import rmtree  # follows no link that its owner may have put there

    for name in _names(path):
        inner = f"{path}/{name}"
        if os.path.isdir(inner) and not os.path.islink(inner):
            rmtree(inner, ignore_errors=True)
        else:
            _quietly(os.unlink, inner)
    if os.path.ismount(path):
        _LIBC.umount2(os.fsencode(path), _DETACH)
    _quietly(os.rmdir, path)


def _names(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []


def _quietly(what: Callable[[str], None], path: str) -> None:
    try:
        what(path)
    except OSError:
        return


def _mount(path: str, account: Account) -> bool:
    options = f"size={SIZE},nr_inodes={_INODES},mode=0500,uid={account.uid},gid={account.gid}"
    return any(
        not _LIBC.mount(_SOURCE.encode(), os.fsencode(path), b"tmpfs", _FLAGS, each.encode())
        for each in (f"{options},noswap", options)  # Linux 6.4
    )


def _is_in_memory(path: str) -> bool:
    device = mountinfo.number(os.stat(path).st_dev)
    return any(entry.device == device and entry.kind in _IN_MEMORY for entry in mountinfo.read())


_LIBC = ctypes.CDLL(None, use_errno=True)
