"""What the measurements are held against, and how a figure is made of them.

To compare with something else, measure it (tests/bench/cases.py) and add its line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.bench.measure import Estimate, Series, estimate
from tests.support.memory import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.bench.agent import Load
    from tests.bench.plugins import PluginCost

UP_ALLOWANCE_MS = 150
MOUNT_ALLOWANCE_MS = 30
RESOLVE_LIMIT_MS = 3
GROWTH_LIMIT_MIB = 1  # what a resident memory of tens of MiB varies by itself
MEMORY_LIMIT_MIB = 60
AWS_CALLS_LIMIT = 3
BINARY_LIMIT_MB = 25
PLUGIN_READY_LIMIT_MS = 1500
PLUGIN_MEMORY_LIMIT_MIB = 90
PLUGIN_SIZE_LIMIT_MB = 40

# HTTP requests that a further secret may take beside one that is logging in. Key Vault asks for a token by a challenge,
# which whoever comes before the first has answered it gets as well.
REQUESTS_LIMIT = {"azure": 2, "huawei": 1}


class Ratio(NamedTuple):
    """A command and its yardstick, both by key; `goal` is what their quotient may be at most, if there is one."""

    what: str
    measured: str
    yardstick: str
    goal: float | None = None


class Outcome(NamedTuple):
    """A line of the result: figures as text, `met` None where there is no goal."""

    what: str
    measured: str
    yardstick: str
    figure: str
    goal: str
    met: bool | None


class AgentFigures(NamedTuple):
    """What was measured of the agent; None what was not. Times in ms, memory in bytes."""

    resolve: float | None = None
    load: Load | None = None
    memory: int | None = None


GOALS = (
    Ratio("Answer Docker's question for a plugin's metadata", "metadata", "compose-metadata", 1.1),
    Ratio("Read one secret of 100", "get-100", "compose-metadata", 2.2),
    Ratio("Read one secret of 100, through Docker", "docker-get-100", "docker-compose-version", 1.6),
    Ratio("Read one secret of 10,000 instead of 10", "get-10000", "get-10", 1.5),
    Ratio("50 new references into HashiCorp Vault, 50 ms away, beside one", "vault-50", "vault-1", 5),
    Ratio("50 new references into AWS, 50 ms away, beside one", "aws-50", "aws-1", 5),
    Ratio("50 new references into Azure Key Vault, 50 ms away, beside one", "azure-50", "azure-1", 5),
    Ratio("50 new references into Huawei Cloud CSMS, 50 ms away, beside one", "huawei-50", "huawei-1", 5),
    Ratio(
        "Resolve 50 references, all cached, beside the least the agent can be asked", "agent-resolve", "agent-health", 3
    ),
)
YARDSTICKS = (
    Ratio("Metadata, beside Docker itself", "metadata", "docker-version"),
    Ratio("Metadata, beside a bare Python", "metadata", "python"),
    Ratio("Metadata, beside a default PyInstaller build", "metadata", "default-metadata"),
    Ratio("Read one secret, beside a default PyInstaller build", "get-100", "default-get-100"),
    Ratio("The same through Docker", "docker-get-100", "docker-default-get-100"),
)


def outcomes(series: Mapping[str, Series], ratios: Sequence[Ratio]) -> list[Outcome]:
    """The lines of those ratios whose two sides were measured."""
    return [_ratio(series, each) for each in ratios if each.measured in series and each.yardstick in series]


def _ratio(series: Mapping[str, Series], ratio: Ratio) -> Outcome:
    measured, yardstick = series[ratio.measured], series[ratio.yardstick]
    found = estimate(lambda ours, theirs: ours / theirs, measured, yardstick)
    return Outcome(
        ratio.what,
        _timed(measured),
        _timed(yardstick),
        f"{found.value:.2f} x ({found.low:.2f} to {found.high:.2f})",
        "" if ratio.goal is None else f"at most {ratio.goal:g} x",
        None if ratio.goal is None else found.value <= ratio.goal,
    )


def up_outcome(series: Mapping[str, Series]) -> list[Outcome]:
    """What `docker dso up` adds to `docker compose up`, against one `docker compose config` and some more."""
    if "dso-up" not in series:
        return []
    ours, theirs, config = series["dso-up"], series["compose-up"], series["compose-config"]
    added = estimate(lambda up, plain: up - plain, ours, theirs)
    allowed = config.typical + UP_ALLOWANCE_MS
    return [
        Outcome(
            "Bring up 20 services, 50 references, nothing to change",
            _timed(ours),
            _timed(theirs),
            f"{_milliseconds(added)}, {ours.typical / theirs.typical:.2f} x",
            f"at most +{allowed:.0f} ms (`docker compose config`, {config.typical:.0f} ms, + {UP_ALLOWANCE_MS} ms)",
            added.value <= allowed,
        )
    ]


def mount_outcome(series: Mapping[str, Series]) -> list[Outcome]:
    """What a volume of the agent's adds to the start of a container."""
    if "start-dso" not in series:
        return []
    ours, plain = series["start-dso"], series["start-plain"]
    added = estimate(lambda ours, plain: ours - plain, ours, plain)
    return [
        Outcome(
            "Start a container with a cached secret as a file",
            _timed(ours),
            _timed(plain),
            _milliseconds(added),
            f"at most +{MOUNT_ALLOWANCE_MS} ms",
            added.value <= MOUNT_ALLOWANCE_MS,
        )
    ]


def agent_outcomes(figures: AgentFigures) -> list[Outcome]:
    """What the agent is held against beside ratios."""
    batch = "`POST /v1/resolve` (50 references)"
    found = []
    if figures.resolve is not None:
        what = "Resolve 50 references, all cached"
        found.append(limit_outcome(what, batch, figures.resolve, RESOLVE_LIMIT_MS, "ms"))
    if figures.load is not None:
        load = figures.load
        what = f"{load.clients} clients at once for {load.seconds:.0f} s, {load.requests:,} requests: errors"
        found.append(limit_outcome(what, batch, load.errors, 0, ""))
        what = "The agent's growth meanwhile, after the first seconds"
        text = f"{load.growth / MIB:+.1f} MiB, from {load.memory_before / MIB:.1f} MiB"
        found.append(limit_outcome(what, "", max(load.growth, 0) / MIB, GROWTH_LIMIT_MIB, "MiB", figure=text))
    if figures.memory is not None:
        what = "Memory of the agent's two processes after 1,000 secrets"
        found.append(limit_outcome(what, "`dso-agent`", figures.memory / MIB, MEMORY_LIMIT_MIB, "MiB"))
    return found


def plugin_outcomes(costs: Sequence[PluginCost]) -> list[Outcome]:
    """What every plugin is held against, told of the one that comes off worst."""
    if not costs:
        return []
    slowest = max(costs, key=lambda cost: cost.trimmed.ready.typical)
    largest = max(costs, key=lambda cost: cost.memory)
    biggest = max(costs, key=lambda cost: cost.trimmed.size)
    ready, memory, size = slowest.trimmed.ready.typical, largest.memory / MIB, biggest.trimmed.size / 1e6
    worst = [
        ("Ready, the slowest", slowest, ready, PLUGIN_READY_LIMIT_MS, "ms"),
        ("Resident memory, the most", largest, memory, PLUGIN_MEMORY_LIMIT_MIB, "MiB"),
        ("Size of the binary, the largest", biggest, size, PLUGIN_SIZE_LIMIT_MB, "MB"),
    ]
    return [
        limit_outcome(f"{what} of {len(costs)} providers' plugins", f"`{cost.name}`", value, limit, unit)
        for what, cost, value, limit, unit in worst
    ]


def request_outcomes(requests: Mapping[str, int]) -> list[Outcome]:
    """How many HTTP requests new references take, by the keys of their series (tests/bench/cold.py)."""
    found = []
    if "aws-50" in requests:
        what = "API calls for 50 new references into AWS"
        found.append(limit_outcome(what, "`dso-provider-aws`", requests["aws-50"], AWS_CALLS_LIMIT, ""))
    for kind, backend in (("azure", "Azure Key Vault"), ("huawei", "Huawei Cloud CSMS")):
        if f"{kind}-50" in requests:
            one, many = requests[f"{kind}-1"], requests[f"{kind}-50"]
            what = f"HTTP requests for 50 new references into {backend}"
            limit = one + 49 * REQUESTS_LIMIT[kind]
            found.append(limit_outcome(what, f"`dso-provider-{kind}` (for one: {one})", many, limit, ""))
    return found


def size_outcome(size: int) -> Outcome:
    """The binary's size in bytes against its limit."""
    megabytes = size / 1e6
    return Outcome(
        "Size of the binary",
        f"`docker-dso`, {megabytes:.1f} MB",
        "",
        f"{megabytes:.1f} MB",
        f"at most {BINARY_LIMIT_MB} MB",
        megabytes <= BINARY_LIMIT_MB,
    )


def limit_outcome(what: str, measured: str, value: float, limit: float, unit: str, *, figure: str = "") -> Outcome:
    """A figure that may be at most so much, in a unit of its own; `figure` is its text where more is to be said."""
    return Outcome(
        what,
        measured,
        "",
        figure or f"{_plain(value)} {unit}".strip(),
        f"at most {_plain(limit)} {unit}".strip() if limit else "none",
        value <= limit,
    )


def _plain(value: float) -> str:
    return f"{value:.0f}" if value == int(value) else f"{value:.1f}"


def _timed(series: Series) -> str:
    return f"{series.label}, {series.typical:.1f} ms"


def _milliseconds(added: Estimate) -> str:
    return f"{added.value:+.0f} ms ({added.low:+.0f} to {added.high:+.0f})"
