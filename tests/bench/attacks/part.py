"""What another user gets of the agent, and how large it becomes, while one attacks it: all attacks of the tests."""

from __future__ import annotations

import time
from contextlib import contextmanager, nullcontext
from functools import partial
from statistics import quantiles
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.agent import Client
from tests.bench.goals import Outcome, limit_outcome
from tests.bench.part import Part
from tests.support import hostile
from tests.support.memory import MIB, peak
from tests.support.users import DSO_GROUP, AgentWithUsers, User, as_user, while_user

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from contextlib import AbstractContextManager

    from tests.bench.part import Setting
    from tests.support.agent import Agent

MALLORY = User("mallory", 40011, groups=(DSO_GROUP,))
ALICE = User("alice", 40012, groups=(DSO_GROUP,))
BATCHES = 3000
SLOWER, MEMORY_MIB = 5, 200
LARGE_BYTES = 3 * MIB


class Attacked(NamedTuple):
    """99 of 100 warm batches of another user take this long, in ms, when nothing else happens and meanwhile."""

    name: str
    idle: float
    meanwhile: float
    memory: int

    @property
    def slower(self) -> float:
        """How many times as long they take."""
        return self.meanwhile / self.idle


@contextmanager
def filled(variant: str) -> Iterator[Agent]:
    """An agent whose cache is full, and has what honest users ask for."""
    agent = AgentWithUsers(users=[MALLORY, ALICE], groups={"dso": DSO_GROUP}, variant=variant)
    agent.write_secrets({**hostile.NUMBERS, "*": {"text": "x" * LARGE_BYTES}})
    agent.use_fake(cache_ttl="1h")
    with agent.start():
        for reference in hostile.LARGE:
            agent.resolve(reference)
        agent.resolve(*hostile.WHOLE_NUMBERS)
        agent.write_secrets({"*": {"text": "as-long-as-most-tokens-are-today-40-char"}})
        agent.resolve(*hostile.BATCH)
        yield agent


def slowest_percent(agent: Agent, batches: int) -> float:
    """The time that 99 of 100 warm batches of an honest user did not exceed, in ms."""
    words = hostile.resolve(hostile.BATCH)

    def ask() -> list[float]:
        client = Client(agent.socket)
        found = []
        for number in range(-50, batches):
            begun = time.perf_counter_ns()
            client.ask(words)
            if number >= 0:
                found.append((time.perf_counter_ns() - begun) / 1e6)
        return found

    taken: list[float] = as_user(ALICE, ask)
    return quantiles(taken, n=100)[-1]


def attacked(name: str, batches: int, variant: str = "release") -> Attacked:
    """Measure one attack, on an agent of its own."""
    with filled(variant) as agent:
        idle = slowest_percent(agent, batches)
        attack: AbstractContextManager[object] = (
            while_user(MALLORY, partial(hostile.ATTACKS[name], agent.socket)) if name else nullcontext()
        )
        with attack:
            meanwhile = slowest_percent(agent, batches)
            return Attacked(name, idle, meanwhile, peak(agent.pid))


def measure(setting: Setting) -> Part:
    """Measure all attacks."""
    found = []
    for name in hostile.ATTACKS:
        setting.tell(f"attacks: {name}")
        found.append(attacked(name, BATCHES if setting.rounds is None else 200))
    return Part(attack_outcomes(found))


def attack_outcomes(found: Sequence[Attacked]) -> list[Outcome]:
    """What the agent is held against."""
    if not found:
        return []
    lines = [
        Outcome(
            f"Another user's warm batch beside: {one.name}",
            f"{one.meanwhile:.1f} ms",
            f"{one.idle:.1f} ms",
            f"{one.slower:.2f} x",
            f"below {SLOWER} x",
            one.slower < SLOWER,
        )
        for one in found
    ]
    largest = max(found, key=lambda one: one.memory)
    what = f"The agent's memory during the worst attack ({largest.name})"
    return [*lines, limit_outcome(what, "`dso-agent`", largest.memory / MIB, MEMORY_MIB, "MiB")]
