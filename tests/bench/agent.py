"""The agent as its clients meet it: the frozen binary, over its socket, with values it has cached."""

from __future__ import annotations

import json
import os
import random
import socket
import time
from multiprocessing import get_context
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.measure import CommandFailedError, Series
from tests.support.agent import Agent
from tests.support.memory import MIB, resident

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from multiprocessing.connection import Connection

BATCH = 50
REFERENCES = [f"dso://fake/shop/secret-{number:05d}" for number in range(BATCH)]
VALUE = "as-long-as-most-tokens-are-today-40-char"
WARM_UP = 50
LOAD_CLIENTS = 64
LOAD_SECONDS = 60.0
LOAD_WARM_UP = 10.0  # of those
MANY_SECRETS = 1000


class Load(NamedTuple):
    """What clients at once got: requests and errors, the time of each in ms, and the agent's memory in bytes."""

    clients: int
    seconds: float
    requests: int
    errors: int
    wall: list[float]
    memory_before: int
    memory_after: int

    @property
    def slowest_percent(self) -> float:
        """The time that 99 of 100 requests did not exceed, in ms."""
        return quantiles(self.wall, n=100)[-1]

    @property
    def growth(self) -> int:
        """By how many bytes the agent grew from the end of the warm-up to the end."""
        return self.memory_after - self.memory_before


def started(volume_socket: str | None = None, **places: object) -> Agent:
    """A frozen agent with one provider that has every secret; to be used in a `with`. `places` are of `agent:`."""
    agent = Agent(variant="frozen", volume_socket=volume_socket)
    agent.write_secrets({"*": {"text": VALUE}})
    agent.use_fake(agent=places)
    return agent.start()


class Client:
    """A connection that is kept, and as little of its own time as can be."""

    def __init__(self, path: str) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(60)
        self._socket.connect(path)

    def close(self) -> None:
        self._socket.close()

    def ask(self, request: bytes) -> bytes:
        """The body of the answer to a request, which has to succeed."""
        self._socket.sendall(request)
        said = self._socket.recv(1 << 20)
        while b"\r\n\r\n" not in said:
            said += self._more()
        head, _, body = said.partition(b"\r\n\r\n")
        if b" 200 " not in head[:20]:
            raise CommandFailedError(f"the agent answered {head[:200]!r}")
        length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        while len(body) < length:
            body += self._more()
        return body

    def _more(self) -> bytes:
        piece = self._socket.recv(1 << 20)
        if not piece:
            raise CommandFailedError("the agent hung up in the middle of an answer")
        return piece


def request(method: str, path: str, body: object = None) -> bytes:
    """A request as it goes over the line."""
    content = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} {path} HTTP/1.1\r\nHost: dso\r\nContent-Type: application/json\r\nContent-Length: {len(content)}\r\n"
    )
    return head.encode() + b"\r\n" + content


HEALTH = request("GET", "/healthz")
RESOLVE = request("POST", "/v1/resolve", {"values": REFERENCES})


def check_values(agent: Agent) -> None:
    """What is measured has to be the work: 50 values, each of them right."""
    client = Client(agent.socket)
    answer = json.loads(client.ask(RESOLVE))
    client.close()
    if [one.get("value") for one in answer["resolved"]] != [VALUE] * BATCH:
        raise CommandFailedError(f"the agent did not resolve {BATCH} references: {answer}")


def request_series(agent: Agent, rounds: int) -> list[Series]:
    """One client, one request after another: resolving beside the least an agent can be asked."""
    check_values(agent)
    cases = [
        ("agent-resolve", f"`POST /v1/resolve` ({BATCH} references)", RESOLVE),
        ("agent-health", "`GET /healthz`", HEALTH),
    ]
    found = {key: Series(key, label, [], []) for key, label, _ in cases}
    client = Client(agent.socket)
    for number in range(-WARM_UP, rounds):
        random.shuffle(cases)
        for key, _, words in cases:
            begun = time.perf_counter_ns()
            client.ask(words)
            taken = (time.perf_counter_ns() - begun) / 1e6
            if number >= 0:
                found[key].wall.append(taken)
    client.close()
    return list(found.values())


def load(agent: Agent, clients: int, seconds: float, warm_up: float, tell: Callable[[str], None]) -> Load:
    """Clients that resolve without a pause, each a process of its own."""
    check_values(agent)
    context = get_context("fork")
    until = time.monotonic() + seconds
    pipes, workers = [], []
    for _ in range(clients):
        ours, theirs = context.Pipe(duplex=False)
        worker = context.Process(target=_use, args=(agent.socket, until, theirs))
        worker.start()
        theirs.close()
        pipes.append(ours)
        workers.append(worker)
    memory = list(_samples(agent, until, tell))
    results = [pipe.recv() for pipe in pipes]
    for worker in workers:
        worker.join()
    warm = [size for age, size in memory if age >= warm_up] or [memory[-1][1]]
    part = max(1, len(warm) // 5)
    return Load(
        clients,
        seconds,
        sum(len(wall) for _, wall in results),
        sum(errors for errors, _ in results),
        [taken for _, wall in results for taken in wall],
        int(median(warm[:part])),
        int(median(warm[-part:])),
    )


def _samples(agent: Agent, until: float, tell: Callable[[str], None]) -> Iterator[tuple[float, int]]:
    """The agent's memory twice a second, and how long the run had lasted then."""
    begun = time.monotonic()
    while (now := time.monotonic()) < until:
        size = resident([agent.pid])
        tell(f"{now - begun:.0f} s, {size / MIB:.1f} MiB")
        yield now - begun, size
        time.sleep(0.5)


def _use(path: str, until: float, results: Connection) -> None:
    errors, wall = 0, []
    client = None
    while time.monotonic() < until:
        begun = time.perf_counter_ns()
        try:
            client = client or Client(path)
            client.ask(RESOLVE)
        except (OSError, CommandFailedError, ValueError):
            errors += 1
            client = None
        wall.append((time.perf_counter_ns() - begun) / 1e6)
    results.send((errors, wall))
    os._exit(0)


def memory_after_many(agent: Agent) -> int:
    """Resident memory of the agent, idle, after it has served a thousand secrets."""
    wanted = [f"dso://fake/many/secret-{number:05d}" for number in range(MANY_SECRETS)]
    for first in range(0, MANY_SECRETS, 100):
        resolved = agent.resolve(*wanted[first : first + 100])
        if resolved["errors"]:
            raise CommandFailedError(f"the agent could not resolve: {resolved['errors'][0]}")
    agent.resolve(*wanted)
    time.sleep(1)
    return resident([agent.pid])


def mount_series(agent: Agent, rounds: int) -> list[Series]:
    """`VolumeDriver.Mount` of a volume whose secret is cached, as the Engine calls it."""
    spec = {"files": [{"name": "password", "template": REFERENCES[0]}], "secrets": []}
    answer = agent.request("PUT", "/v1/volumes", {"volumes": {"bench": spec}})
    if answer.status != 200:
        raise CommandFailedError(f"the agent refused a volume: {answer.body!r}")
    found = Series("agent-mount", "`VolumeDriver.Mount` (one cached secret)", [], [])
    client = Client(agent.volume_socket)
    for number in range(rounds):
        body: dict[str, Any] = {"Name": "bench", "ID": f"bench-{number}"}
        begun = time.perf_counter_ns()
        mounted = json.loads(client.ask(request("POST", "/VolumeDriver.Mount", body)))
        found.wall.append((time.perf_counter_ns() - begun) / 1e6)
        if mounted.get("Err"):
            raise CommandFailedError(f"the agent did not mount: {mounted['Err']}")
        client.ask(request("POST", "/VolumeDriver.Unmount", body))
    client.close()
    return [found]
