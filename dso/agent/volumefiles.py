"""The files in a volume: written so that nobody ever sees half of one, and overwritten before they go.

A container that mounts a volume writable can change everything in it, at any moment: put links or pipes
where files were. So nothing here follows a link or takes a path apart twice: every step goes from an
open directory to a name in it, and what is in the way is removed.
"""

from __future__ import annotations

import os
import stat
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


def update(path: str, files: Sequence[tuple[VolumeFile, SecretValue]], *, shared: bool) -> list[str]:
    """Let a directory hold exactly these files; returns the names of those that were written or removed.

    All new content is written aside first, where only root can go, with owner and mode; then each file
    takes its place at once. So a failure before that changes nothing, and a reader sees an old file
    or a new one. A file that is as it should be is not touched.

    Args:
        path: the volume's directory.
        files: what it is to hold.
        shared: others may be using it already. What is removed is then only unlinked and not overwritten:
            a container that was given that one file (`subpath`) goes on reading it until it ends.

    Raises:
        OSError: something could not be written, most likely for want of memory.
    """
    top = os.open(path, _DIRECTORY)
    try:
        changed = [(file, value) for file, value in files if not _is_as_wanted(top, file, value)]
        _remove(top, STAGING)
        if changed:
            _replace(top, changed)
        extra = _strays(top, {file.name for file, _ in files})
        for name in extra:
            _take_away(top, name, overwrite=not shared)
    finally:
        os.close(top)
    return [file.name for file, _ in changed] + extra


def wipe(path: str) -> None:
    """Overwrite and remove everything in a directory; raises OSError."""
    top = os.open(path, _DIRECTORY)
    try:
        for name in os.listdir(top):
            _remove(top, name)
    finally:
        os.close(top)


def _is_as_wanted(top: int, file: VolumeFile, value: SecretValue) -> bool:
    """Whether a file is there with this content, owner and mode, whatever a container made of it."""
    try:
        directory, name = _descend(top, file.name, create=False)
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


def _replace(top: int, changed: Sequence[tuple[VolumeFile, SecretValue]]) -> None:
    os.mkdir(STAGING, 0o700, dir_fd=top)
    staging = os.open(STAGING, _DIRECTORY, dir_fd=top)
    try:
        for number, (file, value) in enumerate(changed):
            _write(staging, str(number), file, value)
        for number, (file, _) in enumerate(changed):
            _put(staging, str(number), top, file.name)
    finally:
        os.close(staging)
        _remove(top, STAGING)


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


def _put(source: int, source_name: str, top: int, path: str) -> None:
    directory, name = _descend(top, path, create=True)
    try:
        try:
            os.rename(source_name, name, src_dir_fd=source, dst_dir_fd=directory)
        except IsADirectoryError:
            _remove(directory, name)
            os.rename(source_name, name, src_dir_fd=source, dst_dir_fd=directory)
    finally:
        _close(directory, top)


def _descend(top: int, path: str, *, create: bool) -> tuple[int, str]:
    """The open directory a file of that path is in (`top` itself, or one to be closed), and its name there."""
    *parts, name = path.split("/")
    directory = top
    for part in parts:
        try:
            inner = _enter(directory, part, create=create)
        finally:
            _close(directory, top)
        directory = inner
    return directory, name


def _enter(directory: int, name: str, *, create: bool) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=directory)
    except OSError:
        if not create:
            raise
    _remove(directory, name)  # a file, or something a container put there
    os.mkdir(name, 0o755, dir_fd=directory)
    inner = os.open(name, _DIRECTORY, dir_fd=directory)
    os.fchmod(inner, 0o755)  # whatever the umask is
    return inner


def _close(directory: int, top: int) -> None:
    if directory != top:
        os.close(directory)


def _strays(top: int, wanted: set[str]) -> list[str]:
    """What is in the volume and should not be: paths of files, links and whole directories."""
    kept = {"/".join(parts[:end]) for parts in (name.split("/") for name in wanted) for end in range(1, len(parts))}
    found = []
    waiting = [""]
    while waiting:
        prefix = waiting.pop()
        try:
            directory, _ = _descend(top, f"{prefix}-" if prefix else "-", create=False)
        except OSError:
            continue  # a container is removing it under our hands
        try:
            for name in os.listdir(directory):
                path = prefix + name
                if path in kept:
                    waiting.append(f"{path}/")
                elif path not in wanted:
                    found.append(path)
        finally:
            _close(directory, top)
    return found


def _take_away(top: int, path: str, *, overwrite: bool) -> None:
    try:
        directory, name = _descend(top, path, create=False)
    except OSError:
        return  # gone with its directory
    try:
        _remove(directory, name, overwrite=overwrite)
    finally:
        _close(directory, top)


def _remove(directory: int, name: str, *, overwrite: bool = True) -> None:
    """Remove whatever has a name, with all that is in it; what is gone already is fine.

    However deep a container nested directories, none is entered deeper than one level: those inside
    are moved up first.
    """
    waiting = [name]
    while waiting:
        name = waiting.pop()
        try:
            inner = os.open(name, _DIRECTORY, dir_fd=directory)
        except FileNotFoundError:
            continue
        except OSError:  # no directory
            _unlink(directory, name, overwrite=overwrite)
            continue
        try:
            waiting += _empty(inner, directory, overwrite=overwrite)
        finally:
            os.close(inner)
        try:
            os.rmdir(name, dir_fd=directory)
        except FileNotFoundError:
            continue


def _empty(inner: int, above: int, *, overwrite: bool) -> list[str]:
    """Take everything out of a directory; the names under which its directories now are in the one above it."""
    moved = []
    for entry in os.listdir(inner):
        if stat.S_ISDIR(os.stat(entry, dir_fd=inner, follow_symlinks=False).st_mode):
            moved.append(f"{STAGING}.{os.urandom(8).hex()}")
            os.rename(entry, moved[-1], src_dir_fd=inner, dst_dir_fd=above)
        else:
            _unlink(inner, entry, overwrite=overwrite)
    return moved


def _unlink(directory: int, name: str, *, overwrite: bool) -> None:
    if overwrite:
        _overwrite(directory, name)
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return


def _overwrite(directory: int, name: str) -> None:
    """Zeros over a regular file's content; a link, a pipe or a device is left as it is."""
    try:
        descriptor = os.open(name, os.O_WRONLY | _SEEN, dir_fd=directory)
    except OSError:
        return  # nothing that can be written, or nothing at all
    try:
        end = 0
        while stat.S_ISREG(os.fstat(descriptor).st_mode):
            start = os.lseek(descriptor, end, os.SEEK_DATA)
            end = os.lseek(descriptor, start, os.SEEK_HOLE)
            for at in range(start, end, len(_BLOCK)):
                os.pwrite(descriptor, _BLOCK[: min(end - at, len(_BLOCK))], at)
    except OSError:
        return  # ENXIO: there is no more data
    finally:
        os.close(descriptor)
