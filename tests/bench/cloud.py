"""Everything that is measured of the agent, one after the other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import agent as requests
from tests.bench.agent_goals import GOALS, AgentFigures, agent_outcomes, mount_outcome
from tests.bench.goals import outcomes
from tests.bench.measure import interleave
from tests.bench.mounts import Containers
from tests.bench.part import Part
from tests.support.engine import Images

if TYPE_CHECKING:
    from tests.bench.part import Setting

REQUEST_ROUNDS = 1000
MOUNT_ROUNDS = 200
START_ROUNDS = 100


def measure(setting: Setting) -> Part:
    """Measure all of it."""
    tell, rounds = setting.tell, setting.rounds
    seconds, warm_up = (requests.LOAD_SECONDS, requests.LOAD_WARM_UP) if rounds is None else (5.0, 2.0)
    with requests.started() as agent:
        tell("requests to the agent")
        series = requests.request_series(agent, rounds or REQUEST_ROUNDS)
        series += requests.mount_series(agent, rounds or MOUNT_ROUNDS)
    with requests.started() as agent:
        tell("the agent's memory")
        memory = requests.memory_after_many(agent)
    with requests.started() as agent:
        few = requests.load(agent, 16, seconds / 4, warm_up / 4, lambda text: tell(f"16 clients: {text}"))
        clients = requests.LOAD_CLIENTS
        many = requests.load(agent, clients, seconds, warm_up, lambda text: tell(f"{clients} clients: {text}"))
    with Containers(Images().busybox) as containers:
        count = rounds or START_ROUNDS
        series += interleave(containers.cases(setting.tools.docker), count, setting.progress("containers", count))
    found = {each.key: each for each in series}
    figures = AgentFigures(found["agent-resolve"].typical, few, many, memory)
    return Part(
        [*outcomes(found, GOALS), *agent_outcomes(figures), *mount_outcome(found)],
        (),
        series,
        "## The agent under load\n\n" + "".join(f"- {_note(each)}\n" for each in (few, many)),
        f"the agent under load for {seconds:.0f} s",
    )


def _note(load: requests.Load) -> str:
    return (
        f"{load.clients} clients at once, without a pause: {load.requests / load.seconds:,.0f} requests of "
        f"{requests.BATCH} references a second, 99 of 100 within {load.slowest_percent:.0f} ms."
    )
