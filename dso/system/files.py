"""Files that are whole or not there, and locks between processes."""

from __future__ import annotations

import errno
import fcntl
import os

from dso.errors import FileAccessError, InsecurePermissionsError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_TEMPORARY_SUFFIX = ".tmp"
_OTHERS_WRITE = 0o022


def write_atomic(
    path: str,
    data: bytes,
    mode: int | None = 0o600,
    *,
    owner: tuple[int, int] | None = None,
    durable: bool = True,
) -> None:
    """Replace a file so that whoever looks, at any moment, finds the old content or the new one, whole.

    A temporary file in the same directory is written, synchronised to the disk and renamed, then
    the directory is synchronised. A file that appears under the path gets exactly `mode`, whatever
    the umask is (None: 0600 where the file system has modes at all), and `owner` (uid, gid) when
    given. A failure removes the temporary file; the end of the process can leave it behind
    (`remove_stale_temporaries`). Without `durable` nothing is synchronised: whole or not there for every
    process, but not after a crash of the machine.

    Raises:
        OSError: the file could not be written; the former one is untouched.
    """
    temporary = _temporary_name(path)
    try:
        _write_file(temporary, data, mode, owner, durable=durable)
        os.rename(temporary, path)
    except BaseException:
        _unlink_quietly(temporary)
        raise
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def write_new(path: str, data: bytes, mode: int | None = 0o600) -> None:
    """Write a file that must not exist yet, so that it is there whole or not at all; `mode` as for `write_atomic`.

    Only on a file system without hard links (FAT) can the end of the process leave a part of it.

    Raises:
        FileExistsError: something exists under that path; it is untouched.
        OSError: the file could not be written, and is not there.
    """
    temporary = _temporary_name(path)
    try:
        _write_file(temporary, data, mode, None)
        try:
            os.link(temporary, path, follow_symlinks=False)
        except OSError as error:
            if error.errno not in (errno.EPERM, errno.ENOTSUP):
                raise
            _write_exclusively(path, data, mode)
    finally:
        _unlink_quietly(temporary)
    sync_directory(os.path.dirname(path) or ".")


def _write_exclusively(path: str, data: bytes, mode: int | None) -> None:
    try:
        _write_file(path, data, mode, None)
    except FileExistsError:
        raise
    except BaseException:
        _unlink_quietly(path)
        raise


def _write_file(
    path: str, data: bytes, mode: int | None, owner: tuple[int, int] | None, *, durable: bool = True
) -> None:
    """Create a file that must not exist, write it and put it on the disk; a part may be left on failure."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        if mode is not None:
            os.fchmod(descriptor, mode)
        if owner is not None:
            os.fchown(descriptor, *owner)
        write_all(descriptor, data)
        if durable:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write every byte; raises OSError."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def sync_directory(path: str) -> None:
    """Put a directory's entries on the disk, where its file system can; raises OSError."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network and FUSE file systems
            raise
    finally:
        os.close(descriptor)


def remove_stale_temporaries(path: str) -> None:
    """Remove what earlier, killed calls of `write_atomic(path)` left; call it under the file's lock."""
    directory, name = os.path.split(path)
    prefix = f".{name}."
    try:
        for entry in os.listdir(directory or "."):
            if entry.startswith(prefix) and entry.endswith(_TEMPORARY_SUFFIX):
                _unlink_quietly(os.path.join(directory, entry))
    except OSError:
        return  # tidying up is no reason to fail


def read_file(path: str, what: str, limit: int | None = None) -> bytes:
    """The bytes of a file.

    Args:
        path: the file; a directory is refused.
        what: what the file is to the user, for the message ("the master key").
        limit: how many bytes it may have.

    Raises:
        FileAccessError: it is missing, unreadable, no file, or longer than the limit.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return _read_all(descriptor, limit)
        finally:
            os.close(descriptor)
    except _TooLongError as error:
        raise FileAccessError(f"{what} {path} has more than {limit} bytes") from error
    except OSError as error:
        raise FileAccessError(f"cannot read {what} {path}: {reason(error)}", hint=_read_hint(error)) from error


def reason(error: OSError) -> str:
    """Why a system call failed, in the system's own words, in lower case."""
    text = error.strerror or type(error).__name__
    return text[:1].lower() + text[1:]


class _TooLongError(Exception):
    """The file has more bytes than allowed."""


def _read_all(descriptor: int, limit: int | None) -> bytes:
    size = os.fstat(descriptor).st_size
    pieces: list[bytes] = []
    total = 0
    while True:
        piece = os.read(descriptor, max(size - total + 1, 65536))
        if not piece:
            return b"".join(pieces) if len(pieces) != 1 else pieces[0]
        pieces.append(piece)
        total += len(piece)
        if limit is not None and total > limit:
            raise _TooLongError


def _read_hint(error: OSError) -> str:
    if error.errno == errno.EACCES:
        return "check who owns it and its permissions with `ls -l`"
    return ""


def _temporary_name(path: str) -> str:
    directory, name = os.path.split(path)
    return os.path.join(directory, f".{name}.{os.urandom(8).hex()}{_TEMPORARY_SUFFIX}")


def _unlink_quietly(path: str) -> None:
    try:
        os.unlink(path)
    except OSError:
        return


class FileLock:
    """A lock that processes share through a file (`flock`); the kernel drops it when its holder ends.

    Use it as a context manager. The file is created (0600) and stays: removing it would let two
    processes hold two different locks of one name.
    """

    __slots__ = ("_descriptor", "_path", "_shared", "_timeout")

    def __init__(self, path: str, timeout: float, *, shared: bool = False) -> None:
        """A lock on the file at `path`.

        Args:
            path: the lock file.
            timeout: how many seconds to wait for others; 0 tries once.
            shared: several holders of a shared lock get along with each other.
        """
        self._path = path
        self._timeout = timeout
        self._shared = shared
        self._descriptor = -1

    def __enter__(self) -> Self:
        """Take the lock.

        Raises:
            TimeoutError: others held it for longer than the timeout.
            OSError: the lock file cannot be opened.
        """
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            self._wait(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the lock back."""
        descriptor, self._descriptor = self._descriptor, -1
        os.close(descriptor)

    def _wait(self, descriptor: int) -> None:
        from time import monotonic, sleep

        kind = fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX
        deadline = monotonic() + self._timeout
        pause = 0.001
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                left = deadline - monotonic()
                if left <= 0:
                    raise TimeoutError(errno.ETIMEDOUT, "locked by another process", self._path) from None
                sleep(min(pause, left))
                pause = min(pause * 1.5, 0.05)
            else:
                return


def locked(path: str, timeout: float = 30.0, *, shared: bool = False) -> FileLock:
    """An exclusive (or shared) lock on a file, to be held with `with`; see `FileLock` for what it raises."""
    return FileLock(path, timeout, shared=shared)


def leave_to_owner(path: str) -> None:
    """Give a file or directory that root made in another user's directory to that user, whom it would lock out."""
    if os.geteuid() == 0:
        directory = os.stat(os.path.dirname(path))
        if directory.st_uid != 0:
            os.chown(path, directory.st_uid, directory.st_gid, follow_symlinks=False)


def check_directory(path: str) -> None:
    """Refuse a directory in which others could replace files: they may write to it, or one of them owns it.

    Raises:
        InsecurePermissionsError: it is such a directory. A missing one is no reason.
    """
    check_owner(path)
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return
    if mode & _OTHERS_WRITE:
        raise InsecurePermissionsError(
            f"other users may replace files in {path} (mode {mode & 0o7777:04o})", hint=f"chmod 700 {path}"
        )


def check_owner(path: str) -> None:
    """Refuse a file or directory of another user than root and the one who asks (under sudo that is root).

    Raises:
        InsecurePermissionsError: it is theirs. A missing one is no reason.
    """
    try:
        owner = os.stat(path).st_uid
    except OSError:
        return
    user = os.geteuid()
    if owner not in (user, 0):
        raise InsecurePermissionsError(
            f"{path} belongs to user {owner}, and you are user {user}",
            hint="run this as that user; under sudo, `sudo -H` has root's own home directory looked at",
        )
