"""What the agent is held against."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.bench.goals import Outcome, Ratio, limit_outcome, milliseconds, timed
from tests.bench.measure import estimate
from tests.support.memory import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.agent import Load
    from tests.bench.measure import Series

MOUNT_ALLOWANCE_MS = 30
RESOLVE_LIMIT_MS = 3
SLOWEST_LIMIT_MS = 10
GROWTH_LIMIT_MIB = 1  # what a resident memory of tens of MiB varies by itself
MEMORY_LIMIT_MIB = 60

GOALS = (
    Ratio(
        "Resolve 50 references, all cached, beside the least the agent can be asked", "agent-resolve", "agent-health", 3
    ),
)


class AgentFigures(NamedTuple):
    """What was measured of the agent; None what was not. Times in ms, memory in bytes."""

    resolve: float | None = None
    few: Load | None = None
    load: Load | None = None
    memory: int | None = None


def agent_outcomes(figures: AgentFigures) -> list[Outcome]:
    """What the agent is held against beside ratios."""
    batch = "`POST /v1/resolve` (50 references)"
    found = []
    if figures.resolve is not None:
        what = "Resolve 50 references, all cached"
        found.append(limit_outcome(what, batch, figures.resolve, RESOLVE_LIMIT_MS, "ms"))
    if figures.few is not None:
        what = f"{figures.few.clients} clients at once: 99 of 100 batches are resolved within"
        found.append(limit_outcome(what, batch, figures.few.slowest_percent, SLOWEST_LIMIT_MS, "ms"))
    if figures.load is not None:
        load = figures.load
        what = f"{load.clients} clients at once for {load.seconds:.0f} s, {load.requests:,} requests: errors"
        found.append(limit_outcome(what, batch, load.errors, 0, ""))
        what = "The agent's growth meanwhile, after the first seconds"
        text = f"{load.growth / MIB:+.1f} MiB, from {load.memory_before / MIB:.1f} MiB"
        found.append(limit_outcome(what, "", max(load.growth, 0) / MIB, GROWTH_LIMIT_MIB, "MiB", figure=text))
    if figures.memory is not None:
        what = "Memory of the agent after 1,000 secrets"
        found.append(limit_outcome(what, "`dso-agent`", figures.memory / MIB, MEMORY_LIMIT_MIB, "MiB"))
    return found


def mount_outcome(series: Mapping[str, Series]) -> list[Outcome]:
    """What a volume of the agent's adds to the start of a container."""
    if "start-dso" not in series:
        return []
    ours, plain = series["start-dso"], series["start-plain"]
    added = estimate(lambda ours, plain: ours - plain, ours, plain)
    return [
        Outcome(
            "Start a container with a cached secret as a file",
            timed(ours),
            timed(plain),
            milliseconds(added),
            f"at most +{MOUNT_ALLOWANCE_MS} ms",
            added.value <= MOUNT_ALLOWANCE_MS,
        )
    ]
