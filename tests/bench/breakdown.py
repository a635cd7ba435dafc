"""Where the time of a start goes: seen in the very binary that users install, at functions of the interpreter in it."""

from __future__ import annotations

import os
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.breakpoints import Debugger, follow, functions
from tests.bench.cases import VARIANT, Lookup, home_with_secrets
from tests.bench.measure import Case, interleave
from tests.bench.part import Part
from tests.bench.report import table
from tests.support.binaries import binary

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.part import Setting

ROUNDS = 20
METADATA = "docker-cli-plugin-metadata"

# Functions of CPython that the boot loader calls, and that every import statement does.
_PREPARE, _START, _IMPORT = "Py_PreInitialize", "Py_InitializeFromConfig", "PyImport_ImportModuleLevelObject"
_STARTED, _IMPORTED = "started", "imported"


class Phases(NamedTuple):
    """One run, in ms.

    Attributes:
        process: the kernel loads the program, the dynamic linker its libraries; the boot loader finds the archive.
            Where no interpreter starts, all up to the end.
        interpreter: it gets ready to run code.
        imports: modules are run that are imported, native libraries loaded; what they import in turn is in it.
        work: everything else that Python code does.
        end: the kernel clears up.
    """

    process: float
    interpreter: float
    imports: float
    work: float
    end: float


TITLES = ("Process and boot loader", "Interpreter", "Imports", "Work", "End of the process")


def measure(setting: Setting) -> Part:
    """Watch metadata, `version` and `secret get`, and run them unwatched in the same minutes."""
    rounds = setting.rounds or ROUNDS
    cases = breakdown_cases(setting.scratch)
    symbols = functions(cases[0].argv[0])
    plain = interleave(cases, rounds, setting.progress("unwatched", rounds))
    watched: dict[str, list[Phases]] = {case.key: [] for case in cases}
    for number in range(rounds):
        setting.progress("watched", rounds)(number)
        for case in cases:
            watched[case.key].append(phases(case, symbols))
    found = [(each.label, watched[each.key], each.typical) for each in plain]
    return Part(text=breakdown_text(found), rounds=f"{rounds} rounds of start-up step by step")


def breakdown_cases(scratch: str) -> list[Case]:
    """The commands that are watched: docker-dso itself, without Docker in front of it."""
    usual = Lookup(home_with_secrets(os.path.join(scratch, "home"), 100), 100)
    ours = binary("docker-dso", VARIANT)
    env, path = usual.home.environment(), usual.home.path
    return [
        Case("steps-metadata", "`metadata`", (ours, METADATA), env, path, b"SchemaVersion"),
        Case("steps-version", "`version`", (ours, "version"), env, path, b"docker-dso"),
        usual.case("steps-get", "docker-dso", ours)._replace(label="`secret get`"),
    ]


def phases(case: Case, symbols: dict[str, int]) -> Phases:
    """Run it once, watched."""
    clock = Clock()
    ended = follow(case, symbols, (_PREPARE, _START), clock.reached)
    prepared = clock.prepared or ended.leaving
    started = clock.started or ended.leaving
    return Phases(
        process=prepared,
        interpreter=started - prepared,
        imports=clock.importing,
        work=ended.leaving - started - clock.importing,
        end=ended.gone - ended.leaving,
    )


class Clock:
    """Notes when the interpreter starts and has started, and adds up what import statements take.

    Only the outermost import counts: while it runs there is no breakpoint but the one at its return, and that only
    counts when the stack is as high again as it was.
    """

    def __init__(self) -> None:
        self.prepared = self.started = self.importing = 0.0
        self._since = 0.0
        self._stack = 0

    def reached(self, at: str, now: float, debugger: Debugger) -> None:
        """A breakpoint was reached, `now` in ms."""
        if at == _PREPARE:
            self.prepared = now
            debugger.forget(debugger.here)
        elif at == _START:
            debugger.forget(debugger.here)
            debugger.break_at(_STARTED, debugger.caller())
        elif at == _STARTED:
            self.started = now
            debugger.forget(debugger.here)
            debugger.break_at(_IMPORT, debugger.address(_IMPORT))
        elif at == _IMPORT:
            self._since, self._stack = now, debugger.stack
            debugger.forget(debugger.here)
            debugger.break_at(_IMPORTED, debugger.caller())
        elif at == _IMPORTED and debugger.stack > self._stack:
            self.importing += now - self._since
            debugger.forget(debugger.here)
            debugger.break_at(_IMPORT, debugger.address(_IMPORT))


def breakdown_text(found: Sequence[tuple[str, Sequence[Phases], float]]) -> str:
    """The table, of commands with their runs and what they take unwatched, in ms."""
    rows = []
    for label, runs, unwatched in found:
        steps = [median(each) for each in zip(*runs, strict=True)]
        total = sum(steps)
        rows.append((label, *(_cell(step, total) for step in steps), f"{total:.1f}", f"{unwatched:.1f}"))
    head = ("`docker-dso`, ms", *TITLES, "Together", "Unwatched")
    return "\n".join(("## Where a start goes\n", table(head, rows), _NOTE))


def _cell(step: float, total: float) -> str:
    return f"{step:.1f} ({step / total:.0%})" if step else ""


_NOTE = """\
Medians of the binary that users install, stopped at functions of the interpreter that is linked into it while the clock
stands still (tests/bench/breakdown.py); what that leaves of the watching is the difference to "unwatched". Docker is
answered by the boot loader: no interpreter starts. Loading the library for AES-GCM is among the imports.
"""
