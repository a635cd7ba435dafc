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

SLICE = 256 * 1024  # bytes of an answer, or of work that takes as long, before others have their turn
_ROUNDS = 4  # from one turn of a user who waits to the next, while others are there
_RECENTLY = 1.0  # seconds for which a user is there


class Turns:
    """Whose turn it is. For the event loop's thread only; who waits may be cancelled.

    A round is one turn of the event loop, in which it also looks for what has come in. While several users are there,
    a user who had to wait for a turn sits out the rounds after it: a request of another one takes some of them until it
    gets to its own turn, and would otherwise meet a slice of somebody's long work in each.
    """

    __slots__ = ("_is_due", "_next", "_round", "_seen", "_waiting")

    def __init__(self) -> None:
        self._waiting: dict[int, deque[asyncio.Future[None]]] = {}
        self._round = 0
        self._next: dict[int, int] = {}  # by user, the round of the next turn, where that is still to come
        self._seen: dict[int, float] = {}  # by user, when they were last here
        self._is_due = False

    async def take(self, user: int) -> None:
        """Wait for a turn; at once for who has had none lately."""
        loop = asyncio.get_running_loop()
        self._seen[user] = loop.time()
        if user not in self._next:
            self._next[user] = self._round + 1
            if not self._is_due:
                self._is_due = True
                loop.call_soon(self._next_round)
            return
        turn = loop.create_future()
        self._waiting.setdefault(user, deque()).append(turn)
        await turn

    @property
    def is_shared(self) -> bool:
        """Whether several users are there."""
        return len(self._seen) > 1

    def _next_round(self) -> None:
        self._round += 1
        pause = self._pause()
        self._next = {user: turn for user, turn in self._next.items() if turn > self._round}
        for user, waiting in list(self._waiting.items()):
            if user in self._next:
                continue
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    self._next[user] = self._round + pause
                    break
            if not waiting:
                del self._waiting[user]
        self._is_due = bool(self._next)
        if self._is_due:
            asyncio.get_running_loop().call_soon(self._next_round)

    def _pause(self) -> int:
        """The rounds from one turn of a user who waits to the next."""
        if len(self._seen) == 1:
            return 1
        late = asyncio.get_running_loop().time() - _RECENTLY
        self._seen = {user: seen for user, seen in self._seen.items() if seen > late or user in self._waiting}
        return _ROUNDS if len(self._seen) > 1 else 1


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


async def others_after(work: int) -> None:
    """Let others have their turn after so much work: once for each slice of it, where one step was larger than that."""
    for _ in range(0, max(work, 1), SLICE):
        await others_first()


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
