"""The agent's cache of secrets: RAM only, one fetch in flight per secret, stale values while a provider is down.

The rules, and why they are so, are in docs/decisions/0008.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
from functools import partial
from operator import attrgetter
from typing import TYPE_CHECKING

from dso.agent.fairness.fetching import place, portions
from dso.agent.flights import Flight, ProviderHealth
from dso.agent.landing import NEGATIVE_SECONDS, Landing, is_same
from dso.agent.logbook import where
from dso.agent.seams import boot_clock
from dso.agent.store import Cached, Entry, Key, Store, Value
from dso.protocol.codes import INTERNAL, THROTTLED, TRANSIENT
from dso.protocol.provider import ProviderError, SecretData

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dso.agent.fairness.fetching import Allowance
    from dso.agent.seams import Emit, Fetch

__all__ = ["NEGATIVE_SECONDS", "Cache", "Cached", "Entry", "Key"]

_LOG = logging.getLogger("dso.agent.cache")

PATIENCE = 1.0  # seconds that a caller waits for a provider that failed last time, when there is a stale value
_EXPIRES_AT, _FETCHED_AT = attrgetter("expires_at"), attrgetter("fetched_at")


class Cache:
    """Secrets by key; every method is to be called in the one event loop."""

    def __init__(
        self,
        fetch: Fetch,
        ttl: Callable[[str], float],
        *,
        emit: Emit,
        clock: Callable[[], float] = boot_clock,
        random: Callable[[], float] = _random.random,
        bounds: Mapping[str, int] | None = None,
        ahead: float = 0.0,
    ) -> None:
        """Nothing is asked of a provider before somebody asks for it.

        Args:
            fetch: asks a provider.
            ttl: the seconds for which a provider's secrets are fresh; 0: they are never kept. When it changes its
                mind, `reckon` has to be called.
            emit: is told what happens to secrets.
            clock: seconds that never go back.
            random: numbers from 0 to 1, for the jitter of retries.
            bounds: `max_values`, `max_bytes`, `max_failures` of the Store, where not the defaults.
            ahead: the last part of its time (0.1: a tenth) in which a value that is used is renewed already.
        """
        self._fetch = fetch
        self._clock = clock
        self._random = random
        self._ahead = ahead
        self._store = Store(**(bounds or {}), evicted=self._evicted)
        self._landing = Landing(self._store, ttl, random, emit)
        self._providers: dict[str, ProviderHealth] = {}
        self._flights: dict[Key, Flight] = {}
        self._serial = 0
        self._tasks: set[asyncio.Task[None]] = set()
        names = ("hits", "misses", "joined", "negative", "stale", "fetches", "evicted")
        self._counts = dict.fromkeys(names, 0)

    async def get_many(
        self, keys: Iterable[Key], allowance: Allowance | None = None
    ) -> dict[Key, Cached | ProviderError]:
        """Each of the secrets, or why there is none; one fetch per provider for all that are missing.

        With the `allowance` of a user they are fetched in portions; BusyError if the user had too many before.
        """
        now = self._clock()
        found: dict[Key, Cached | ProviderError] = {}
        missing: dict[Key, None] = {}
        hits, value_of, is_simple = 0, self._store.value, not self._ahead
        for key in keys:
            if key in found:
                continue
            value = value_of(key)
            # What nearly every key of a warm request is; `_at_hand` knows all other cases.
            if value is not None and value.fetched_at <= now < value.expires_at and is_simple:
                hits += 1
                found[key] = Cached(value.data, now - value.fetched_at, False, value)
            elif key not in missing:
                answer = self._at_hand(key, now)
                if answer is None:
                    missing[key] = None
                else:
                    found[key] = answer
        self._counts["hits"] += hits
        if missing:
            found.update(await self._fetched(list(missing), allowance))
        return found

    async def _fetched(self, missing: list[Key], allowance: Allowance | None) -> dict[Key, Cached | ProviderError]:
        """Answers that need a fetch."""
        if allowance is None:
            return await self._answers(self._launch(missing))
        allowance.charge(sum(key not in self._flights for key in missing))
        found: dict[Key, Cached | ProviderError] = {}
        for portion in portions(missing, allowance):
            async with place(allowance):
                # While it waited, others may have fetched them, or the provider may have had enough.
                now = self._clock()
                at_hand = {key: self._at_hand(key, now) for key in portion}
                found.update((key, answer) for key, answer in at_hand.items() if answer is not None)
                found.update(
                    await self._answers(self._launch([key for key, answer in at_hand.items() if answer is None]))
                )
        return found

    def use_fresh(self, values: Sequence[Value]) -> list[float] | None:
        """The ages of values, if all of them are kept and fresh, so that they may be handed out again; that is a use.

        For at least one value.
        """
        now = self._clock()
        if self._ahead or min(map(_EXPIRES_AT, values)) <= now:
            return None
        self._store.use(values)
        self._counts["hits"] += len(set(values))
        times = list(map(_FETCHED_AT, values))
        ages = {then: max(0.0, now - then) for then in set(times)}  # what was fetched together is of one age
        return list(map(ages.__getitem__, times))

    def reckon(self) -> None:
        """Values are fresh for as long as `ttl` says now."""
        self._landing.reckon()

    def known(self) -> list[Key]:
        """What is cached."""
        return [key for key, _ in self._store.items()]

    async def refresh(
        self, keys: Iterable[Key] | None = None, allowance: Allowance | None = None
    ) -> dict[Key, bool | ProviderError]:
        """Refresh secrets, and tell of each whether it changed, or why it failed; `allowance` as for `get_many`.

        None: all that are cached; those that could not be had are asked for again when somebody wants them.

        What a provider said before this was called does not count, nor do failures of the past; only a
        provider that asked to be left alone for a while is. A secret that was not cached has not changed.
        """
        wanted = list(dict.fromkeys(keys)) if keys is not None else self.known()
        if allowance is not None:
            allowance.charge(len(wanted))
        before = {key: value.data for key, value in self._store.items()}
        began = self._serial
        asked = wanted if keys is not None else list(self._flights)
        older = [flight.future for key in asked if (flight := self._flights.get(key)) and flight.serial <= began]
        if older:
            await asyncio.wait(older)
        if keys is None:
            self._store.forget_failures()
        changed: dict[Key, bool | ProviderError] = {}
        flights: list[Flight] = []
        for portion in portions(wanted, allowance):
            async with place(allowance):
                now = self._clock()
                waits = {key: self._provider(key.provider).throttled_until - now for key in portion}
                changed.update((key, _throttled(key, wait)) for key, wait in waits.items() if wait > 0)
                launched = self._launch([key for key, wait in waits.items() if wait <= 0])
                if launched:
                    await asyncio.wait([flight.future for flight in launched])
                flights += launched
        for flight in flights:
            outcome, former = flight.outcome(), before.get(flight.key)
            if isinstance(outcome, SecretData):
                changed[flight.key] = former is not None and not is_same(former, outcome)
            elif outcome is not None:
                changed[flight.key] = outcome
        return changed

    def forget(self, provider: str) -> None:
        """Drop everything of a provider: its configuration changed, or it is gone.

        Fetches under way still answer those who wait for them, and are not kept.
        """
        if health := self._providers.pop(provider, None):
            health.begin_anew()
        self._store.drop_provider(provider)
        for key in [key for key in self._flights if key.provider == provider]:
            del self._flights[key]

    async def close(self) -> None:
        """Give up what is under way."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def entries(self) -> list[Entry]:
        """What is cached, sorted by key."""
        now = self._clock()
        return sorted(
            (self._entry(key, value, now) for key, value in self._store.items()),
            key=lambda entry: (*entry.key[:2], entry.key.version or ""),
        )

    def trouble(self, provider: str) -> ProviderError | None:
        """Why nothing that was last asked of a provider could be had; None when it answers."""
        health = self._providers.get(provider)
        return health.error if health is not None else None

    def counts(self) -> dict[str, int]:
        """What happened since the start, in secrets (`fetches`: in calls), and the `entries` and `bytes` held now.

        hits: fresh ones. misses: had to be fetched. joined: waited for a fetch that was under way. negative:
        a failure was repeated without asking. stale: served though too old. failures: fetches of a secret
        that failed. evicted: had to go for want of room.
        """
        store, failures = self._store, self._landing.failures
        return {**self._counts, "failures": failures, "entries": len(store), "bytes": store.bytes}

    def _at_hand(self, key: Key, now: float) -> Cached | ProviderError | None:
        """The answer that needs no fetch; None if it needs one."""
        provider = self._provider(key.provider)
        value = self._store.value(key)
        if value is None:
            return self._known_failure(key, provider, now)
        left = value.expires_at - now
        if left > 0:
            self._counts["hits"] += 1
            if (
                self._ahead
                and left < self._ahead * (value.expires_at - value.fetched_at)
                and not self._is_resting(value, provider, now)
            ):
                self._launch([key])
            return self._cached(value, now, stale=False)
        failure = value.failure
        if value.is_refused:
            if failure is not None and now < failure.retry_at:
                self._counts["negative"] += 1
                return _repeated(failure.error, failure.retry_at - now)
            return None
        if self._is_resting(value, provider, now) or (provider.is_suspect and provider.calls):
            return self._cached(value, now, stale=True)
        return None

    def _known_failure(self, key: Key, provider: ProviderHealth, now: float) -> ProviderError | None:
        failure = self._store.failure(key)
        if failure is not None and now < failure.retry_at:
            self._counts["negative"] += 1
            return _repeated(failure.error, failure.retry_at - now)
        if now < provider.throttled_until:
            self._counts["negative"] += 1
            return _throttled(key, provider.throttled_until - now)
        return None

    @staticmethod
    def _is_resting(value: Value, provider: ProviderHealth, now: float) -> bool:
        """Whether it is too early for the next try to renew a value."""
        return now < max(provider.retry_at, provider.throttled_until, value.failure.retry_at if value.failure else 0.0)

    async def _answers(self, flights: Sequence[Flight]) -> dict[Key, Cached | ProviderError]:
        """Wait for fetches: to their end, but not long for a provider that failed before when there is a stale value.

        Only waits: whoever is cancelled here takes the fetch from nobody else.
        """
        impatient = [flight.future for flight in flights if self._has_substitute(flight.key)]
        patient = [flight.future for flight in flights if not self._has_substitute(flight.key)]
        if impatient:
            await asyncio.wait(impatient, timeout=PATIENCE)
        if patient:
            await asyncio.wait(patient)
        now = self._clock()
        return {flight.key: self._answer(flight, now) for flight in flights}

    def _has_substitute(self, key: Key) -> bool:
        value = self._store.value(key)
        if value is None or value.is_refused:
            return False
        return value.failure is not None or self._provider(key.provider).is_suspect

    def _answer(self, flight: Flight, now: float) -> Cached | ProviderError:
        """What came of a fetch, or the stale value in its place."""
        outcome = flight.outcome()
        value = self._store.value(flight.key)
        if isinstance(outcome, SecretData):
            kept = value if value is not None and value.data is outcome else None
            return Cached(outcome, max(0.0, now - kept.fetched_at) if kept is not None else 0.0, stale=False, kept=kept)
        if value is not None and not value.is_refused and (outcome is None or outcome.code in TRANSIENT):
            return self._cached(value, now, stale=True)
        return outcome or ProviderError(INTERNAL, f"the fetch of {flight.key.path} has been lost")

    def _cached(self, value: Value, now: float, *, stale: bool) -> Cached:
        self._counts["stale"] += stale
        return Cached(value.data, max(0.0, now - value.fetched_at), stale)

    def _launch(self, keys: Sequence[Key]) -> list[Flight]:
        """The fetches of these keys: those under way, and one new call per provider for the others."""
        flights: list[Flight] = []
        new: dict[str, list[Flight]] = {}
        for key in keys:
            flight = self._flights.get(key)
            if flight is None:
                self._counts["misses"] += 1
                self._serial += 1
                flight = self._flights[key] = Flight(key, self._serial)
                new.setdefault(key.provider, []).append(flight)
            else:
                self._counts["joined"] += 1
            flights.append(flight)
        for name, of_provider in new.items():
            task = asyncio.get_running_loop().create_task(self._call(name, of_provider))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(partial(self._settle, of_provider))  # cancelled before it began, it does not itself
        return flights

    async def _call(self, name: str, flights: Sequence[Flight]) -> None:
        """One call of a provider, for all of these."""
        provider = self._provider(name)
        generation = provider.generation
        provider.calls += 1
        self._counts["fetches"] += 1
        try:
            outcomes = await self._ask(name, flights)
            if provider.generation == generation:
                now, land = self._clock(), self._landing.land
                provider.judge(outcomes, now)
                outcomes = [land(flight.key, outcome, now) for flight, outcome in zip(flights, outcomes, strict=True)]
            for flight, outcome in zip(flights, outcomes, strict=True):
                if not flight.future.done():
                    flight.future.set_result(outcome)
        finally:
            provider.calls -= 1
            self._settle(flights)

    def _settle(self, flights: Sequence[Flight], _task: object = None) -> None:
        """The fetches are over, and nobody is left waiting, whatever happened."""
        for flight in flights:
            flight.future.cancel()
            if self._flights.get(flight.key) is flight:
                del self._flights[flight.key]

    async def _ask(self, name: str, flights: Sequence[Flight]) -> Sequence[SecretData | ProviderError]:
        try:
            outcomes = await self._fetch(name, [(flight.key.path, flight.key.version) for flight in flights])
            if len(outcomes) == len(flights):
                return outcomes
            error = ProviderError(INTERNAL, "a defect of the agent: answers have been lost")
        except ProviderError as failed:
            error = failed
        except Exception as defect:  # noqa: BLE001  # those who wait get an answer whatever happens
            _LOG.error("a defect while fetching from %s: %s", name, where(defect))
            error = ProviderError(INTERNAL, f"a defect of the agent: {type(defect).__name__}")
        return [error for _ in flights]

    def _entry(self, key: Key, value: Value, now: float) -> Entry:
        left = value.expires_at - now
        return Entry(
            key,
            value.data.version,
            len(value.data.content),
            max(0.0, now - value.fetched_at),
            left,
            left <= 0 and (value.failure is not None or self._provider(key.provider).is_suspect),
            value.failure.error.code if value.failure is not None else "",
            value.data.created_at,
        )

    def _provider(self, name: str) -> ProviderHealth:
        found = self._providers.get(name)
        if found is None:
            found = self._providers[name] = ProviderHealth(self._random)
        return found

    def _evicted(self, _key: Key) -> None:
        self._counts["evicted"] += 1


def _repeated(error: ProviderError, seconds: float) -> ProviderError:
    """A failure once more; `retry_after` is what is left of it, for those who care."""
    return ProviderError(error.code, error.message, retry_after=seconds if error.retry_after is not None else None)


def _throttled(key: Key, seconds: float) -> ProviderError:
    return ProviderError(
        THROTTLED, f"provider {key.provider!r} asked to be left alone for {seconds:.3g} s more", retry_after=seconds
    )
