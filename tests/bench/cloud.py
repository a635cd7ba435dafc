"""Everything that is measured of Cloud Mode, one after the other."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import agent as requests
from tests.bench import plugins
from tests.bench.goals import AgentFigures
from tests.bench.measure import CommandFailedError, Series, interleave
from tests.bench.mounts import Containers
from tests.support.agent import Agent
from tests.support.aws import Moto
from tests.support.aws import settings as aws_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.engine import Engine

REQUEST_ROUNDS = 1000
START_ROUNDS = 40
PLUGIN_ROUNDS = 10


class Cloud(NamedTuple):
    """What came of it; `plugin_rows` is a table of the report with its head."""

    series: list[Series]
    figures: AgentFigures
    notes: list[str]
    plugin_rows: Sequence[Sequence[str]]


def measure(engine: Engine, image: str, docker: str, rounds: int | None, tell: Callable[[str], None]) -> Cloud:
    """Measure all of it; `rounds` makes it a trial, `tell` is told what is under way."""
    seconds, warm_up = (requests.LOAD_SECONDS, requests.LOAD_WARM_UP) if rounds is None else (5.0, 2.0)
    with requests.started() as agent:
        tell("requests to the agent")
        series = requests.request_series(agent, rounds or REQUEST_ROUNDS)
        resolve = next(each.typical for each in series if each.key == "agent-resolve")
        series += requests.mount_series(agent, rounds or START_ROUNDS)
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
    with Containers(engine, image) as containers:
        tell("starts of containers")
        count = rounds or START_ROUNDS
        series += interleave(containers.cases(docker), count, lambda number: tell(f"start {number} of {count}"))
    tell("AWS")
    figures = AgentFigures(resolve, many, memory, _aws_calls())
    tell("plugins")
    costs = [each.row for each in plugins.costs(rounds or PLUGIN_ROUNDS)]
    notes = [_note(few), _note(many)]
    return Cloud(series, figures, notes, [plugins.HEAD, *costs] if costs else [])


def _note(load: requests.Load) -> str:
    return (
        f"{load.clients} clients at once, without a pause: {load.requests / load.seconds:,.0f} requests of "
        f"{requests.BATCH} references a second, 99 of 100 within {load.slowest_percent:.0f} ms."
    )


def _aws_calls() -> int:
    """How many calls of the API it takes to read 50 secrets that nobody has asked for yet."""
    with Moto() as moto, Agent(variant="frozen") as agent:
        names = [f"bench/secret-{number:02d}" for number in range(requests.BATCH)]
        for name in names:
            moto.put(name, requests.VALUE)
        plugin = os.path.join(plugins.BINARIES, "dso-provider-aws")
        shutil.copy(plugin, agent.plugin_dir)
        settings = "".join(f", {name}: {value!r}" for name, value in aws_settings(moto).items())
        agent.write_config(f"providers:\n  aws: {{type: aws{settings}}}\n")
        agent.start()
        moto.reset()
        answer = agent.resolve(*(f"dso://aws/{name}" for name in names))
        if [one["value"] for one in answer["resolved"]] != [requests.VALUE] * len(names):
            raise CommandFailedError(f"the agent did not read {len(names)} secrets from AWS: {answer['errors'][:1]}")
        return len(moto.calls())
