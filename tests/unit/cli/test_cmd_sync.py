"""`docker dso sync`: what changed, what did not, what failed and why."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dso import paths
from dso.protocol.agent import Fault
from dso.protocol.state import CachedSecret, SecretInfo
from tests.support.fake_agent import FakeAgent, answer, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import User

SYNC = ("sync", "--mode=cloud")
CONFIGURATION = {
    "providers_added": ["new"],
    "providers_changed": [],
    "providers_removed": [],
    "secrets": 2,
    "restart_needed": ["agent.socket"],
}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    found = FakeAgent(
        tmp_path,
        entries=[SecretInfo("prod/db", "v", "kv/db"), SecretInfo("prod/api", "v", "kv/api")],
        cached=[CachedSecret("v", path, None, "7", 12.0, stale=False) for path in ("kv/db", "kv/api", "other")],
    )
    with found:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, found.socket)
        yield found


def reloaded(agent: FakeAgent, changed: list[str], failed: list[Fault] | None = None, **more: Any) -> None:
    body = {"refreshed": 3, "changed": changed, "failed": [fault.to_json() for fault in failed or []], **more}
    agent.answers["/v1/reload"] = answer(200, body)


def test_everything_is_told_by_name(user: User, agent: FakeAgent) -> None:
    failed = [Fault("unavailable", "it is down", reference="dso://v/other", provider="v")]
    reloaded(agent, ["v/kv/db"], failed, configuration=CONFIGURATION)
    done = user.dso(*SYNC)
    assert [line.split() for line in done.out.splitlines()] == [
        ["SECRET", "RESULT"],
        ["prod/api", "unchanged"],
        ["prod/db", "changed"],
        ["v/other", "failed", "it", "is", "down"],
    ]
    assert done.code == 46
    assert "Error: v/other: it is down" in done.err
    assert "`docker dso up` re-creates" in done.err
    assert "providers added: new; in force after a restart of the agent: agent.socket" in done.err
    assert agent.asked() == ["GET /v1/secrets", "POST /v1/reload", "GET /v1/secrets"]


def test_without_a_change_nothing_is_suggested(user: User, agent: FakeAgent) -> None:
    reloaded(agent, [], configuration={})
    assert "docker dso up" not in user.ok(*SYNC).err


def test_json_is_as_documented(user: User, agent: FakeAgent) -> None:
    failed = [Fault("not_found", "gone", reference="dso://v/kv/api", provider="v")]
    reloaded(agent, ["v/kv/db"], failed, configuration=CONFIGURATION)
    done = user.dso(*SYNC, "--format=json")
    assert json.loads(done.out) == {
        "configuration": CONFIGURATION,
        "secrets": [
            {"name": "prod/api", "result": "failed", "error": "gone", "code": 21},
            {"name": "prod/db", "result": "changed", "error": None, "code": None},
            {"name": "v/other", "result": "unchanged", "error": None, "code": None},
        ],
    }
    assert done.code == 21


def test_quiet_names_what_changed(user: User, agent: FakeAgent) -> None:
    reloaded(agent, ["v/kv/db"], configuration={})
    assert user.ok(*SYNC, "-q").out == "prod/db\n"


def test_named_secrets_are_asked_for_one_by_one(user: User, agent: FakeAgent) -> None:
    reloaded(agent, ["v/kv/db"])
    done = user.ok(*SYNC, "prod/db", "dso://prod/api#key", "prod/db", "--format=json")
    assert [one["name"] for one in json.loads(done.out)["secrets"]] == ["prod/db", "dso://prod/api#key"]
    assert agent.asked() == [
        "GET /v1/secrets",
        "POST /v1/reload?secret=dso%3A%2F%2Fprod%2Fdb",
        "POST /v1/reload?secret=dso%3A%2F%2Fprod%2Fapi",
    ]


def test_projects_own_entry_is_asked_for_by_its_place(user: User, agent: FakeAgent, tmp_path: Path) -> None:
    config = tmp_path / "dso.yaml"
    config.write_text("version: 1\nsecrets:\n  - {name: mine, provider: v, path: kv/m, version: '3'}\n")
    reloaded(agent, [])
    assert "mine     unchanged" in user.ok("sync", "-c", str(config), "mine").out
    assert agent.asked()[-1] == "POST /v1/reload?secret=v%2Fkv%2Fm%3Fversion%3D3"


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("unknown_secret", "no such name", "did you mean x?", "dso://a"), 21),
        (Fault("permission_denied", "user u may not read it", reference="dso://a"), 45),
        (Fault("permission_denied", "the token may not", reference="dso://a", provider="v"), 45),
        (Fault("unavailable", "it is down", reference="dso://a", provider="v"), 46),
    ],
)
@pytest.mark.parametrize("is_refused", [True, False])
def test_failure_of_one_secret_is_its_line_and_the_exit_code(
    user: User, agent: FakeAgent, fault: Fault, code: int, is_refused: bool
) -> None:
    if is_refused:
        agent.answers["/v1/reload"] = refusal(404, fault)
    else:
        reloaded(agent, [], [fault])
    done = user.dso(*SYNC, "a")
    assert done.code == code
    assert fault.message in done.out
    assert "Error: a: " in done.err
    assert fault.hint in done.err


def test_gravest_of_several_failures_is_the_exit_code(user: User, agent: FakeAgent) -> None:
    failed = [
        Fault("unavailable", "down", reference="dso://v/kv/db"),
        Fault("not_found", "gone", reference="dso://v/other"),
    ]
    reloaded(agent, [], failed, configuration={})
    done = user.dso(*SYNC)
    assert done.code == 21
    assert "2 of 3 secrets could not be fetched:\n  prod/db: down\n  v/other: gone" in done.err


def test_faulty_configuration_is_the_agents_own_message(user: User, agent: FakeAgent) -> None:
    agent.answers["/v1/reload"] = refusal(422, Fault("reload_failed", "/etc/dso/dso.yaml, line 3: no", "mend it"))
    done = user.dso(*SYNC)
    assert done.code == 44
    assert "line 3: no" in done.err
    assert done.out == ""


def test_malformed_name_is_the_callers_mistake(user: User, agent: FakeAgent) -> None:
    done = user.dso(*SYNC, "a b")
    assert done.code == 20
    assert agent.asked() == ["GET /v1/secrets"]


def test_agent_that_goes_away_ends_it(user: User, agent: FakeAgent) -> None:
    agent.broken["/v1/reload"] = b""
    assert user.dso(*SYNC, "a", "b").code == 40


def test_garbage_is_a_protocol_error(user: User, agent: FakeAgent) -> None:
    agent.answers["/v1/reload"] = answer(200, {"failed": [{"no": "code"}]})
    assert user.dso(*SYNC).code == 43


def test_local_mode_has_nothing_to_fetch(owner: User) -> None:
    assert owner.dso("sync", "--mode=local").code == 125
