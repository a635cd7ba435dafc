"""Warm answers: put together of remembered text, and never of text that has outlived its secret."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.access import Access
from dso.agent.answers import Given, WarmGiven
from dso.agent.cache import Cache, Key
from dso.agent.resolver import Resolver
from dso.config.model import AccessRule, AgentConfig, CloudConfig, ProviderConfig, SecretConfig, Settings
from dso.protocol import codes
from dso.protocol.agent import ResolveRequest, SecretEntry
from dso.protocol.provider import ProviderError, SecretData
from tests.support.loop import Turns, in_loop
from tests.support.plugin_dir import Events
from tests.unit.agent.test_resolver import ALICE, MAC_KEY, ROOT, fields, text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.agent.access import Caller

TTL = 300.0


class Bench:
    """A resolver with a cache of its own, whose providers have what the test says, and the time."""

    def __init__(
        self, rules: Sequence[AccessRule] | None = None, *, bounds: dict[str, int] | None = None, entry: str = "plain"
    ) -> None:
        self.now = 1000.0
        self.ttl = {"p": TTL, "q": TTL}
        self.secrets: dict[str, SecretData | ProviderError] = {
            "plain": text("a value"),
            "bytes": text(b"\xff\x00"),
            "json": fields(user="app", password="hunter2"),
        }
        self.calls: list[str] = []
        self.cache = Cache(
            self._fetch, self.ttl.__getitem__, emit=Events(), clock=lambda: self.now, bounds=bounds, random=lambda: 0.0
        )
        self.rules = rules
        self.resolver = Resolver(self.configuration(entry), self.cache, MAC_KEY, Access(rules, own_uid=0))

    def configuration(self, entry: str) -> CloudConfig:
        return CloudConfig(
            "/etc/dso/dso.yaml",
            {name: ProviderConfig(name, "fake", Settings({}), cache_ttl=ttl) for name, ttl in self.ttl.items()},
            {"entry": SecretConfig("entry", "p", entry)},
            None,
            AgentConfig(),
        )

    async def _fetch(self, provider: str, requests: Sequence[tuple[str, str | None]]) -> list[Any]:
        self.calls += [f"{provider}/{path}" for path, _ in requests]
        return [self.secrets.get(path, text(path)) for path, _ in requests]

    async def answer(self, *values: str, caller: Caller = ROOT, **more: Any) -> Given | WarmGiven:
        return await self.resolver.answer(ResolveRequest(values, **more), caller)

    async def body(self, *values: str, caller: Caller = ROOT, **more: Any) -> Any:
        given = await self.answer(*values, caller=caller, **more)
        body = json.loads(b"".join(await given.encode()))
        assert body == given.response().to_json()
        return body

    async def warm_up(self, *values: str, **more: Any) -> None:
        """From now on these references have their lines."""
        await self.answer(*values, **more)
        assert isinstance(await self.answer(*values, **more), WarmGiven)


@in_loop
async def test_a_warm_answer_is_the_cold_one_with_the_age_of_each_secret() -> None:
    bench = Bench()
    asked = ["dso://p/plain", "dsofile://p/bytes", "dso://p/json#password", "dso://entry", "dso://p/plain"]
    checks = ["dso://p/json#value", "dso://q/plain?version=7", "dso://p/plain"]
    await bench.body(*asked[:2])
    bench.now += 5
    cold = await bench.answer(*asked, checks=checks)
    warm = await bench.answer(*asked, checks=checks)
    assert (type(cold), type(warm)) == (Given, WarmGiven)
    assert await cold.encode() == await warm.encode()
    assert (warm.found, list(warm.read), warm.errors, warm.refused) == (6, list(cold.read), (), ())
    bench.now += 0.25
    later = await bench.body(*asked, checks=checks)
    assert [one["age"] for one in later["resolved"]] == [5.25, 5.25, 0.25, 5.25, 0.25, 0.25]
    assert bench.calls == ["p/plain", "p/bytes", "p/json", "q/plain"]


@in_loop
async def test_a_secret_that_is_too_old_is_fetched_again() -> None:
    bench = Bench()
    await bench.warm_up("dso://p/plain", "dso://p/json#user")
    bench.now += TTL - 0.001
    assert isinstance(await bench.answer("dso://p/plain"), WarmGiven)
    bench.now += 0.001
    bench.secrets["plain"] = text("another", "2")
    (found,) = (await bench.body("dso://p/plain"))["resolved"]
    assert (found["value"], found["version"], found["age"]) == ("another", "2", 0)


@pytest.mark.parametrize("code", [codes.NOT_FOUND, codes.PERMISSION_DENIED])
@in_loop
async def test_what_is_taken_away_is_gone_at_once(code: str) -> None:
    bench = Bench()
    await bench.warm_up("dso://p/plain")
    bench.secrets["plain"] = ProviderError(code, "no")
    await bench.cache.refresh([Key("p", "plain")])
    body = await bench.body("dso://p/plain")
    assert (body["resolved"], body["errors"][0]["code"]) == ([], code)


@in_loop
async def test_what_the_cache_has_dropped_or_renewed_is_not_served_of_what_is_remembered() -> None:
    bench = Bench(bounds={"max_values": 2})
    await bench.warm_up("dso://p/plain", "dso://p/bytes")
    await bench.body("dso://p/other")  # drives one of the two out
    assert isinstance(await bench.answer("dso://p/plain", "dso://p/bytes"), Given)
    bench.cache.forget("p")
    bench.secrets["bytes"] = text("of the new configuration")
    (found,) = (await bench.body("dso://p/bytes"))["resolved"]
    assert found["value"] == "of the new configuration"
    bench.secrets["bytes"] = text("changed")
    await bench.warm_up("dso://p/bytes")
    await bench.cache.refresh()
    (found,) = (await bench.body("dso://p/bytes"))["resolved"]
    assert found["value"] == "changed"


@in_loop
async def test_being_served_warm_is_a_use_and_a_hit() -> None:
    bench = Bench(bounds={"max_values": 3})
    await bench.warm_up("dso://p/one", "dso://p/json#user", "dso://p/json#password")
    await bench.body("dso://p/two")
    before = bench.cache.counts()["hits"]
    assert isinstance(await bench.answer("dso://p/json#user", "dso://p/one", "dso://p/json#password"), WarmGiven)
    assert bench.cache.counts()["hits"] - before == 2, "two secrets"
    await bench.body("dso://p/three")
    assert {entry.key.path for entry in bench.cache.entries()} == {"one", "json", "three"}


@in_loop
async def test_a_new_time_to_live_holds_for_what_is_there() -> None:
    bench = Bench()
    await bench.warm_up("dso://p/plain", "dso://q/plain")
    bench.now += 60
    bench.ttl["p"] = 30
    bench.cache.reckon()
    calls = len(bench.calls)
    await bench.body("dso://p/plain", "dso://q/plain")
    assert bench.calls[calls:] == ["p/plain"]


@in_loop
async def test_a_secret_that_is_old_for_want_of_its_provider_is_called_stale() -> None:
    bench = Bench()
    await bench.warm_up("dso://p/plain")
    bench.now += TTL
    bench.secrets["plain"] = ProviderError(codes.UNAVAILABLE, "down")
    for _ in range(2):
        (found,) = (await bench.body("dso://p/plain"))["resolved"]
        assert (found["value"], found["stale"], found["age"]) == ("a value", True, TTL)


@in_loop
async def test_what_one_caller_may_read_warms_nothing_for_another() -> None:
    bench = Bench([AccessRule(("alice",), (), ("p/plain", "entry"))])
    await bench.warm_up("dso://p/plain", "dso://p/json#user", "dso://entry")
    assert isinstance(await bench.answer("dso://p/plain", "dso://entry", caller=ALICE), WarmGiven)
    body = await bench.body("dso://p/plain", "dso://p/json#user", caller=ALICE)
    assert [one["reference"] for one in body["resolved"]] == ["dso://p/plain"]
    assert [one["code"] for one in body["errors"]] == [codes.PERMISSION_DENIED]


@in_loop
async def test_a_projects_own_name_hides_the_agents() -> None:
    bench = Bench()
    await bench.warm_up("dso://entry")
    for _ in range(2):
        (found,) = (await bench.body("dso://entry", secrets=[SecretEntry("entry", "q", "mine")]))["resolved"]
        assert found["value"] == "mine"
    (found,) = (await bench.body("dso://entry"))["resolved"]
    assert found["value"] == "a value"


@in_loop
async def test_a_new_configuration_counts_from_the_next_request_on() -> None:
    bench = Bench()
    await bench.warm_up("dso://entry")
    bench.resolver.configure(bench.configuration("other"), Access(None, own_uid=0))
    (found,) = (await bench.body("dso://entry"))["resolved"]
    assert found["value"] == "other"


@in_loop
async def test_nothing_is_left_of_a_secret_once_it_is_forgotten_or_changed() -> None:
    bench = Bench()
    await bench.warm_up("dso://p/plain", "dso://p/bytes")
    assert len(bench.resolver._picker._lines) == 2
    bench.resolver.forget()
    assert not bench.resolver._picker._lines
    await bench.warm_up("dso://p/plain", "dso://p/bytes")
    bench.secrets["plain"] = text("changed")
    await bench.cache.refresh()
    await bench.body("dso://p/plain")
    assert [line.text for line in bench.resolver._picker._lines.values()] == ["dso://p/plain"]


@in_loop
async def test_lines_are_bounded_and_large_values_have_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dso.agent.picking._MAX_LINES", 10)
    bench = Bench()
    bench.secrets["large"] = text("x" * 5000)
    for _ in range(3):
        await bench.body("dso://p/large")
    assert not bench.resolver._picker._lines
    for number in range(100):
        await bench.body(f"dso://p/{number}")
        assert len(bench.resolver._picker._lines) <= 10


@in_loop
async def test_one_warm_answer_has_its_limit_in_bytes_as_they_are_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    await bench.warm_up("dso://p/plain", "dso://p/json#user")
    alone = await bench.answer("dso://p/plain")
    assert isinstance(alone, WarmGiven)
    monkeypatch.setattr("dso.agent.resolver.MAX_ANSWER", alone.weight + 10)
    body = await bench.body("dso://p/plain", "dso://p/json#user")
    assert [one["reference"] for one in body["resolved"]] == ["dso://p/plain"]
    assert [one["code"] for one in body["errors"]] == [codes.TOO_LARGE]


@in_loop
async def test_others_have_their_turn_while_thousands_of_warm_references_are_put_together() -> None:
    bench = Bench()
    asked = [f"dso://p/{number}" for number in range(2000)]
    await bench.warm_up(*asked)
    async with Turns() as turns:
        body = await bench.body(*asked)
    assert [one["value"] for one in body["resolved"]] == [str(number) for number in range(2000)]
    assert turns.count >= 2000 // 200 - 2


@in_loop
async def test_a_provider_whose_secrets_are_never_kept_has_no_lines() -> None:
    bench = Bench()
    bench.ttl["p"] = 0
    bench.resolver.configure(bench.configuration("plain"), Access(None, own_uid=0))
    for _ in range(2):
        assert isinstance(await bench.answer("dso://p/plain"), Given)
    assert bench.calls == ["p/plain"] * 2
