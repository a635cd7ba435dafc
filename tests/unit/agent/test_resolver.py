"""What references mean, and their values."""

from __future__ import annotations

import asyncio
import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent import resolver as resolving
from dso.agent.access import Access, Caller
from dso.agent.cache import Cached, Key
from dso.agent.picking import AT_ONCE
from dso.agent.resolver import Resolver, UnresolvedError
from dso.config.model import AccessRule, AgentConfig, CloudConfig, ProviderConfig, SecretConfig, Settings
from dso.protocol import codes
from dso.protocol.agent import ResolveRequest, ResolveResponse, SecretEntry, VolumeFile, VolumeSpec
from dso.protocol.fields import MAX_VALUES, field_of, members_of
from dso.protocol.provider import ProviderError, SecretData
from dso.secret import SecretRef, SecretValue
from tests.support.loop import Turns, in_loop

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

ROOT = Caller(1, 0, "root", frozenset({0}), frozenset({"root"}), trusted=True)
ALICE = Caller(2, 1000, "alice", frozenset({1000}), frozenset({"alice"}), trusted=False)
MAC_KEY = bytes(range(32))


def text(content: str | bytes, version: str = "1") -> SecretData:
    return SecretData(SecretValue(content.encode() if isinstance(content, str) else content), version=version)


def fields(version: str = "1", **found: Any) -> SecretData:
    return SecretData(SecretValue(json.dumps(found).encode()), is_fields=True, version=version)


class Memory:
    """Stands for the cache: what it has, and what it was asked."""

    def __init__(self, secrets: dict[Key, Any]) -> None:
        self.secrets = secrets
        self.asked: list[list[Key]] = []
        self.age, self.stale = 1.5, False

    async def get_many(self, keys: Iterable[Key], _allowance: object = None) -> dict[Key, Any]:
        self.asked.append(list(keys))
        return {key: self._answer(key) for key in self.asked[-1]}

    def _answer(self, key: Key) -> Any:
        found = self.secrets.get(key, ProviderError(codes.NOT_FOUND, f"provider {key.provider!r} has no {key.path!r}"))
        return found if isinstance(found, ProviderError) else Cached(found, self.age, self.stale)


SECRETS = {
    Key("vault", "prod/db"): fields(username="app", password="hunter2", port=5432),
    Key("vault", "one"): fields(token="t0ken"),
    Key("vault", "elsewhere/tls"): text("KEY"),
    Key("vault", "elsewhere/tls", "3"): text("OLD KEY", "3"),
    Key("aws", "json"): text('{"a": 1.10, "b": "x"}'),
    Key("aws", "plain"): text("just text"),
    Key("aws", "bytes"): text(b"\xff\x00"),
}


def configuration(
    providers: Sequence[str] = ("vault", "aws"),
    entries: Sequence[SecretConfig] = (SecretConfig("tls/key", "vault", "elsewhere/tls"),),
    *,
    ttl: float = 300,
) -> CloudConfig:
    return CloudConfig(
        "/etc/dso/dso.yaml",
        {name: ProviderConfig(name, "fake", Settings({}), cache_ttl=ttl) for name in providers},
        {entry.name: entry for entry in entries},
        None,
        AgentConfig(),
    )


class Bench:
    def __init__(
        self, config: CloudConfig | None = None, *, rules: Sequence[AccessRule] | None = None, caller: Caller = ROOT
    ) -> None:
        self.memory = Memory(dict(SECRETS))
        access = Access(rules, own_uid=0)
        self.resolver = Resolver(config or configuration(), self.memory, MAC_KEY, access)  # type: ignore[arg-type]
        self.caller = caller

    async def ask(self, *values: str, checks: Sequence[str] = (), own: Sequence[SecretEntry] = ()) -> ResolveResponse:
        return await self.resolver.resolve(ResolveRequest(values, checks, own), self.caller)

    async def value(self, reference: str, **more: Any) -> bytes:
        answer = await self.ask(reference, **more)
        assert not answer.errors, answer.errors
        value = answer.resolved[0].value
        assert value is not None
        return value.reveal()

    async def fault(self, reference: str, **more: Any) -> Any:
        answer = await self.ask(reference, **more)
        assert not answer.resolved
        return answer.errors[0]


# What the answer says besides


def test_the_backends_own_name_is_told_with_every_reference_to_it() -> None:
    bench = Bench()
    bench.memory.secrets[Key("aws", "a_b")] = text('{"p": "x"}')._replace(name="a-b")
    asked = ResolveRequest(["dso://aws/a_b#p", "dso://aws/plain"], ["dsofile://aws/a_b"])
    given = asyncio.run(bench.resolver.answer(asked, ROOT))
    answer = ResolveResponse.from_json(json.loads(b"".join(asyncio.run(given.encode()))))
    assert answer == given.response()
    assert [one.name for one in answer.resolved] == ["a-b", "", "a-b"]


# What a reference means


@in_loop
async def test_a_name_in_dso_yaml_comes_before_a_provider_of_that_name() -> None:
    entry = SecretConfig("vault/one", "aws", "plain")
    assert await Bench(configuration(entries=[entry])).value("dso://vault/one") == b"just text"
    assert await Bench().value("dso://vault/one") == b"t0ken"


@in_loop
async def test_the_first_segment_may_be_a_provider_and_the_rest_a_path_in_it() -> None:
    assert await Bench().value("dso://vault/elsewhere/tls") == b"KEY"
    assert await Bench().value("dso://tls/key") == b"KEY"


@in_loop
async def test_with_one_provider_the_whole_may_be_a_path_in_it() -> None:
    only = Bench(configuration(["vault"], []))
    assert await only.value("dso://elsewhere/tls") == b"KEY"
    assert await only.value("dso://one") == b"t0ken"
    assert await only.value("dso://vault/one") == b"t0ken"


@in_loop
async def test_what_leads_nowhere_says_what_could_have_been_meant() -> None:
    fault = await Bench().fault("dso://prod/key")
    assert fault.code == codes.UNKNOWN_SECRET
    assert "'prod/key'" in fault.message
    assert "did you mean dso://tls/key?" in fault.hint
    assert "dso://vault/prod/key or dso://aws/prod/key" in fault.hint
    assert fault.reference == "dso://prod/key"


@in_loop
async def test_names_are_compared_for_few_references_and_with_few_names(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[tuple[str, list[str]]] = []

    def counted(path: str, names: list[str], _most: int) -> list[str]:
        compared.append((path, names))
        return []

    monkeypatch.setattr("dso.agent.lookup.get_close_matches", counted)
    own = [SecretEntry(f"own{at:04}", "aws", "plain") for at in range(1000)]
    answer = await Bench().ask(*(f"dso://no/{at}" for at in range(100)), own=own)
    assert [fault.code for fault in answer.errors] == [codes.UNKNOWN_SECRET] * 100
    assert [bool(fault.hint) for fault in answer.errors] == [True] * 5 + [False] * 95
    assert [path for path, _ in compared] == [f"no/{at}" for at in range(5)]
    assert {len(names) for _, names in compared} == {200}
    compared.clear()
    await Bench().ask("dso://no/" + "a" * 190, own=[SecretEntry("a" * 390 + str(at), "aws", "x") for at in range(200)])
    assert sum(len(path) * len(name) for path, names in compared for name in names) <= 100_000


@in_loop
async def test_an_agent_without_providers_says_so() -> None:
    assert "no providers" in (await Bench(configuration([], [])).fault("dso://x")).hint


@in_loop
async def test_names_of_the_request_win_over_those_of_dso_yaml() -> None:
    own = [SecretEntry("tls/key", "aws", "plain"), SecretEntry("mine", "vault", "elsewhere/tls", "3")]
    bench = Bench()
    assert await bench.value("dso://tls/key") == b"KEY"
    assert await bench.value("dso://tls/key", own=own) == b"just text"
    assert await bench.value("dso://mine", own=own) == b"OLD KEY"
    assert await bench.value("dso://tls/key") == b"KEY", "the request's names are the request's alone"
    assert (await bench.fault("dso://mine")).code == codes.UNKNOWN_SECRET


@in_loop
async def test_a_pin_of_the_reference_wins_over_that_of_the_entry() -> None:
    bench = Bench(configuration(entries=[SecretConfig("tls/key", "vault", "elsewhere/tls", version="9")]))
    assert await bench.value("dso://tls/key?version=3") == b"OLD KEY"
    await bench.ask("dso://tls/key")
    assert bench.memory.asked[-1] == [Key("vault", "elsewhere/tls", "9")]


@in_loop
async def test_a_request_cannot_bring_a_provider() -> None:
    fault = await Bench().fault("dso://mine", own=[SecretEntry("mine", "evil", "x")])
    assert (fault.code, fault.provider) == (codes.UNKNOWN_PROVIDER, "evil")
    assert "vault, aws" in fault.hint


@pytest.mark.parametrize(
    "path",
    [
        *["", "a/../b", "..", "./a", "a\nb", "a\ud800", "x" * 3000],
        *["%2e%2e/a", "a\\b", "\uff0e\uff0e/a", "a/\u2024\u2024/b", "a//b", "..;/a"],
    ],
)
def test_a_request_cannot_bring_a_path_or_version_that_is_none(path: str) -> None:
    @in_loop
    async def check() -> None:
        bench = Bench()
        for entry in (SecretEntry("mine", "vault", path), SecretEntry("mine", "vault", "plain", path)):
            assert (await bench.fault("dso://mine", own=[entry])).code == codes.INVALID_REQUEST
        assert bench.memory.asked == [[]] * 2

    check()


@in_loop
async def test_malformed_references_do_not_hinder_the_others() -> None:
    answer = await Bench().ask("dso://tls/key", "nonsense", "dso://a b", "dso://" + "x" * 5000, "dso://a?v=1")
    assert [one.reference for one in answer.resolved] == ["dso://tls/key"]
    assert {fault.code for fault in answer.errors} == {codes.INVALID_REQUEST}
    assert max(len(fault.reference) for fault in answer.errors) == 512


# Values


@in_loop
async def test_fields_numbers_and_whole_secrets() -> None:
    bench = Bench()
    assert await bench.value("dso://vault/prod/db#password") == b"hunter2"
    assert await bench.value("dso://vault/prod/db#port") == b"5432"
    assert await bench.value("dso://aws/json#a") == b"1.10"
    assert await bench.value("dso://aws/plain") == b"just text"
    assert await bench.value("dso://aws/plain#value") == b"just text"
    assert json.loads(await bench.value("dso://vault/prod/db#value"))["username"] == "app"


@in_loop
async def test_a_file_gets_text_as_it_is_and_of_fields_the_only_one() -> None:
    bench = Bench()
    assert await bench.value("dsofile://aws/json") == b'{"a": 1.10, "b": "x"}'
    assert await bench.value("dsofile://aws/bytes") == b"\xff\x00"
    assert await bench.value("dsofile://vault/one") == b"t0ken"
    fault = await bench.fault("dsofile://vault/prod/db")
    assert fault.code == codes.UNKNOWN_FIELD
    assert "username, password, port" in fault.message
    assert "dsofile://vault/prod/db#FIELD" in fault.hint
    assert "hunter2" not in repr(fault)


@in_loop
async def test_several_fields_and_none_picked_names_them() -> None:
    for reference in ("dso://vault/prod/db", "dso://aws/json", "dso://vault/prod/db#nope"):
        fault = await Bench().fault(reference)
        assert fault.code == codes.UNKNOWN_FIELD
        assert "a" in fault.message
        assert fault.reference == reference


@in_loop
async def test_a_check_has_no_value_but_everything_else() -> None:
    answer = await Bench().ask(checks=["dsofile://tls/key"])
    one = answer.resolved[0]
    assert one.value is None
    assert (one.size, one.version, one.age, one.stale) == (3, "1", 1.5, False)
    assert re.fullmatch("[0-9a-f]{32}", one.fingerprint)


@in_loop
async def test_every_reference_once_values_first_in_their_order() -> None:
    answer = await Bench().ask(
        "dso://tls/key",
        "dso://aws/none",
        "dso://tls/key",
        checks=["dsofile://tls/key", "dso://tls/key", "dso://bad/name"],
    )
    assert [(one.reference, one.value is not None) for one in answer.resolved] == [
        ("dso://tls/key", True),
        ("dsofile://tls/key", False),
    ]
    assert [fault.reference for fault in answer.errors] == ["dso://aws/none", "dso://bad/name"]


@in_loop
async def test_all_references_are_asked_for_at_once() -> None:
    bench = Bench()
    await bench.ask("dso://vault/prod/db#username", "dso://vault/prod/db#password", "dso://aws/plain", "dso://tls/key")
    assert len(bench.memory.asked) == 1
    assert set(bench.memory.asked[0]) == {Key("vault", "prod/db"), Key("aws", "plain"), Key("vault", "elsewhere/tls")}


@in_loop
async def test_a_providers_error_is_that_of_its_references_only() -> None:
    bench = Bench()
    bench.memory.secrets[Key("aws", "plain")] = ProviderError(codes.THROTTLED, "provider 'aws' asks to wait")
    answer = await bench.ask("dso://tls/key", "dso://aws/plain")
    assert [one.reference for one in answer.resolved] == ["dso://tls/key"]
    assert answer.errors[0]._asdict() == {
        "code": "throttled",
        "message": "provider 'aws' asks to wait",
        "hint": "",
        "reference": "dso://aws/plain",
        "provider": "aws",
        "retry_after": 0.0,
    }


@in_loop
async def test_an_answer_has_a_limit_and_says_what_exceeds_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """In bytes as they are sent: a character that JSON escapes counts as what it becomes."""
    bench = Bench()
    bench.memory.secrets[Key("aws", "escaped")] = text("\x01" * 1000)
    monkeypatch.setattr(resolving, "MAX_ANSWER", 4000)
    answer = await bench.ask("dso://aws/plain", "dso://aws/escaped", "dso://tls/key", checks=["dsofile://aws/json"])
    assert [one.reference for one in answer.resolved] == ["dso://aws/plain", "dso://tls/key", "dsofile://aws/json"]
    assert [(fault.reference, fault.code) for fault in answer.errors] == [("dso://aws/escaped", codes.TOO_LARGE)]


# Fingerprints


@in_loop
async def test_a_fingerprint_changes_with_the_value_and_with_nothing_else() -> None:
    bench, other = Bench(), Bench()
    before = (await bench.ask("dso://vault/prod/db#password")).resolved[0].fingerprint
    assert (await other.ask(checks=["dso://vault/prod/db#password"])).resolved[0].fingerprint == before
    bench.memory.secrets[Key("vault", "prod/db")] = fields("2", password="hunter2", other="new")
    assert (await bench.ask("dso://vault/prod/db#password")).resolved[0].fingerprint == before
    bench.memory.secrets[Key("vault", "prod/db")] = fields("3", password="hunter3")
    assert (await bench.ask("dso://vault/prod/db#password")).resolved[0].fingerprint != before


@in_loop
async def test_equal_values_of_different_secrets_and_fields_have_different_fingerprints() -> None:
    bench = Bench()
    bench.memory.secrets |= {
        Key("aws", "a"): fields(x="same", y="same"),
        Key("aws", "a", "1"): fields(x="same", y="same"),
        Key("aws", "b"): text("same"),
        Key("vault", "b"): text("same"),
    }
    answer = await bench.ask(
        "dso://aws/a#x", "dso://aws/a#y", "dso://aws/a#x?version=1", "dso://aws/b", "dso://vault/b"
    )
    assert len({one.fingerprint for one in answer.resolved}) == 5


@in_loop
async def test_a_warm_answer_is_the_cold_one_and_its_text_what_the_message_says() -> None:
    bench = Bench()
    request = ResolveRequest(
        ["dso://vault/prod/db#password", "dso://aws/bytes", "dso://tls/key"], ["dsofile://aws/json", "dso://nope/x"]
    )
    for age, stale in ((0.1234, False), (77.0, True)):
        bench.memory.age, bench.memory.stale = age, stale
        given = await bench.resolver.answer(request, ROOT)
        assert json.loads(b"".join(await given.encode())) == given.response().to_json()
        assert [one.age for one in given.response().resolved] == [age] * 4
        assert all(one.stale is stale for one in given.response().resolved)


@in_loop
async def test_nothing_is_parsed_again_while_the_secret_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[str] = []

    def counted(*arguments: Any, **named: Any) -> SecretValue:
        parsed.append(named["name"])
        return field_of(*arguments, **named)

    monkeypatch.setattr("dso.agent.picking.field_of", counted)
    bench = Bench()
    for _ in range(3):
        await bench.ask("dso://vault/prod/db#password", "dso://vault/prod/db#missing")
    assert len(parsed) == 2
    bench.resolver.forget()
    await bench.ask("dso://vault/prod/db#password")
    assert len(parsed) == 3


@in_loop
async def test_a_request_parses_a_secret_once_however_many_fields_it_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[SecretValue] = []

    def counted(value: SecretValue) -> Any:
        parsed.append(value)
        return members_of(value)

    monkeypatch.setattr("dso.agent.members.members_of", counted)
    bench = Bench(configuration(ttl=0))
    bench.memory.secrets[Key("aws", "many")] = fields(**{f"f{at}": str(at) for at in range(500)})
    answer = await bench.ask(
        *(f"dso://aws/many#f{at}" for at in range(500)),
        *(f"dso://aws/many#no{at}" for at in range(500)),
        "dso://vault/one",
        checks=["dso://aws/many#value"],
    )
    assert [one.value and one.value.reveal() for one in answer.resolved[:500]] == [b"%d" % at for at in range(500)]
    assert len(answer.errors) == 500
    assert max(len(fault.hint) for fault in answer.errors) < 500
    assert len(answer.resolved[-1].fields or ()) == 500
    assert len(parsed) == 2


def numbers(count: int = MAX_VALUES - 10) -> SecretData:
    """A secret that takes as long to parse as any."""
    return text('{"a":[' + "1," * count + "1]}")


def parsing(monkeypatch: pytest.MonkeyPatch) -> list[SecretValue]:
    """What is parsed from now on."""
    parsed: list[SecretValue] = []

    def counted(value: SecretValue) -> Any:
        parsed.append(value)
        return members_of(value)

    monkeypatch.setattr("dso.agent.members.members_of", counted)
    return parsed


@in_loop
async def test_each_secret_is_parsed_once_in_whatever_order_its_fields_are_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    parsed = parsing(monkeypatch)
    bench = Bench(configuration(ttl=0))
    for number in range(20):
        bench.memory.secrets[Key("aws", f"n{number}")] = numbers()
    asked = [f"dso://aws/n{at % 20}#{field}" for field in ("x", "y", "a") for at in range(20)]
    answer = await bench.ask(*asked)
    assert len(parsed) == 20
    assert [one.reference for one in answer.resolved] == asked[40:], "the answer keeps their order"
    assert [fault.reference for fault in answer.errors] == asked[:40]
    with pytest.raises(UnresolvedError):
        await bench.resolver.render(spec(*asked))
    assert len(parsed) == 40


@in_loop
async def test_a_parsed_secret_is_known_to_the_next_request_within_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    parsed = parsing(monkeypatch)
    bench = Bench()
    bench.memory.secrets[Key("aws", "n")] = numbers()
    for at in range(5):
        await bench.fault(f"dso://aws/n#x{at}")
    assert len(parsed) == 1
    bench.memory.secrets[Key("aws", "n")] = numbers()
    await bench.fault("dso://aws/n#x0")
    assert len(parsed) == 2, "it is another one"
    members = bench.resolver._picker._members
    for at in range(100):
        bench.memory.secrets[Key("aws", f"n{at}")] = numbers()
        await bench.fault(f"dso://aws/n{at}#x")
        assert sum(known.weight for known in members._known.values()) == members._weight <= 8 * 1024**2
    assert len(members._known) > 5
    bench.resolver.forget()
    assert not members._known


@pytest.mark.parametrize("kind", ["resolve", "render", "check"])
@in_loop
async def test_others_have_their_turn_after_each_secret_that_takes_long(kind: str) -> None:
    bench = Bench()
    count = 40  # fewer than there are references in a turn
    for at in range(count):
        bench.memory.secrets[Key("aws", f"n{at}")] = text("x" * 1024**2) if kind == "check" else numbers()
    references = [f"dso://aws/n{at}" + "#a" * (kind != "check") for at in range(count)]
    async with Turns() as turns:
        if kind == "render":
            await bench.resolver.render(spec(*references))
        elif kind == "check":
            assert not (await bench.ask(checks=references)).errors
        else:
            assert not (await bench.ask(*references)).errors
    assert turns.count >= 2 * count * (1 if kind == "check" else 9 * 9), "what takes nine slices has to be rare"


@in_loop
async def test_secrets_that_the_cache_has_let_go_are_kept_within_a_bound() -> None:
    bench = Bench()
    kept = bench.resolver._picker._known
    for at in range(60):
        bench.memory.secrets[Key("aws", "renewed")] = text("{" + "x" * 1_000_000)
        await bench.ask(*(f"dso://aws/renewed#f{at}{letter}" for letter in "abc"))
        assert sum({id(picked.data): len(picked.data.content) for picked in kept.values()}.values()) < 25 * 1024**2
    assert len(kept) > 3
    bench.memory.secrets[Key("aws", "renewed")] = text("plain")
    for letter in "abc":
        await bench.ask(f"dso://aws/renewed#f59{letter}")
    picker = bench.resolver._picker
    held = {id(picked.data): len(picked.data.content) for picked in kept.values()}
    assert (set(picker._held), picker._held_bytes) == (set(held), sum(held.values()))


@in_loop
async def test_what_is_remembered_has_a_bound_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dso.agent.picking._MAX_REMEMBERED", 100_000)
    bench = Bench()
    many = {f"f{at}": "x" * 6000 for at in range(100)}
    bench.memory.secrets[Key("aws", "many")] = fields(large="y" * 30_000, **many)
    known = bench.resolver._picker._known
    for field in (*many, *many):
        assert await bench.value(f"dso://aws/many#{field}") == b"x" * 6000
        assert 0 < sum(picked.weight() for picked in known.values()) == bench.resolver._picker._weight <= 100_000
    remembered = list(known)
    assert await bench.value("dso://aws/many#large") == b"y" * 30_000
    assert list(known) == remembered, "one large value drives out no others"
    bench.memory.secrets[Key("aws", "many")] = fields("2", f99="new")
    assert await bench.value("dso://aws/many#f99") == b"new"
    assert sum(picked.weight() for picked in known.values()) == bench.resolver._picker._weight


@in_loop
async def test_one_pick_serves_all_names_of_a_secret_and_faults_name_each() -> None:
    bench = Bench()
    own = [SecretEntry(f"my/name{at}", "aws", "json") for at in range(50)]
    request = ResolveRequest(
        [f"dso://my/name{at}#{field}" for at in range(50) for field in ("a", "none")], ["dso://my/name1#value"], own
    )
    for _ in range(2):
        given = await bench.resolver.answer(request, ROOT)
        assert json.loads(b"".join(await given.encode())) == given.response().to_json()
        assert [one.reference for one in given.response().resolved][:2] == ["dso://my/name0#a", "dso://my/name1#a"]
        assert [fault.message.split()[0] for fault in given.errors] == [f"my/name{at}" for at in range(50)]
    assert len(bench.resolver._picker._known) == 3


@in_loop
async def test_what_was_picked_before_everything_is_forgotten_is_not_remembered_after() -> None:
    bench = Bench()
    picks = bench.resolver._picker.begin()
    bench.resolver.forget()
    key = Key("vault", "one")
    assert picks.pick(SecretRef.parse("dso://vault/one"), key, SECRETS[key]).value.reveal() == b"t0ken"
    assert not bench.resolver._picker._known


@in_loop
async def test_others_have_their_turn_while_thousands_of_references_are_resolved() -> None:
    bench = Bench()
    bench.memory.secrets[Key("aws", "many")] = fields(**{f"f{at}": str(at) for at in range(4000)})
    request = ResolveRequest([f"dso://aws/many#f{at}" for at in range(8000)])
    async with Turns() as turns:
        given = await bench.resolver.answer(request, ROOT)
        resolved = turns.count
        body = json.loads(b"".join(await given.encode()))
    assert (len(body["resolved"]), len(body["errors"])) == (4000, 4000)
    assert resolved >= 2 * 8000 // AT_ONCE - 2
    assert turns.count - resolved >= 2 * 4000 // AT_ONCE - 2


@in_loop
async def test_names_of_fields_count_as_part_of_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench()
    monkeypatch.setattr(resolving, "MAX_ANSWER", 1000)
    checks = ["dso://aws/json#value", "dso://aws/json#value?version=1", "dso://aws/json#a"]
    bench.memory.secrets[Key("aws", "json", "1")] = fields(**{f"field{number}": "x" for number in range(200)})
    answer = await bench.ask(checks=checks)
    assert [one.reference for one in answer.resolved] == [checks[0], checks[2]]
    assert [(fault.code, fault.reference) for fault in answer.errors] == [(codes.TOO_LARGE, checks[1])]


@in_loop
async def test_of_a_provider_whose_secrets_are_never_kept_nothing_is_remembered() -> None:
    bench = Bench(configuration(ttl=0))
    await bench.ask("dso://vault/prod/db#password")
    assert not bench.resolver._picker._known


@in_loop
async def test_a_new_configuration_counts_from_the_next_request_on() -> None:
    bench = Bench()
    assert await bench.value("dso://tls/key") == b"KEY"
    bench.resolver.configure(configuration(entries=[SecretConfig("tls/key", "aws", "plain")]), Access([], own_uid=0))
    assert await bench.value("dso://tls/key") == b"just text"
    bench.caller = ALICE
    assert (await bench.fault("dso://tls/key")).code == codes.PERMISSION_DENIED


# Access


def alice_may(*patterns: str) -> Bench:
    return Bench(rules=[AccessRule(("alice",), (), patterns)], caller=ALICE)


@in_loop
async def test_a_rule_is_about_the_name_of_the_entry() -> None:
    assert await alice_may("tls/*").value("dso://tls/key") == b"KEY"
    assert (await alice_may("vault/elsewhere/*").fault("dso://tls/key")).code == codes.PERMISSION_DENIED


@in_loop
async def test_a_rule_is_about_provider_and_path_where_there_is_no_entry() -> None:
    bench = alice_may("vault/elsewhere/*")
    assert await bench.value("dso://vault/elsewhere/tls") == b"KEY"
    assert (await bench.fault("dso://vault/one")).code == codes.PERMISSION_DENIED
    only = Bench(configuration(["vault"], []), rules=[AccessRule(("alice",), (), ("vault/one",))], caller=ALICE)
    assert await only.value("dso://one") == b"t0ken"
    assert (await only.fault("dso://elsewhere/tls")).code == codes.PERMISSION_DENIED


@in_loop
async def test_a_name_of_the_callers_choice_opens_nothing() -> None:
    bench = alice_may("tls/*", "mine")
    own = [SecretEntry("tls/key", "vault", "one"), SecretEntry("mine", "vault", "prod/db")]
    for reference in ("dso://tls/key", "dso://mine#password"):
        assert (await bench.fault(reference, own=own)).code == codes.PERMISSION_DENIED
    assert bench.memory.asked == [[], []]
    assert await alice_may("vault/one").value("dso://tls/key", own=own) == b"t0ken"


@in_loop
async def test_a_refusal_asks_nobody_and_tells_nothing() -> None:
    bench = alice_may("other/*")
    answer = await bench.ask("dso://tls/key", "dso://vault/one", "dso://vault/none", "dso://no/such/thing")
    told = {(fault.code, fault.message, fault.hint, fault.provider) for fault in answer.errors}
    assert len(told) == 1
    assert told.pop()[0] == codes.PERMISSION_DENIED
    assert bench.memory.asked == [[]]


@in_loop
async def test_what_could_have_been_meant_is_only_what_the_caller_may_read() -> None:
    entries = [SecretConfig("open/key", "vault", "a"), SecretConfig("closed/key", "vault", "b")]
    bench = Bench(configuration(entries=entries), rules=[AccessRule(("alice",), (), ("open/*",))], caller=ALICE)
    fault = await bench.fault("dso://open/kye")
    assert "open/key" in fault.hint
    assert "closed" not in fault.hint


@in_loop
async def test_a_warm_name_is_still_refused_to_others() -> None:
    bench = alice_may("other")
    bench.caller = ROOT
    assert await bench.value("dso://tls/key") == b"KEY"
    bench.caller = ALICE
    given = await bench.resolver.answer(ResolveRequest(["dso://tls/key"]), ALICE)
    assert (given.resolved, given.read, given.refused) == ([], [], ["tls/key"])


@in_loop
async def test_the_log_gets_names_as_the_rules_know_them() -> None:
    given = await Bench().resolver.answer(
        ResolveRequest(["dso://tls/key", "dso://mine", "dso://aws/none"], (), [SecretEntry("mine", "vault", "one")]),
        ROOT,
    )
    assert given.read == ["tls/key", "vault/one"]


@in_loop
async def test_a_refusal_is_known_by_provider_and_path_beside_the_callers_name_for_it() -> None:
    """Otherwise whoever tries `innocent` for prod/db leaves no trace of what they were after."""
    bench = Bench(rules=[AccessRule(("nobody",), (), ("*",))])
    own = [SecretEntry("innocent", "vault", "prod/db")]
    given = await bench.resolver.answer(ResolveRequest(["dso://innocent", "dso://tls/key"], (), own), ALICE)
    assert given.refused == ["innocent=vault/prod/db", "tls/key"]


# Volumes


def spec(*templates: str, own: Sequence[SecretEntry] = ()) -> VolumeSpec:
    return VolumeSpec([VolumeFile(f"f{at}", template, uid=at) for at, template in enumerate(templates)], own)


@in_loop
async def test_files_are_whole_secrets_and_texts_with_secrets_in_them() -> None:
    bench = Bench()
    found = await bench.resolver.render(
        spec(
            "dsofile://tls/key",
            "user={{dso://vault/prod/db#username}}\npass={{ dso://vault/prod/db#password }}\nkey={{dsofile://tls/key}}",
            "dso://mine",
            own=[SecretEntry("mine", "aws", "bytes")],
        )
    )
    assert [(file.name, file.uid, value.reveal()) for file, value in found] == [
        ("f0", 0, b"KEY"),
        ("f1", 1, b"user=app\npass=hunter2\nkey=/run/secrets/dso/tls.key"),
        ("f2", 2, b"\xff\x00"),
    ]
    assert len(bench.memory.asked) == 1


@in_loop
async def test_what_cannot_be_rendered_is_told_at_once() -> None:
    with pytest.raises(UnresolvedError) as caught:
        await Bench().resolver.render(
            spec("dsofile://tls/key", "dsofile://aws/none", "plain", "x dso://aws/plain", "dso://no/x")
        )
    assert [(fault.code, fault.reference) for fault in caught.value.faults] == [
        (codes.INVALID_REQUEST, ""),
        (codes.INVALID_REQUEST, ""),
        (codes.UNKNOWN_SECRET, "dso://no/x"),
        (codes.NOT_FOUND, "dsofile://aws/none"),
    ]
    assert "KEY" not in str(caught.value)


@in_loop
async def test_the_engine_is_not_bound_by_rules_but_who_defines_a_volume_is() -> None:
    bench = alice_may("tls/*")
    closed = spec("dsofile://tls/key", "{{dso://vault/one}}", "dsofile://vault/prod/db#password")
    assert len(await bench.resolver.render(closed)) == 3
    with pytest.raises(UnresolvedError) as caught:
        await bench.resolver.check_volume_access(closed, ALICE)
    assert [(fault.code, fault.reference) for fault in caught.value.faults] == [
        (codes.PERMISSION_DENIED, "dso://vault/one"),
        (codes.PERMISSION_DENIED, "dsofile://vault/prod/db#password"),
    ]
    assert await bench.resolver.check_volume_access(spec("dsofile://tls/key"), ALICE) == ["tls/key"]


@in_loop
async def test_others_have_their_turn_while_a_volume_of_thousands_of_files_is_checked() -> None:
    bench = Bench()
    large = VolumeSpec([VolumeFile(str(at), f"dso://vault/secret-{at}") for at in range(5000)])
    async with Turns() as turns:
        assert len(await bench.resolver.check_volume_access(large, ROOT)) == 5000
    assert turns.count >= 2 * 5000 // 200 - 2


@in_loop
async def test_a_template_that_is_too_long_is_not_even_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def read(_text: str) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr(resolving, "parse_template", read)
    with pytest.raises(UnresolvedError, match="its template is longer than 65536 characters"):
        await Bench().resolver.check_volume_access(spec("{{dso://vault/one}}" * 5000), ROOT)


@in_loop
async def test_a_name_for_reloading_is_found_as_a_reference_is() -> None:
    bench = alice_may("tls/*", "vault/one")
    assert bench.resolver.find("tls/key", ALICE) == Key("vault", "elsewhere/tls")
    assert bench.resolver.find("dso://vault/one", ALICE) == Key("vault", "one")
    refused = bench.resolver.find("vault/prod/db", ALICE)
    assert getattr(refused, "code", None) == codes.PERMISSION_DENIED
    assert getattr(bench.resolver.find("a b", ROOT), "code", None) == codes.INVALID_REQUEST


def test_a_secret_is_known_by_the_names_of_its_entries_and_by_its_place() -> None:
    assert Bench().resolver.lookup.subjects_of("vault", "elsewhere/tls") == ["tls/key", "vault/elsewhere/tls"]
    assert Bench().resolver.lookup.subjects_of("aws", "x") == ["aws/x"]
