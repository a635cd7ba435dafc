"""Who asks, and what they may read: SO_PEERCRED on the socket, `access:` in dso.yaml for secrets.

Root and the agent's own user always may; of the others only the members of group `dso`.
"""

from __future__ import annotations

import array
import asyncio
import errno
import grp
import os
import pwd
import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, NamedTuple

from dso.paths import AGENT_GROUP

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dso.config.model import AccessRule

_SO_PEERGROUPS = 59  # <asm-generic/socket.h>, Linux 4.13
_UCRED = struct.Struct("3i")  # pid, uid, gid
_MAX_GROUPS = 65536
_ACCOUNT_TTL = 5.0  # seconds for which what the user database said of a user's groups holds
_NAME_TTL = 60.0  # and of a group's name
_MAX_ACCOUNTS = 1024
_LOOK_UPS = 4  # at a time


class Peer(NamedTuple):
    """The process at the other end of a connection, as the kernel had it when it connected."""

    pid: int
    uid: int
    gid: int
    groups: frozenset[int]


class Caller(NamedTuple):
    """Who asks: a peer with what the user database knows of it.

    `trusted`: root, or the agent's own user, who may read everything. `groups` are the peer's and those
    the database lists, so that a rule for a group is in force for somebody who was just added to it. To open
    a socket of mode 0660 takes a login after that, though: the kernel looks at the process's groups only.
    """

    pid: int
    uid: int
    user: str
    groups: frozenset[int]
    group_names: frozenset[str]
    trusted: bool


def peer_of(connection: socket.socket) -> Peer:
    """Who connected to a Unix socket; raises OSError."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
    pid, uid, gid = _UCRED.unpack(raw)
    return Peer(pid, uid, gid, frozenset({gid, *_peer_groups(connection, pid)}))


def _peer_groups(connection: socket.socket, pid: int) -> Iterable[int]:
    """The peer's supplementary groups, as of when it connected; on old kernels, as they are now."""
    groups = array.array("I")
    for size in (256, _MAX_GROUPS * groups.itemsize):
        try:
            groups.frombytes(connection.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, size))
        except OSError as error:
            if error.errno != errno.ERANGE:  # else there are more
                break
        else:
            return groups
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as status:
            for line in status:
                if line.startswith("Groups:"):
                    return [int(word) for word in line.split()[1:]]
    except (OSError, ValueError):
        pass  # it is gone; its main group is known
    return ()


class _Account(NamedTuple):
    user: str
    groups: frozenset[int]
    until: float
    left: frozenset[int] = frozenset()

    def groups_of(self, peer: Peer) -> frozenset[int]:
        """All groups of a process of this user; those the user has left are its own affair only."""
        return (peer.groups - self.left) | self.groups


class Known(NamedTuple):
    """What is known of a peer: its user name ("" if it has none), all its groups, and their names."""

    user: str
    groups: frozenset[int]
    group_names: frozenset[str]


class Accounts:
    """What the user database says of users and groups, remembered for a moment.

    A process keeps the groups of its login. One that the database listed for its user, since this object was made, and
    does not list any more does not count: `left`.

    Asking it may mean asking a directory server, and block: `look_up` is for a thread, `recall` never asks.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._known: dict[int, _Account] = {}
        self._group_names: dict[int, tuple[str, float]] = {}
        self._ever: dict[int, frozenset[int]] = {}  # by user, the groups that were listed once

    def recall(self, peer: Peer) -> Known | None:
        """What is remembered of a peer; None if anything of it is not, the name of a single group included."""
        now = self._clock()
        account = self._known.get(peer.uid)
        if account is None or account.until <= now:
            return None
        names: set[str] = set()
        groups = account.groups_of(peer)
        for group in groups:
            name, until = self._group_names.get(group, ("", 0.0))
            if until <= now:
                return None
            names.add(name)
        return Known(account.user, groups, frozenset(filter(None, names)))

    def look_up(self, peer: Peer) -> Known:
        """What the user database says of a peer, as far as it is not remembered; blocks."""
        now = self._clock()
        account = self._known.get(peer.uid)
        if account is None or account.until <= now:
            account = _ask_database(peer.uid, now + _ACCOUNT_TTL)
            ever = self._ever.get(peer.uid, frozenset()) | account.groups
            if ever:
                self._ever[peer.uid] = ever
            account = account._replace(left=ever - account.groups)
            if len(self._known) >= _MAX_ACCOUNTS:
                self._known.clear()
            self._known[peer.uid] = account
        groups = account.groups_of(peer)
        return Known(account.user, groups, frozenset(filter(None, (self._name_of(group, now) for group in groups))))

    def _name_of(self, group: int, now: float) -> str:
        name, until = self._group_names.get(group, ("", 0.0))
        if until <= now:
            name = _group_name(group)
            if len(self._group_names) >= _MAX_GROUPS:
                self._group_names.clear()
            self._group_names[group] = (name, now + _NAME_TTL)
        return name


class Directory:
    """The user database for an event loop, which never waits for it.

    It is asked in threads of its own: one that hangs takes none of those that mount volumes. At most one question
    about a user is under way, however many processes of that user connect.
    """

    def __init__(self, accounts: Accounts) -> None:
        self._accounts = accounts
        self._threads = ThreadPoolExecutor(_LOOK_UPS, "dso-accounts")
        self._under_way: dict[int, asyncio.Future[Known]] = {}

    def recall(self, peer: Peer) -> Known | None:
        """What is known of a peer without asking."""
        return self._accounts.recall(peer)

    async def find(self, peer: Peer) -> Known:
        """What is known of a peer. A question outlives whoever asked it first and went away."""
        while (known := self._accounts.recall(peer)) is None:
            under_way = self._under_way.get(peer.uid)
            if under_way is None:
                return await asyncio.shield(self._ask(peer))
            await asyncio.wait([under_way])  # it may not have asked for the names of all our groups
        return known

    def _ask(self, peer: Peer) -> asyncio.Future[Known]:
        asked = asyncio.get_running_loop().run_in_executor(self._threads, self._accounts.look_up, peer)
        self._under_way[peer.uid] = asked
        asked.add_done_callback(lambda _: self._under_way.pop(peer.uid))
        return asked


def _ask_database(uid: int, until: float) -> _Account:
    try:
        account = pwd.getpwuid(uid)
        return _Account(account.pw_name, frozenset(os.getgrouplist(account.pw_name, account.pw_gid)), until)
    except (KeyError, OSError):
        return _Account("", frozenset(), until)


def _group_name(group: int) -> str:
    try:
        return grp.getgrgid(group).gr_name
    except (KeyError, OSError):
        return ""


def agent_group() -> int | None:
    """The number of group `dso`, whose members may use this agent; None: there is none, or it is not for this agent.

    Root's agent serves the group, and so does one whose main group it is. Any other agent is somebody's own.
    """
    try:
        group = grp.getgrnam(AGENT_GROUP).gr_gid
    except KeyError:
        return None
    return group if os.geteuid() == 0 or os.getegid() == group else None


class Access:
    """What callers may read. Immutable: a new configuration makes a new one."""

    def __init__(self, rules: Sequence[AccessRule] | None, *, own_uid: int) -> None:
        """`rules` of None: whoever may connect may read all."""
        self._rules = rules
        self._own_uid = own_uid

    @property
    def is_restricted(self) -> bool:
        """Whether there are rules, so that callers differ."""
        return self._rules is not None

    def is_trusted(self, uid: int) -> bool:
        """Whether this is root, or the agent's own user."""
        return uid in (0, self._own_uid)

    def may_read(self, caller: Caller, subject: str) -> bool:
        """Whether a caller may read what is named `subject`: an entry of dso.yaml, or PROVIDER/PATH."""
        if caller.trusted or self._rules is None:
            return True
        return any(
            _concerns(rule, caller) and any(fnmatchcase(subject, pattern) for pattern in rule.secrets)
            for rule in self._rules
        )

    def may_see_log(self, caller: Caller) -> bool:
        """Whether a caller may read the log, which names everybody's secrets."""
        return caller.trusted or self._rules is None


def _concerns(rule: AccessRule, caller: Caller) -> bool:
    """Whether a rule is about a caller: by name, or by number where it has digits only."""
    users = {caller.user, str(caller.uid)} - {""}
    groups = caller.group_names | {str(group) for group in caller.groups}
    return not users.isdisjoint(rule.users) or not groups.isdisjoint(rule.groups)
