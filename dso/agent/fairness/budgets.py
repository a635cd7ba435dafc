"""Amounts that users share: each may hold so much at a time, all of them together so much more.

Root and the agent's own user have room of their own, which nobody else can take.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 1024 * 1024
MAX_ANSWER = 16 * MIB  # of one answer, as it is sent
EACH, MEMBERS, TRUSTED = 16 * MIB, 48 * MIB, 48 * MIB  # bytes of memory for requests and their answers
RETRY_AFTER = 1.0  # seconds: for room that is given back with the next answer that is read

TRUSTED_POOL, MEMBER_POOL, STRANGER_POOL = "trusted", "members", "strangers"


class BusyError(Exception):
    """A user has as much as they may have; `retry_after` seconds later there may be room again."""

    def __init__(self, message: str, retry_after: float = RETRY_AFTER) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after = max(retry_after, 0.1)


class Share(NamedTuple):
    """What the users of a pool may have: each of them, and together."""

    each: int
    together: int


class Budget:
    """One kind of amount, by user."""

    __slots__ = ("_pools", "_shares", "used")

    def __init__(self, shares: dict[str, Share]) -> None:
        """`shares` by pool: a user is of one pool at a time."""
        self._shares = shares
        self._pools = dict.fromkeys(shares, 0)
        self.used: dict[tuple[str, int], int] = {}

    def lacks(self, pool: str, user: int, amount: int) -> str:
        """What is in the way of so much more: "user", "pool", or nothing ("")."""
        share = self._shares[pool]
        if self.used.get((pool, user), 0) + amount > share.each:
            return "user"
        return "pool" if self._pools[pool] + amount > share.together else ""

    def take(self, pool: str, user: int, amount: int) -> None:
        """Note that a user has so much more; a negative amount is given back."""
        self._pools[pool] += amount
        key = pool, user
        left = self.used.get(key, 0) + amount
        if left:
            self.used[key] = left
        else:
            self.used.pop(key, None)


def memory_budget() -> Budget:
    """The bytes that requests and answers may take."""
    return Budget({TRUSTED_POOL: Share(TRUSTED, TRUSTED), MEMBER_POOL: Share(EACH, MEMBERS)})


class Hold:
    """The memory of one request: it grows as the request is read and answered, and goes back as a whole."""

    __slots__ = ("_budget", "_make_room", "amount", "pool", "user")

    def __init__(self, budget: Budget, pool: str, user: int, make_room: Callable[[str, int, str], bool]) -> None:
        """`make_room(pool, user, what)` ends an answer that nobody reads, if there is one; whether there was."""
        self._budget = budget
        self._make_room = make_room
        self.pool = pool
        self.user = user
        self.amount = 0

    def grow(self, amount: int) -> None:
        """Take so much more; BusyError where there is no room for it."""
        while lacking := self._budget.lacks(self.pool, self.user, amount):
            if not self._make_room(self.pool, self.user, lacking):
                raise BusyError(
                    "your requests under way take as much memory as one user may have"
                    if lacking == "user"
                    else "the requests of all users take as much memory as there is for them"
                )
        self._budget.take(self.pool, self.user, amount)
        self.amount += amount

    def shrink(self, amount: int) -> None:
        """Give back a part."""
        self._budget.take(self.pool, self.user, -amount)
        self.amount -= amount

    def release(self) -> None:
        """Give back what is left."""
        if self.amount:
            self.shrink(self.amount)
