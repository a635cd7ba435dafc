"""`make bench`: measure DSO beside its yardsticks and write docs/benchmarks.md."""

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

from tests.bench import cases, cloud, cold, goals, machine, plugins, report, untrimmed
from tests.bench.measure import CommandFailedError, interleave
from tests.support.engine import Engine, Images
from tests.support.home import FROZEN
from tests.support.process import ROOT, ChildFailedError
from tests.support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.bench.measure import Series

BUILD = os.path.join(ROOT, ".build", "bench")
PAGE = os.path.join(ROOT, "docs", "benchmarks.md")
STARTUP_ROUNDS = 60
STACK_ROUNDS = 20
PARTS = ("startup", "stack", "agent", "plugins")


class Options(NamedTuple):
    """What the command line asks for."""

    rounds: int | None
    default_build: bool
    parts: list[str]
    output: str


def main() -> int:
    """Run it; returns an exit code. A missed goal is a finding, not a failure."""
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))  # so that the stacks are removed
    scratch = tempfile.mkdtemp(prefix="dso-bench-")
    try:
        return _bench(options, scratch)
    except (CommandFailedError, ChildFailedError) as error:
        print(error, file=sys.stderr)
        return 1
    finally:
        shutil.rmtree(scratch)


def _options() -> Options:
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("--rounds", type=int, help="measure everything so many times (a trial: other output)")
    parser.add_argument("--no-default-build", action="store_true", help="leave out the build without tuning")
    parser.add_argument("--only", choices=PARTS, help="measure one part (a trial: other output)")
    given = parser.parse_args()
    trial = given.rounds or given.no_default_build or given.only
    return Options(
        given.rounds,
        not given.no_default_build,
        [given.only] if given.only else list(PARTS),
        os.path.join(BUILD, "trial.md") if trial else PAGE,
    )


def _bench(options: Options, scratch: str) -> int:
    tools = cases.find_tools()
    default_builds = _default_builds(options.parts) if options.default_build else {}
    series: dict[str, Series] = {}
    rounds = []
    disturbance = None
    if "startup" in options.parts:
        count = options.rounds or STARTUP_ROUNDS
        rounds.append(f"{count} rounds of start-up")
        measured = cases.startup_cases(scratch, tools, default_builds.get("docker-dso"))
        activity = machine.Activity()
        series |= {each.key: each for each in interleave(measured, count, _progress("start-up", count))}
        disturbance = activity.share()
    if "stack" in options.parts:
        count = options.rounds or STACK_ROUNDS
        rounds.append(f"{count} rounds of the stack")
        series |= {each.key: each for each in _measure_stack(scratch, tools, count)}
    of_agent = None
    if "agent" in options.parts:
        rounds.append("the agent under load for a minute")
        of_agent = cloud.measure(Images().busybox, tools.docker, options.rounds, _tell)
        series |= {each.key: each for each in of_agent.series}
    of_plugins = None
    if "plugins" in options.parts:
        rounds.append(f"{options.rounds or plugins.ROUNDS} rounds of every provider's plugin")
        of_plugins = _measure_plugins(default_builds, options.rounds)
        series |= {each.key: each for each in of_plugins.series}
    date = time.strftime("%Y-%m-%d", time.gmtime())
    about = report.Run(date, ", ".join(rounds), machine.describe(tools), disturbance)
    _write(options.output, about, series, of_agent, of_plugins)
    return 0


def _measure_stack(scratch: str, tools: cases.Tools, rounds: int) -> list[Series]:
    home = cases.home_with_secrets(os.path.join(scratch, "home-stack"), 100)
    engine = Engine.of_the_tester()
    home.env.update(engine.env)
    suffix = os.path.basename(scratch).removeprefix("dso-bench-").lower().replace("_", "x")
    plain, referring = (
        Project(os.path.join(scratch, f"dsobench{kind}{suffix}"), home, engine) for kind in ("plain", "dso")
    )
    try:
        print("starting two stacks", file=sys.stderr)
        measured = cases.stack_cases(tools, plain, referring, Images().busybox)
        before = plain.containers(), referring.containers(), referring.keepers()
        series = interleave(measured, rounds, _progress("stack", rounds))
        if before != (plain.containers(), referring.containers(), referring.keepers()):
            raise CommandFailedError("`up` was to find nothing to change, but it did create containers")
        return series
    finally:
        referring.dso("down", "-v", check=False)
        plain.remove()
        referring.remove()


def _default_builds(parts: list[str]) -> dict[str, str]:
    """Paths of what PyInstaller makes of DSO without tuning: `docker-dso`, and plugins by their type."""

    def say(what: str) -> None:
        print(what, file=sys.stderr)

    found = {}
    if "startup" in parts:
        found["docker-dso"] = untrimmed.build("docker-dso", say)
    if "plugins" in parts:
        found |= {kind: untrimmed.build(f"{plugins.PLUGIN}{kind}", say) for kind in plugins.SETTINGS}
    return found


class _OfPlugins(NamedTuple):
    """What came of measuring providers' plugins."""

    costs: list[plugins.PluginCost]
    cold: cold.Cold

    @property
    def series(self) -> list[Series]:
        ready = [build.ready for cost in self.costs for build in cost.builds]
        return [*ready, *self.cold.series]


def _measure_plugins(default_builds: Mapping[str, str], rounds: int | None) -> _OfPlugins:
    costs = plugins.measure(default_builds, rounds, _tell)
    return _OfPlugins(costs, cold.measure(list(plugins.SETTINGS), rounds, _tell))


def _progress(what: str, rounds: int) -> Callable[[int], None]:
    """A function that tells the user which round has ended; only the last one where no terminal is."""

    def tell(number: int) -> None:
        last = number == rounds
        if last or sys.stderr.isatty():
            print(f"\r{what}: round {max(number, 0)} of {rounds}", end="\n" * last, file=sys.stderr, flush=True)

    return tell


def _tell(what: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{what}", end="", file=sys.stderr, flush=True)


def _write(
    path: str,
    about: report.Run,
    series: dict[str, Series],
    of_agent: cloud.Cloud | None,
    of_plugins: _OfPlugins | None,
) -> None:
    results = goals.outcomes(series, goals.GOALS) + goals.up_outcome(series) + goals.mount_outcome(series)
    results.append(goals.size_outcome(os.stat(FROZEN).st_size))
    if of_agent is not None:
        results += goals.agent_outcomes(of_agent.figures)
    rows: list[tuple[str, ...]] = []
    if of_plugins is not None:
        results += goals.plugin_outcomes(of_plugins.costs) + goals.request_outcomes(of_plugins.cold.requests)
        rows = [plugins.HEAD, *(cost.row for cost in of_plugins.costs)]
    others = goals.outcomes(series, goals.YARDSTICKS)
    notes = of_agent.notes if of_agent else []
    text = report.page(about, results, others, list(series.values()), notes=notes, plugins=rows)
    os.makedirs(BUILD, exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    with open(os.path.join(BUILD, "measurements.json"), "w", encoding="utf-8") as file:
        json.dump(report.save(series), file)
    print(text)
    print(f"written to {os.path.relpath(path, ROOT)}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
