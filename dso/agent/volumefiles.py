"""The files in a volume: written so that nobody ever sees half of one, and overwritten before they go.

A container that mounts a volume writable can change everything in it, at any moment: put links or pipes
where files were. So nothing here follows a link or takes a path apart twice: every step goes from an
open directory to a name in it, and what is in the way is removed. Nor does anything here go on until there is
nothing left to do, for a container can make more as fast as it is taken away: an operation has an `Allowance`
of names and bytes, as much as a volume can hold at one moment (docs/decisions/0021).
"""

from __future__ import annotations

import errno
import os
import stat
from itertools import islice
from typing import TYPE_CHECKING

from dso.protocol.volume import STAGING
from dso.system.files import write_all

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.protocol.agent import VolumeFile
    from dso.secret import SecretValue

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SEEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_BLOCK = bytes(65536)
_SECTOR = 512  # what st_blocks counts
_TOLD_STRAYS = 20  # a container chooses these names

VOLUME_SIZE = 128 * 1024 * 1024  # bytes of the file system: twice what a volume may hold, all may be replaced at once
INODES = 40_000  # more than twice the files (a page each, and one for the inode) that fit; directories have no size


class Allowance:
    """How much one operation may do in a volume: read `names` of entries, overwrite `bytes`.

    `exceeded` says of what there was more.
    """

    def __init__(self, names: int = 2 * INODES, bytes_: int = VOLUME_SIZE) -> None:
        self.names = names
        self.bytes = bytes_
        self.exceeded = ""

    def list(self, directory: int) -> list[str]:
        """The names in an open directory, as many as are allowed."""
        with os.scandir(directory) as entries:
            found = [entry.name for entry in islice(entries, self.names + 1)]
        if len(found) > self.names:
            self.exceeded = "names"
            del found[self.names :]
        self.names -= len(found)
        return found

    def overwrite(self, size: int) -> int:
        """How many bytes of a file of that size may be overwritten."""
        if size > self.bytes:
            self.exceeded = "bytes"
        allowed = min(size, self.bytes)
        self.bytes -= allowed
        return allowed


def update(path: str, files: Sequence[tuple[VolumeFile, SecretValue]], *, shared: bool) -> list[str]:
    """Let a directory hold exactly these files; returns the names of those that were written or removed.

    All new content is written aside first, where only root can go, with owner and mode; then each file
    takes its place at once. So a failure before that changes nothing, and a reader sees an old file
    or a new one. A file that is as it should be is not touched. What else there is goes as far as it can be
    removed: a container that may write to the volume could put it there again at once.

    Args:
        path: the volume's directory.
        files: what it is to hold.
        shared: others may be using it already. What is removed is then only unlinked and not overwritten:
            a container that was given that one file (`subpath`) goes on reading it until it ends.

    Raises:
        OSError: something could not be written, most likely for want of memory; or a container keeps it from us.
    """
    top = os.open(path, _DIRECTORY)
    allowance = Allowance()
    remover = _Remover(allowance, overwrite=not shared)
    try:
        changed = [(file, value) for file, value in files if not _is_as_wanted(top, file, value)]
        if changed:
            _replace(top, changed, remover)
        extra = _strays(top, {file.name for file, _ in files}, allowance)
        for name in extra:
            _take_away(top, name, remover)
    finally:
        os.close(top)
    told = [name for name in extra if not name.startswith(STAGING)]
    return [file.name for file, _ in changed] + told[:_TOLD_STRAYS]


def wipe(path: str, allowance: Allowance | None = None) -> None:
    """Overwrite and remove everything in a directory, as far as it can be.

    Raises:
        OSError: something is left, or was not overwritten; all else is done.
    """
    remover = _Remover(allowance or Allowance(), overwrite=True)
    top = os.open(path, _DIRECTORY)
    try:
        for name in remover.allowance.list(top):
            remover.try_to_remove(top, name)
    finally:
        os.close(top)
    if remover.allowance.exceeded:
        text = f"there are more {remover.allowance.exceeded} than it can hold: a container goes on writing"
        raise OSError(errno.EBUSY, text)
    if remover.fault is not None:
        raise remover.fault


def _is_as_wanted(top: int, file: VolumeFile, value: SecretValue) -> bool:
    """Whether a file is there with this content, owner and mode, whatever a container made of it."""
    try:
        directory, name = _descend(top, file.name)
        try:
            descriptor = os.open(name, os.O_RDONLY | _SEEN, dir_fd=directory)
        finally:
            _close(directory, top)
    except OSError:
        return False
    try:
        found = os.fstat(descriptor)
        wanted = (stat.S_IFREG | file.mode, file.uid, file.gid, len(value))
        if (found.st_mode, found.st_uid, found.st_gid, found.st_size) != wanted or found.st_nlink != 1:
            return False
        raw = value.reveal()
        return not raw or os.pread(descriptor, len(raw) + 1, 0) == raw
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _replace(top: int, changed: Sequence[tuple[VolumeFile, SecretValue]], remover: _Remover) -> None:
    aside = _name_aside()
    os.mkdir(aside, 0o700, dir_fd=top)
    staging = os.open(aside, _DIRECTORY, dir_fd=top)
    try:
        for number, (file, value) in enumerate(changed):
            _write(staging, str(number), file, value)
        for number, (file, _) in enumerate(changed):
            _put(staging, str(number), top, file.name, remover)
    finally:
        os.close(staging)
        remover.try_to_remove(top, aside)


def _name_aside() -> str:
    """A name that nothing in the volume has, and that no container could have taken before us."""
    return f"{STAGING}.{os.urandom(8).hex()}"


def _write(directory: int, name: str, file: VolumeFile, value: SecretValue) -> None:
    try:
        descriptor = os.open(name, _NEW, 0o600, dir_fd=directory)
        try:
            write_all(descriptor, value.reveal())
            os.fchown(descriptor, file.uid, file.gid)  # takes setuid bits away: the mode comes last
            os.fchmod(descriptor, file.mode)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from error


def _put(source: int, source_name: str, top: int, path: str, remover: _Remover) -> None:
    directory, name = _descend(top, path, remover)
    try:
        try:
            os.rename(source_name, name, src_dir_fd=source, dst_dir_fd=directory)
        except IsADirectoryError:
            remover.remove(directory, name)
            os.rename(source_name, name, src_dir_fd=source, dst_dir_fd=directory)
    finally:
        _close(directory, top)


def _descend(top: int, path: str, remover: _Remover | None = None) -> tuple[int, str]:
    """The open directory a file of that path is in (`top` itself, or one to be closed), and its name there.

    With a remover, directories that are missing are made, in place of whatever is there.
    """
    *parts, name = path.split("/")
    directory = top
    for part in parts:
        try:
            inner = _enter(directory, part, remover)
        finally:
            _close(directory, top)
        directory = inner
    return directory, name


def _enter(directory: int, name: str, remover: _Remover | None) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:
        if remover is None:
            raise
    remover.remove(directory, name)  # a file, or something a container put there
    os.mkdir(name, 0o755, dir_fd=directory)
    inner = os.open(name, _DIRECTORY, dir_fd=directory)
    os.fchmod(inner, 0o755)  # whatever the umask is
    return inner


def _close(directory: int, top: int) -> None:
    if directory != top:
        os.close(directory)


def _strays(top: int, wanted: set[str], allowance: Allowance) -> list[str]:
    """What is in the volume and should not be: paths of files, links and whole directories."""
    kept = {"/".join(parts[:end]) for parts in (name.split("/") for name in wanted) for end in range(1, len(parts))}
    found = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            directory, _ = _descend(top, f"{prefix}-" if prefix else "-")
        except OSError:
            continue  # a container is removing it under our hands
        try:
            for name in allowance.list(directory):
                path = prefix + name
                if path in kept:
                    waiting.append(f"{path}/")
                elif path not in wanted:
                    found.append(path)
        finally:
            _close(directory, top)
    return found


def _take_away(top: int, path: str, remover: _Remover) -> None:
    try:
        directory, name = _descend(top, path)
    except OSError:
        return  # gone with its directory
    try:
        remover.try_to_remove(directory, name)
    finally:
        _close(directory, top)


class _Remover:
    """Removes what is in a volume, whatever a container made of it.

    `fault` is the first thing that `try_to_remove` could not do.
    """

    def __init__(self, allowance: Allowance, *, overwrite: bool) -> None:
        self.allowance = allowance
        self.fault: OSError | None = None
        self._overwrites = overwrite

    def try_to_remove(self, directory: int, name: str) -> None:
        """As `remove`; what cannot be removed is noted down."""
        try:
            self.remove(directory, name)
        except OSError as error:
            self.fault = self.fault or error

    def remove(self, directory: int, name: str) -> None:
        """Remove whatever has a name, with all that is in it; what is gone already is fine.

        However deep a container nested directories, none is entered deeper than one level: those inside
        are moved up first. One thing that cannot be removed keeps no other from it.

        Raises:
            OSError: something is left.
        """
        waiting = [name]
        fault: OSError | None = None
        while waiting:
            name = waiting.pop()
            try:
                self._remove_one(directory, name, waiting)
            except FileNotFoundError:
                continue
            except OSError as error:
                fault = fault or error
        if fault is not None:
            raise fault

    def _remove_one(self, directory: int, name: str, waiting: list[str]) -> None:
        """Remove a file or a directory; the directories in that are moved up and added to those that wait."""
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=directory)
        except FileNotFoundError:
            return
        except OSError:  # no directory
            self._unlink(directory, name)
            return
        try:
            self._empty(inner, directory, waiting)
        finally:
            os.close(inner)
        os.rmdir(name, dir_fd=directory)

    def _empty(self, inner: int, above: int, waiting: list[str]) -> None:
        fault: OSError | None = None
        for entry in self.allowance.list(inner):
            try:
                if stat.S_ISDIR(os.stat(entry, dir_fd=inner, follow_symlinks=False).st_mode):
                    moved = _name_aside()
                    os.rename(entry, moved, src_dir_fd=inner, dst_dir_fd=above)
                    waiting.append(moved)
                else:
                    self._unlink(inner, entry)
            except FileNotFoundError:
                continue
            except OSError as error:
                fault = fault or error
        if fault is not None:
            raise fault

    def _unlink(self, directory: int, name: str) -> None:
        if self._overwrites:
            self._overwrite(directory, name)
        os.unlink(name, dir_fd=directory)

    def _overwrite(self, directory: int, name: str) -> None:
        """Zeros over a regular file's content; a link, a pipe or a device is left as it is.

        Over as much as it has when we come: a container may write to it all the while. A file of several names
        has its turn with the last of them, not with each.
        """
        try:
            descriptor = os.open(name, os.O_WRONLY | _SEEN, dir_fd=directory)
        except OSError as error:
            if error.errno in (errno.EPERM, errno.EAGAIN):  # immutable; leased
                self.fault = self.fault or error
            return  # else nothing that can be written, or nothing at all
        try:
            found = os.fstat(descriptor)
            if stat.S_ISREG(found.st_mode) and found.st_nlink == 1:
                self._overwrite_once(descriptor, found)
        except OSError as error:
            self.fault = self.fault or error
        finally:
            os.close(descriptor)

    def _overwrite_once(self, descriptor: int, found: os.stat_result) -> None:
        left = self.allowance.overwrite(found.st_blocks * _SECTOR)
        at = 0
        while left:
            try:
                at = os.lseek(descriptor, at, os.SEEK_DATA)
                end = min(os.lseek(descriptor, at, os.SEEK_HOLE), found.st_size, at + left)
            except OSError as error:
                if error.errno == errno.ENXIO:  # there is no more data
                    return
                raise
            if end <= at:
                return
            for start in range(at, end, len(_BLOCK)):
                os.pwrite(descriptor, _BLOCK[: min(end - start, len(_BLOCK))], start)
            left -= end - at
            at = end
