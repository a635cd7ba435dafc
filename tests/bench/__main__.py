"""`make bench`: measure DSO beside its yardsticks and write docs/benchmarks.md, its data and README's figures."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import (
    agent_curves,
    breakdown,
    cases,
    cloud,
    counts,
    felt,
    figures,
    machine,
    providers,
    report,
    stack,
    startup,
)
from tests.bench.attacks import part as attacks
from tests.bench.curves import part as curves
from tests.bench.measure import CommandFailedError
from tests.bench.part import Setting
from tests.bench.peers import part as peers
from tests.support.process import ROOT, ChildFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.bench.part import Part

BUILD = os.path.join(ROOT, ".build", "bench")
DOCS = os.path.join(ROOT, "docs")
README = os.path.join(ROOT, "README.md")

# What is measured, in the order of the page: the name for `--only`, the title in the table of goals, what measures it.
PARTS: tuple[tuple[str, str, Callable[[Setting], Part]], ...] = (
    ("startup", "Start-up", startup.measure),
    ("felt", "Through Docker, warm and cold", felt.measure),
    ("steps", "Start-up step by step", breakdown.measure),
    ("counts", "Instructions", counts.measure),
    ("stack", "A stack", stack.measure),
    ("agent", "The agent", cloud.measure),
    ("attacks", "The agent under attack", attacks.measure),
    ("agent-curves", "The agent as it grows", agent_curves.measure),
    ("plugins", "Providers", providers.measure),
    ("peers", "Other programs", peers.measure),
    ("curves", "Growth", curves.measure),
)


class Options(NamedTuple):
    """What the command line asks for; a trial writes to .build/bench and leaves docs alone."""

    rounds: int | None
    default_build: bool
    parts: list[str]
    trial: bool

    @property
    def output(self) -> str:
        """The path of the page; what belongs to it is in `benchmarks/` beside it."""
        return os.path.join(BUILD, "trial.md") if self.trial else os.path.join(DOCS, "benchmarks.md")


def main() -> int:
    """Run it; returns an exit code. A missed goal is a finding, not a failure."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that what was started is removed
    scratch = tempfile.mkdtemp(prefix="dso-bench-")
    try:
        return _bench(options, scratch)
    except (CommandFailedError, ChildFailedError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch)


def _options() -> Options:
    names = [name for name, *_ in PARTS]
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help="measure everything so many times (a trial: other output)")
    parser.add_argument("--no-default-build", action="store_true", help="leave out the build without tuning")
    parser.add_argument("--only", choices=names, action="append", help="measure one part (a trial: other output)")
    given = parser.parse_args()
    trial = bool(given.rounds or given.no_default_build or given.only)
    return Options(given.rounds, not given.no_default_build, given.only or names, trial)


def _bench(options: Options, scratch: str) -> int:
    tools = cases.find_tools()
    plots = os.path.join(os.path.dirname(options.output), "benchmarks")
    os.makedirs(BUILD, exist_ok=True)
    os.makedirs(plots, exist_ok=True)
    parts: dict[str, Part] = {}
    for name, title, measure in PARTS:
        if name in options.parts:
            directory = os.path.join(scratch, name)
            os.mkdir(directory)
            begun = time.monotonic()
            parts[title] = measure(Setting(directory, tools, plots, options.rounds, options.default_build))
            print(f"{name}: measured in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    about = report.Run(time.strftime("%Y-%m-%d", time.gmtime()), machine.describe(tools))
    _write(options, about, parts)
    return 0


def _write(options: Options, about: report.Run, parts: Mapping[str, Part]) -> None:
    text = report.page(about, parts)
    _save(options.output, text)
    _save(os.path.join(BUILD, "measurements.json"), json.dumps(report.save(parts)))
    if not options.trial:
        results = figures.record(about, parts)
        _save(os.path.join(DOCS, "benchmarks.json"), json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        with open(README, encoding="utf-8") as file:
            readme = file.read()
        _save(README, figures.replaced(readme, figures.block(results)))
    print(text)
    print(f"written to {os.path.relpath(options.output, ROOT)}", file=sys.stderr)


def _save(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)


if __name__ == "__main__":
    sys.exit(main())
