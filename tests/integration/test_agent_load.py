"""Many clients at once: nobody is turned away, providers are asked once, memory stays as it is."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from dso.protocol.codes import TRANSIENT
from tests.support.agent import Agent, ask
from tests.support.clock import ShiftedClock
from tests.support.memory import MIB, descriptors, resident, threads
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

CLIENTS = 64
REFERENCES = [f"dso://fake/secret-{number:03d}" for number in range(50)]
TTL = 300


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        made.write_secrets({"*": {"text": "a value of the usual length, about fifty characters"}})
        yield made
        assert "internal" not in made.log


def at_once(count: int, what: Callable[[int], None]) -> None:
    """Call a function in so many threads at once; the first exception of theirs is raised."""
    gate = threading.Barrier(count)
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            gate.wait()
            what(number)
        except BaseException as error:  # noqa: BLE001  # raised below
            failed.append(error)

    started = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    if failed:
        raise failed[0]


def test_many_clients_get_every_answer_and_leave_memory_as_it_was(agent: Agent) -> None:
    agent.use_fake().start()
    asked: list[int] = []

    def use(number: int) -> None:
        """As a command does it: a connection, a batch, another batch; then the same anew."""
        for _ in range(10):
            with agent.connect() as connection:
                for _ in range(2):
                    answer = ask(connection, "POST", "/v1/resolve", {"values": REFERENCES})
                    assert answer.status == 200, answer
                    found = answer.json()
                    assert len(found["resolved"]) == len(REFERENCES)
                    assert not found["errors"]
                    asked.append(number)

    at_once(CLIENTS, use)  # to warm up: allocators keep what a peak needed
    before, opened = resident([agent.pid]), descriptors(agent.pid)
    for _ in range(2):
        at_once(CLIENTS, use)
    assert len(asked) == 3 * CLIENTS * 20
    assert resident([agent.pid]) - before < 4 * MIB
    wait_until(lambda: descriptors(agent.pid) <= opened, "the end of all connections")
    assert threads(agent.pid) < 20
    assert agent.calls == ["get_many " + " ".join(each.removeprefix("dso://fake/") for each in REFERENCES)]


@pytest.mark.parametrize("batch", [0, 100])
def test_a_hundred_clients_for_one_expired_secret_are_one_call(agent: Agent, tmp_path: Path, batch: int) -> None:
    clock = ShiftedClock(tmp_path)
    agent.env = clock.env
    agent.use_fake(cache_ttl=f"{TTL}s", delay=0.5, batch=batch).start()
    assert agent.value("dso://fake/popular")
    clock.jump(monotonic=TTL * 2)
    before = len(agent.calls)

    def use(_number: int) -> None:
        assert agent.value("dso://fake/popular")

    at_once(100, use)
    assert len(agent.calls) == before + 1, agent.calls[before:]


def test_a_hundred_clients_for_one_new_secret_are_one_call(agent: Agent) -> None:
    agent.use_fake(delay=0.5).start()

    def use(_number: int) -> None:
        assert agent.value("dso://fake/popular")

    at_once(100, use)
    assert len(agent.calls) == 1, agent.calls


def test_a_hundred_clients_for_one_missing_secret_are_one_call(agent: Agent) -> None:
    agent.write_secrets({})
    agent.use_fake(delay=0.5).start()

    def use(_number: int) -> None:
        (fault,) = agent.resolve("dso://fake/missing")["errors"]
        assert fault["code"] == "not_found"

    at_once(100, use)
    assert len(agent.calls) == 1, agent.calls


def test_clients_that_want_overlapping_secrets_have_each_read_once(agent: Agent) -> None:
    agent.use_fake(delay=0.2).start()

    def use(number: int) -> None:
        wanted = [f"dso://fake/secret-{(number * 7 + step) % 60:03d}" for step in range(20)]
        assert not agent.resolve(*wanted)["errors"]

    at_once(40, use)
    read = [path for call in agent.calls for path in call.split()[1:]]
    assert len(read) == len(set(read)) == 60


def test_a_provider_that_is_down_is_not_asked_by_everybody(agent: Agent, tmp_path: Path) -> None:
    """They get the stale value at once; the provider gets a few tries, further and further apart."""
    clock = ShiftedClock(tmp_path)
    agent.env = clock.env
    agent.use_fake(cache_ttl=f"{TTL}s").start()
    assert agent.value("dso://fake/popular")
    agent.write_secrets({"*": {"error": "unavailable"}})
    assert "unavailable" in TRANSIENT
    clock.jump(monotonic=TTL * 2)
    before = len(agent.calls)

    def use(_number: int) -> None:
        (found,) = agent.resolve("dso://fake/popular")["resolved"]
        assert found["stale"]
        assert found["age"] > TTL

    for _ in range(5):
        at_once(20, use)
    assert 1 <= len(agent.calls) - before <= 10, agent.calls[before:]


def test_a_thousand_secrets_are_a_few_calls(agent: Agent) -> None:
    agent.use_fake(batch=100).start()
    wanted = [f"dso://fake/{number:04d}" for number in range(1000)]
    assert not agent.resolve(*wanted)["errors"]
    assert len(agent.calls) == 10
    before = resident([agent.pid])
    for _ in range(5):
        assert not agent.resolve(*wanted)["errors"]
    assert len(agent.calls) == 10
    assert resident([agent.pid]) - before < 10 * MIB
