"""Places for plaintext that are memory and never a disk."""

from __future__ import annotations

import os

from dso.errors import NoMemoryFileError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

_MEMORY_FILE_SYSTEMS = frozenset({"tmpfs", "ramfs"})


def memory_file(name: str, data: bytes = b"") -> int:
    """An anonymous file in memory that holds `data`; returns its descriptor, positioned at the start.

    The descriptor is closed in children (memfd_create(2) with MFD_CLOEXEC); a child reaches the
    file as `/proc/<our pid>/fd/<descriptor>` while we live. `name` shows up in `/proc` only.

    Raises:
        NoMemoryFileError: the kernel gives none.
    """
    try:
        descriptor = os.memfd_create(name, os.MFD_CLOEXEC)
    except OSError as error:
        raise NoMemoryFileError(f"the kernel gives no file in memory: {error.strerror}") from error
    try:
        rest = memoryview(data)
        while rest:
            rest = rest[os.write(descriptor, rest) :]
        if data:
            os.lseek(descriptor, 0, os.SEEK_SET)
    except OSError as error:
        os.close(descriptor)
        raise NoMemoryFileError(f"not enough memory for a file in memory: {error.strerror}") from error
    return descriptor


def forbid_core_files() -> None:
    """Let neither this process nor its children leave a core dump, which would hold every secret in memory.

    The limit is 1 and not 0: for a core_pattern that pipes to a program the kernel ignores every
    other limit (core(5): "not enforced for core dumps that are piped to a program"), but aborts the
    dump for exactly 1 (do_coredump in fs/coredump.c: "RLIMIT_CORE is set to 1"). Written to a file,
    one byte is less than the smallest core (one page), so there is none either. The process stays
    "dumpable", since Compose must be able to open our `/proc/<pid>/fd/<n>`.
    """
    import resource

    try:
        resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    except (ValueError, OSError):
        # The hard limit is 0 already: no core file, and no right to raise it to 1.
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class private_memory_directory:  # noqa: N801  # used as a function: `with private_memory_directory() as path:`
    """A directory of ours alone (0700) on a file system in memory, for a program that needs a path.

    Tried in this order: $XDG_RUNTIME_DIR, /dev/shm, /run/user/UID, /run; what is not a tmpfs or
    ramfs according to the kernel is passed over. At the end every file in it is overwritten and
    removed. (Like all of tmpfs, it can be paged out to swap: see docs/security.md.)

    Raises:
        NoMemoryFileError: none of them will do. There is no fall-back to a disk.
    """

    __slots__ = ("_path",)

    def __init__(self) -> None:
        self._path = ""

    def __enter__(self) -> str:
        tried = []
        for parent in memory_directories():
            path = f"{parent}/dso-{os.urandom(8).hex()}"
            try:
                if not is_in_memory(parent):
                    tried.append(f"{parent} is on a disk")
                    continue
                os.mkdir(path, 0o700)
            except OSError as error:
                tried.append(f"{parent}: {error.strerror}")
                continue
            self._path = path
            return path
        raise NoMemoryFileError(
            f"no directory in memory to put a secret in ({'; '.join(tried)})",
            hint="set XDG_RUNTIME_DIR to a directory of yours on a tmpfs; DSO never writes plaintext to a disk",
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        wipe_directory(self._path)


def memory_directories() -> Iterator[str]:
    """Where a directory in memory usually is, the best place first; they need not exist."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        yield runtime.rstrip("/") or "/"
    yield "/dev/shm"  # noqa: S108  # its kind is checked, and the directory made in it is 0700
    yield f"/run/user/{os.getuid()}"
    yield "/run"


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
