"""The cache's promises, with a clock and a provider of the test's own."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.agent.cache import NEGATIVE_SECONDS, Cache, Cached, Key
from dso.agent.store import Store, Value
from dso.protocol.codes import (
    INTERNAL,
    INVALID_CONFIG,
    NOT_FOUND,
    PERMISSION_DENIED,
    PLUGIN_CRASHED,
    PLUGIN_TIMEOUT,
    THROTTLED,
    TRANSIENT,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from dso.protocol.provider import ProviderError, SecretData
from dso.secret import SecretValue
from tests.support.loop import in_loop
from tests.support.plugin_dir import Events

if TYPE_CHECKING:
    from collections.abc import Sequence

TTL = 300.0
A, B, C = Key("p", "a"), Key("p", "b"), Key("q", "c")


class Backend:
    """Providers that answer what the test says, and count."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, list[tuple[str, str | None]]]] = []
        self.content: dict[str, bytes] = {}
        self.version: dict[str, str] = {}
        self.errors: dict[str, ProviderError | Exception] = {}  # by path, or by provider for a call as a whole
        self.gate: asyncio.Event | None = None  # answers wait for it

    async def __call__(self, provider: str, requests: Sequence[tuple[str, str | None]]) -> list[Any]:
        self.calls.append((provider, list(requests)))
        if self.gate is not None:
            await self.gate.wait()
        if provider in self.errors:
            raise self.errors[provider]
        return [self._one(path, version) for path, version in requests]

    def _one(self, path: str, version: str | None) -> Any:
        if path in self.errors:
            return self.errors[path]
        content = self.content.get(path, b"value of " + path.encode())
        return SecretData(SecretValue(content), version=self.version.get(path, version or "1"), created_at=5.0)


class Bench:
    """A cache, what it is connected to, and the time."""

    def __init__(self, **options: Any) -> None:
        self.now = 1000.0
        self.ttl = {"p": TTL, "q": TTL}
        self.backend = Backend()
        self.events = Events()
        options = {"random": lambda: 0.0, **options}
        self.cache = Cache(self.backend, self.ttl.__getitem__, emit=self.events, clock=lambda: self.now, **options)

    async def get(self, key: Key = A) -> Cached | ProviderError:
        return (await self.cache.get_many([key]))[key]

    async def value(self, key: Key = A) -> bytes:
        found = await self.get(key)
        assert isinstance(found, Cached), found
        return found.data.content.reveal()

    async def code(self, key: Key = A) -> str:
        found = await self.get(key)
        assert isinstance(found, ProviderError), found
        return found.code

    def fail(self, path: str, code: str, retry_after: float | None = None) -> None:
        self.backend.errors[path] = ProviderError(code, "no", retry_after=retry_after)

    @property
    def calls(self) -> int:
        return len(self.backend.calls)

    def named(self) -> list[str]:
        return [name for name, _ in self.events.all]


@in_loop
async def test_value_is_fetched_once_and_served_until_its_time_is_over() -> None:
    bench = Bench()
    for age in (0.0, 10.0, TTL - 10.001):
        bench.now += age if age == 10.0 else 0
        assert await bench.value() == b"value of a"
    bench.now = 1000 + TTL - 0.001
    found = await bench.get()
    assert isinstance(found, Cached)
    assert (round(found.age, 3), found.stale, bench.calls) == (TTL - 0.001, False, 1)
    bench.now = 1000 + TTL
    assert await bench.value() == b"value of a"
    assert bench.calls == 2


@in_loop
async def test_hundred_callers_of_one_expired_secret_are_one_call() -> None:
    bench = Bench()
    await bench.value()
    bench.now += TTL
    bench.backend.gate = asyncio.Event()
    callers = [asyncio.create_task(bench.value()) for _ in range(100)]
    await asyncio.sleep(0.01)
    bench.backend.gate.set()
    assert await asyncio.gather(*callers) == [b"value of a"] * 100
    assert bench.calls == 2
    assert bench.cache.counts()["joined"] == 99


@in_loop
async def test_first_caller_may_go_without_taking_the_fetch_from_the_others() -> None:
    bench = Bench()
    bench.backend.gate = asyncio.Event()
    first = asyncio.create_task(bench.value())
    await asyncio.sleep(0)
    others = [asyncio.create_task(bench.value()) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    bench.backend.gate.set()
    assert await asyncio.gather(*others) == [b"value of a"] * 3
    assert bench.calls == 1


@in_loop
async def test_everybody_may_go_and_the_value_is_there_for_the_next() -> None:
    bench = Bench()
    bench.backend.gate = asyncio.Event()
    only = asyncio.create_task(bench.value())
    await asyncio.sleep(0)
    only.cancel()
    await asyncio.wait([only])
    bench.backend.gate.set()
    await asyncio.sleep(0.01)
    assert await bench.value() == b"value of a"
    assert bench.calls == 1


@in_loop
async def test_what_is_missing_goes_to_each_provider_as_one_call_side_by_side() -> None:
    bench = Bench()
    await bench.value(A)
    bench.backend.gate = asyncio.Event()
    keys = [A, B, C, Key("p", "d", "3"), B]
    asking = asyncio.create_task(bench.cache.get_many(keys))
    await asyncio.sleep(0.01)
    assert bench.backend.calls[1:] == [("p", [("b", None), ("d", "3")]), ("q", [("c", None)])]  # both under way
    bench.backend.gate.set()
    assert set(await asking) == set(keys)


@in_loop
async def test_slow_provider_delays_only_those_who_ask_for_its_secrets() -> None:
    bench = Bench()
    await bench.value(C)
    bench.backend.gate = asyncio.Event()
    slow = asyncio.create_task(bench.value(A))
    await asyncio.sleep(0)
    assert await bench.value(C) == b"value of c"
    assert not slow.done()
    bench.backend.gate.set()
    await slow


@pytest.mark.parametrize("code", sorted(TRANSIENT))
@in_loop
async def test_old_value_is_served_with_its_age_while_a_provider_is_down(code: str) -> None:
    bench = Bench()
    await bench.value()
    bench.now += TTL + 5
    bench.fail("a", code)
    found = await bench.get()
    assert isinstance(found, Cached)
    assert (found.data.content.reveal(), found.age, found.stale) == (b"value of a", TTL + 5, True)
    assert bench.events.of("secret.stale") == [
        {"provider": "p", "path": "a", "pin": "", "version": "1", "age": TTL + 5, "code": code}
    ]
    assert [(entry.stale, entry.code) for entry in bench.cache.entries()] == [(True, code)]
    bench.backend.errors.clear()
    bench.now += 3600
    found = await bench.get()
    assert isinstance(found, Cached)
    assert (found.age, found.stale) == (0, False)
    assert [(entry.stale, entry.code) for entry in bench.cache.entries()] == [(False, "")]


@in_loop
async def test_provider_that_is_down_is_asked_less_and_less_often() -> None:
    bench = Bench()
    await bench.value()
    bench.now += TTL
    bench.fail("a", UNAVAILABLE)
    asked = []
    began = bench.now
    while bench.now < began + 300:
        before = bench.calls
        await bench.value()
        if bench.calls > before:
            asked.append(bench.now - began)
        bench.now += 0.5
    assert asked == [0, 1, 3, 7, 15, 31, 63, 123, 183, 243]


@in_loop
async def test_retries_are_spread_by_chance() -> None:
    bench = Bench(random=random.Random(7).random)
    keys = [Key("p", str(number)) for number in range(50)]
    await bench.cache.get_many(keys)
    bench.now += TTL
    for key in keys:
        bench.fail(key.path, UNAVAILABLE)
    await bench.cache.get_many(keys)
    times = {value.failure.retry_at for _, value in bench.cache._store.items() if value.failure}
    assert len(times) == 50
    assert all(bench.now + 0.5 <= one <= bench.now + 1 for one in times)


@in_loop
async def test_one_failed_call_speaks_for_all_secrets_of_the_provider() -> None:
    bench = Bench()
    keys = [Key("p", str(number)) for number in range(20)]
    await bench.cache.get_many([*keys, C])
    bench.now += TTL
    bench.backend.errors["p"] = ProviderError(UNAVAILABLE, "down")
    before = bench.calls
    for key in keys:
        found = await bench.get(key)
        assert isinstance(found, Cached)
        assert found.stale
    assert bench.calls == before + 1
    found = await bench.get(C)
    assert isinstance(found, Cached)
    assert not found.stale  # another provider's


@in_loop
async def test_provider_is_in_trouble_while_nothing_that_is_asked_of_it_can_be_had() -> None:
    bench = Bench()
    assert bench.cache.trouble("p") is None  # never asked
    bench.backend.errors["p"] = ProviderError(UNAUTHENTICATED, "expired")
    await bench.get(A)
    trouble = bench.cache.trouble("p")
    assert trouble is not None
    assert (trouble.code, trouble.message) == (UNAUTHENTICATED, "expired")
    assert bench.cache.trouble("q") is None
    bench.backend.errors = {"b": ProviderError(NOT_FOUND, "none")}
    await bench.get(B)
    assert bench.cache.trouble("p") is None  # it answers: that there is no such secret


@in_loop
async def test_one_failing_secret_does_not_make_its_provider_suspect() -> None:
    bench = Bench()
    await bench.cache.get_many([A, B])
    bench.now += TTL
    bench.fail("a", UNAVAILABLE)
    found = await bench.cache.get_many([A, B])
    assert [one.stale for one in found.values() if isinstance(one, Cached)] == [True, False]
    bench.now += TTL
    assert not (await bench.cache.get_many([B]))[B].stale


@in_loop
async def test_nobody_waits_long_for_a_provider_that_failed_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dso.agent.cache.PATIENCE", 0.05)
    bench = Bench()
    await bench.value()
    bench.now += TTL
    bench.fail("a", PLUGIN_TIMEOUT)
    await bench.value()
    bench.now += 60
    bench.backend.gate = asyncio.Event()  # now it hangs
    for _ in range(3):
        found = await bench.get()
        assert isinstance(found, Cached)
        assert found.stale
    assert bench.calls == 3
    bench.backend.errors.clear()
    bench.backend.content["a"] = b"new"
    bench.backend.gate.set()
    await asyncio.sleep(0.01)
    assert await bench.value() == b"new"
    assert bench.calls == 3


@in_loop
async def test_throttled_provider_is_left_alone_for_as_long_as_it_asked() -> None:
    bench = Bench()
    await bench.value(A)
    bench.now += TTL
    bench.fail("a", THROTTLED, retry_after=30)
    assert await bench.value(A) == b"value of a"
    bench.backend.errors.clear()
    for _ in range(3):
        found = await bench.get(B)  # which has no value
        assert isinstance(found, ProviderError)
        assert (found.code, found.retry_after) == (THROTTLED, 30)
        assert await bench.value(A) == b"value of a"
        assert (await bench.cache.refresh([A, B]))[B].code == THROTTLED
    assert bench.calls == 2
    bench.now += 30
    assert await bench.value(B) == b"value of b"
    assert await bench.value(C) == b"value of c"


@pytest.mark.parametrize("code", [NOT_FOUND, PERMISSION_DENIED])
@in_loop
async def test_secret_that_was_taken_away_is_never_served_again(code: str) -> None:
    bench = Bench()
    await bench.value()
    bench.now += TTL
    bench.fail("a", code)
    assert await bench.code() == code
    assert bench.cache.entries() == []
    assert bench.events.of("secret.removed") == [{"provider": "p", "path": "a", "pin": "", "code": code}]
    bench.fail("a", UNAVAILABLE)
    bench.now += NEGATIVE_SECONDS
    assert await bench.code() == UNAVAILABLE


@pytest.mark.parametrize("code", [NOT_FOUND, PERMISSION_DENIED])
@in_loop
async def test_no_is_believed_for_a_short_time(code: str) -> None:
    bench = Bench()
    bench.fail("a", code)
    for _ in range(5):
        assert await bench.code() == code
    assert bench.calls == 1
    assert bench.cache.counts()["negative"] == 4
    bench.backend.errors.clear()
    bench.now += NEGATIVE_SECONDS
    assert await bench.value() == b"value of a"


@in_loop
async def test_secret_without_a_value_is_tried_again_soon_but_not_at_once() -> None:
    bench = Bench()
    bench.fail("a", PLUGIN_CRASHED)
    asked = []
    began = bench.now
    for _ in range(200):
        before = bench.calls
        assert await bench.code() == PLUGIN_CRASHED
        if bench.calls > before:
            asked.append(bench.now - began)
        bench.now += 0.125
    assert asked == [0, 0.5, 1.5, 3.5, 7.5, 12.5, 17.5, 22.5]
    bench.backend.errors.clear()
    bench.now += 5
    assert await bench.value() == b"value of a"


@pytest.mark.parametrize("code", [UNAUTHENTICATED, INVALID_CONFIG])
@in_loop
async def test_definite_refusal_is_no_outage(code: str) -> None:
    """Beyond its time a value is not served when the provider says that we have no business with it."""
    bench = Bench()
    await bench.value()
    bench.fail("a", code)
    assert (await bench.cache.refresh([A]))[A].code == code
    assert await bench.value() == b"value of a"  # it is still fresh
    bench.now += TTL
    assert await bench.code() == code
    bench.fail("a", UNAVAILABLE)
    bench.now += 60
    assert await bench.code() == UNAVAILABLE
    bench.backend.errors.clear()
    bench.now += 60
    assert await bench.value() == b"value of a"


@in_loop
async def test_change_is_told_once_and_a_new_version_of_the_same_is_none() -> None:
    bench = Bench()
    await bench.value()
    bench.now += TTL
    bench.backend.version["a"] = "2"
    await bench.value()
    assert bench.named() == ["secret.fetched", "secret.fetched"]
    bench.now += TTL
    bench.backend.version["a"], bench.backend.content["a"] = "3", b"new"
    assert await bench.value() == b"new"
    assert bench.events.of("secret.changed") == [
        {"provider": "p", "path": "a", "pin": "", "version": "3", "former": "2"}
    ]
    assert "new" not in repr(bench.events.all)


@in_loop
async def test_refresh_asks_at_once_and_tells_what_changed() -> None:
    bench = Bench()
    await bench.cache.get_many([A, B, C])
    bench.backend.content["a"] = b"new"
    bench.fail("c", UNAVAILABLE)
    found = await bench.cache.refresh()
    assert (found[A], found[B]) == (True, False)
    assert isinstance(found[C], ProviderError)
    assert await bench.value(A) == b"new"
    assert await bench.value(C) == b"value of c"
    assert await bench.cache.refresh([Key("p", "unheard")]) == {Key("p", "unheard"): False}


@in_loop
@pytest.mark.parametrize("code", [NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED, UNAVAILABLE])
async def test_refresh_of_everything_forgets_what_could_not_be_had(code: str) -> None:
    """Create the missing secret, sync, up: nobody has to wait for what was missing before to be forgotten."""
    bench = Bench()
    bench.fail("a", code)
    assert await bench.code() == code
    bench.backend.errors.clear()
    assert await bench.code() == code  # believed for a while
    assert await bench.cache.refresh() == {}
    assert await bench.value() == b"value of a"


@in_loop
async def test_refresh_of_everything_forgets_a_failure_that_was_on_its_way() -> None:
    bench = Bench()
    bench.fail("a", NOT_FOUND)
    bench.backend.gate = asyncio.Event()
    asking = asyncio.create_task(bench.code())
    await asyncio.sleep(0)
    refreshing = asyncio.create_task(bench.cache.refresh())
    await asyncio.sleep(0)
    bench.backend.gate.set()
    assert await asking == NOT_FOUND
    await refreshing
    bench.backend.errors.clear()
    assert await bench.value() == b"value of a"


@in_loop
async def test_refresh_does_not_believe_a_failure_of_the_past() -> None:
    bench = Bench()
    bench.fail("a", NOT_FOUND)
    assert await bench.code() == NOT_FOUND
    bench.backend.errors.clear()
    assert await bench.cache.refresh([A]) == {A: False}
    assert await bench.value() == b"value of a"


@in_loop
async def test_refresh_does_not_take_the_answer_to_a_question_that_was_asked_before() -> None:
    bench = Bench()
    bench.backend.gate = asyncio.Event()
    asking = asyncio.create_task(bench.value())
    await asyncio.sleep(0)
    refreshing = [asyncio.create_task(bench.cache.refresh([A])) for _ in range(10)]
    await asyncio.sleep(0)
    assert bench.calls == 1
    bench.backend.gate.set()
    await asking
    await asyncio.gather(*refreshing)
    assert bench.calls == 2  # one more, for all ten


@in_loop
async def test_pinned_version_that_is_itself_is_fresh_for_longer_and_a_label_is_not() -> None:
    bench = Bench()
    version, label = Key("p", "a", "3"), Key("p", "b", "AWSPREVIOUS")
    bench.backend.version["b"] = "8d5c"
    await bench.cache.get_many([version, label])
    bench.now += 11 * TTL
    await bench.cache.get_many([version, label])
    assert bench.backend.calls[1:] == [("p", [("b", "AWSPREVIOUS")])]
    bench.now += TTL
    await bench.cache.get_many([version])
    assert bench.calls == 3


@in_loop
async def test_provider_without_caching_is_asked_each_time_and_nothing_is_kept() -> None:
    bench = Bench()
    bench.ttl["p"] = 0
    assert await bench.value() == b"value of a"
    assert await bench.value() == b"value of a"
    assert bench.calls == 2
    assert bench.cache.entries() == []
    bench.fail("a", UNAVAILABLE)
    assert await bench.code() == UNAVAILABLE


@in_loop
async def test_forgotten_provider_answers_anew_and_what_is_under_way_is_not_kept() -> None:
    bench = Bench()
    await bench.value(B)
    bench.backend.gate = asyncio.Event()
    before = asyncio.create_task(bench.value(A))
    await asyncio.sleep(0)
    bench.cache.forget("p")
    bench.backend.content["a"] = b"of the new configuration"
    after = asyncio.create_task(bench.value(A))
    await asyncio.sleep(0)
    bench.backend.gate.set()
    await asyncio.gather(before, after)
    assert bench.calls == 3
    assert [entry.key for entry in bench.cache.entries()] == [A]
    assert await bench.value(A) == b"of the new configuration"
    assert await bench.value(B) == b"value of b"
    assert bench.calls == 4


@in_loop
async def test_value_is_renewed_ahead_of_time_without_anybody_waiting() -> None:
    bench = Bench(ahead=0.1)
    await bench.value()
    bench.now += TTL * 0.89
    await bench.value()
    assert bench.calls == 1
    bench.now += TTL * 0.02
    bench.backend.content["a"] = b"new"
    assert await bench.value() == b"value of a"
    await asyncio.sleep(0.01)
    assert await bench.value() == b"new"
    assert bench.calls == 2


@pytest.mark.parametrize("defect", [ValueError("canary"), ProviderError(INTERNAL, "x")])
@in_loop
async def test_defect_of_a_provider_is_an_error_for_those_who_asked(
    defect: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    bench = Bench()
    bench.backend.errors["p"] = defect
    found = await bench.cache.get_many([A, B, C])
    assert [one.code for one in found.values() if isinstance(one, ProviderError)] == [INTERNAL] * 2
    assert isinstance(found[C], Cached)
    assert "canary" not in caplog.text


@in_loop
async def test_lost_answers_are_an_error_and_no_mix_up() -> None:
    async def forgetful(_provider: str, requests: Sequence[tuple[str, str | None]]) -> list[Any]:
        return [SecretData(SecretValue(b"x"))] * (len(requests) - 1)

    cache = Cache(forgetful, lambda _: TTL, emit=Events())
    found = await cache.get_many([A, B])
    assert [one.code for one in found.values() if isinstance(one, ProviderError)] == [INTERNAL] * 2


@in_loop
async def test_close_leaves_nobody_waiting() -> None:
    bench = Bench()
    bench.backend.gate = asyncio.Event()
    waiting = asyncio.create_task(bench.code())
    await asyncio.sleep(0)
    await bench.cache.close()
    assert await waiting == INTERNAL


@in_loop
async def test_memory_is_bounded_by_bytes_and_the_least_used_goes_first() -> None:
    bench = Bench(bounds={"max_bytes": 40_000})
    keys = [Key("p", str(number)) for number in range(5)]
    for key in keys:
        bench.backend.content[key.path] = bytes(9_000)
        await bench.value(keys[0])
        await bench.value(key)
    assert [entry.key for entry in bench.cache.entries()] == [keys[0], keys[2], keys[3], keys[4]]
    counts = bench.cache.counts()
    assert (counts["evicted"], counts["entries"]) == (1, 4)
    assert 36_000 < counts["bytes"] <= 40_000
    bench.backend.content["big"] = bytes(50_000)
    assert len(await bench.value(Key("p", "big"))) == 50_000  # served, and not kept
    assert bench.cache.counts()["entries"] == 4


@in_loop
async def test_asking_for_nonsense_drives_out_no_value() -> None:
    bench = Bench(bounds={"max_values": 10, "max_failures": 5})
    await bench.value(A)
    for number in range(50):
        bench.fail(f"none{number}", NOT_FOUND)
        await bench.code(Key("p", f"none{number}"))
    assert len(bench.cache._store._failures) == 5
    calls = bench.calls
    assert await bench.value(A) == b"value of a"
    assert bench.calls == calls


@in_loop
async def test_status_shows_names_and_ages_and_no_values() -> None:
    bench = Bench()
    pinned = Key("p", "a", "3")
    await bench.cache.get_many([C, A, pinned])
    bench.now += 10
    first = bench.cache.entries()[0]
    assert [entry.key for entry in bench.cache.entries()] == [A, pinned, C]
    assert (first.version, first.size, first.age, first.expires_in) == ("1", len(b"value of a"), 10, TTL - 10)
    assert (first.created_at, first.code, first.stale) == (5.0, "", False)
    assert "value of" not in repr(bench.cache.entries())


@in_loop
async def test_leaps_of_the_clock_break_nothing() -> None:
    bench = Bench(ahead=0.1)
    await bench.cache.get_many([A, B])
    bench.fail("b", UNAVAILABLE)
    for leap in (-900.0, 1e9, -1e9, 0.5, 400.0, -400.0, 1e12):
        bench.now += leap
        found = await bench.cache.get_many([A, B])
        assert all(isinstance(one, Cached) and one.age >= 0 for one in found.values())
        assert all(entry.age >= 0 for entry in bench.cache.entries())
    assert await bench.value(A) == b"value of a"


class Play:
    """A cache under random steps, and what was true when: since when a secret held what, and what was said of it."""

    def __init__(self, seed: int, ahead: float) -> None:
        self.bench = Bench(ahead=ahead, bounds={"max_values": 3}, random=random.Random(seed).random)
        self.history = {path: [(0.0, b"value of " + path.encode())] for path in "abcd"}
        self.denied_at = dict.fromkeys("abcd", 0.0)
        self.seen: set[str] = set()

    def content_at(self, path: str, moment: float) -> set[bytes]:
        """What a secret held at a moment, give or take the precision of a sum."""
        before = [content for since, content in self.history[path] if since <= moment - 1e-6]
        about = {content for since, content in self.history[path] if abs(since - moment) <= 1e-6}
        return {*before[-1:], *about}

    async def wait(self, seconds: float) -> None:
        self.bench.now += seconds

    async def change(self, path: str) -> None:
        content = f"{len(self.history[path])} of {path}".encode()
        self.history[path].append((self.bench.now, content))
        self.bench.backend.content[path] = content

    async def spoil(self, what: tuple[str, str]) -> None:
        self.bench.fail(*what)

    async def mend(self, _: None) -> None:
        self.bench.backend.errors.clear()

    async def forget(self, _: None) -> None:
        self.bench.cache.forget("p")

    async def refresh(self, paths: list[str]) -> None:
        found = await self.bench.cache.refresh([Key("p", path) for path in paths])
        assert set(found) == {Key("p", path) for path in paths}

    async def get(self, paths: list[str]) -> None:
        found = await self.bench.cache.get_many([Key("p", path) for path in paths])
        assert set(found) == {Key("p", path) for path in paths}
        for key, one in found.items():
            self.judge(key.path, one)

    def judge(self, path: str, found: Cached | ProviderError) -> None:
        now = self.bench.now
        if isinstance(found, ProviderError):
            is_denied = found.code in (NOT_FOUND, PERMISSION_DENIED)
            self.seen.add("denied" if is_denied else "failed")
            if is_denied:
                self.denied_at[path] = now
            return
        self.seen.add("stale" if found.stale else "fresh")
        assert found.stale == (found.age >= TTL)
        assert found.data.content.reveal() in self.content_at(path, now - found.age)
        assert now - found.age >= self.denied_at[path] - 1e-6

    def check(self) -> None:
        counts = self.bench.cache.counts()
        assert counts["entries"] <= 3
        assert counts["bytes"] == sum(value.size for _, value in self.bench.cache._store.items())
        assert not self.bench.cache._flights


WAITS = [0.0, 0.3, 1.0, 5.0, 11.0, 70.0, 299.0, 300.0, 400.0, 1e6]
CODES = [*sorted(TRANSIENT), NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED]


def next_step(chance: random.Random) -> tuple[str, Any]:
    """Mostly questions, and time that passes."""
    name = chance.choices(["get", "wait", "change", "spoil", "mend", "refresh", "forget"], [40, 25, 12, 12, 5, 5, 1])[0]
    about = {
        "get": lambda: chance.choices("abcd", k=chance.randint(1, 3)),
        "refresh": lambda: chance.choices("abcd", k=chance.randint(1, 3)),
        "wait": lambda: chance.choice(WAITS),
        "change": lambda: chance.choice("abcd"),
        "spoil": lambda: (chance.choice("abcd"), chance.choice(CODES)),
    }
    return name, about.get(name, lambda: None)()


@pytest.mark.parametrize("ahead", [0.0, 0.2])
@pytest.mark.parametrize("seed", range(60))
@in_loop
async def test_every_value_was_true_at_its_age_and_no_old_one_passes_for_fresh(seed: int, ahead: float) -> None:
    play = Play(seed, ahead)
    chance = random.Random(seed)
    for _ in range(500):
        name, about = next_step(chance)
        await getattr(play, name)(about)
        for _ in range(5):
            await asyncio.sleep(0)  # for what goes on without anybody waiting
        play.check()
    await play.bench.cache.close()
    assert play.seen == {"fresh", "stale", "denied", "failed"}  # or the test would prove little


def test_the_store_counts_a_version_and_a_name() -> None:
    key = Key("p", "a")
    plain = SecretData(SecretValue(b"x"))
    for more in (plain._replace(version="\N{CROSS MARK}" * 500), plain._replace(name="n" * 500)):
        assert Value(key, more, 0.0).size >= Value(key, plain, 0.0).size + 500 * 4


@given(st.lists(st.tuples(st.sampled_from("abcdefgh"), st.integers(0, 5000)), max_size=60))
def test_store_never_exceeds_its_bounds_and_counts_right(puts: list[tuple[str, int]]) -> None:
    evicted: list[Key] = []
    store = Store(max_values=4, max_bytes=12_000, evicted=evicted.append)
    for path, size in puts:
        key = Key("p", path)
        store.put(key, Value(key, SecretData(SecretValue(bytes(size))), 0.0))
        assert len(store) <= 4
        assert store.bytes == sum(value.size for _, value in store.items()) <= 12_000
        assert store.value(key) is not None
