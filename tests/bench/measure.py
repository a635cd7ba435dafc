"""Run commands in turn, again and again, and keep how long each one took.

Nothing here knows what is measured. Commands that are to be compared take turns, in a new order each
round, so that whatever else the machine does in the meantime meets all of them alike.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from statistics import median, quantiles
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

WARM_UP_ROUNDS = 2  # not counted: they fill the page cache
RESAMPLES = 2000


class Case(NamedTuple):
    """A command to measure.

    `label` is how the report writes it (Markdown, no path of this machine), `expect` what its standard output
    has to contain: a command that does not do its work is not worth a measurement.
    """

    key: str
    label: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    expect: bytes = b""


class Series(NamedTuple):
    """One case's measurements, in the order of the rounds: elapsed and processor time in milliseconds.

    Processor time is that of the command and the children it waited for, so not the Engine's.
    """

    key: str
    label: str
    wall: list[float]
    cpu: list[float]

    @property
    def typical(self) -> float:
        """The median of the elapsed times."""
        return median(self.wall)

    @property
    def typical_cpu(self) -> float:
        """The median of the processor times."""
        return median(self.cpu)

    @property
    def spread(self) -> tuple[float, float]:
        """The quartiles of the elapsed times: half of them lie in between."""
        low, _, high = quantiles(self.wall, n=4)
        return low, high


class Estimate(NamedTuple):
    """A figure made of medians, and the range it would lie in 95 of 100 times if the run were repeated."""

    value: float
    low: float
    high: float


class CommandFailedError(Exception):
    """A measured command ended with another exit code than 0, or did not do its work."""


def check(case: Case) -> None:
    """Run a command once and look at what it prints; raises CommandFailedError."""
    output = os.memfd_create("stdout")
    try:
        _run(case, output)
        printed = os.pread(output, 1 << 20, 0)
    finally:
        os.close(output)
    if case.expect not in printed:
        raise CommandFailedError(f"{case.label} printed {printed!r}, which lacks {case.expect!r}")


def interleave(
    cases: Sequence[Case],
    rounds: int,
    progress: Callable[[int], None],
    *,
    warm_up: int = WARM_UP_ROUNDS,
    after: Callable[[Case], object] = lambda _case: None,
) -> list[Series]:
    """Check every case, then run all of them `rounds` times; `progress` is told each round's number.

    `after` undoes what a case did, where it has to; that is not measured.
    """
    for case in cases:
        check(case)
        after(case)
    order = list(range(len(cases)))
    shuffle = random.Random(0).shuffle  # the same order each time the benchmark is run
    series = [Series(case.key, case.label, [], []) for case in cases]
    sink = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    try:
        for number in range(-warm_up, rounds):
            shuffle(order)
            for index in order:
                wall, cpu = _run(cases[index], sink)
                after(cases[index])
                if number >= 0:
                    series[index].wall.append(wall)
                    series[index].cpu.append(cpu)
            progress(number + 1)
    finally:
        os.close(sink)
    return series


def _run(case: Case, output: int) -> tuple[float, float]:
    """Elapsed and processor time in ms; standard input is empty, standard error is kept for the message."""
    errors = os.memfd_create("stderr")
    streams = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, errors, 2),
    ]
    try:
        with contextlib.chdir(case.cwd):
            started = time.perf_counter_ns()
            pid = os.posix_spawn(case.argv[0], case.argv, dict(case.env), file_actions=streams)
            _, status, usage = os.wait4(pid, 0)
            wall = time.perf_counter_ns() - started
        code = os.waitstatus_to_exitcode(status)
        if code:
            said = os.pread(errors, 4096, 0).decode("utf-8", "replace")
            raise CommandFailedError(f"{case.label}: exit code {code}\n{said}")
    finally:
        os.close(errors)
    return wall / 1e6, (usage.ru_utime + usage.ru_stime) * 1e3


def estimate(figure: Callable[..., float], *series: Series) -> Estimate:
    """A figure computed from the medians of several series, measured in the same rounds.

    The range comes from drawing rounds at random, with repetition, and computing the figure again
    (the percentile bootstrap): a round's commands stay together, as they met the same disturbance.
    """
    rounds = range(len(series[0].wall))
    draw = random.Random(0).choices
    value = figure(*(each.typical for each in series))
    again = []
    for _ in range(RESAMPLES):
        drawn = draw(rounds, k=len(rounds))
        again.append(figure(*(median([each.wall[index] for index in drawn]) for each in series)))
    again.sort()
    return Estimate(value, again[RESAMPLES * 25 // 1000], again[RESAMPLES * 975 // 1000])
