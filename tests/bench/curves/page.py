"""The curves on the page: a table for each family, its plot, and what growth is called."""

from __future__ import annotations

import os
from statistics import median
from typing import TYPE_CHECKING

from tests.bench.curves.growth import FLAT, LINEAR
from tests.bench.curves.plot import Curve, Panel, draw
from tests.bench.report import table
from tests.support.memory import MIB

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.curves.family import Family, Line

_HEAD = f"""\
## How it grows

A cost is taken to be a constant part and one that grows as a power of the size. The *exponent* is that power, and in
brackets stands the range it would lie in 95 of 100 times if the run were repeated. 1 is *linear*. *Worse than linear*
is an exponent whose whole range is above {LINEAR:g}, *slower than linear* one whose range is below {2 - LINEAR:g}.
*Flat* is what costs at most {FLAT:g} x at the largest size of what it costs at the smallest; *grows little* is growth
that drowns in the noise, so that its exponent is unknown. The plots' axes are logarithmic, their bands half of the
runs. Memory is the peak of DSO's own processes, without Compose and Docker.
"""

NOTES = {
    "vault": """\
Each command is `docker-dso` alone, without Docker in front. `env import` fills an empty vault; whatever is stored is
taken out again before the next run.
""",
    "stacks": """\
Each service has a secret in a variable, one in a part of a variable and one in a file; plain Compose has the same as
plaintext. All of them read a vault of 1,500 secrets. Containers are as small as can be: one static program, no network.
The largest stack runs with DSO only: 500 containers more would take minutes to start.
""",
    "files": """\
One service, whose secrets are all files. "From nothing" includes the keeper's start, the delivery and the container's.
""",
}


def draw_family(directory: str, family: Family, limit: tuple[str, float] | None = None) -> None:
    """Write the plot of a family, time beside memory; `limit` is a goal for memory, as text and MiB."""
    times = [
        Curve(_plain(line.label), line.xs, [each.typical for each in line.times], [each.spread for each in line.times])
        for line in _in_order(family)
    ]
    sizes = [
        Curve(_plain(line.label), line.xs, [median(each) / MIB for each in line.peaks])
        for line in _in_order(family)
        if line.is_ours
    ]
    draw(
        os.path.join(directory, f"{family.name}.svg"),
        [
            Panel(f"{family.title}: time", family.x_label, "Time, ms", times),
            Panel(f"{family.title}: memory", family.x_label, "Peak memory, MiB", sizes, limit),
        ],
    )


def _in_order(family: Family) -> list[Line]:
    """DSO's own first, so that a command has the same colour in both panels; then the yardsticks."""
    return sorted(family.lines, key=lambda line: not line.is_ours)


def text(families: Sequence[Family]) -> str:
    """The section of the page."""
    return "\n".join([_HEAD, *(_family_text(family) for family in families)])


def _family_text(family: Family) -> str:
    sizes = sorted({x for line in family.lines for x in line.xs})
    head = (family.x_label, *(f"{size:,}" for size in sizes), "Growth")
    rows = [_time_row(line, sizes) for line in _in_order(family)]
    rows += [_memory_row(line, sizes) for line in _in_order(family) if line.is_ours]
    picture = f"![{alternative(family)}](benchmarks/{family.name}.svg)\n"
    return "\n".join([f"### {family.title}\n", picture, table(head, rows), NOTES[family.name]])


def _time_row(line: Line, sizes: Sequence[int]) -> tuple[str, ...]:
    found = {x: f"{series.typical:,.0f} ms" for x, series in zip(line.xs, line.times, strict=True)}
    return (line.label, *(found.get(size, "") for size in sizes), line.time_growth.text)


def _memory_row(line: Line, sizes: Sequence[int]) -> tuple[str, ...]:
    found = {x: f"{median(peaks) / MIB:.1f} MiB" for x, peaks in zip(line.xs, line.peaks, strict=True)}
    return (f"Memory of {line.label}", *(found.get(size, "") for size in sizes), line.memory_growth.text)


def alternative(family: Family) -> str:
    """What the plot shows, for who does not see it."""
    told = [_told(line) for line in _in_order(family)]
    return f"Time and peak memory by {family.x_label[0].lower()}{family.x_label[1:]}. {'; '.join(told)}."


def _told(line: Line) -> str:
    first, last = line.times[0].typical, line.times[-1].typical
    shown = f"{_plain(line.label)}: {first:,.0f} ms at {line.xs[0]:,}, {last:,.0f} ms at {line.xs[-1]:,}"
    if line.is_ours:
        shown += f", {median(line.peaks[0]) / MIB:.0f} and {median(line.peaks[-1]) / MIB:.0f} MiB"
    return shown


def _plain(label: str) -> str:
    return label.replace("`", "")
