"""What a plugin's process does between fork and exec: become its user, and give up everything else."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from dso.agent.isolation.accounts import Account

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT = 1, 24, 38, 47  # <sys/prctl.h>
_PR_CAP_AMBIENT_CLEAR_ALL = 4
_MOST_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522  # <linux/capability.h>
_FAILED = 126


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_Sets = ctypes.c_uint32 * 6  # effective, permitted, inheritable; twice, for 64 capabilities


def descent(account: Account | None) -> Callable[[], None]:
    """What `subprocess` is to call in the child as its `preexec_fn`. It takes no lock and imports nothing.

    The child ends when the agent ends, `kill -9` included: by SIGTERM, so that a plugin of any kind can clear up. That
    comes when the *thread* ends that started the child: the agent's main thread.

    Args:
        account: whom to become; None: it stays who it is.
    """
    parent = os.getpid()
    libc = ctypes.CDLL(None)
    prctl, capset = libc.prctl, libc.capset
    prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]
    header, nothing = _Header(_CAPABILITY_VERSION_3, 0), _Sets()

    def become(account: Account) -> None:
        prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        # That takes CAP_SETPCAP, which the unit does not have; nor is there a way to new privileges then.
        for capability in range(_MOST_CAPABILITIES):
            prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        with suppress(OSError, ValueError):  # no CAP_SYS_RESOURCE: the limit is the unit's, which is this one
            # It locks its memory, as the agent does, and will not have the agent's CAP_IPC_LOCK for it.
            resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        os.setgroups(account.groups)
        os.setresgid(account.gid, account.gid, account.gid)
        os.setresuid(account.uid, account.uid, account.uid)
        prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
        if (
            capset(ctypes.byref(header), nothing)
            or os.getresuid() != (account.uid,) * 3
            or os.getresgid() != (account.gid,) * 3
            or set(os.getgroups()) - {account.gid, *account.groups}
        ):
            os._exit(_FAILED)

    def prepare() -> None:
        if account is not None:
            become(account)
        prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)  # after the change of user, which clears it
        if os.getppid() != parent:
            os._exit(1)

    return prepare
