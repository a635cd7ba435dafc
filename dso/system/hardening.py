"""What a daemon that holds secrets in memory asks of the kernel; `dso.system.memory` has what every program does.

By ctypes, which the command line does without.
"""

from __future__ import annotations

import os

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4  # <sys/mman.h>; PowerPC has others, and refuses these
_PR_SET_DUMPABLE = 4  # <sys/prctl.h>
CAP_KILL, CAP_SETGID, CAP_SETUID, _CAP_IPC_LOCK = 5, 6, 7, 14  # <linux/capability.h>


def lock_memory() -> str | None:
    """Keep this process's memory out of swap, now and for as long as it runs; children are not affected.

    Pages are locked as they come to be used (MCL_ONFAULT), so that reserved address space, such as
    the stacks of threads, costs nothing. Returns why it was not done, None when it was.

    Where the memory that may be locked is limited, it is not done at all: what exceeds the limit
    would not be left unlocked, its allocation would *fail* (mlockall(2): "malloc() may fail"), and
    the limit counts address space, used or not. The limit does not bind a process with CAP_IPC_LOCK.
    """
    import resource

    limit = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0]
    if limit != resource.RLIM_INFINITY and not _may_lock():
        return (
            f"this process may lock {limit // 1024} KiB only (it takes no limit, `LimitMEMLOCK=infinity`, "
            "or the capability CAP_IPC_LOCK)"
        )
    from ctypes import CDLL, get_errno

    if CDLL(None, use_errno=True).mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT):
        return f"mlockall: {os.strerror(get_errno())}"
    return None


def forbid_dumping() -> str | None:
    """Let nobody look into this process's memory but root: no core dump, no debugger, no /proc/PID/environ or mem.

    Other processes of our own user are shut out too (PR_SET_DUMPABLE, prctl(2)); programs we start are
    not affected. Returns why it was not done, None when it was.
    """
    from ctypes import CDLL, get_errno

    if CDLL(None, use_errno=True).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0):
        return f"prctl: {os.strerror(get_errno())}"
    return None


def effective_capabilities() -> int:
    """The capabilities this process can use now, as bits; 0 where there is no /proc."""
    try:
        with open("/proc/self/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                if line.startswith("CapEff:"):
                    return int(line.split()[1], 16)
    except OSError:
        pass
    return 0


def _may_lock() -> bool:
    """Whether the kernel will not hold us to RLIMIT_MEMLOCK: CAP_IPC_LOCK, and not just in a user name space."""
    try:
        with open("/proc/self/uid_map", encoding="utf-8") as mapping:
            if mapping.read().split() != ["0", "0", str(2**32 - 1)]:
                return False
    except OSError:
        return False  # no /proc: the limit decides
    return bool(effective_capabilities() >> _CAP_IPC_LOCK & 1)
