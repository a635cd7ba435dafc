"""Everything that is measured of the agent, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.bench import agent as requests
from tests.bench.goals import AgentFigures
from tests.bench.measure import interleave
from tests.bench.mounts import Containers

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.bench.measure import Series

REQUEST_ROUNDS = 1000
MOUNT_ROUNDS = 200
START_ROUNDS = 100


class Cloud(NamedTuple):
    """What came of it."""

    series: list[Series]
    figures: AgentFigures
    notes: list[str]


def measure(image: str, docker: str, rounds: int | None, tell: Callable[[str], None]) -> Cloud:
    """Measure all of it; `rounds` makes it a trial, `tell` is told what is under way."""
    seconds, warm_up = (requests.LOAD_SECONDS, requests.LOAD_WARM_UP) if rounds is None else (5.0, 2.0)
    with requests.started() as agent:
        tell("requests to the agent")
        series = requests.request_series(agent, rounds or REQUEST_ROUNDS)
        resolve = next(each.typical for each in series if each.key == "agent-resolve")
        series += requests.mount_series(agent, rounds or MOUNT_ROUNDS)
    with requests.started() as agent:
        tell("the agent's memory")
        memory = requests.memory_after_many(agent)
    with requests.started() as agent:
        few = requests.load(agent, 16, seconds / 4, warm_up / 4, lambda text: tell(f"16 clients: {text}"))
        many = requests.load(
            agent,
            requests.LOAD_CLIENTS,
            seconds,
            warm_up,
            lambda text: tell(f"{requests.LOAD_CLIENTS} clients: {text}"),
        )
    with Containers(image) as containers:
        tell("starts of containers")
        count = rounds or START_ROUNDS
        series += interleave(containers.cases(docker), count, lambda number: tell(f"start {number} of {count}"))
    return Cloud(series, AgentFigures(resolve, many, memory), [_note(few), _note(many)])


def _note(load: requests.Load) -> str:
    return (
        f"{load.clients} clients at once, without a pause: {load.requests / load.seconds:,.0f} requests of "
        f"{requests.BATCH} references a second, 99 of 100 within {load.slowest_percent:.0f} ms."
    )
