"""The start-up of the binary that users install does not get slower unnoticed: its instructions are counted.

The release's binary, since its interpreter is the same on every machine; under valgrind, since no machine is too busy
for that. What counts mean, and how the baseline is renewed: tests/bench/counts.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench.counts import Counts, conditions, count, count_all, load, objections
from tests.bench.measure import CommandFailedError

if TYPE_CHECKING:
    from pathlib import Path


def test_start_up_takes_the_instructions_of_the_baseline(tmp_path: Path) -> None:
    found = Counts(conditions(), count_all(str(tmp_path)))
    assert objections(load(), found) == []


def test_a_count_is_the_same_each_time_and_holds_that_of_children(tmp_path: Path) -> None:
    alone = count(("/bin/true",), str(tmp_path))
    assert count(("/bin/true",), str(tmp_path)) == pytest.approx(alone, rel=0.01)
    assert count(("/bin/sh", "-c", "/bin/true; /bin/true; exit 0"), str(tmp_path)) > 2 * alone


def test_a_program_that_fails_has_no_count(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="exit code 1"):
        count(("/bin/false",), str(tmp_path))
