"""What every part of the benchmark is given, and what it contributes to the page."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.bench.cases import Tools
    from tests.bench.goals import Outcome
    from tests.bench.measure import Series


class Setting(NamedTuple):
    """What a part works with.

    Attributes:
        scratch: an empty directory of its own, removed afterwards.
        tools: Docker, Compose and Python on this machine.
        plots: an existing directory for SVG plots; the page links them as `benchmarks/NAME.svg`.
        rounds: how often to measure everything in a trial; None in a real run.
        default_build: whether to compare with what PyInstaller makes of DSO by default.
    """

    scratch: str
    tools: Tools
    plots: str
    rounds: int | None = None
    default_build: bool = True

    def tell(self, what: str) -> None:
        """Show what is under way, on a terminal only."""
        if sys.stderr.isatty():
            print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)

    def say(self, what: str) -> None:
        """Tell the user something that takes long, or is worth a line."""
        print(what, file=sys.stderr)

    def progress(self, what: str, rounds: int) -> Callable[[int], None]:
        """A function for `interleave` that shows which of so many rounds has ended."""
        return lambda number: self.tell(f"{what}: round {max(number, 0)} of {rounds}")


class Part(NamedTuple):
    """What was found: lines of the table of goals, lines without a goal, every measurement, and text of its own.

    Attributes:
        text: Markdown under `## ` headings.
        rounds: how often what was measured, "60 rounds of start-up" say.
        disturbance: the share of the machine that other programs took meanwhile; None where that was not measured.
    """

    goals: Sequence[Outcome] = ()
    comparisons: Sequence[Outcome] = ()
    series: Sequence[Series] = ()
    text: str = ""
    rounds: str = ""
    disturbance: float | None = None
