"""Fetches that are under way, and what the last ones say of a provider."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dso.agent.backoff import Backoff
from dso.protocol.codes import INTERNAL, INVALID_REQUEST, NOT_FOUND, PERMISSION_DENIED, THROTTLED, TRANSIENT
from dso.protocol.provider import ProviderError, SecretData

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dso.agent.store import Key

_OF_ONE_SECRET = frozenset({NOT_FOUND, PERMISSION_DENIED, INVALID_REQUEST})  # says nothing against the provider
_FIRST_RETRY, _LAST_RETRY = 1.0, 60.0  # seconds before a provider that is down is asked to renew what there is


class Flight:
    """A fetch of one secret that is under way. `serial` tells which of two began first."""

    __slots__ = ("future", "key", "serial")

    def __init__(self, key: Key, serial: int) -> None:
        self.key = key
        self.serial = serial
        self.future: asyncio.Future[SecretData | ProviderError] = asyncio.get_running_loop().create_future()

    def outcome(self) -> SecretData | ProviderError | None:
        """What came of it; None while it is under way."""
        if not self.future.done():
            return None
        return ProviderError(INTERNAL, "the agent is stopping") if self.future.cancelled() else self.future.result()


class ProviderHealth:
    """What is known of a provider as a whole."""

    __slots__ = ("backoff", "calls", "error", "generation", "retry_at", "throttled_until")

    def __init__(self, random: Callable[[], float]) -> None:
        self.backoff = Backoff(_FIRST_RETRY, _LAST_RETRY, random)
        self.retry_at = 0.0
        self.throttled_until = 0.0
        self.calls = 0  # under way
        self.error: ProviderError | None = None  # why nothing that was asked of it last could be had
        self.generation = 0  # grows when its configuration changes

    @property
    def is_suspect(self) -> bool:
        """Whether all that was asked of it last failed for a reason that may pass."""
        return self.backoff.failures > 0

    def judge(self, outcomes: Sequence[SecretData | ProviderError], now: float) -> None:
        """Learn from a call: the provider is down when nothing but failures that may pass came back."""
        errors = [outcome for outcome in outcomes if isinstance(outcome, ProviderError)]
        throttled = [error.retry_after or 0.0 for error in errors if error.code == THROTTLED]
        if throttled:
            self.throttled_until = now + max(throttled)
        of_provider = [error for error in errors if error.code not in _OF_ONE_SECRET]
        self.error = of_provider[0] if len(of_provider) == len(outcomes) else None
        if len(errors) == len(outcomes) and all(error.code in TRANSIENT for error in errors):
            self.retry_at = now + self.backoff.failed(max(error.retry_after or 0.0 for error in errors))
        else:
            self.backoff.succeeded()
            self.retry_at = 0.0

    def begin_anew(self) -> None:
        """Its configuration has changed: what is under way, and what is known of it, counts no more."""
        self.generation += 1
        self.backoff.succeeded()
        self.retry_at = self.throttled_until = 0.0
        self.error = None
