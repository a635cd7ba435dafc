"""Directories for plaintext that are memory and never a disk, and that nobody's end leaves behind.

A program that needs a path, as an editor does, gets one in a directory of ours. Whatever ends us, SIGKILL included,
the directory must go:

- A *watcher*, a shell in a session of its own, waits for the end of a pipe that only we hold open, and then removes the
  directory. It is another program under another name, in another process group: who kills us, our group or all that is
  called docker-dso does not kill it.
- Where it is killed too (a control group, all of a user's processes), the next command that looks (`secret edit`,
  `status`, `system doctor`) removes what is left. That nobody uses a directory shows in its lock, which the
  kernel drops with its holder.

A tmpfs in a mount name space of the editor's would go by itself, but `code --wait` and `emacsclient` hand the path to a
program that is not in there. An anonymous file under /proc/PID/fd cannot be replaced by rename, as many editors save.
"""

from __future__ import annotations

import fcntl
import os

from dso.errors import NoMemoryFileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})
_PREFIX = "dso-edit-"
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ATTEMPTS = 10

# A line says that there is nothing to do. The editor may live on and write while we remove: hence more than once.
_WATCHER = """
trap '' HUP INT QUIT TERM PIPE TSTP
cd /
read -r _ && exit
for _ in 1 2 3 4 5 6 7 8 9 10; do
    rm -rf -- "$1" && exit
    sleep 1
done
"""


class private_memory_directory:  # noqa: N801  # used as a function: `with private_memory_directory() as path:`
    """A directory of ours alone (0700) on a file system in memory, for a program that needs a path.

    Tried in this order: $XDG_RUNTIME_DIR, /dev/shm, /run/user/UID, /run; what is not a tmpfs or
    ramfs according to the kernel is passed over. At the end every file in it is overwritten and
    removed; removed also when we are killed. (Like all of tmpfs, it can be paged out to swap: see docs/security.md.)

    Raises:
        NoMemoryFileError: none of them will do. There is no fall-back to a disk.
    """

    __slots__ = ("_lock", "_path", "_pipe", "_watcher")

    def __init__(self) -> None:
        self._path = ""
        self._lock = self._pipe = -1
        self._watcher = 0

    def __enter__(self) -> str:
        tried = []
        for parent in memory_directories():
            try:
                if not is_in_memory(parent):
                    tried.append(f"{parent} is on a disk")
                    continue
                self._path, self._lock = _make_directory(parent)
            except OSError as error:
                tried.append(f"{parent}: {error.strerror}")
                continue
            self._watch()
            return self._path
        raise NoMemoryFileError(
            f"no directory in memory to put a secret in ({'; '.join(tried)})",
            hint="set XDG_RUNTIME_DIR to a directory of yours on a tmpfs; DSO never writes plaintext to a disk",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            wipe_directory(self._path)
            os.write(self._pipe, b"\n")
        except BrokenPipeError:
            pass  # somebody has killed the watcher, and there is nothing for it to do
        finally:
            os.close(self._pipe)
            os.close(self._lock)
        os.waitpid(self._watcher, 0)

    def _watch(self) -> None:
        """Start the watcher; while we live, and after us, nobody but it has the other end of the pipe."""
        end, self._pipe = os.pipe()
        try:
            self._watcher = os.posix_spawn(
                "/bin/sh",
                ["sh", "-c", _WATCHER, "sh", self._path],
                {"PATH": os.defpath},
                file_actions=[
                    (os.POSIX_SPAWN_DUP2, end, 0),
                    (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
                ],
                setsid=True,
            )
        except OSError as error:
            os.rmdir(self._path)
            raise NoMemoryFileError(
                f"cannot start /bin/sh, which would remove the secret if this command were killed: {error.strerror}"
            ) from error
        finally:
            os.close(end)


def remove_abandoned() -> int:
    """Remove this user's directories whose makers are gone, and the watchers with them; returns how many."""
    found = 0
    for parent in set(memory_directories()):
        try:
            entries = os.listdir(parent) if is_in_memory(parent) else []
        except OSError:
            continue
        for entry in entries:
            if entry.startswith(_PREFIX):
                try:
                    found += _remove_if_abandoned(f"{parent}/{entry}")
                except OSError:
                    continue  # another command is removing it, or it is not what it seems
    return found


def _remove_if_abandoned(path: str) -> bool:
    descriptor = os.open(path, _DIRECTORY)
    try:
        if os.fstat(descriptor).st_uid != os.geteuid():
            return False
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        wipe_directory(path)
        return True
    finally:
        os.close(descriptor)


def _make_directory(parent: str) -> tuple[str, int]:
    """A new directory, and the descriptor that holds its lock; OSError."""
    for _ in range(_ATTEMPTS):
        path = f"{parent}/{_PREFIX}{os.urandom(8).hex()}"
        os.mkdir(path, 0o700)
        descriptor = -1
        try:
            descriptor = os.open(path, _DIRECTORY)
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.stat(path), os.fstat(descriptor)):
                return path, descriptor
        except (FileNotFoundError, BlockingIOError):
            pass  # `remove_abandoned` of another command came between
        if descriptor >= 0:
            os.close(descriptor)
    raise OSError(0, "it cannot be locked")


def memory_directories() -> Iterator[str]:
    """Where a directory in memory usually is, the best place first; they need not exist."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/") and not _is_of_another_user(runtime):
        yield runtime.rstrip("/") or "/"
    yield "/dev/shm"  # noqa: S108  # its kind is checked, and the directory made in it is 0700
    yield f"/run/user/{os.getuid()}"
    yield "/run"


def _is_of_another_user(path: str) -> bool:
    """Whether somebody else may put a link where our directory is, as root with a user's environment (`su`) finds."""
    try:
        return os.stat(path).st_uid not in (0, os.geteuid())
    except OSError:
        return False  # which is said where it is used


def is_in_memory(path: str) -> bool:
    """Whether a path lies on a tmpfs or ramfs, as the kernel's table of mounts says; raises OSError."""
    device = os.stat(path).st_dev
    wanted = f"{os.major(device)}:{os.minor(device)}"
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as mounts:
        for line in mounts:
            # proc_pid_mountinfo(5): id, parent, major:minor, root, mount point, options, tags... - type source ...
            fields, _, kind = line.partition(" - ")
            if fields.split(" ", 3)[2] == wanted:
                return kind.split(" ", 1)[0] in _MEMORY_FILE_SYSTEMS
    return False


def wipe_directory(path: str) -> None:
    """Overwrite and remove every file under a directory, and the directory; what is gone already is fine."""
    try:
        entries = os.listdir(path)
    except FileNotFoundError:
        return
    for entry in entries:
        inner = f"{path}/{entry}"
        if os.path.isdir(inner) and not os.path.islink(inner):
            wipe_directory(inner)
        else:
            _wipe_file(inner)
    os.rmdir(path)


def _wipe_file(path: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            left = os.fstat(descriptor).st_size
            while left > 0:
                left -= os.write(descriptor, bytes(min(left, 65536)))
        finally:
            os.close(descriptor)
    except OSError:
        pass  # a symbolic link, a socket, or not ours to write: removing it is what counts
    try:
        os.unlink(path)
    except FileNotFoundError:
        return
