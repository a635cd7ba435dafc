"""Where a start goes is seen in the binary itself: the functions it is stopped at are there, each step takes time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.bench.breakdown import METADATA, TITLES, Phases, breakdown_cases, breakdown_text, phases
from tests.bench.breakpoints import follow, functions
from tests.bench.measure import Case, CommandFailedError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.bench.breakpoints import Debugger


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Phases]:
    cases = breakdown_cases(str(tmp_path_factory.mktemp("breakdown")))
    symbols = functions(cases[0].argv[0])
    return {case.argv[1]: phases(case, symbols) for case in cases}


def test_no_interpreter_starts_to_tell_docker_what_the_plugin_is(runs: dict[str, Phases]) -> None:
    found = runs[METADATA]
    assert (found.interpreter, found.imports, found.work) == (0, 0, 0)
    assert found.process > 0


@pytest.mark.parametrize("command", ["version", "secret"])
def test_commands_start_the_interpreter_import_and_work(command: str, runs: dict[str, Phases]) -> None:
    assert all(step > 0 for step in runs[command])


def test_a_function_that_is_not_there_is_said(tmp_path: Path) -> None:
    case = Case("true", "true", ("/bin/true",), {}, str(tmp_path))
    with pytest.raises(CommandFailedError, match="true has no function nowhere"):
        follow(case, {}, ("nowhere",), ignore)


def test_a_program_that_fails_is_said(tmp_path: Path) -> None:
    case = Case("false", "false", ("/bin/false",), {}, str(tmp_path))
    with pytest.raises(CommandFailedError, match="false: exit code 1"):
        follow(case, {}, (), ignore)


def test_one_that_does_not_start_is_said(tmp_path: Path) -> None:
    case = Case("none", "none", (os.fspath(tmp_path / "none"),), {}, str(tmp_path))
    with pytest.raises(CommandFailedError, match="none cannot be started"):
        follow(case, {}, (), ignore)


def ignore(_at: str, _now: float, _debugger: Debugger) -> None:
    pass


def test_the_page_has_the_median_of_each_step_and_its_share() -> None:
    quick, usual, slow = Phases(1, 0, 5, 3, 0.5), Phases(2, 0, 5, 2.5, 0.5), Phases(9, 0, 5, 2, 0.5)
    text = breakdown_text([("`version`", [quick, slow, usual], 9.8)])
    assert "| `version` | 2.0 (20%) |  | 5.0 (50%) | 2.5 (25%) | 0.5 (5%) | 10.0 | 9.8 |" in text
    assert all(title in text for title in TITLES)
