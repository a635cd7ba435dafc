"""What every part of the benchmark contributes to the page."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.goals import Outcome
    from tests.bench.measure import Series


class Part(NamedTuple):
    """What was found: lines of the table of goals, lines without a goal, every measurement, and text of its own.

    `text` is Markdown under `## ` headings; `rounds` says how often what was measured.
    """

    goals: Sequence[Outcome] = ()
    comparisons: Sequence[Outcome] = ()
    series: Sequence[Series] = ()
    text: str = ""
    rounds: str = ""
