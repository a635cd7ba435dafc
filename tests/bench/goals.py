"""How a line of the result is made of measurements; what they are held against stands in each part."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from tests.bench.measure import Estimate, Series, estimate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Ratio(NamedTuple):
    """A command and its yardstick, both by key; `goal` is what their quotient may be at most, if there is one.

    With `below` it has to be less than that. `what` may say all there is to say about the two: not `named`, only their
    times are shown.
    """

    what: str
    measured: str
    yardstick: str
    goal: float | None = None
    below: bool = False
    named: bool = True


class Outcome(NamedTuple):
    """A line of the result: figures as text, `met` None where there is no goal."""

    what: str
    measured: str
    yardstick: str
    figure: str
    goal: str
    met: bool | None


def outcomes(series: Mapping[str, Series], ratios: Sequence[Ratio]) -> list[Outcome]:
    """The lines of those ratios whose two sides were measured."""
    return [_ratio(series, each) for each in ratios if each.measured in series and each.yardstick in series]


def _ratio(series: Mapping[str, Series], ratio: Ratio) -> Outcome:
    measured, yardstick = series[ratio.measured], series[ratio.yardstick]
    found = estimate(lambda ours, theirs: ours / theirs, measured, yardstick)
    return Outcome(
        ratio.what,
        timed(measured) if ratio.named else f"{measured.typical:.1f} ms",
        timed(yardstick) if ratio.named else f"{yardstick.typical:.1f} ms",
        f"{found.value:.2f} x ({found.low:.2f} to {found.high:.2f})",
        "" if ratio.goal is None else f"{'below' if ratio.below else 'at most'} {ratio.goal:g} x",
        None if ratio.goal is None else found.value < ratio.goal or (found.value == ratio.goal and not ratio.below),
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


def timed(series: Series) -> str:
    """A command with its median."""
    return f"{series.label}, {series.typical:.1f} ms"


def milliseconds(added: Estimate) -> str:
    """What was added, with its range."""
    return f"{added.value:+.0f} ms ({added.low:+.0f} to {added.high:+.0f})"
