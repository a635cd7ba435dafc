"""What is called met of the agent's goals has to be met."""

from __future__ import annotations

import pytest

from tests.bench.agent import Load
from tests.bench.agent_goals import AgentFigures, agent_outcomes, mount_outcome
from tests.bench.goals import limit_outcome
from tests.bench.measure import Series
from tests.bench.part import Part
from tests.bench.report import Run, page
from tests.support.memory import MIB


def load(errors: int = 0, growth: int = 0, slower: float = 1) -> Load:
    wall = [slower * number for number in range(1, 1001)]
    return Load(64, 60.0, 1000, errors, wall, 40 * MIB, 40 * MIB + growth)


def only(figures: AgentFigures, word: str) -> bool | None:
    (found,) = [each for each in agent_outcomes(figures) if word in each.what]
    return found.met


@pytest.mark.parametrize(("resolve", "met"), [(3.0, True), (3.1, False)])
def test_resolving_may_take_three_milliseconds(resolve: float, met: bool):
    assert only(AgentFigures(resolve=resolve), "all cached") is met


@pytest.mark.parametrize(("slower", "met"), [(0.01, True), (0.0102, False)])
def test_ninety_nine_of_a_hundred_batches_have_ten_milliseconds(slower: float, met: bool):
    assert only(AgentFigures(few=load(slower=slower)), "99 of 100") is met


@pytest.mark.parametrize(("errors", "met"), [(0, True), (1, False)])
def test_not_one_request_may_fail(errors: int, met: bool):
    assert only(AgentFigures(load=load(errors)), "errors") is met


@pytest.mark.parametrize(("growth", "met"), [(-5 * MIB, True), (MIB, True), (MIB + 1, False)])
def test_growth_is_what_was_added_after_the_warm_up(growth: int, met: bool):
    assert only(AgentFigures(load=load(growth=growth)), "growth") is met


@pytest.mark.parametrize(("memory", "met"), [(60 * MIB, True), (60 * MIB + 1, False)])
def test_memory_is_in_binary_megabytes(memory: int, met: bool):
    assert only(AgentFigures(memory=memory), "Memory") is met


def test_what_was_not_measured_has_no_line():
    assert agent_outcomes(AgentFigures()) == []
    assert mount_outcome({}) == []


def test_ninety_nine_of_a_hundred_requests_are_within_the_time_that_is_told():
    assert 989 <= load().slowest_percent <= 991


@pytest.mark.parametrize(("ours", "met"), [(130.0, True), (131.0, False)])
def test_a_volume_may_add_30_ms_to_the_start_of_a_container(ours: float, met: bool):
    series = {"start-dso": Series("", "ours", [ours] * 2, []), "start-plain": Series("", "plain", [100.0] * 2, [])}
    (outcome,) = mount_outcome(series)
    assert outcome.met is met


def test_a_figure_without_processor_time_leaves_its_column_empty():
    series = Series("key", "a request", [1.0, 2.0], [])
    outcome = limit_outcome("work", "ours", 1.5, 2, "ms")
    text = page(Run("2026-01-01", {}), {"Work": Part([outcome], (), [series], "## Notes\n\n- a note\n")})
    assert "| a request | 1.5 |" in text
    assert "|  |\n" in text
    assert "- a note\n" in text
    assert "| work | ours |  | 1.5 ms | at most 2 ms | yes |" in text
