"""Volumes as file systems in memory, by mount(2) and umount2(2) of the C library."""

from __future__ import annotations

import ctypes
import errno
import os
from typing import TYPE_CHECKING, NamedTuple

from dso.agent import mountinfo, volumefiles
from dso.agent.mountspace import MountSpace, in_space
from dso.agent.volume.checks import VolumeError
from dso.agent.volumefiles import INODES, VOLUME_SIZE
from dso.system.files import reason

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dso.agent.mountinfo import Place
    from dso.agent.volumecontent import Files

SOURCE = "dso"  # what `mount` and `df` show as the device

_NOSUID, _NODEV, _NOEXEC = 2, 4, 8  # MS_* of linux/mount.h
_DETACH, _NOFOLLOW = 2, 8  # MNT_DETACH, UMOUNT_NOFOLLOW
_NOSWAP = "noswap"  # Linux 6.4 and later
_PROBE = "..probe"  # no volume can have this name
_SELINUX = "/sys/fs/selinux/enforce"
_SELINUX_LABEL = 'context="system_u:object_r:container_file_t:s0"'  # which any container may read


class Mounted(NamedTuple):
    """A mount of ours: its file system, and the directory it is on."""

    device: str
    place: Place | None


class Usage(NamedTuple):
    """The names of volumes that somebody uses; `is_complete`: every process could be looked at."""

    names: frozenset[str]
    is_complete: bool


class Mounts:
    """What the kernel mounts for the volume driver under one directory; every method may block."""

    def __init__(self, directory: str) -> None:
        """`directory` is where volumes are mounted, each on a directory of its name."""
        self.directory = directory
        self.space = MountSpace(directory)
        label = [_SELINUX_LABEL] if os.path.exists(_SELINUX) else []
        self._wanted = [[*label, _NOSWAP], label, [_NOSWAP], []]  # what this kernel refuses is left out for good

    @in_space
    def probe(self) -> str:
        """Try it, and tell why it does not work; "" if it does.

        That is: something can be mounted here, and PID 1 sees it, so that the Engine can (it is asked
        itself at each mount). Where PID 1 may not be looked at, only the first is tried.
        """
        path = os.path.join(self.directory, _PROBE)
        try:
            os.makedirs(self.directory, mode=0o700, exist_ok=True)
            os.chmod(self.directory, 0o700)  # files that containers' users may read lie below
            os.makedirs(path, exist_ok=True)
            self.mount(path)
        except OSError as error:
            _remove_quietly(path)
            return _why_not(error, self.directory)
        try:
            seen = self.is_seen_by(1, path)
        finally:
            self.unmount(path)
            _remove_quietly(path)
        return "" if seen else PRIVATE_SPACE

    @in_space
    def mount(self, path: str) -> None:
        """Mount a new, empty tmpfs: 0755, root's, not to be swapped out where the kernel can; raises OSError."""
        limits = [f"size={VOLUME_SIZE >> 20}m", f"nr_inodes={INODES}", "mode=0755"]
        wanted = self._wanted
        while True:
            try:
                _mount(path, ",".join([*limits, *wanted[0]]))
            except OSError as error:
                if error.errno != errno.EINVAL or len(wanted) == 1:
                    raise
                wanted = wanted[1:]
            else:
                self._wanted = wanted
                return

    @in_space
    def unmount(self, path: str) -> None:
        """Take away all that is mounted there; what others still look into vanishes from the path only.

        Raises:
            OSError: it is still there.
        """
        while self.find(path) is not None:
            try:
                _unmount(path, _NOFOLLOW)
            except OSError as error:
                if error.errno != errno.EBUSY:
                    raise
                _unmount(path, _NOFOLLOW | _DETACH)

    @in_space
    def fill(self, path: str, files: Files, engine: int) -> list[str]:
        """Have a volume mounted with exactly these files in it; returns the names of what changed.

        Args:
            path: where.
            files: each with its content.
            engine: the process that has to see it; 0: unknown.

        Raises:
            OSError: it cannot be. What was not mounted before is not afterwards.
            VolumeError: the Engine does not see it; likewise.
        """
        is_new = self.find(path) is None
        try:
            if is_new:
                os.makedirs(path, mode=0o700, exist_ok=True)
                self.mount(path)
            changed = volumefiles.update(path, files, shared=not is_new)
            if not engine or self.is_seen_by(engine, path):
                return changed
        except BaseException:
            if is_new:
                self.take_down(path)
            raise
        if is_new:
            self.take_down(path)
        raise VolumeError(PRIVATE_SPACE)

    @in_space
    def take_down(self, path: str) -> str:
        """Overwrite what is in a volume, unmount it, remove its directory; what could not be done, or ""."""
        fault = ""
        try:
            if self.find(path) is not None:
                volumefiles.wipe(path)
        except OSError as error:
            fault = f"not all of it could be overwritten: {reason(error)}"
        try:
            self.unmount(path)
            os.rmdir(path)
        except OSError as error:
            fault = f"it cannot be unmounted: {reason(error)}"
        return fault

    @in_space
    def find(self, path: str) -> Mounted | None:
        """What is mounted at a path; raises OSError."""
        table = mountinfo.read("thread-self")
        entry = mountinfo.topmost(table, os.path.realpath(path))
        return None if entry is None else Mounted(entry.device, mountinfo.place_of(entry, table))

    @in_space
    def volumes(self) -> dict[str, Mounted]:
        """Every tmpfs directly below the directory, by name; raises OSError."""
        found = {}
        table = mountinfo.read("thread-self")
        above = os.path.realpath(self.directory)
        for entry in table:
            directory, name = os.path.split(entry.point)
            if directory == above and entry.kind == "tmpfs":
                found[name] = Mounted(entry.device, mountinfo.place_of(entry, table))
        return found

    def usage(self, mounted: Mapping[str, Mounted]) -> Usage:
        """Which of these (by name) are also mounted elsewhere, in any name space: a container has them."""
        places = {one.device: one.place for one in mounted.values() if one.place is not None}
        devices, is_complete = mountinfo.usage(places)
        names = frozenset(name for name, one in mounted.items() if one.device in devices or one.place is None)
        return Usage(names, is_complete)

    def is_seen_by(self, process: int, path: str) -> bool:
        """Whether another process finds the same thing at a path; True where it may not be asked."""
        try:
            os.readlink(f"/proc/{process}/root")
        except OSError:
            return True
        try:
            return os.stat(f"/proc/{process}/root{os.path.realpath(path)}").st_dev == os.stat(path).st_dev
        except FileNotFoundError:
            return False
        except OSError:
            return True


PRIVATE_SPACE = (
    "the agent runs in a mount name space of its own and may not leave it: the Engine would not see what it mounts. "
    "Its unit has to give it CAP_SYS_ADMIN, CAP_SYS_CHROOT and CAP_SYS_PTRACE (or no PrivateTmp=, ProtectSystem= and "
    "the like), and setns(2)"
)


def _why_not(error: OSError, directory: str) -> str:
    if error.errno in (errno.EPERM, errno.EACCES):
        return f"the agent may not mount anything in {directory}: file secrets take an agent that runs as root"
    return f"nothing can be mounted in {directory}: {reason(error)}"


def _mount(path: str, options: str) -> None:
    flags = ctypes.c_ulong(_NOSUID | _NODEV | _NOEXEC)
    _check(_LIBC.mount(SOURCE.encode(), os.fsencode(path), b"tmpfs", flags, options.encode()), path)


def _unmount(path: str, flags: int) -> None:
    _check(_LIBC.umount2(os.fsencode(path), flags), path)


def _check(result: int, path: str) -> None:
    if result:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), path)


def _remove_quietly(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        return


_LIBC = ctypes.CDLL(None, use_errno=True)
