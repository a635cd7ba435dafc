"""A directory in memory that a plugin can read and not change; never swapped out where the kernel can do that.

It belongs to root, and to the group that only the plugin's user has (`accounts`). A user can always change the mode of
a file of their own, and then write to it: so nothing in there is the plugin's.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from dso.agent import mountinfo

if TYPE_CHECKING:
    from dso.agent.isolation.accounts import Account

SIZE = "16m"
DIRECTORY_MODE, FILE_MODE = 0o550, 0o440
DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_INODES = 2048
_MOST_REMOVED = 100_000  # directories, of what an agent has left that let plugins write
_FLAGS = ctypes.c_ulong(2 | 4 | 8)  # MS_NOSUID, MS_NODEV, MS_NOEXEC of <sys/mount.h>
_DETACH = 2 | 8  # MNT_DETACH, UMOUNT_NOFOLLOW
_IN_MEMORY = ("tmpfs", "ramfs")
_SOURCE = "dso-credentials"


class NotInMemoryError(OSError):
    """The directory is on a disk, and nothing can be mounted there."""


def make(path: str, account: Account) -> None:
    """Make a directory for a plugin's user, in a file system of its own if this process may mount one.

    Raises:
        NotInMemoryError: it may not, and what is there is on a disk.
        OSError: it cannot be made.
    """
    os.mkdir(path, 0o700)
    if not _mount(path) and not _is_in_memory(path):
        os.rmdir(path)
        raise NotInMemoryError(0, "it is on a disk, and no file system in memory can be mounted there", path)
    try:
        os.chown(path, 0, account.gid)
        os.chmod(path, DIRECTORY_MODE)
    except BaseException:
        remove(path)
        raise


def make_inside(top: int, name: str, account: Account) -> None:
    """Make a directory in one that is open."""
    os.mkdir(name, 0o700, dir_fd=top)
    os.chown(name, 0, account.gid, dir_fd=top, follow_symlinks=False)
    os.chmod(name, DIRECTORY_MODE, dir_fd=top)


def remove(path: str) -> None:
    """Take a directory away with all that is in it, whatever that is. OSError: it is still there."""
    try:
        top = os.open(path, DIRECTORY)
    except FileNotFoundError:
        return
    try:
        while os.path.ismount(path) and not _LIBC.umount2(os.fsencode(path), _DETACH):
            pass
        _clear(top)  # unmounted or not: what is open somewhere would keep the file system in memory
    finally:
        os.close(top)
        os.rmdir(path)


def _clear(top: int) -> None:
    """Empty a directory, however deep what is in it goes, and follow no link; OSError.

    What is in an inner directory comes to the top: so there is neither a path nor a recursion that could be too long.
    """
    for number in range(_MOST_REMOVED):
        directories = [name for name in os.listdir(top) if not _unlink(name, top)]
        if not directories:
            return
        inner = os.open(directories[0], DIRECTORY, dir_fd=top)
        try:
            for index, name in enumerate(os.listdir(inner)):
                if not _unlink(name, inner):
                    os.rename(name, f".dso.{number}.{index}", src_dir_fd=inner, dst_dir_fd=top)
        finally:
            os.close(inner)
        os.rmdir(directories[0], dir_fd=top)


def _unlink(name: str, directory: int) -> bool:
    """Remove it, unless it is a directory: False."""
    try:
        os.unlink(name, dir_fd=directory)
    except IsADirectoryError:
        return False
    return True


def _mount(path: str) -> bool:
    options = f"size={SIZE},nr_inodes={_INODES},mode=0700"
    return any(
        not _LIBC.mount(_SOURCE.encode(), os.fsencode(path), b"tmpfs", _FLAGS, each.encode())
        for each in (f"{options},noswap", options)  # Linux 6.4
    )


def _is_in_memory(path: str) -> bool:
    device = mountinfo.number(os.stat(path).st_dev)
    return any(entry.device == device and entry.kind in _IN_MEMORY for entry in mountinfo.read())


_LIBC = ctypes.CDLL(None, use_errno=True)
