"""What users may have providers asked for: so much at a time, and so much in the long run.

A provider that is asked too often throttles everybody, and what waits in its plugin's queue is before the next user.
"""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from dso.agent.fairness.rates import Rate
from dso.agent.fairness.turns import AtOnce

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractAsyncContextManager

Secret = TypeVar("Secret")

PORTION = 50  # secrets that are asked for together
PORTIONS = 2  # of one user, at a time
BURST, PER_SECOND = 2000, 50  # secrets


class Fetching:
    """The accounts of all users."""

    def __init__(self) -> None:
        self.rate = Rate("references to secrets that are not in memory", burst=BURST, per_second=PER_SECOND)
        self.places = AtOnce(PORTIONS)

    def of(self, user: int) -> Allowance:
        """What a user may have fetched."""
        return Allowance(self, user)


class Allowance(NamedTuple):
    """One user's share."""

    fetching: Fetching
    user: int

    def charge(self, secrets: int) -> None:
        """So many are going to be fetched; BusyError if the user had too many before."""
        if secrets:
            self.fetching.rate.spend(self.user, secrets)

    def place(self) -> AbstractAsyncContextManager[None]:
        """Wait until a portion may be asked for."""
        return self.fetching.places.of(self.user)


def portions(secrets: Sequence[Secret], allowance: Allowance | None) -> Iterator[Sequence[Secret]]:
    """What is asked for together: all, where it is nobody's allowance."""
    size = PORTION if allowance is not None else max(len(secrets), 1)
    for start in range(0, len(secrets), size):
        yield secrets[start : start + size]


def place(allowance: Allowance | None) -> AbstractAsyncContextManager[None]:
    """Wait until a portion may be asked for: at once, where it is nobody's allowance."""
    return nullcontext() if allowance is None else allowance.place()
