"""What the measurements are held against, and how a figure is made of them.

To compare with something else, measure it (tests/bench/cases.py) and add its line here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.bench.measure import Estimate, Series, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UP_ALLOWANCE_MS = 150
BINARY_LIMIT_MB = 25


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


GOALS = (
    Ratio("Answer Docker's question for a plugin's metadata", "metadata", "compose-metadata", 1.1),
    Ratio("Read one secret of 100", "get-100", "compose-metadata", 2.2),
    Ratio("Read one secret of 100, through Docker", "docker-get-100", "docker-compose-version", 1.6),
    Ratio("Read one secret of 10,000 instead of 10", "get-10000", "get-10", 1.5),
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


def _timed(series: Series) -> str:
    return f"{series.label}, {series.typical:.1f} ms"


def _milliseconds(added: Estimate) -> str:
    return f"{added.value:+.0f} ms ({added.low:+.0f} to {added.high:+.0f})"
