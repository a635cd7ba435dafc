"""Who may use the agent: asked of the user database when somebody connects, and again while they stay."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dso.agent.access import Caller, Directory, Known
from dso.agent.fairness.budgets import MEMBER_POOL, STRANGER_POOL, TRUSTED_POOL

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from dso.agent.access import Access, Accounts, Peer
    from dso.agent.connections import Connection
    from dso.agent.logbook import Logbook

LOOK_UP_TIMEOUT = 5.0  # seconds for what the user database knows of a caller
RECHECK = 5.0  # seconds after which users with open connections are looked up again


class Members:
    """Root, the agent's own user, and the members of a group (None: nobody else)."""

    def __init__(self, access: Callable[[], Access], accounts: Accounts, group: int | None, book: Logbook) -> None:
        self._access = access
        self._directory = Directory(accounts)
        self._group = group
        self._book = book

    async def identify(self, peer: Peer) -> Caller | str:
        """Who a peer is; of one that may not use the agent the user name only."""
        if self._access().is_trusted(peer.uid):
            return Caller(peer.pid, peer.uid, "", peer.groups, frozenset(), trusted=True)
        try:
            async with asyncio.timeout(LOOK_UP_TIMEOUT):
                found = await self._directory.find(peer)
        except TimeoutError:
            found = Known("", peer.groups, frozenset())
            self._book.warning("the user database does not answer", uid=peer.uid)
        user, groups, names = found
        if self._group is None or self._group not in groups:
            return user
        return Caller(peer.pid, peer.uid, user, groups, names, trusted=False)

    def pool_of(self, peer: Peer) -> str:
        """Which budget a connection counts to, before its user has been looked up."""
        if self._access().is_trusted(peer.uid):
            return TRUSTED_POOL
        known = self._directory.recall(peer)
        groups = peer.groups if known is None else known.groups
        return MEMBER_POOL if self._group is not None and self._group in groups else STRANGER_POOL

    async def recheck(self, connections: Iterable[Connection]) -> None:
        """Look up again who is connected: whoever has left a group has lost what it gave, on open connections too.

        Streams of somebody whose groups changed end, so that the client asks again as who it is now.
        """
        for connection in connections:
            former = connection.caller
            if former is None or former.trusted:
                continue
            found = await self.identify(connection.peer)
            if found == former or connection.caller is not former:
                continue
            connection.caller = found if isinstance(found, Caller) else None
            connection.end_stream()
