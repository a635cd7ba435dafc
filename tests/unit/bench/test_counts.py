"""The gate on instruction counts: what it lets through, and what it stops."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.counts import Conditions, Counts, counts_text, load, objections, save

if TYPE_CHECKING:
    from pathlib import Path

HERE = Conditions(valgrind="3.19.0", architecture="x86_64", libc="glibc 2.36", processor="avx2")
BASELINE = Counts(HERE, {"metadata": 1_000, "get": 50_000_000})


def found(**instructions: int) -> Counts:
    return Counts(HERE, {**BASELINE.instructions, **instructions})


@pytest.mark.parametrize("now", [970, 975, 1_000, 1_025, 1_030])
def test_up_to_3_percent_either_way_pass(now: int):
    assert objections(BASELINE, found(metadata=now)) == []


def test_4_percent_more_are_a_regression():
    (objection,) = objections(BASELINE, found(get=52_000_000))
    assert objection.startswith("get: 52,000,000 instructions instead of 50,000,000 (+4.0%): what has the change added")


def test_one_more_than_3_percent_is_too_many():
    assert objections(BASELINE, found(metadata=1_031))


def test_4_percent_fewer_ask_for_a_new_baseline():
    (objection,) = objections(BASELINE, found(metadata=960))
    assert "(-4.0%): better" in objection
    assert "make baseline" in objection


def test_every_command_has_its_own_line():
    assert len(objections(BASELINE, found(metadata=2_000, get=1))) == 2


@pytest.mark.parametrize("field", Conditions._fields)
def test_counts_taken_with_something_else_neither_pass_nor_count_as_a_regression(field: str):
    other = HERE._replace(**{field: "other"})
    for instructions in ({**BASELINE.instructions}, {"metadata": 9_999, "get": 1}):
        (objection,) = objections(BASELINE, Counts(other, instructions))
        assert objection.startswith(f"not comparable: counted with {field} other, the baseline with ")


@pytest.mark.parametrize("instructions", [{"metadata": 1_000}, {**BASELINE.instructions, "new": 5}, {}])
def test_a_command_that_only_one_side_has_is_no_pass(instructions: dict[str, int]):
    assert objections(BASELINE, Counts(HERE, instructions))


def test_what_is_saved_is_what_is_loaded(tmp_path: Path):
    save(BASELINE, str(tmp_path / "baseline.json"))
    assert load(str(tmp_path / "baseline.json")) == BASELINE


def test_the_page_has_counts_beside_composes_and_the_baselines():
    text = counts_text({"get": 55_000_000, "new": 5_000_000}, BASELINE.instructions, 50_000_000)
    assert "| `get` | 55.0 | 1.10 x | +10.0% |" in text
    assert "| `new` | 5.0 | 0.10 x |  |" in text
