"""How many instructions a few commands take: a figure that neither a busy nor a slow machine changes.

Valgrind counts what a command and its children execute outside the kernel. It also shows them one and the same
processor of each generation, so that a library's choice of code is the same everywhere. The binary is the one that
users install, whose interpreter is built by us; what differs by machine is in `Conditions`.

`make baseline` keeps the counts in baseline.json, and a test compares with it (tests/cli/test_instruction_counts.py).
"""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import sys
import tempfile
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.cases import VARIANT, Lookup, home_with_secrets
from tests.bench.measure import CommandFailedError
from tests.bench.part import Part
from tests.bench.report import table
from tests.support.binaries import binary
from tests.support.process import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.bench.part import Setting

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "baseline.json")
TOLERANCE_PERCENT = 3
SECRETS = 100
METADATA = "docker-cli-plugin-metadata"
RENEW = "`make baseline` writes the new counts to tests/bench/baseline.json: commit them with the change"


class Conditions(NamedTuple):
    """What counts depend on besides DSO. Those taken under other conditions are not compared.

    Attributes:
        valgrind: its version, 3.19.0 say.
        architecture: x86_64 say.
        libc: the C library, which the binary takes from the machine: glibc 2.36 say.
        processor: the newest vector instructions valgrind passes on to programs: avx2 say.
    """

    valgrind: str
    architecture: str
    libc: str
    processor: str


class Counts(NamedTuple):
    """Instructions by command, and what they were counted with."""

    conditions: Conditions
    instructions: Mapping[str, int]


def conditions() -> Conditions:
    """What counts depend on here."""
    version = run([_valgrind(), "--version"]).out.strip().removeprefix("valgrind-")
    return Conditions(version, platform.machine(), " ".join(platform.libc_ver()), _processor())


def _valgrind() -> str:
    """Valgrind itself: Debian's /usr/bin/valgrind is a script that adds a directory of libraries."""
    found = shutil.which("valgrind.bin") or shutil.which("valgrind")
    if not found:
        raise FileNotFoundError("there is no valgrind in PATH: install it, or run build/machine/test-tools.sh")
    return found


def _processor() -> str:
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        flags = set(file.read().split())
    return next((name for name in ("avx2", "avx", "sse4_2") if name in flags), "other")


def count_all(scratch: str) -> dict[str, int]:
    """The instructions of every command that is watched; `scratch` is an existing directory."""
    lookup = Lookup(home_with_secrets(os.path.join(scratch, "home"), SECRETS), SECRETS)
    plugin = binary("docker-dso", VARIANT)
    watched = {
        f"docker-dso {METADATA}": (METADATA,),
        "docker-dso version": ("version",),
        f"docker-dso secret get ({SECRETS} secrets)": lookup.words(),
    }
    return {label: count((plugin, *words), lookup.home.path) for label, words in watched.items()}


def count(argv: Sequence[str], home: str) -> int:
    """The instructions of a command and its children, in an environment that is always the same but for HOME.

    CommandFailedError if it fails, or if valgrind says nothing.
    """
    with tempfile.TemporaryDirectory(dir=home) as logs:
        valgrind = [_valgrind(), "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
        log = f"--log-file={logs}/%p"
        environment = {"HOME": home, "PATH": os.defpath, "TMPDIR": "/tmp"}  # the usual one, by name
        done = run([*valgrind, "--trace-children=yes", log, *argv], env=environment, cwd=home, check=False, timeout=600)
        total = sum(_total(os.path.join(logs, name)) for name in os.listdir(logs))
    if done.returncode or not total:
        raise CommandFailedError(f"{' '.join(argv)}: exit code {done.returncode} under valgrind\n{done.err}")
    return total


def _total(log: str) -> int:
    """What one process took; 0 if it became another program before its end."""
    with open(log, encoding="utf-8", errors="replace") as file:
        found = re.search(r"I +refs: +([\d,]+)", file.read())
    return int(found[1].replace(",", "")) if found else 0


def load(path: str = PATH) -> Counts:
    """The baseline."""
    with open(path, encoding="utf-8") as file:
        content = json.load(file)
    return Counts(Conditions(**content["counted with"]), content["instructions"])


def save(counts: Counts, path: str = PATH) -> None:
    """Make these counts the baseline."""
    content = {"counted with": counts.conditions._asdict(), "instructions": counts.instructions}
    with open(path, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")


def objections(baseline: Counts, found: Counts) -> list[str]:
    """Why these counts cannot stand beside the baseline, one line each; none if all is well.

    Fewer instructions are an objection too: the baseline that is kept would allow as many to be lost again unnoticed.
    """
    each = zip(Conditions._fields, found.conditions, baseline.conditions, strict=True)
    differences = [
        f"not comparable: counted with {name} {here}, the baseline with {there}. Count both versions on one machine, or"
        f" renew it: {RENEW}"
        for name, here, there in each
        if here != there
    ]
    if differences:
        return differences
    if set(baseline.instructions) != set(found.instructions):
        names = sorted(set(baseline.instructions) ^ set(found.instructions))
        return [f"only one side has {', '.join(names)}: {RENEW}"]
    texts = (_objection(name, baseline.instructions[name], now) for name, now in found.instructions.items())
    return [text for text in texts if text]


def _objection(name: str, before: int, now: int) -> str:
    if abs(now - before) * 100 <= before * TOLERANCE_PERCENT:
        return ""
    text = f"{name}: {now:,} instructions instead of {before:,} ({(now - before) / before:+.1%})"
    if now < before:
        return f"{text}: better, and worth keeping. {RENEW}"
    return f"{text}: what has the change added to every start? If it is worth that, {RENEW}"


def measure(setting: Setting) -> Part:
    """For the page: the counts, beside the baseline and Compose's answer to Docker."""
    setting.tell("counting instructions")
    found = count_all(setting.scratch)
    home = os.path.join(setting.scratch, "compose")
    os.mkdir(home)
    return Part(text=counts_text(found, load().instructions, count((setting.tools.compose, METADATA), home)))


def counts_text(found: Mapping[str, int], baseline: Mapping[str, int], compose: int) -> str:
    """The table; `compose` is the count of Compose's metadata call."""
    rows = [
        (
            f"`{name}`",
            f"{now / 1e6:.1f}",
            f"{now / compose:.2f} x",
            f"{now / baseline[name] - 1:+.1%}" if name in baseline else "",
        )
        for name, now in found.items()
    ]
    rows.append((f"`docker-compose {METADATA}`", f"{compose / 1e6:.1f}", "", ""))
    head = ("", "Instructions, millions", "Of Compose's metadata call", "Since the baseline")
    return "\n".join(("## Instructions\n", table(head, rows), _NOTE))


_NOTE = f"""\
Counted by valgrind, outside the kernel: no machine is too busy or too slow for that. `make test` fails when one differs
by more than {TOLERANCE_PERCENT} % from the baseline, tests/bench/baseline.json, which `make baseline` renews.
"""


def main() -> int:
    """Count, say what has changed, and make it the baseline."""
    with tempfile.TemporaryDirectory(prefix="dso-counts-") as scratch:
        found = Counts(conditions(), count_all(scratch))
    before = load().instructions if os.path.exists(PATH) else {}
    for name, now in found.instructions.items():
        print(f"{name}: {now:,}" + (f" ({now / before[name] - 1:+.1%})" if name in before else ""))
    save(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
