"""What is called flat, linear or worse than linear has to be, and the page has to say it."""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.bench.cases import Tools
from tests.bench.curves import files, stacks
from tests.bench.curves.family import Command, Family, Line, joined, measured, settle
from tests.bench.curves.growth import Growth, growth
from tests.bench.curves.page import alternative, draw_family, text
from tests.bench.curves.part import growth_outcome, memory_outcome
from tests.bench.curves.peak import peak
from tests.bench.measure import Case, Estimate, Series
from tests.bench.part import Setting
from tests.support.memory import MIB
from tests.support.process import PYTHON, ROOT, ChildFailedError

if TYPE_CHECKING:
    from tests.bench.curves.plot import Panel

SIZES = (10, 100, 1_000, 10_000)


def noisy(*costs: float, rounds: int = 15, noise: float = 0.05) -> list[list[float]]:
    draw = random.Random(1).uniform
    return [[cost * draw(1 - noise, 1 + noise) for _ in range(rounds)] for cost in costs]


@pytest.mark.parametrize(
    ("words", "costs"),
    [
        ("flat", [40 + x / 10_000 for x in SIZES]),
        ("slower than linear", [40 + x**0.5 for x in SIZES]),
        ("linear", [40 + 0.1 * x for x in SIZES]),
        ("linear", [0.1 * x for x in SIZES]),
        ("worse than linear", [40 + 1e-5 * x**2 for x in SIZES]),
        ("worse than linear", [0.001 * x**1.3 for x in SIZES]),
    ],
)
def test_growth_is_called_what_it_is_whatever_the_constant_part(words: str, costs: list[float]):
    assert growth(SIZES, noisy(*costs)).words == words


@pytest.mark.parametrize("exponent", [0.5, 1.0, 1.5, 2.0])
def test_the_exponent_is_found_behind_a_constant_part(exponent: float):
    costs = [30 + 1000 * (x / 500) ** exponent for x in (1, 20, 100, 500)]
    found = growth((1, 20, 100, 500), [[cost] for cost in costs]).exponent
    assert found.value == pytest.approx(exponent, abs=0.02)


def test_growth_that_drowns_in_noise_has_no_exponent():
    found = growth(SIZES, noisy(40, 41, 40, 52, noise=0.4))
    assert found.words == "grows little"
    assert "exponent" not in found.text


def test_less_at_the_largest_size_is_flat():
    assert growth(SIZES, [[4.0], [3.0], [2.0], [1.0]]).words == "flat"


@pytest.mark.parametrize(
    ("value", "low", "words"),
    [
        (1.1, 1.05, "linear"),
        (1.3, 1.1, "linear"),
        (1.3, 1.11, "worse than linear"),
        (0.85, 0.8, "slower than linear"),
    ],
)
def test_worse_than_linear_is_what_is_beyond_the_tolerance_in_the_best_case(value: float, low: float, words: str):
    found = Growth(Estimate(5, 4, 6), Estimate(value, low, value + 0.03))
    assert found.words == words
    assert found.within_linear is (words != "worse than linear")


def test_sizes_may_have_been_measured_differently_often():
    assert growth((1, 2, 3), [[1.0, 1.1, 0.9], [2.0], [3.0, 3.1]]).words == "linear"


def line(label: str, costs: list[float], peaks: list[float] | None = None) -> Line:
    times = [Series(f"{label}-{size}", label, [cost, cost, cost], []) for size, cost in zip(SIZES, costs, strict=True)]
    return Line(label, SIZES, times, [[int(size * MIB)] for size in peaks or []])


LINEAR = [41.0, 50.0, 140.0, 1040.0]
QUADRATIC = [40.0, 40.1, 50.0, 1040.0]
FLAT_MEMORY = [20.0, 20.0, 20.1, 20.2]


def family(*lines: Line) -> Family:
    return Family("vault", "The vault", "Secrets in the vault", lines)


def test_the_goal_is_met_when_no_curve_of_ours_is_worse_than_linear():
    yardstick = line("`compose`", QUADRATIC)
    outcome = growth_outcome([family(line("`get`", LINEAR, FLAT_MEMORY), yardstick)])
    assert outcome.met is True
    assert outcome.measured == "`get`, time"
    assert "2 curves" in outcome.what
    assert "linear: exponent 1.00" in outcome.figure


@pytest.mark.parametrize(
    ("costs", "peaks", "named"),
    [(QUADRATIC, FLAT_MEMORY, "`set`, time"), (LINEAR, QUADRATIC, "`set`, memory")],
)
def test_a_curve_worse_than_linear_misses_the_goal_and_is_named(costs: list[float], peaks: list[float], named: str):
    outcome = growth_outcome([family(line("`get`", LINEAR, FLAT_MEMORY), line("`set`", costs, peaks))])
    assert outcome.met is False
    assert outcome.measured == named
    assert outcome.figure.startswith("worse than linear")


@pytest.mark.parametrize(("most", "met"), [(60.0, True), (60.1, False)])
def test_up_may_take_sixty_mebibytes_at_twenty_services(most: float, met: bool):
    sizes = (1, 20, 500)
    up = Line(stacks.UP, sizes, [], [[MIB], [int(most * MIB)], [90 * MIB]])
    other = Line(files.UP, sizes, [], [[99 * MIB]] * 3)
    families = [Family("stacks", "", "", [up]), Family("files", "", "", [other])]
    outcome = memory_outcome(families)
    assert outcome.met is met
    assert "500 services: 90.0 MiB" in outcome.measured


def test_the_page_has_a_row_for_time_and_one_for_memory_and_words_for_the_plot():
    shown = text([family(line("`secret get`", LINEAR, FLAT_MEMORY), line("`plain`", LINEAR))])
    assert "| Secrets in the vault | 10 | 100 | 1,000 | 10,000 | Growth |" in shown
    assert "| `secret get` | 41 ms | 50 ms | 140 ms | 1,040 ms | linear: exponent 1.00" in shown
    assert "| Memory of `secret get` | 20.0 MiB | 20.0 MiB | 20.1 MiB | 20.2 MiB | flat: 1.01 x" in shown
    assert "Memory of `plain`" not in shown
    assert "](benchmarks/vault.svg)" in shown


def test_the_plot_is_told_to_who_does_not_see_it():
    told = alternative(family(line("`secret get`", LINEAR, FLAT_MEMORY)))
    assert told == (
        "Time and peak memory by secrets in the vault. secret get: 41 ms at 10, 1,040 ms at 10,000, 20 and 20 MiB."
    )


def test_yardsticks_come_last_so_that_a_command_has_one_colour_in_both_panels(monkeypatch: pytest.MonkeyPatch):
    drawn: list[Panel] = []
    monkeypatch.setattr("tests.bench.curves.page.draw", lambda _path, panels: drawn.extend(panels))
    first, last = line("`get`", LINEAR, FLAT_MEMORY), line("`set`", LINEAR, FLAT_MEMORY)
    draw_family("/nowhere", family(line("`plain`", LINEAR), first, last))
    times, sizes = ([curve.label for curve in panel.curves] for panel in drawn)
    assert times == ["get", "set", "plain"]
    assert sizes == ["get", "set"]


def test_sizes_without_a_measurement_are_left_empty():
    short = Line("`plain`", SIZES[:3], line("`plain`", LINEAR).times[:3])
    assert "| `plain` | 41 ms | 50 ms | 140 ms |  | linear" in text([family(line("`get`", LINEAR, FLAT_MEMORY), short)])


def test_a_stack_with_references_asks_for_what_the_plain_one_has():
    ours, plain = (stacks.model(3, with_references=each) for each in (True, False))
    assert ours["services"].keys() == plain["services"].keys()
    for name, service in ours["services"].items():
        assert service["environment"].keys() == plain["services"][name]["environment"].keys()
    assert str(ours).count("dso://") == 6
    assert str(ours).count("dsofile://") == 3
    assert "dso" not in str(plain["services"]).replace("dso-test/", "")


@pytest.mark.parametrize(("shares", "slept", "said"), [([0.05], 1, 0), ([0.6, 0.05], 2, 0), ([0.6, 0.6, 0.6], 3, 1)])
def test_a_measurement_waits_for_a_quiet_machine_and_not_for_ever(
    shares: list[float], slept: int, said: int, monkeypatch: pytest.MonkeyPatch
):
    class Activity:
        def share(self) -> float:
            return shares.pop(0)

    naps: list[float] = []
    told: list[str] = []
    monkeypatch.setattr("tests.bench.curves.family.Activity", Activity)
    monkeypatch.setattr("tests.bench.curves.family.time.sleep", naps.append)
    settle(told.append, "a stack", patience=3)
    assert (len(naps), len(told)) == (slept, said)


def test_what_was_measured_one_size_after_another_is_one_line():
    parts = [line("`up`", LINEAR, FLAT_MEMORY), line("`plain`", LINEAR)]
    pieces = [
        [Line(each.label, [x], [each.times[at]], each.peaks[at : at + 1]) for each in parts[: 2 - at // 3]]
        for at, x in enumerate(SIZES)
    ]
    up, plain = joined(pieces)
    assert up == parts[0]._replace(xs=list(SIZES))
    assert plain.xs == [10, 100, 1_000]
    assert not plain.is_ours


def test_every_file_secret_is_another():
    variables = files.model(200)["services"]["service"]["environment"]
    assert len(set(variables.values())) == 200


def test_what_a_command_did_is_undone_before_the_next_one(tmp_path):
    log = tmp_path / "log"

    def undo(size: int) -> None:
        with log.open("a") as file:
            file.write(f"undone {size}\n")

    program = ("/bin/sh", "-c", f"echo did >>{log}")
    command = Command("`x`", {1: Case("x", "x", program, {}, "/")}, lambda _size: program, undo)
    (found,) = measured([command], 2, Setting(str(tmp_path), Tools("", "", ""), str(tmp_path), 1), "test")
    lines = log.read_text().split("\n")[:-1]
    assert lines == ["did", "undone 1"] * (len(lines) // 2)
    assert len(found.times[0].wall) == 2
    assert len(found.peaks[0]) == 1


BALLAST = "x = bytearray({} << 20)"


def test_memory_is_the_peak_even_when_it_was_given_back():
    small = peak([sys.executable, "-SIc", BALLAST.format(1)], {}, "/")
    large = peak([sys.executable, "-SIc", BALLAST.format(40) + "; del x"], {}, "/")
    assert 35 * MIB < large - small < 45 * MIB


def test_memory_of_other_programs_does_not_count_and_that_of_a_fork_does():
    dd = [shutil.which("dd") or "", "if=/dev/zero", "of=/dev/null", "bs=40M", "count=1"]
    other = f"import os; os.spawnv(os.P_WAIT, {dd[0]!r}, {dd!r})"
    forked = f"import os\nif os.fork() == 0: {BALLAST.format(40)}\nelse: os.wait()"
    alone = peak([sys.executable, "-SIc", "import os"], {}, "/")
    assert peak(dd, {}, "/") > 40 * MIB
    assert peak([sys.executable, "-SIc", other], {}, "/") < alone + 5 * MIB
    assert peak([sys.executable, "-SIc", forked], {}, "/") > alone + 40 * MIB


def test_a_command_that_fails_has_no_peak():
    with pytest.raises(ChildFailedError, match="exit code 3"):
        peak([sys.executable, "-SIc", "raise SystemExit(3)"], {}, "/")


def test_nothing_but_drawing_imports_matplotlib():
    program = "import sys, tests.bench.curves.part; sys.exit('matplotlib' in sys.modules or 'numpy' in sys.modules)"
    subprocess.run([PYTHON, "-c", program], cwd=ROOT, check=True)
