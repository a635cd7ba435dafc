"""The agent as its clients meet it: the binary that users install, over its socket, with values it has cached."""

from __future__ import annotations

import json
import random
import socket
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.clients import serve
from tests.bench.measure import CommandFailedError, Series
from tests.support.agent import Agent
from tests.support.memory import MIB, resident

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

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
    wall: Sequence[float]
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
    """The agent that users install, with one provider that has every secret; use it in a `with`.

    `places` are of `agent:` in dso.yaml.
    """
    agent = Agent(variant="release", volume_socket=volume_socket)
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
    """So many clients at once, which resolve without a pause."""
    check_values(agent)
    memory: list[tuple[float, int]] = []
    begun = time.monotonic()

    def note() -> None:
        size = resident([agent.pid])
        memory.append((time.monotonic() - begun, size))
        tell(f"{memory[-1][0]:.0f} s, {size / MIB:.1f} MiB")

    served = serve(agent.socket, [RESOLVE], clients, seconds, meanwhile=note)
    warm = [size for age, size in memory if age >= warm_up] or [memory[-1][1]]
    part = max(1, len(warm) // 5)
    return Load(
        clients,
        seconds,
        len(served.wall) + served.errors,
        served.errors,
        served.wall,
        int(median(warm[:part])),
        int(median(warm[-part:])),
    )


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
    client.ask(request("POST", "/VolumeDriver.Create", {"Name": "bench"}))
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
