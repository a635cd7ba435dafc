"""README's figures are those of the last full run, and so is the page."""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from tests.bench import figures
from tests.bench.goals import Outcome
from tests.bench.measure import Series
from tests.bench.part import Part
from tests.bench.report import Run, goal_row, table
from tests.support.process import ROOT


def content(*names: str) -> str:
    with open(os.path.join(ROOT, *names), encoding="utf-8") as file:
        return file.read()


def results() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(content("docs", "benchmarks.json"))
    return found


def test_readme_has_the_figures_of_the_last_full_run():
    assert figures.block(results()) in content("README.md")


def test_the_page_has_the_goals_of_the_last_full_run():
    page = content("docs", "benchmarks.md")
    goals = page.partition("## Goals\n")[2].partition("\n## ")[0]
    rows = [line for line in goals.splitlines() if line.endswith(("| yes |", "| **missed** |"))]
    told = [{key: value for key, value in each.items() if key != "part"} for each in results()["goals"]]
    assert rows == table(("",) * 6, [goal_row(Outcome(**each)) for each in told]).splitlines()[2:]


def test_the_page_has_every_measurement_of_the_last_full_run():
    page = content("docs", "benchmarks.md")
    for each in results()["series"]:
        low, high = each["quartiles"]
        assert f"| {each['label']} | {each['median']:.1f} | {low:.1f} to {high:.1f} | {each['fastest']:.1f} |" in page


def run_of(*wall: float) -> dict[str, Any]:
    outcomes = [Outcome("work", "ours", "theirs", "1 x", "at most 2 x", met) for met in (True, False)]
    series = [
        Series("metadata", "`ours`", list(wall), list(wall)),
        Series("compose-metadata", "`theirs`", [5.0, 5.0], []),
    ]
    return figures.record(Run("2026-01-01", {"Processor": "a fast one"}), {"Work": Part(outcomes, (), series)})


def test_the_data_is_what_was_measured_and_nothing_is_invented_for_what_was_not():
    found = run_of(1, 2, 9)
    assert found["series"][0] == {
        "part": "Work",
        "key": "metadata",
        "label": "`ours`",
        "median": 2,
        "quartiles": [1, 9],
        "fastest": 1,
        "processor": 2,
    }
    assert found["series"][1]["processor"] is None
    text = figures.block(found)
    assert "| `ours`: 2 ms | `theirs`: 5.0 ms |" in text
    assert "1 of 2 goals are met" in text
    assert "docker dso" not in text
    assert json.loads(json.dumps(found)) == found


def test_another_run_replaces_the_figures_and_leaves_the_rest():
    one, other = figures.block(run_of(1, 1)), figures.block(run_of(20, 20))
    assert figures.replaced(f"before\n{one}after\n", other) == f"before\n{other}after\n"
    assert "`ours`: 20 ms" in other


@pytest.mark.parametrize("text", ["no figures here", figures.BEGIN, figures.END])
def test_a_readme_without_a_place_for_figures_is_not_written(text: str):
    with pytest.raises(ValueError, match="has lost the lines"):
        figures.replaced(text, "new")
