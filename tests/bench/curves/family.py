"""What all curves of this part are: costs of commands, by the size of what they work on."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.curves.growth import Growth, growth
from tests.bench.curves.peak import peak
from tests.bench.machine import Activity
from tests.bench.measure import interleave
from tests.support.memory import MIB

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.bench.measure import Case, Series
    from tests.bench.part import Setting

BUSY = 0.1  # the share of the machine that others may take when something is measured for the page
PATIENCE = 60  # seconds to wait for others to end
PEAKS = 3  # how often memory is measured: it hardly varies


class Line(NamedTuple):
    """One command at each size.

    Attributes:
        label: as the report writes it, `secret get` in backquotes say.
        xs: the sizes, ascending.
        times: what it took at each of them.
        peaks: the peak memory of DSO's own processes at each of them, in bytes; empty for a yardstick.
    """

    label: str
    xs: Sequence[int]
    times: Sequence[Series]
    peaks: Sequence[Sequence[int]] = ()

    @property
    def is_ours(self) -> bool:
        """Whether it is DSO's, and not a yardstick."""
        return bool(self.peaks)

    @property
    def time_growth(self) -> Growth:
        """How its time grows."""
        return growth(self.xs, [each.wall for each in self.times])

    @property
    def memory_growth(self) -> Growth:
        """How its memory grows."""
        return growth(self.xs, [[size / MIB for size in sizes] for sizes in self.peaks])


class Family(NamedTuple):
    """Lines over the same kind of size, which share a plot: `name`.svg."""

    name: str
    title: str
    x_label: str
    lines: Sequence[Line]


class Command(NamedTuple):
    """A command to measure at each size: its cases, and what to run for the memory of DSO's own processes alone.

    Attributes:
        argv: by size; None for a yardstick, whose memory is not measured.
        after: undoes what the command did, where it has to.
    """

    label: str
    cases: Mapping[int, Case]
    argv: Callable[[int], Sequence[str]] | None = None
    after: Callable[[int], object] = lambda _size: None


def measured(commands: Sequence[Command], rounds: int, setting: Setting, what: str, *, warm_up: int = 1) -> list[Line]:
    """Let the commands take turns at all sizes, and then look at each one's memory."""
    sizes = {case.key: size for command in commands for size, case in command.cases.items()}
    owners = {case.key: command for command in commands for case in command.cases.values()}

    def after(case: Case) -> None:
        owners[case.key].after(sizes[case.key])

    cases = [case for command in commands for case in command.cases.values()]
    if setting.rounds is None:
        settle(setting.say, what)
    series = interleave(cases, rounds, setting.progress(what, rounds), warm_up=warm_up, after=after)
    found = {each.key: each for each in series}
    return [
        Line(
            command.label,
            list(command.cases),
            [found[case.key] for case in command.cases.values()],
            _peaks(command, setting.rounds or PEAKS),
        )
        for command in commands
    ]


def settle(say: Callable[[str], None], what: str, patience: int = PATIENCE) -> None:
    """Wait until nothing else works on this machine; says so if something still does after so many seconds.

    What is measured one after another, such as stacks of different sizes, does not meet the same disturbance.
    """
    share = 0.0
    for _ in range(patience):
        activity = Activity()
        time.sleep(1)
        share = activity.share()
        if share <= BUSY:
            return
    say(f"{what}: other programs take {share:.0%} of this machine, so that these figures will be worse than others")


def joined(parts: Sequence[Sequence[Line]]) -> list[Line]:
    """Lines that were measured one size after another; a part may lack some."""
    found: dict[str, Line] = {}
    for line in (line for lines in parts for line in lines):
        former = found.get(line.label, Line(line.label, [], []))
        found[line.label] = Line(
            line.label,
            [*former.xs, *line.xs],
            [*former.times, *line.times],
            [*former.peaks, *line.peaks],
        )
    return list(found.values())


def _peaks(command: Command, times: int) -> list[list[int]]:
    if command.argv is None:
        return []
    found: list[list[int]] = []
    for size, case in command.cases.items():
        found.append([])
        for _ in range(min(times, PEAKS)):
            found[-1].append(peak(command.argv(size), case.env, case.cwd))
            command.after(size)
    return found
