"""DSO beside the programs its users would take instead: the same work, in the same rounds."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING

from tests.bench.goals import Ratio, outcomes
from tests.bench.measure import interleave
from tests.bench.part import Part
from tests.bench.peers import stack, tools
from tests.bench.report import table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.bench.measure import Series
    from tests.bench.part import Setting
    from tests.bench.peers.tools import Found

ROUNDS = 12
RIVALS = ("pass", "gopass", "gopasspw", "sops", "dotenvx")  # DSO has to be faster than these
TITLES = {
    "docker-dso": "`docker-dso`, without Docker in front",
    "docker dso": "`docker dso`",
    "docker compose": "plain `docker compose`",
    "gopass": "gopass of Debian (aviau)",
    "gopasspw": "gopass (gopasspw)",
}
OURS = ("docker-dso", "docker dso")
WORKS = {
    "read": "Read one secret of 100",
    "child": "Run a child with 50",
    "again": "Bring up 20 services, nothing to change",
    "new": "From nothing",
}

GOALS = tuple(
    Ratio(f"Read one secret of 100, beside {name}", "read-docker-dso", f"read-{name}", 1, below=True) for name in RIVALS
)
FELT = tuple(
    Ratio(f"Read one secret of 100 through Docker, beside {name}", "read-docker dso", f"read-{name}") for name in RIVALS
)


def measure(setting: Setting) -> Part:
    """Get the peers, give all of them the same secrets, and measure."""
    rounds = setting.rounds or ROUNDS
    peers = tools.installed(setting.tell)
    with ExitStack() as cleanup:
        dso = tools.Dso.made(setting.scratch, setting.tools)
        found = tools.make(peers, peers, setting.scratch, tools.SECRETS, cleanup)
        runners = [name for name, store in found.stores.items() if store.child]
        few = tools.make(peers, runners, setting.scratch, tools.CHILD, cleanup)
        reads = [*dso.read_cases(), *tools.read_cases(found.stores, tools.SECRETS)]
        series = interleave(reads, rounds, setting.progress("reading beside peers", rounds))
        children = [*dso.child_cases(), *tools.child_cases(few.stores)]
        for case in children:
            tools.check_child(case)
        series += interleave(children, rounds, setting.progress("children beside peers", rounds))
        series += stack.measure(stack.Stacks.made(setting, cleanup), few.stores, setting)
    measured = {each.key: each for each in series}
    versions = {name: peer.version for name, peer in peers.items()}
    return Part(
        outcomes(measured, GOALS),
        outcomes(measured, FELT),
        series,
        text(measured, versions, found),
        f"{rounds} rounds beside other programs",
    )


_NOTES = """\
Each cell is the median time, and how many times as long that is as `docker dso` takes. All programs read the same
secrets, with a key that asks for no passphrase, and took turns. What they do is not the same to the letter:

- `docker dso` is what a user of Docker types; Docker starts first, asks the plugin what it is, and starts it.
- pass and its kin have a file for each secret and leave the work to gpg, whose agent was running as it is for a user.
- age has one file for all: it prints all 100 secrets where the others print one.
- dotenvx takes every value of the file apart to print one of them.
- DSO has no command that runs a child: a shell evaluates what `docker dso env export` prints.
- sops and dotenvx hand Compose the secrets as variables, and Compose copies file secrets from there into the container,
  that is, onto the disk; plain Compose has all of them as plaintext in the project. DSO keeps file secrets in memory,
  by a container of its own, and looks at the Engine each time whether they are there: that is what it needs longer for.
"""


def text(series: Mapping[str, Series], versions: Mapping[str, str], found: Found) -> str:
    """The section of the page: a row for each program, a column for each work."""
    names = [*OURS, *found.stores, "docker compose"]
    head = ("", "Version", *WORKS.values())
    rows = [
        (TITLES.get(name, name), versions.get(name, ""), *(_cell(series, work, name) for work in WORKS))
        for name in names
    ]
    pieces = ["## Beside other programs\n", table(head, rows), _NOTES]
    if found.missing:
        pieces.append(_missing(found.missing))
    return "\n".join(pieces)


def _cell(series: Mapping[str, Series], work: str, name: str) -> str:
    measured, ours = series.get(f"{work}-{name}"), series.get(f"{work}-docker dso")
    if measured is None:
        return ""
    shown = f"{measured.typical:,.0f} ms"
    return shown if ours is None or ours is measured else f"{shown}, {measured.typical / ours.typical:.2f} x"


def _missing(why: Mapping[str, str]) -> str:
    lines: Sequence[str] = [f"- {TITLES.get(name, name)}: {reason}\n" for name, reason in why.items()]
    return "Not measured, as it could not be had here:\n\n" + "".join(lines)
