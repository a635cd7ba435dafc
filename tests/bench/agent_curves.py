"""The agent as it grows: more secrets in its cache, more clients at once."""

from __future__ import annotations

import os
import random
import time
from contextlib import ExitStack, closing
from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.agent import BATCH, VALUE, Client, request
from tests.bench.clients import serve
from tests.bench.curves.growth import growth
from tests.bench.curves.plot import Curve, Panel, draw
from tests.bench.goals import Outcome
from tests.bench.measure import CommandFailedError
from tests.bench.part import Part
from tests.support.agent import Agent
from tests.support.memory import MIB, resident

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.part import Setting

SECRETS = (10, 100, 1_000, 3_000, 10_000)
CLIENTS = (1, 4, 16, 64, 256)
FIELDS = 5  # of each secret: so that fifty references are as many when there are ten secrets
SECRET_ROUNDS = 25
REQUESTS = 100  # of a round
MEMORY_ROUNDS = 3
SETTLING = 0.5  # seconds before an agent's memory is looked at
CLIENT_ROUNDS = 4
CLIENT_SECONDS = 3.0
SECRETS_PLOT, CLIENTS_PLOT = "agent-secrets.svg", "agent-clients.svg"


class Point(NamedTuple):
    """What was measured at one point of a curve, round by round: medians and 99th percentiles in ms, and the rate."""

    typical: list[float]
    slowest: list[float]
    rate: list[float]

    def add(self, wall: Sequence[float], rate: float = 0.0) -> None:
        """One round more."""
        self.typical.append(median(wall))
        self.slowest.append(quantiles(wall, n=100)[-1])
        self.rate.append(rate)


def references(secrets: int) -> list[list[str]]:
    """Batches of fifty different references that have all of the secrets between them."""
    count = max(secrets, BATCH)
    all_of_them = [f"dso://fake/curve/{at % secrets:05d}#field{at // secrets}" for at in range(count)]
    return [all_of_them[first : first + BATCH] for first in range(0, count, BATCH)]


def filled(secrets: int) -> tuple[Agent, list[bytes]]:
    """An agent with so many secrets in its cache, and the requests for them; use it in a `with`."""
    requests = [request("POST", "/v1/resolve", {"values": batch}) for batch in references(secrets)]
    with ExitStack() as stack:
        agent = stack.enter_context(Agent(variant="release"))
        agent.write_secrets({"*": {"fields": {f"field{at}": VALUE for at in range(FIELDS)}}})
        agent.use_fake(cache_ttl="1h").start()
        with closing(Client(agent.socket)) as client:
            for words in requests + requests:
                answer = client.ask(words)
                if answer.count(b'"value":"' + VALUE.encode()) != BATCH:
                    raise CommandFailedError(f"the agent did not resolve {BATCH} references: {answer[:1000]!r}")
        if agent.get("/v1/status")["cache"]["entries"] != secrets:
            raise CommandFailedError(f"the agent does not have {secrets} secrets in its cache")
        stack.pop_all()
    return agent, requests


def measure(setting: Setting) -> Part:
    """Measure both curves."""
    memory = memory_curve(setting)
    by_secrets = secrets_curve(setting)
    by_clients, own = clients_curve(setting)
    goals = [
        _goal(
            "A warm batch of 50, from 10 to 10,000 secrets: the median", SECRETS, [each.typical for each in by_secrets]
        ),
        _goal("99 of 100 of them within", SECRETS, [each.slowest for each in by_secrets]),
        _goal("The agent's memory, from 10 to 10,000 secrets", SECRETS, memory, "MiB"),
        _goal("A warm batch of 50, from 1 to 256 clients: the mean", CLIENTS, _means(by_clients)),
        _goal("99 of 100 of them within", CLIENTS, [each.slowest for each in by_clients]),
    ]
    draw(os.path.join(setting.plots, SECRETS_PLOT), _secrets_panels(by_secrets, memory))
    draw(os.path.join(setting.plots, CLIENTS_PLOT), _clients_panels(by_clients))
    return Part(goals, text=_text(by_secrets, memory, by_clients, own))


def memory_curve(setting: Setting) -> list[list[float]]:
    """The memory, in MiB, of agents that have just resolved all of their secrets twice."""
    found: list[list[float]] = [[] for _ in SECRETS]
    for number in range(min(setting.rounds or MEMORY_ROUNDS, MEMORY_ROUNDS)):
        for secrets, sizes in zip(SECRETS, found, strict=True):
            setting.tell(f"memory of an agent with {secrets:,} secrets: round {number + 1}")
            agent, _ = filled(secrets)
            with agent:
                time.sleep(SETTLING)
                sizes.append(resident([agent.pid]) / MIB)
    return found


def secrets_curve(setting: Setting) -> list[Point]:
    """One client that asks for batch after batch, of agents that take turns."""
    found = [Point([], [], []) for _ in SECRETS]
    with ExitStack() as stack:
        clients = []
        for secrets in SECRETS:
            setting.tell(f"an agent with {secrets:,} secrets")
            agent, requests = filled(secrets)
            stack.enter_context(agent)
            clients.append((Client(agent.socket), requests))
        rounds = setting.rounds or SECRET_ROUNDS
        order = list(range(len(SECRETS)))
        for number in range(rounds):
            setting.tell(f"agents with more and more secrets: round {number + 1} of {rounds}")
            random.shuffle(order)
            for index in order:
                client, requests = clients[index]
                found[index].add([_timed(client, requests[at % len(requests)]) for at in range(REQUESTS)])
        for client, _ in clients:
            client.close()
    return found


def _timed(client: Client, words: bytes) -> float:
    begun = time.perf_counter_ns()
    client.ask(words)
    return (time.perf_counter_ns() - begun) / 1e6


def clients_curve(setting: Setting) -> tuple[list[Point], float]:
    """More and more clients at once; and the processor time that playing them took for each answer, in ms."""
    found = [Point([], [], []) for _ in CLIENTS]
    own = []
    rounds, seconds = (setting.rounds, 1.0) if setting.rounds else (CLIENT_ROUNDS, CLIENT_SECONDS)
    agent, requests = filled(1_000)
    with agent:
        order = list(range(len(CLIENTS)))
        for number in range(rounds):
            random.shuffle(order)
            for index in order:
                setting.tell(f"{CLIENTS[index]} clients at once: round {number + 1} of {rounds}")
                served = serve(agent.socket, requests, CLIENTS[index], seconds)
                if served.errors:
                    raise CommandFailedError(f"the agent failed {served.errors} requests of {CLIENTS[index]} clients")
                found[index].add(served.wall, served.rate)
                own.append(served.own)
    return found, median(own)


def _goal(what: str, xs: Sequence[float], samples: Sequence[Sequence[float]], unit: str = "ms") -> Outcome:
    found = growth(xs, samples)
    first, last = (f"{median(samples[end]):,.{1 if unit == 'MiB' else 2}f} {unit}" for end in (0, -1))
    return Outcome(what, f"{first} to {last}", "", found.text, "not worse than linear", found.within_linear)


def _means(points: Sequence[Point]) -> list[list[float]]:
    """The mean times of clients without a pause, in ms: as many as there are share what the agent answers."""
    return [[1e3 * count / rate for rate in each.rate] for count, each in zip(CLIENTS, points, strict=True)]


def _secrets_panels(points: Sequence[Point], memory: Sequence[Sequence[float]]) -> list[Panel]:
    sizes = Curve("resident memory", SECRETS, [median(each) for each in memory])
    label = "Secrets in the cache"
    return [
        Panel("A warm batch of 50 references", label, "Time, ms", _times(SECRETS, points)),
        Panel("The agent's memory", label, "MiB", [sizes]),
    ]


def _clients_panels(points: Sequence[Point]) -> list[Panel]:
    label = "Clients at once, without a pause"
    rate = Curve("answers", CLIENTS, [median(each.rate) for each in points], [_range(each.rate) for each in points])
    return [
        Panel("A warm batch of 50 references", label, "Time, ms", _times(CLIENTS, points)),
        Panel("What the agent answers", label, "Batches of 50 a second", [rate]),
    ]


def _times(xs: Sequence[float], points: Sequence[Point]) -> list[Curve]:
    return [
        Curve(label, xs, [median(each) for each in samples], [_range(each) for each in samples])
        for label, samples in (
            ("median", [each.typical for each in points]),
            ("99 of 100 within", [each.slowest for each in points]),
        )
    ]


def _range(samples: Sequence[float]) -> tuple[float, float]:
    """The quartiles of rounds."""
    low, _, high = quantiles(samples, n=4, method="inclusive") if len(samples) > 1 else [samples[0]] * 3
    return low, high


def _text(
    by_secrets: Sequence[Point], memory: Sequence[Sequence[float]], by_clients: Sequence[Point], own: float
) -> str:
    secrets = "".join(
        f"| {count:,} | {median(each.typical):.2f} | {median(each.slowest):.2f} | {median(sizes):.1f} |\n"
        for count, each, sizes in zip(SECRETS, by_secrets, memory, strict=True)
    )
    clients = "".join(
        f"| {count} | {median(each.rate):,.0f} | {median(each.typical):.2f} | {median(each.slowest):.2f} |\n"
        for count, each in zip(CLIENTS, by_clients, strict=True)
    )
    return f"""\
## The agent as it grows

Each request is `POST /v1/resolve` with {BATCH} references whose secrets are cached, and the next one is for others as
far as there are any. One client:

| Secrets in the cache | Median, ms | 99 of 100 within, ms | The agent's memory, MiB |
| ---: | ---: | ---: | ---: |
{secrets}
![Time of a warm batch and memory, by the number of secrets in the cache](benchmarks/{SECRETS_PLOT})

The same of 1,000 secrets, with more and more clients:

| Clients at once | Batches a second | Median, ms | 99 of 100 within, ms |
| ---: | ---: | ---: | ---: |
{clients}
![Time of a warm batch and batches a second, by the number of clients](benchmarks/{CLIENTS_PLOT})

A *client* is a connection that is kept and asks again the moment it has its answer, without a pause: the hardest that
so many can be. The agent has one thread, so a few of them keep it busy, and from there on each waits for the others'
turns: its time grows as their number does, while the agent answers as many as before. One other process plays all of
them. It sends bytes that were prepared and looks at the status and the length of what comes, which took it {own:.3f} ms
of processor time for each answer.
"""
