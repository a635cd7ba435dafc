"""Everything that is measured of Cloud Mode, one after the other."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import agent as requests
from tests.bench import plugins
from tests.bench.goals import AgentFigures
from tests.bench.measure import CommandFailedError, Series, interleave
from tests.bench.mounts import Containers
from tests.support.agent import Agent
from tests.support.aws import Moto
from tests.support.aws import settings as aws_settings
from tests.support.far_away import FarAway
from tests.support.hashicorp import HashicorpServer
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

REQUEST_ROUNDS = 1000
MOUNT_ROUNDS = 200
START_ROUNDS = 100
PLUGIN_ROUNDS = 10
COLD_ROUNDS = 10
DISTANCE = 0.05  # seconds that a request to the distant Vault takes longer


class Cloud(NamedTuple):
    """What came of it; `plugin_rows` is a table of the report with its head."""

    series: list[Series]
    figures: AgentFigures
    notes: list[str]
    plugin_rows: Sequence[Sequence[str]]


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
    tell("HashiCorp Vault")
    series += _cold_vault(rounds or COLD_ROUNDS)
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


def _cold_vault(rounds: int) -> list[Series]:
    """One reference and 50 of them into a Vault far away, each asked of an agent that has just started."""
    names = [f"bench/secret-{number:02d}" for number in range(requests.BATCH)]
    label = f"into HashiCorp Vault, {DISTANCE * 1000:.0f} ms away, by an agent just started"
    cases = {"vault-1": names[:1], "vault-50": names}
    found = {
        key: Series(key, f"{len(wanted)} new reference{'s' * (len(wanted) > 1)} {label}", [], [])
        for key, wanted in cases.items()
    }
    with HashicorpServer() as server, FarAway(int(server.http.rpartition(":")[2]), DISTANCE) as proxy:
        for name in names:
            server.put(name, {"value": requests.VALUE})
        auth = f"{{method: token, token: {server.root_token}}}"
        config = f"providers:\n  vault: {{type: vault, address: 'http://127.0.0.1:{proxy.port}', auth: {auth}}}\n"
        for key, wanted in list(cases.items()) * rounds:
            found[key].wall.append(_cold("vault", config, wanted))
    return list(found.values())


def _cold(provider: str, config: str, names: Sequence[str], before: Callable[[], None] = lambda: None) -> float:
    """How long an agent that has just started takes for references it was never asked, in ms."""
    with Agent(variant="frozen") as agent:
        shutil.copy(os.path.join(plugins.BINARIES, f"dso-provider-{provider}"), agent.plugin_dir)
        agent.write_config(config)
        agent.start()
        wait_until(lambda: agent.get("/v1/status")["providers"][0]["state"] == "running", "the plugin's start")
        before()
        begun = time.perf_counter_ns()
        answer = agent.resolve(*(f"dso://{provider}/{name}" for name in names))
        taken = (time.perf_counter_ns() - begun) / 1e6
        if [one["value"] for one in answer["resolved"]] != [requests.VALUE] * len(names):
            raise CommandFailedError(f"the agent did not read {len(names)} secrets: {answer['errors'][:1]}")
        return taken


def _aws_calls() -> int:
    """How many calls of the API it takes to read 50 secrets that nobody has asked for yet."""
    with Moto() as moto:
        names = [f"bench/secret-{number:02d}" for number in range(requests.BATCH)]
        for name in names:
            moto.put(name, requests.VALUE)
        settings = "".join(f", {name}: {value!r}" for name, value in aws_settings(moto).items())
        _cold("aws", f"providers:\n  aws: {{type: aws{settings}}}\n", names, moto.reset)
        return len(moto.calls())
