"""What a plugin's process does after its fork: become its user, give up everything else, and become the program."""

from __future__ import annotations

import ctypes
import os
import resource
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dso.agent.isolation.accounts import Account

_PR_SET_PDEATHSIG, _PR_SET_DUMPABLE, _PR_CAPBSET_DROP = 1, 4, 24  # <sys/prctl.h>
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_MOST_CAPABILITIES = 64
_CAPABILITY_VERSION_3 = 0x20080522  # <linux/capability.h>
_FAILED = 126
_REPORT = 3  # the descriptor, once all others are closed
NOT_THE_USER = b"user"  # what the report says then; else it is the number of an error of exec

_LIBC = ctypes.CDLL(None)
_LIBC.prctl.argtypes = [ctypes.c_int, *[ctypes.c_ulong] * 4]


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


_Sets = ctypes.c_uint32 * 6  # effective, permitted, inheritable; twice, for 64 capabilities


def descent(path: str, environment: Mapping[str, str], account: Account | None, report: int) -> Callable[[], None]:
    """What `subprocess` is to call in the child as its `preexec_fn`: it never returns, but becomes the program.

    It takes no lock and imports nothing. Before it changes its user, it closes all descriptors but the standard ones
    and `report`. So `subprocess`, whose own pipe is among them, no longer waits for it when others may stop it; and
    a signal of theirs does not reach the agent's event loop, whose socket for signals it has inherited.

    The child ends when the agent ends, `kill -9` included: by SIGTERM, so that a plugin of any kind can clear up. That
    comes when the *thread* ends that started the child: the agent's main thread.

    Args:
        path: the program.
        environment: the whole of its environment.
        account: whom to become; None: it stays who it is.
        report: a pipe, to write to. It ends when the program begins; before, it is told why it does not.
    """
    return partial(_descend, path, dict(environment), account, report, os.getpid())


def _descend(path: str, environment: dict[str, str], account: Account | None, report: int, parent: int) -> None:
    try:
        _close_others(report)
        if account is not None:
            _become(account)
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)  # after the change of user, which clears it
        if os.getppid() == parent:
            _execute(path, environment)
    except BaseException:  # noqa: BLE001  # nothing of the agent may go on in here
        os.write(_REPORT, NOT_THE_USER)
    finally:
        os._exit(_FAILED)


def _close_others(report: int) -> None:
    if report != _REPORT:
        os.dup2(report, _REPORT, inheritable=False)
    for name in os.listdir("/proc/self/fd"):
        if int(name) > _REPORT:
            with suppress(OSError):  # that of the directory itself
                os.close(int(name))


def _become(account: Account) -> None:
    _LIBC.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    # That takes CAP_SETPCAP, which the unit does not have; nor is there a way to new privileges then.
    for capability in range(_MOST_CAPABILITIES):
        _LIBC.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
    with suppress(OSError, ValueError):  # no CAP_SYS_RESOURCE: the limit is the unit's, which is this one
        # It locks its memory, as the agent does, and will not have the agent's CAP_IPC_LOCK for it.
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    os.setgroups(account.groups)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    # Its memory is a copy of the agent's. The change of user shuts others out too, unless fs.suid_dumpable is 1.
    _LIBC.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    _LIBC.prctl(_PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    if (
        _LIBC.capset(ctypes.byref(_Header(_CAPABILITY_VERSION_3, 0)), _Sets())
        or os.getresuid() != (account.uid,) * 3
        or os.getresgid() != (account.gid,) * 3
        or set(os.getgroups()) - {account.gid, *account.groups}
    ):
        raise PermissionError


def _execute(path: str, environment: dict[str, str]) -> None:
    try:
        os.execve(path, [path], environment)  # noqa: S606  # a shell is what it does without
    except OSError as error:
        os.write(_REPORT, b"%d" % (error.errno or 0))
