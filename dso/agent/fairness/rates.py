"""How often users may do what costs others something: a stock of credit for each, refilled as time goes by."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from dso.agent.fairness.budgets import BusyError

if TYPE_CHECKING:
    from collections.abc import Callable

_TOGETHER = -1  # the account of all users
_MAX_ACCOUNTS = 1024


class Rate:
    """Credit of `burst`, refilled by `per_second`, for each user; `together` times that for all of them.

    Whoever has any credit may spend more than they have, and owes it: so a single large request is served at its
    time, and the next one waits for longer.
    """

    def __init__(
        self,
        what: str,
        *,
        burst: float,
        per_second: float,
        together: float = 4,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`what` there was too much of, for messages."""
        self.what = what
        self._burst = burst
        self._per_second = per_second
        self._together = together
        self._clock = clock
        self._accounts: dict[int, tuple[float, float]] = {}  # the credit, and when that was

    def spend(self, user: int, amount: float = 1.0) -> None:
        """Take from a user's credit; BusyError, and nothing is taken, if there is none."""
        self.check(user)
        self.owe(user, amount)

    def owe(self, user: int, amount: float) -> None:
        """Take from a user's credit what was spent already."""
        now = self._clock()
        # What a user owes is that user's alone: it must not be the others who wait for it.
        for account, share in ((user, amount), (_TOGETHER, min(amount, self._burst))):
            self._accounts[account] = self._credit(account, now) - share, now
        if len(self._accounts) > _MAX_ACCOUNTS:
            self._drop_full(now)

    def check(self, user: int) -> None:
        """BusyError if a user has no credit now."""
        now = self._clock()
        for account in (user, _TOGETHER):
            credit, per_second = self._credit(account, now), self._per_second * self._factor(account)
            if credit <= 0:
                raise BusyError(f"too many {self.what}", (1 - credit) / per_second)

    def _credit(self, account: int, now: float) -> float:
        factor = self._factor(account)
        credit, then = self._accounts.get(account, (self._burst * factor, now))
        return min(self._burst * factor, credit + (now - then) * self._per_second * factor)

    def _factor(self, account: int) -> float:
        return self._together if account == _TOGETHER else 1.0

    def _drop_full(self, now: float) -> None:
        """Forget those who owe nothing and have all their credit."""
        full = [one for one in self._accounts if one != _TOGETHER and self._credit(one, now) >= self._burst]
        for one in full:
            del self._accounts[one]
