"""The agent's cache of secrets: RAM only, one fetch in flight per secret, stale values while a provider is down."""

from __future__ import annotations

import random as _random
import time
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dso.protocol.provider import ProviderError, SecretData


class Key(NamedTuple):
    """Which secret: `version` is the version the reference pins, or None for the current one."""

    provider: str
    path: str
    version: str | None = None


class Cached(NamedTuple):
    """A secret from the cache or fresh; `age` in seconds since the provider gave it.

    `stale`: it should be newer, but the provider cannot be reached.
    """

    data: SecretData
    age: float
    stale: bool


class Entry(NamedTuple):
    """What is known of one cached secret, for status pages; never its value.

    `expires_in` is negative once it should be newer. `code` is the error of the last try to renew it, or "".
    """

    key: Key
    version: str
    size: int
    age: float
    expires_in: float
    stale: bool
    code: str
    created_at: float | None


class Emit(Protocol):
    """The agent's events: `emit("secret.changed", provider=..., path=...)`."""

    def __call__(self, event: str, /, **fields: Any) -> None: ...


class Fetch(Protocol):
    """Ask a provider for secrets, in one call: `Providers.get_many`."""

    async def __call__(
        self, provider: str, requests: Sequence[tuple[str, str | None]], /
    ) -> Sequence[SecretData | ProviderError]: ...


def boot_clock() -> float:
    """Seconds since boot, time asleep included; setting the clock does not change it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Cache:
    """See docs/decisions/0008."""

    def __init__(
        self,
        fetch: Fetch,
        ttl: Callable[[str], float],
        *,
        emit: Emit,
        clock: Callable[[], float] = boot_clock,
        random: Callable[[], float] = _random.random,
    ) -> None:
        """`ttl` gives the seconds for which a provider's secrets are fresh (0: they are never kept)."""
        self._fetch = fetch
        self._ttl = ttl
        self._emit = emit
        self._clock = clock
        self._random = random

    async def get_many(self, keys: Iterable[Key]) -> dict[Key, Cached | ProviderError]:
        """Each of the secrets, or why there is none; one fetch per provider for all that are missing."""
        raise NotImplementedError

    async def refresh(self, keys: Iterable[Key] | None = None) -> dict[Key, bool | ProviderError]:
        """Fetch secrets anew (None: all that are cached), and tell of each whether it changed, or why it failed."""
        raise NotImplementedError

    def forget(self, provider: str) -> None:
        """Drop everything of a provider: its configuration changed, or it is gone."""
        raise NotImplementedError

    def entries(self) -> list[Entry]:
        """What is cached, sorted by key."""
        raise NotImplementedError

    def counts(self) -> dict[str, int]:
        """Counters since the start (hits, misses, joined, negative, fetches, failures, stale, evicted), entries, bytes."""
        raise NotImplementedError
