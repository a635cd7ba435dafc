"""The benchmark's arithmetic: what is called met has to be met."""

from __future__ import annotations

import os
import sys

import pytest

from tests.bench.goals import Ratio, outcomes
from tests.bench.measure import Case, CommandFailedError, Series, check, estimate, interleave
from tests.bench.part import Part
from tests.bench.report import Run, page
from tests.bench.stack import up_outcome
from tests.bench.startup import size_outcome


def series(key: str, *wall: float) -> Series:
    return Series(key, f"run {key}", list(wall), list(wall))


@pytest.mark.parametrize(("goal", "met"), [(2.0, True), (1.99, False), (None, None)])
def test_a_ratio_is_of_medians_and_met_up_to_the_goal(goal: float | None, met: bool | None):
    measured = {"ours": series("ours", 1, 20, 99), "theirs": series("theirs", 10, 10, 10)}
    (outcome,) = outcomes(measured, [Ratio("work", "ours", "theirs", goal)])
    assert outcome.figure.startswith("2.00 x ")
    assert outcome.met is met


def test_what_was_not_measured_has_no_line():
    assert outcomes({"ours": series("ours", 1, 2)}, [Ratio("work", "ours", "theirs", 1)]) == []


@pytest.mark.parametrize(("up", "met"), [(370.0, True), (371.0, False)])
def test_up_may_cost_one_config_and_150_ms_more(up: float, met: bool):
    keys = {"dso-up": up, "compose-up": 150.0, "compose-config": 70.0}
    (outcome,) = up_outcome({key: series(key, wall, wall) for key, wall in keys.items()})
    assert outcome.met is met


@pytest.mark.parametrize(("size", "met"), [(25_000_000, True), (25_100_000, False)])
def test_size_is_in_decimal_megabytes(size: int, met: bool):
    assert size_outcome(size).met is met


def test_the_range_holds_the_value_and_is_wider_for_noise():
    quiet = estimate(lambda a, b: a / b, series("a", 10, 11, 10, 11, 10), series("b", 10, 10, 10, 10, 10))
    noisy = estimate(lambda a, b: a / b, series("a", 10, 40, 10, 90, 10), series("b", 10, 10, 10, 10, 10))
    assert quiet.low <= quiet.value <= quiet.high
    assert noisy.high - noisy.low > quiet.high - quiet.low


def test_every_case_runs_once_a_round(tmp_path):
    def case(key: str) -> Case:
        append = ("/bin/sh", "-c", f"echo {key} >>log")
        return Case(key, key, append, {"PATH": os.environ["PATH"]}, str(tmp_path))

    told: list[int] = []
    measured = interleave([case("a"), case("b")], 3, told.append)
    assert [len(each.wall) for each in measured] == [3, 3]
    assert told[-1] == 3
    lines = (tmp_path / "log").read_text().split()[2:]  # without the check before the first round
    assert all(set(pair) == {"a", "b"} for pair in zip(lines[::2], lines[1::2], strict=True))


@pytest.mark.parametrize(
    ("program", "message"),
    [("raise SystemExit('no luck')", "no luck"), ("print('something')", "lacks b'the secret'")],
)
def test_a_command_that_fails_or_does_not_do_its_work_is_not_measured(program: str, message: str):
    case = Case("key", "label", (sys.executable, "-c", program), {}, "/", b"the secret")
    with pytest.raises(CommandFailedError, match=message):
        check(case)


def test_the_page_says_which_goals_are_missed():
    measured = {"ours": series("ours", 30, 30), "theirs": series("theirs", 10, 10)}
    found = outcomes(measured, [Ratio("hard work", "ours", "theirs", 2), Ratio("easy work", "theirs", "ours", 2)])
    part = Part(found, (), list(measured.values()), disturbance=0.5)
    text = page(Run("2026-01-01", {"Processor": "a fast one"}), {"Work": part})
    assert "1 of 2 goals are met. Missed: hard work." in text
    assert "**The machine was busy: 50%" in text
