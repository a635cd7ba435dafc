"""Turns on the processor: in each round of the event loop every user has one, however many requests they have sent.

A request takes a turn before it begins, and another one after each slice of its work (`others_first`). So a request
of one user waits for one slice of each other user, and not for all that another has to do.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Turns:
    """Whose turn it is. For the event loop's thread only; who waits may be cancelled."""

    __slots__ = ("_had", "_is_due", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}
        self._had: set[int] = set()  # users who have had their turn in this round
        self._is_due = False

    async def take(self, user: int) -> None:
        """Wait for a turn; at once for who has had none in this round."""
        if user not in self._had:
            self._had.add(user)
            if not self._is_due:
                self._is_due = True
                asyncio.get_running_loop().call_soon(self._next_round)
            return
        turn = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(user, deque()).append(turn)
        await turn

    def _next_round(self) -> None:
        self._had.clear()
        for user, waiting in list(self._waiting.items()):
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    self._had.add(user)
                    break
            if not waiting:
                del self._waiting[user]
        self._is_due = bool(self._had)
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._next_round)


_MINE: ContextVar[tuple[Turns, int] | None] = ContextVar("_MINE", default=None)


async def begin(turns: Turns, user: int) -> None:
    """Begin a request: the running task works for this user from now on."""
    _MINE.set((turns, user))
    await turns.take(user)


async def others_first() -> None:
    """Let others have their turn, in the middle of long work; outside of requests all that is ready."""
    mine = _MINE.get()
    if mine is None:
        await asyncio.sleep(0)
    else:
        await mine[0].take(mine[1])


class AtOnce:
    """Lets so many requests of each user at a time do something; the others wait, in the order they came."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._places: dict[int, tuple[asyncio.Semaphore, int]] = {}

    @asynccontextmanager
    async def of(self, user: int) -> AsyncIterator[None]:
        """Be one of a user's."""
        places, there = self._places.get(user, (None, 0))
        places = places or asyncio.Semaphore(self._limit)
        self._places[user] = places, there + 1
        try:
            async with places:
                yield
        finally:
            there = self._places[user][1]
            if there > 1:
                self._places[user] = places, there - 1
            else:
                del self._places[user]
