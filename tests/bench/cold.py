"""What nobody has asked for yet: an agent that has just started reads it from a backend far away."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import backends
from tests.bench.measure import CommandFailedError, Series
from tests.support.agent import Agent
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.backends import Backend

ROUNDS = 10
DISTANCE = 0.05  # seconds that a request to the backend takes longer
BACKENDS = {
    "vault": "HashiCorp Vault",
    "aws": "AWS Secrets Manager",
    "azure": "Azure Key Vault",
    "huawei": "Huawei Cloud CSMS",
}


class Cold(NamedTuple):
    """Times for one secret and for 50 (`aws-1`, `aws-50`), and the HTTP requests that each took, where they count."""

    series: list[Series]
    requests: dict[str, int]


def measure(kinds: Sequence[str], rounds: int | None, tell: Callable[[str], None]) -> Cold:
    """Measure these types of providers; `rounds` makes it a trial."""
    found = Cold([], {})
    for kind in kinds:
        tell(f"50 secrets in {BACKENDS[kind]}")
        one, many = (_series(kind, names) for names in _CASES.values())
        with backends.opened(kind, DISTANCE) as backend:
            for _ in range(rounds or ROUNDS):
                for series, names in zip((one, many), _CASES.values(), strict=True):
                    taken, requests = _read(kind, backend, names)
                    series.wall.append(taken)
                    if requests is not None:
                        found.requests[series.key] = max(requests, found.requests.get(series.key, 0))
        found.series.extend((one, many))
    return found


_CASES = {"1": backends.SECRETS[:1], "50": backends.SECRETS}


def _series(kind: str, names: Sequence[str]) -> Series:
    count = f"{len(names)} new reference{'s' * (len(names) > 1)}"
    label = f"{count} into {BACKENDS[kind]}, {DISTANCE * 1000:.0f} ms away, by an agent just started"
    return Series(f"{kind}-{len(names)}", label, [], [])


def _read(kind: str, backend: Backend, names: Sequence[str]) -> tuple[float, int | None]:
    """How long an agent takes for references it was never asked, in ms, and the requests its plugin sent."""
    with Agent(variant="release", env=backend.environment) as agent:
        agent.install_frozen(kind)
        agent.write_config(f"providers:\n  {kind}: {json.dumps({'type': kind, **backend.config})}\n")
        agent.start()
        wait_until(lambda: agent.get("/v1/status")["providers"][0]["state"] == "running", "the plugin's start")
        backend.forget()
        begun = time.perf_counter_ns()
        answer = agent.resolve(*(f"dso://{kind}/{name}" for name in names))
        taken = (time.perf_counter_ns() - begun) / 1e6
        if [one["value"] for one in answer["resolved"]] != [backends.VALUE] * len(names):
            raise CommandFailedError(f"the agent did not read {len(names)} secrets: {answer['errors'][:1]}")
        return taken, backend.requests() if backend.requests else None
