"""The part of the benchmark that makes things grow: vaults, stacks, file secrets."""

from __future__ import annotations

from statistics import median
from typing import TYPE_CHECKING

from tests.bench.curves import files, page, stacks, vault
from tests.bench.curves.growth import FLAT
from tests.bench.goals import Outcome, Ratio, limit_outcome, outcomes
from tests.bench.part import Part
from tests.support.memory import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.curves.family import Family, Line
    from tests.bench.curves.growth import Growth
    from tests.bench.part import Setting

UP_LIMIT_MIB = 60
UP_SERVICES = 20  # the stack that `up` may take so much memory for

FLAT_READ = Ratio(
    f"Read one secret of {vault.FLAT_TO:,} instead of {vault.SIZES[0]}",
    f"curve-get-{vault.FLAT_TO}",
    f"curve-get-{vault.SIZES[0]}",
    FLAT,
)
PLANS = Ratio(
    "Plan a stack of 500 services, beside `docker compose config`",
    "curve-dso-up---dry-run-500",
    "curve-compose-config-500",
    named=False,
)


def measure(setting: Setting) -> Part:
    """Measure all families and draw them."""
    families = [vault.measure(setting), stacks.measure(setting), files.measure(setting)]
    for family in families:
        limit = (f"goal at {UP_SERVICES} services", float(UP_LIMIT_MIB)) if family.name == "stacks" else None
        page.draw_family(setting.plots, family, limit)
    series = {each.key: each for family in families for line in family.lines for each in line.times}
    return Part(
        goals=[*outcomes(series, [FLAT_READ]), growth_outcome(families), memory_outcome(families)],
        comparisons=outcomes(series, [PLANS]),
        series=list(series.values()),
        text=page.text(families),
        rounds=f"{setting.rounds or vault.ROUNDS} rounds of growing vaults and stacks",
    )


def growth_outcome(families: Sequence[Family]) -> Outcome:
    """Whether any curve of DSO's, of time or memory, is worse than linear; the steepest one is named."""
    found = [
        (kind, line, grown)
        for family in families
        for line in family.lines
        if line.is_ours
        for kind, grown in (("time", line.time_growth), ("memory", line.memory_growth))
    ]
    kind, line, grown = max(found, key=lambda each: _steepness(each[2]))
    worse = [f"{each.label}, {of}" for of, each, grows in found if not grows.within_linear]
    return Outcome(
        f"Growth of {len(found)} curves, of vaults, stacks and file secrets: the steepest",
        "; ".join(worse) or f"{line.label}, {kind}",
        "",
        grown.text,
        "none worse than linear",
        not worse,
    )


def _steepness(grown: Growth) -> tuple[bool, float]:
    """Curves worse than linear first, then those whose exponent is known."""
    known = grown.exponent is not None and grown.words != "grows little"
    return (not grown.within_linear, grown.exponent.value if grown.exponent and known else 0.0)


def memory_outcome(families: Sequence[Family]) -> Outcome:
    """The peak memory of `up`, against its limit."""
    (line,) = (line for family in families for line in family.lines if _is_up(family, line))
    peaks = dict(zip(line.xs, line.peaks, strict=True))
    most = {size: median(found) / MIB for size, found in peaks.items()}
    largest = max(most)
    return limit_outcome(
        f"Peak memory of `up`, {UP_SERVICES} services",
        f"`docker-dso up -d` (without Compose; {largest} services: {most[largest]:.1f} MiB)",
        most[UP_SERVICES],
        UP_LIMIT_MIB,
        "MiB",
    )


def _is_up(family: Family, line: Line) -> bool:
    return family.name == "stacks" and line.label == stacks.UP
