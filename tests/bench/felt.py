"""The commands as their user feels them: through `docker`, which starts docker-dso twice, warm and after a boot."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from tests.bench import machine, pagecache
from tests.bench.cases import VARIANT, Lookup, Tools, home_with_secrets
from tests.bench.curves import stacks
from tests.bench.goals import Ratio, outcomes
from tests.bench.measure import Case, Series, interleave
from tests.bench.part import Part
from tests.bench.report import table
from tests.support.binaries import binary
from tests.support.engine import Engine

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.bench.part import Setting
    from tests.support.home import DsoHome

WARM_ROUNDS = 20
COLD_ROUNDS = 12
SIZES = (20, 500)
METADATA = "docker-cli-plugin-metadata"
COLD = "-cold"


class Row(NamedTuple):
    """A line of the table: what is done, and the cases of DSO and of its yardstick, by key."""

    what: str
    ours: str
    theirs: str


ROWS = (
    Row("Answer Docker's question for a plugin's metadata", "felt-metadata", "felt-compose-metadata"),
    Row("`docker dso version`", "felt-version", "felt-compose-version"),
    Row("`docker dso secret get`, key file", "felt-get", "felt-compose-version"),
    Row("`docker dso secret get`, passphrase", "felt-get-passphrase", "felt-compose-version"),
    *(
        Row(f"`docker dso up --dry-run`, {size} services", f"felt-dry-run-{size}", f"felt-config-{size}")
        for size in SIZES
    ),
)
_NOTE = """\
Compose's are its own metadata, `docker compose version`, and `docker compose config` of the same stack. Docker starts
a plugin twice for each command: for its metadata, and to run it. A passphrase takes Argon2id, which is slow on purpose.
"""
_COLD_NOTE = """\
Cold is the first time after a boot: before each run the page cache {}. On a virtual machine its host may still hold
what is read.
"""
_NO_COLD_NOTE = """\
There are no figures for a cold start, since this machine's page cache cannot be emptied from here.
"""


def measure(setting: Setting) -> Part:
    """Measure all commands warm, then cold where the page cache can be emptied."""
    cases = felt_cases(setting.scratch, setting.tools)
    warm, cold = setting.rounds or WARM_ROUNDS, setting.rounds or COLD_ROUNDS
    activity = machine.Activity()
    series = interleave(cases, warm, setting.progress("warm", warm))
    eviction = pagecache.find_eviction(_files(setting))
    if eviction:
        after_boot = [case._replace(key=case.key + COLD, label=f"{case.label}, cold") for case in cases]
        evict = eviction.evict
        series += interleave(after_boot, cold, setting.progress("cold", cold), warm_up=0, after=lambda _case: evict())
    rounds = f"{warm} rounds of commands warm" + (f" and {cold} cold" if eviction else "")
    text = felt_text({each.key: each for each in series}, eviction.how if eviction else None)
    return Part(series=series, text=text, rounds=rounds, disturbance=activity.share())


def felt_cases(scratch: str, tools: Tools) -> list[Case]:
    """Every command of the table, once."""
    usual = home_with_secrets(os.path.join(scratch, "key-file"), 100)
    locked = with_passphrase(home_with_secrets(os.path.join(scratch, "passphrase"), 100))

    def case(key: str, label: str, *argv: str, expect: str) -> Case:
        return Case(f"felt-{key}", label, argv, usual.environment(), usual.path, expect.encode())

    cases = [
        case("metadata", f"`docker-dso {METADATA}`", binary("docker-dso", VARIANT), METADATA, expect="SchemaVersion"),
        case("compose-metadata", f"`docker-compose {METADATA}`", tools.compose, METADATA, expect="SchemaVersion"),
        case("version", "`docker dso version`", tools.docker, "dso", "version", expect="docker-dso"),
        case("compose-version", "`docker compose version`", tools.docker, "compose", "version", expect="v"),
        Lookup(usual, 100).case("felt-get", "docker dso", tools.docker, "dso"),
        Lookup(locked, 100).case("felt-get-passphrase", "docker dso", tools.docker, "dso", build=", passphrase"),
    ]
    return cases + _stack_cases(scratch, tools)


def with_passphrase(home: DsoHome) -> DsoHome:
    """Change a vault's key file for a passphrase, which everything this user runs is given in a file."""
    file = os.path.join(home.path, "passphrase")
    with open(file, "x") as target:
        target.write("correct horse battery staple\n")
    os.chmod(file, 0o600)
    home.env["DSO_PASSPHRASE_FILE"] = file
    home.dso("vault", "add-key", "--passphrase")
    os.unlink(os.path.join(home.dso_dir, "master.key"))
    return home


def _stack_cases(scratch: str, tools: Tools) -> list[Case]:
    home = home_with_secrets(os.path.join(scratch, "stacks"), stacks.REFERENCES * max(SIZES))
    home.env.update(Engine.of_the_tester().env)
    cases = []
    for size in SIZES:
        directory = os.path.join(home.path, f"of{size}")
        os.mkdir(directory)
        with open(os.path.join(directory, "compose.yaml"), "x") as file:
            json.dump(stacks.model(size, with_references=True), file, indent=2)
        for key, words in (("dry-run", "dso up --dry-run"), ("config", "compose config")):
            argv = (tools.docker, *words.split())
            label = f"`docker {words}`, {size} services"
            cases.append(Case(f"felt-{key}-{size}", label, argv, home.environment(), directory, b"service000"))
    return cases


def _files(setting: Setting) -> list[str]:
    """What these commands read, but for shared libraries; first docker-dso."""
    programs = [binary("docker-dso", VARIANT), setting.tools.docker, setting.tools.compose]
    data = [os.path.join(path, name) for path, _, names in os.walk(setting.scratch) for name in names]
    return [os.path.realpath(path) for path in (*programs, *data)]


def felt_text(series: Mapping[str, Series], evicted: str | None) -> str:
    """The table; `evicted` is how the page cache was emptied, None where it could not be."""
    head = ["", "DSO, ms", "Compose, ms", "DSO / Compose"]
    if evicted:
        head += ["DSO cold, ms", "Compose cold, ms", "DSO / Compose, cold"]
    suffixes = ("", COLD) if evicted else ("",)
    rows = [(row.what, *(cell for suffix in suffixes for cell in _cells(series, row, suffix))) for row in ROWS]
    cold_note = _COLD_NOTE.format(evicted) if evicted else _NO_COLD_NOTE
    return "\n".join(("## Warm and cold\n", table(head, rows), _NOTE + cold_note))


def _cells(series: Mapping[str, Series], row: Row, suffix: str) -> Sequence[str]:
    ours, theirs = series[row.ours + suffix], series[row.theirs + suffix]
    (found,) = outcomes(series, [Ratio(row.what, ours.key, theirs.key)])
    return f"{ours.typical:.1f}", f"{theirs.typical:.1f}", found.figure
