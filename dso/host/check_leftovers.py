"""Keepers and volumes of stacks that are gone, or that have lost their content."""

from __future__ import annotations

from dso import paths
from dso.errors import DsoError
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from dso.delivery.engine import Engine
    from dso.delivery.keeper import KeeperState

_COMPOSE_PROJECT = "com.docker.compose.project"


def leftovers(engine: Engine, vault_id: str | None) -> list[Finding]:
    """What is there of file secrets, and needed by nobody, or needed and empty."""
    from dso.delivery import keeper
    from dso.delivery.engine import LIVE_STATUSES

    try:
        states = keeper.states(engine)
        idle = engine.volumes(label=[f"{paths.LABEL_ROLE}=volume"], dangling=["true"])
        live = {one["Labels"][_COMPOSE_PROJECT] for one in engine.containers([_COMPOSE_PROJECT], LIVE_STATUSES)}
    except DsoError as error:
        return [Finding("leftovers", WARNING, "file secrets cannot be looked at", error.message, error.hint)]

    def sweep() -> None:
        keeper.sweep(engine, vault_id=vault_id)

    found = judged(states, live, sweep) + idle_volumes(idle, sweep)
    return found or [Finding("leftovers", OK, "no keeper or volume without a project")]


def edits() -> list[Finding]:
    """What commands that were killed left in memory: removed, and said. No other command has that to do."""
    from dso.system.memory_directory import remove_abandoned

    found = remove_abandoned()
    what = f"removed what killed `docker dso secret edit` commands had left in memory: {found}"
    return [Finding("leftovers", NOTE, what)] if found else []


def judged(states: Sequence[KeeperState], live: set[str], sweep: Callable[[], None]) -> list[Finding]:
    """Keepers whose project does not run, and those that are empty."""
    found = []
    for state in states:
        if state.impostor:
            what = f"the container {state.impostor} has the labels of a keeper and is not one"
            cause = "somebody made it who wants secrets written into it, which DSO does not do"
            found.append(Finding("leftovers", WARNING, what, cause, f"docker rm -f {state.impostor}"))
        elif state.project not in live:
            what = f"a keeper holds file secrets of {state.project}, of which nothing runs"
            cause = "the stack was stopped without `docker dso down`"
            found.append(Finding("leftovers", WARNING, what, cause, "docker dso status, which removes it", sweep))
        elif not state.content:
            what = f"the file secrets of {state.project} are gone from memory"
            cause = "the Engine or the machine was restarted, which Local Mode does not survive by itself"
            found.append(Finding("leftovers", ERROR, what, cause, "docker dso up, in that project"))
    return found


def idle_volumes(idle: Sequence[Mapping[str, Any]], sweep: Callable[[], None]) -> list[Finding]:
    """Volumes that no container has."""
    local = sorted(str(one["Name"]) for one in idle if one.get("Driver") == "local")
    agents = sorted(str(one["Name"]) for one in idle if one.get("Driver") != "local")
    found = []
    if local:
        what = f"volumes of file secrets that no container has: {', '.join(local)}"
        remedy = f"docker volume rm {' '.join(local)}"
        found.append(Finding("leftovers", WARNING, what, "their stacks are gone; the volumes are empty", remedy, sweep))
    if agents:
        what = f"volumes of the agent that no container has: {', '.join(agents)}"
        cause = "their stacks are down, or were removed without `docker dso down`; they hold nothing on a disk"
        found.append(Finding("leftovers", NOTE, what, cause, f"docker volume rm {' '.join(agents)}"))
    return found
