"""The results of a full run as data (docs/benchmarks.json), and README's figures, which are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.measure import Series
    from tests.bench.part import Part
    from tests.bench.report import Run

BEGIN = "<!-- Written by `make bench` from docs/benchmarks.json; do not edit. -->\n"
END = "<!-- End of what `make bench` writes. -->\n"


class Row(NamedTuple):
    """A line of README's table: a measurement by its key, and others to see it beside."""

    what: str
    measured: str
    beside: tuple[str, ...]


ROWS = (
    Row("Read a secret, as a user feels it", "docker-get-100", ("docker-compose-version",)),
    Row(
        "Read a secret, the program alone", "read-docker-dso", ("read-pass", "read-gopass", "read-sops", "read-dotenvx")
    ),
    Row("Docker's question what `dso` is, at each `docker` command line", "metadata", ("compose-metadata",)),
    Row("`up` of 20 running services with 50 secrets, nothing to change", "dso-up", ("compose-up",)),
    Row("The same from nothing", "new-docker dso", ("new-docker compose",)),
    Row("A file secret at a container's start, Cloud Mode", "start-dso", ("start-plain",)),
    Row("50 cached references, asked of the agent", "agent-resolve", ("agent-health",)),
)


def record(run: Run, parts: Mapping[str, Part]) -> dict[str, Any]:
    """What a full run found, for programs: lines as on the page, and each measurement in ms."""
    return {
        "date": run.date,
        "machine": dict(run.machine),
        "goals": [{"part": title, **each._asdict()} for title, part in parts.items() for each in part.goals],
        "comparisons": [
            {"part": title, **each._asdict()} for title, part in parts.items() for each in part.comparisons
        ],
        "series": [{"part": title, **_summary(each)} for title, part in parts.items() for each in part.series],
    }


def _summary(series: Series) -> dict[str, Any]:
    low, high = series.spread
    return {
        "key": series.key,
        "label": series.label,
        "median": round(series.typical, 1),
        "quartiles": [round(low, 1), round(high, 1)],
        "fastest": round(min(series.wall), 1),
        "processor": round(series.typical_cpu, 1) if series.cpu else None,
    }


def block(results: Mapping[str, Any]) -> str:
    """README's figures, of the results of a full run; a line whose measurement is not among them is left out."""
    found = {each["key"]: each for each in results["series"]}
    lines = ["| | DSO | Beside it |", "|---|---|---|"]
    for row in ROWS:
        if row.measured in found:
            beside = "; ".join(_shown(found[key]) for key in row.beside if key in found)
            lines.append(f"| {row.what} | {_shown(found[row.measured])} | {beside} |")
    goals = results["goals"]
    met = sum(each["met"] for each in goals)
    told = f"Medians on {results['machine']['Processor']}, {results['date']}; {met} of {len(goals)} goals are met."
    return BEGIN + "\n" + "\n".join(lines) + "\n\n" + told + "\n\n" + END


def _shown(summary: Mapping[str, Any]) -> str:
    median = summary["median"]
    return f"{summary['label']}: {median:,.0f} ms" if median >= 10 else f"{summary['label']}: {median} ms"


def replaced(text: str, new: str) -> str:
    """A text with another block of figures; it has to have one."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError("README.md has lost the lines between which the benchmark's figures stand")
    return before + new + after
