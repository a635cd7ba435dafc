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
_KIND, _REGULAR, _DIRECTORY = 0o170000, 0o100000, 0o040000  # S_IFMT, S_IFREG, S_IFDIR


def write_atomic(
    path: str,
    data: bytes,
    mode: int | None = 0o600,
    *,
    owner: tuple[int, int] | None = None,
    durable: bool = True,
    nameless: bool = False,
) -> None:
    """Replace a file so that whoever looks, at any moment, finds the old content or the new one, whole.

    A temporary file in the same directory is written, synchronised to the disk and renamed, then
    the directory is synchronised. A file that appears under the path gets exactly `mode`, whatever
    the umask is (None: 0600 where the file system has modes at all), and `owner` (uid, gid) when
    given. A failure removes the temporary file; the end of the process can leave it behind
    (`remove_stale_temporaries`). Without `durable` nothing is synchronised: whole or not there for every
    process, but not after a crash of the machine. With `nameless`, which plaintext takes, the temporary file has no
    name until the moment before it is renamed (where the file system can, as ext4, XFS, Btrfs and tmpfs can), so that
    the end of the process leaves nothing.

    Raises:
        OSError: the file could not be written; the former one is untouched.
    """
    temporary = _temporary_name(path)
    try:
        if not (nameless and _write_nameless(temporary, data, mode, owner)):
            _write_file(temporary, data, mode, owner, durable=durable)
        os.rename(temporary, path)
    except BaseException:
        _unlink_quietly(temporary)
        raise
    if durable:
        sync_directory(os.path.dirname(path) or ".")


def write_new(path: str, data: bytes, mode: int | None = 0o600, *, nameless: bool = False) -> None:
    """Write a file that must not exist yet, so that it is there whole or not at all; the rest as for `write_atomic`.

    Only on a file system without hard links (FAT) can the end of the process leave a part of it.

    Raises:
        FileExistsError: something exists under that path; it is untouched.
        OSError: the file could not be written, and is not there.
    """
    if nameless and _write_nameless(path, data, mode, None):
        sync_directory(os.path.dirname(path) or ".")
        return
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


def _write_nameless(path: str, data: bytes, mode: int | None, owner: tuple[int, int] | None) -> bool:
    """Write a file and only then give it its name, which must be free; False where the file system cannot."""
    try:
        descriptor = os.open(os.path.dirname(path) or ".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL):
            raise
        return False
    try:
        _fill(descriptor, data, mode, owner, durable=True)
        # With a src_dir_fd, although an absolute path needs none, Python calls linkat(2), which follows the link.
        os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)
    except FileNotFoundError:  # no /proc
        return False
    finally:
        os.close(descriptor)
    return True


def _write_file(
    path: str, data: bytes, mode: int | None, owner: tuple[int, int] | None, *, durable: bool = True
) -> None:
    """Create a file that must not exist, write it and put it on the disk; a part may be left on failure."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o600)
    try:
        _fill(descriptor, data, mode, owner, durable=durable)
    finally:
        os.close(descriptor)


def _fill(descriptor: int, data: bytes, mode: int | None, owner: tuple[int, int] | None, *, durable: bool) -> None:
    if mode is not None:
        os.fchmod(descriptor, mode)
    if owner is not None:
        os.fchown(descriptor, *owner)
    write_all(descriptor, data)
    if durable:
        os.fsync(descriptor)


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


def read_file(path: str, what: str, limit: int, *, pipes: bool = False) -> bytes:
    """The bytes of a regular file; what it is and how large it is is known before anything is read.

    Args:
        path: the file; a directory is refused.
        what: what the file is to the user, for the message ("the master key").
        limit: how many bytes it may have, also if it grows meanwhile.
        pipes: take pipes and devices too, as `<(command)` is one. A pipe is waited for, so only for what the user
            names for this one command.

    Raises:
        FileAccessError: it is missing, unreadable, no file, or longer than the limit.
    """
    try:
        # Without O_NONBLOCK, opening a pipe that nobody writes to would not return.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if pipes else os.O_NONBLOCK))
        try:
            status = os.fstat(descriptor)
            kind = status.st_mode & _KIND
            if kind == _DIRECTORY:
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
            if kind != _REGULAR and not pipes:
                raise FileAccessError(f"{what} {path} is not a regular file", hint="see what it is with `ls -l`")
            if status.st_size > limit:
                raise TooLongError
            return read_descriptor(descriptor, limit, status.st_size)
        finally:
            os.close(descriptor)
    except TooLongError as error:
        raise FileAccessError(f"{what} {path} has more than {limit} bytes, which is the most it may have") from error
    except OSError as error:
        raise FileAccessError(f"cannot read {what} {path}: {reason(error)}", hint=_read_hint(error)) from error


def read_descriptor(descriptor: int, limit: int, expected: int = 0) -> bytes:
    """What is left to read, until its end.

    Raises:
        TooLongError: that is more than `limit` bytes, of which no more than one too many were read.
        OSError: it cannot be read.
    """
    pieces: list[bytes] = []
    total = 0
    while True:
        piece = os.read(descriptor, min(max(expected - total + 1, 65536), limit + 1 - total))
        if not piece:
            return b"".join(pieces) if len(pieces) != 1 else pieces[0]
        pieces.append(piece)
        total += len(piece)
        if total > limit:
            raise TooLongError


def reason(error: OSError) -> str:
    """Why a system call failed, in the system's own words, in lower case."""
    text = error.strerror or type(error).__name__
    return text[:1].lower() + text[1:]


class TooLongError(Exception):
    """There are more bytes than allowed."""


def read_input(limit: int) -> bytes:
    """Standard input to its end; raises FileAccessError if it cannot be read or is longer than the limit."""
    try:
        return read_descriptor(0, limit)
    except TooLongError as error:
        raise FileAccessError(f"standard input has more than {limit} bytes, which is the most it may have") from error
    except OSError as error:
        raise FileAccessError(f"cannot read standard input: {reason(error)}") from error


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
