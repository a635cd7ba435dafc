"""What one hostile member of group dso does to the agent hurts neither another user nor root. With real users.

Nothing here looks at a clock: how fast the others are served meanwhile is measured by `make bench-full`.
"""

from __future__ import annotations

import os
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.fairness.budgets import EACH, MAX_ANSWER
from dso.agent.fairness.fetching import PORTION, PORTIONS
from dso.agent.server import STREAMS
from dso.agent.web.limits import OF_A_USER
from tests.support import hostile
from tests.support.agent import Answer, ask
from tests.support.hostile import BATCH, LARGE
from tests.support.memory import MIB, peak
from tests.support.users import DSO_GROUP, AgentWithUsers, User, as_user, while_user
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.agent import Agent

MALLORY = User("mallory", 40011, groups=(DSO_GROUP,))
ALICE = User("alice", 40012, groups=(DSO_GROUP,))
ROOT = User("root", 0)
MEMORY = 200 * MIB
SECRETS = {"*": {"text": "a value of the usual length, about fifty characters"}}


def made(secrets: dict[str, Any] | None = None, **settings: Any) -> Agent:
    agent = AgentWithUsers(users=[MALLORY, ALICE], groups={"dso": DSO_GROUP})
    agent.write_secrets(SECRETS if secrets is None else secrets)
    agent.use_fake(**settings)
    return agent.start()


@pytest.fixture
def agent() -> Iterator[Agent]:
    """An agent whose cache is as full as it can be."""
    with made({**hostile.NUMBERS, "*": {"text": "x" * (3 * MIB)}}) as running:
        for reference in LARGE:
            running.resolve(reference)
        running.resolve(*hostile.WHOLE_NUMBERS)
        running.write_secrets(SECRETS)
        running.resolve(*BATCH)
        yield running
        assert "internal" not in running.log
        assert "Traceback" not in running.log


@pytest.fixture
def small() -> Iterator[Agent]:
    with made() as running:
        running.resolve(*BATCH)
        yield running


def served(agent: Agent, user: User) -> None:
    """A user gets a warm batch, on a connection that is opened now."""
    found = as_user(user, lambda: len(agent.resolve(*BATCH)["resolved"]))
    assert found == len(BATCH)


@pytest.mark.parametrize("attack", hostile.ATTACKS)
def test_one_hostile_member_shuts_nobody_out_and_takes_little_memory(agent: Agent, attack: str) -> None:
    with while_user(MALLORY, partial(hostile.ATTACKS[attack], agent.socket)):
        for _ in range(10):
            served(agent, ALICE)
            served(agent, ROOT)
        assert peak(agent.pid) < MEMORY, f"{peak(agent.pid) / MIB:.0f} MiB"
    wait_until(lambda: as_user(MALLORY, lambda: agent.request("GET", "/healthz").status) == 200, "an end of it")
    served(agent, MALLORY)


def test_requests_that_wait_for_a_slow_provider_count_to_their_user() -> None:
    """Each holds its references until the provider has answered."""
    junk = hostile.resolve([f"dso://fake/junk/{number:04d}-" + "x" * 60 for number in range(9000)])
    with made(delay=3600) as agent:
        with while_user(MALLORY, lambda begun: hostile.hold(agent.socket, junk, 100, begun)):
            for user in (ALICE, ROOT):
                assert as_user(user, lambda: agent.request("GET", "/healthz").status) == 200
            assert peak(agent.pid) < MEMORY, f"{peak(agent.pid) / MIB:.0f} MiB"
        agent.kill()


# What is refused


def busy(answer: Answer) -> float:
    """The seconds after which a busy agent may be asked again, which the head says too."""
    assert (answer.status, answer.code) == (429, "busy"), answer
    seconds = float(answer.json()["error"]["retry_after"])
    assert int(answer.headers["retry-after"]) >= seconds > 0
    return seconds


def test_more_connections_than_one_may_have_are_told_to_come_back() -> None:
    with made(delay=3600) as agent:
        slow = hostile.resolve(["dso://fake/slow"])
        with while_user(MALLORY, lambda begun: hostile.hold(agent.socket, slow, OF_A_USER, begun)):
            wait_until(lambda: agent.get("/v1/status")["connections"] > OF_A_USER, "all of them")
            as_user(MALLORY, lambda: busy(agent.request("GET", "/healthz")))
            for user in (ALICE, ROOT):
                assert as_user(user, lambda: agent.request("GET", "/healthz").status) == 200
        agent.kill()


def test_a_second_answer_has_to_wait_while_the_first_takes_the_budget(agent: Agent) -> None:
    most = EACH // (3 * MIB)
    large = hostile.resolve(LARGE[:most])
    assert most * 3 * MIB <= MAX_ANSWER
    with while_user(MALLORY, lambda begun: hostile.hold(agent.socket, large, 1, begun)):
        wait_until(lambda: _held(agent) > 3 * MIB, "the answer")
        answers = as_user(MALLORY, lambda: _until_served(agent, LARGE[:most]))
        assert answers[-1] == 200
        assert set(answers[:-1]) <= {429}, "first it is refused, then the answer that nobody reads makes room"
    assert 'closed_early_total{reason="unread"} 1' in agent.request("GET", "/metrics").body.decode()


def _held(agent: Agent) -> float:
    lines = agent.request("GET", "/metrics").body.decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("dso_agent_held_bytes "))


def _until_served(agent: Agent, references: list[str]) -> list[int]:
    found: list[int] = []
    while not found or found[-1] == 429:
        found.append(agent.request("POST", "/v1/resolve", {"values": references}).status)
    return found


def test_an_answer_is_counted_as_it_is_sent_and_has_its_limit_by_reference(agent: Agent) -> None:
    found = agent.resolve(*LARGE)
    assert len(found["resolved"]) == MAX_ANSWER // (3 * MIB)
    assert {fault["code"] for fault in found["errors"]} == {"too_large"}


def test_streams_of_one_user_leave_those_of_others(agent: Agent) -> None:
    each = STREAMS["members"].each
    with while_user(MALLORY, partial(hostile.streams, agent.socket)):
        wait_until(lambda: f"dso_agent_streams {each}\n" in agent.request("GET", "/metrics").body.decode(), "streams")
        for user in (ALICE, ROOT):
            assert as_user(user, lambda: next(agent.stream("/v1/events")).decode())
        as_user(MALLORY, lambda: busy(agent.request("GET", "/v1/events")))


# Providers


def test_ten_thousand_junk_paths_are_asked_for_in_portions_between_which_others_have_their_turn() -> None:
    with made({"alice/*": {}, "*": {"error": "not_found"}}, delay=0.05) as agent:
        junk = hostile.resolve(hostile.many("dso://fake/junk-"))
        with while_user(MALLORY, lambda begun: hostile.hold(agent.socket, junk, 20, begun)):
            wait_until(lambda: len(agent.calls) > 3, "the first portions")
            since = len(agent.calls)
            as_user(ALICE, lambda: len(agent.resolve("dso://fake/alice")["errors"]))
            calls = agent.calls
            (hers,) = [at for at, call in enumerate(calls) if call.endswith(" alice")]
            assert hers - since <= 2 * PORTIONS + 1, calls[since:hers]
            assert all(len(call.split()) <= PORTION + 1 for call in calls)
        agent.kill()


def test_junk_is_paid_for_before_there_is_more(small: Agent) -> None:
    """One large request is served at its time, as the first one of a large stack is; the next one waits."""
    asked = [hostile.many(f"dso://fake/none-{number}-", 3000) for number in range(2)]
    assert as_user(MALLORY, lambda: small.request("POST", "/v1/resolve", {"values": asked[0]}).status) == 200
    as_user(MALLORY, lambda: busy(small.request("POST", "/v1/resolve", {"values": asked[1]})))
    served(small, MALLORY)  # what is in memory costs nobody anything
    assert as_user(ALICE, lambda: small.request("POST", "/v1/resolve", {"values": asked[1]}).status) == 200


def test_a_loop_of_reloads_asks_the_provider_a_few_times(small: Agent) -> None:
    before = len(small.calls)

    def loop() -> list[int]:
        found: list[int] = []
        with small.connect() as connection:
            while len(found) < 1000 and 429 not in found:
                found.append(ask(connection, "POST", "/v1/reload").status)
        return found

    statuses = as_user(MALLORY, loop)
    assert statuses[0] == 200
    assert statuses[-1] == 429
    assert len(small.calls) - before == len(statuses) - 1, "one call each, for what is in memory"
    as_user(MALLORY, lambda: busy(small.request("POST", "/v1/reload")))
    assert as_user(ALICE, lambda: small.request("POST", "/v1/reload").status) == 200
    for _ in range(20):
        assert small.request("POST", "/v1/reload").status == 200, "root may as often as root likes"


def test_a_member_refreshes_what_they_may_read_and_nothing_else() -> None:
    rules = "access:\n  - {user: mallory, secrets: [fake/mine]}\n  - {user: alice, secrets: [fake/hers]}\n"
    agent = AgentWithUsers(users=[MALLORY, ALICE], groups={"dso": DSO_GROUP})
    agent.write_secrets({"*": {"text": "x"}})
    agent.use_fake(rules)
    with agent.start():
        agent.resolve("dso://fake/mine", "dso://fake/hers", "dso://fake/roots")
        before = len(agent.calls)
        assert as_user(MALLORY, lambda: agent.request("POST", "/v1/reload").json()["refreshed"]) == 1
        assert [call.split()[1:] for call in agent.calls[before:]] == [["mine"]]


# Who is no member


def test_strangers_have_a_small_budget_and_fill_no_log() -> None:
    stranger = User("stranger", 40013)
    with made({"*": {"text": "x"}}) as agent:
        os.chmod(agent.socket, 0o666)  # somebody has loosened it
        loud = partial(hostile.again, agent.socket, hostile.request("GET", "/healthz"), 40)
        with while_user(stranger, loud):
            for _ in range(20):
                assert as_user(ALICE, lambda: agent.request("GET", "/healthz").status) == 200
            assert agent.get("/v1/status")["connections"] < 10
        assert agent.log.count("access.refused") < 50


# The log


def test_every_name_of_a_large_batch_is_logged(small: Agent) -> None:
    wanted = [f"dso://fake/audit/{number:05d}-" + "n" * 40 for number in range(9000)]
    since = len(small.log)
    assert as_user(MALLORY, lambda: len(small.resolve(*wanted)["resolved"])) == len(wanted)
    lines = [line for line in small.log[since:].splitlines() if "secrets.read" in line]
    logged = [name for line in lines for name in line.partition(" secrets=")[2].split(",")]
    assert logged == [reference.removeprefix("dso://") for reference in wanted]
    assert all(f"uid={MALLORY.uid} pid=" in line and len(line) < 8192 for line in lines)
    assert f" part=1/{len(lines)} " in lines[0]


def test_a_refusal_names_what_was_asked_for_and_not_only_what_the_caller_calls_it() -> None:
    rules = "access:\n  - {user: alice, secrets: [fake/prod/*]}\n"
    agent = AgentWithUsers(users=[MALLORY, ALICE], groups={"dso": DSO_GROUP})
    agent.write_secrets({"*": {"text": "x"}})
    agent.use_fake(rules)
    body = {
        "values": ["dso://innocent"],
        "secrets": [{"name": "innocent", "provider": "fake", "path": "prod/db root uid=0"}],
    }
    files = [{"name": "f", "template": "dsofile://innocent"}]
    volumes = {"volumes": {"v_dso_web": {"files": files, "secrets": body["secrets"]}}}
    with agent.start():
        as_user(MALLORY, lambda: agent.request("POST", "/v1/resolve", body).status)
        agent.wait_for_log('secrets="innocent=fake/prod/db root uid=0"')
        since = len(agent.log)
        assert as_user(MALLORY, lambda: agent.request("PUT", "/v1/volumes", volumes).status) == 403
        wait_until(lambda: 'secrets="innocent=fake/prod/db root uid=0"' in agent.log[since:], "the second refusal")
        assert agent.log.count(f"access.refused uid={MALLORY.uid}") == 2
