"""What endpoints tell whom."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.access import Access, Caller
from dso.agent.endpoints import Endpoints
from dso.agent.fairness.budgets import BusyError
from dso.agent.logbook import Logbook
from dso.agent.server import RefusedError
from dso.errors import ConfigError
from dso.protocol.agent import VOLUMES
from dso.protocol.codes import RELOAD_FAILED
from tests.support.loop import in_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.config.model import AccessRule

ROOT = Caller(1, 0, "root", frozenset({0}), frozenset({"root"}), trusted=True)
ALICE = Caller(2, 1000, "alice", frozenset({1000}), frozenset({"alice"}), trusted=False)
BOB = ALICE._replace(uid=1001, user="bob")


class State:
    """What the endpoints need of an agent, as far as these tests do."""

    def __init__(self, rules: Sequence[AccessRule] | None) -> None:
        self.resolver = SimpleNamespace(access=Access(rules, own_uid=0))
        self.book = Logbook(stream=-1, level="info")

    def status(self) -> dict[str, Any]:
        return {
            "providers": [{"name": "vault", "error": "vault has no 'prod/db'", "code": "not_found"}],
            "config_error": "dso.yaml, line 7: prod/db",
        }

    def events(self, _name: str, **_fields: Any) -> None:
        """Nothing listens."""

    async def reload(self) -> dict[str, Any]:
        raise ConfigError("dso.yaml, line 7: prod/db", hint="mend prod/db")


class ReadError(Exception):
    """A request got as far as its body."""


def asked(caller: Caller, **query: str) -> Any:
    async def body() -> bytes:
        raise ReadError

    return SimpleNamespace(caller=caller, query=lambda *_: query, body=body, json=body)


@pytest.mark.parametrize(
    ("rules", "caller", "error"),
    [([], ROOT, "vault has no 'prod/db'"), (None, ALICE, "vault has no 'prod/db'"), ([], ALICE, "not_found")],
)
@in_loop
async def test_what_a_provider_said_is_for_those_who_may_read_everything(
    rules: Sequence[AccessRule] | None, caller: Caller, error: str
) -> None:
    state: Any = State(rules)
    answer = await Endpoints(state).status(asked(caller))
    told = json.loads(b"".join(answer.body))
    assert told["providers"] == [{"name": "vault", "error": error, "code": "not_found"}]
    assert ("prod/db" in told["config_error"]) == (error != "not_found")
    assert told["config_error"]


@pytest.mark.parametrize(("rules", "caller", "full"), [([], ROOT, True), (None, ALICE, True), ([], ALICE, False)])
@in_loop
async def test_what_is_wrong_with_a_new_configuration_is_for_those_who_may_read_everything(
    rules: Sequence[AccessRule] | None, caller: Caller, *, full: bool
) -> None:
    state: Any = State(rules)
    with pytest.raises(RefusedError) as caught:
        await Endpoints(state).reload(asked(caller))
    told = str(caught.value.fault)
    assert RELOAD_FAILED in told
    assert ("prod/db" in told) == full


@pytest.mark.parametrize(
    ("name", "fields"),
    [("provider.state", {"message": "no 'prod/db'"}), ("reload.failed", {"message": "line 7: prod/db"})],
)
@in_loop
async def test_events_with_messages_are_for_those_who_may_read_everything(name: str, fields: dict[str, str]) -> None:
    endpoints = Endpoints(State([]))  # type: ignore[arg-type]
    event: Any = SimpleNamespace(name=name, fields=fields)
    quiet: Any = SimpleNamespace(name="provider.state", fields={"state": "running", "message": ""})
    assert [endpoints._may_see(caller, event) for caller in (ROOT, ALICE)] == [True, False]
    assert endpoints._may_see(ALICE, quiet)


@in_loop
async def test_following_the_log_ends_when_a_new_configuration_forbids_it() -> None:
    state: Any = State(None)
    endpoints = Endpoints(state)
    pieces = [(await endpoints.logs(asked(caller, follow="1"))).pieces for caller in (ALICE, ROOT)]
    alices, roots = (piece for piece in pieces if piece is not None)
    for lines in (alices, roots):
        await anext(lines)
    state.book.info("before")
    assert [json.loads(await anext(lines))["message"] for lines in (alices, roots)] == ["before"] * 2
    state.resolver.access = Access([], own_uid=0)
    state.book.info("after")
    with pytest.raises(StopAsyncIteration):
        await asyncio.wait_for(anext(alices), 30)
    assert json.loads(await anext(roots))["message"] == "after"
    await roots.aclose()


@in_loop
async def test_requests_that_are_remembered_have_a_bound_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dso.agent.endpoints._MAX_KNOWN", 1000)
    endpoints = Endpoints(State(None))  # type: ignore[arg-type]
    for number in range(100):
        body = b'{"values": ["dso://%d"]}' % number
        assert endpoints._resolve_request(body).values == [f"dso://{number}"]
        assert endpoints._resolve_request(body) is endpoints._resolve_request(body)
        assert sum(map(len, endpoints._requests)) == endpoints._known_bytes <= 1000


@in_loop
async def test_whoever_has_filled_the_log_has_no_names_of_volumes_logged_either() -> None:
    endpoints = Endpoints(State(None))  # type: ignore[arg-type]
    (ask,) = endpoints.routes[VOLUMES].values()
    endpoints._told.owe(ALICE.uid, 100e6)
    with pytest.raises(BusyError, match="names for the log"):
        await ask(asked(ALICE))
    with pytest.raises(ReadError):
        await ask(asked(ROOT))
    with pytest.raises(ReadError):
        await ask(asked(BOB))
