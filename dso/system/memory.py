"""Files that are memory and have no name, and no core files. Directories are in `dso.system.memory_directory`."""

from __future__ import annotations

import os

from dso.errors import NoMemoryFileError


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
