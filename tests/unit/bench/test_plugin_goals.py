"""What is called met of the plugins' goals has to be met, and every reader can tell before from after trimming."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.measure import Series
from tests.bench.plugin_goals import plugin_outcomes, request_outcomes
from tests.bench.plugins import HEAD, Build, PluginCost
from tests.bench.providers import costs_text
from tests.support.memory import MIB

if TYPE_CHECKING:
    from tests.bench.goals import Outcome


def build(size: int = 20_000_000, ready: float = 200, idle: int = 30 * MIB, used: int = 40 * MIB) -> Build:
    series = Series("ready-one", "one until it is ready", [ready] * 3, [])
    return Build("/nowhere", size, size // 2, series, [idle], [used])


def cost(name: str, trimmed: Build | None = None, untrimmed: Build | None = None) -> PluginCost:
    return PluginCost(name, trimmed or build(), untrimmed)


def only(outcomes: list[Outcome], word: str) -> Outcome:
    (found,) = [each for each in outcomes if word in each.what]
    return found


@pytest.mark.parametrize(("ready", "met"), [(1500.0, True), (1501.0, False)])
def test_a_plugin_is_ready_within_a_second_and_a_half(ready: float, met: bool):
    assert only(plugin_outcomes([cost("one", build(ready=ready))]), "Ready").met is met


@pytest.mark.parametrize(
    ("idle", "used", "met"), [(90 * MIB, 80 * MIB, True), (91 * MIB, 80 * MIB, False), (30 * MIB, 91 * MIB, False)]
)
def test_memory_counts_in_whichever_state_it_is_more(idle: int, used: int, met: bool):
    assert only(plugin_outcomes([cost("one", build(idle=idle, used=used))]), "memory").met is met


@pytest.mark.parametrize(("size", "met"), [(40_000_000, True), (40_100_000, False)])
def test_a_binary_has_forty_decimal_megabytes_at_most(size: int, met: bool):
    assert only(plugin_outcomes([cost("one", build(size=size))]), "Size").met is met


def test_the_goal_is_held_against_the_worst_plugin_which_is_named():
    outcomes = plugin_outcomes([cost("good"), cost("slow", build(ready=1600)), cost("large", build(size=50_000_000))])
    assert only(outcomes, "Ready").measured == "`slow`"
    assert only(outcomes, "Ready").met is False
    assert only(outcomes, "Size").measured == "`large`"
    assert "3 providers" in outcomes[0].what


def test_the_build_before_trimming_has_no_goal():
    assert all(each.met for each in plugin_outcomes([cost("one", build(), build(90_000_000, 4000, 200 * MIB))]))


def test_a_row_shows_before_and_after_in_this_order():
    row = cost("one", build(20_000_000, 200), build(41_000_000, 650)).row
    assert row == ("`one`", "41.0 → 20.0", "20.5 → 10.0", "650 → 200", "30.0 → 30.0", "40.0 → 40.0")
    assert len(row) == len(HEAD)


def test_the_page_explains_arrows_where_there_are_some():
    assert "Before → after trimming" in costs_text([cost("one", build(), build())])
    assert "trimming" not in costs_text([cost("one")])


@pytest.mark.parametrize(("calls", "met"), [(3, True), (4, False)])
def test_three_calls_of_aws_are_the_most(calls: int, met: bool):
    (outcome,) = request_outcomes({"aws-1": 1, "aws-50": calls})
    assert outcome.met is met


@pytest.mark.parametrize(
    ("kind", "many", "met"), [("azure", 102, True), ("azure", 103, False), ("huawei", 53, True), ("huawei", 54, False)]
)
def test_only_the_first_secret_takes_a_login(kind: str, many: int, met: bool):
    (outcome,) = request_outcomes({f"{kind}-1": 4, f"{kind}-50": many})
    assert outcome.met is met
    assert "(for one: 4)" in outcome.measured


def test_what_was_not_measured_has_no_line():
    assert plugin_outcomes([]) == []
    assert request_outcomes({}) == []
