"""Start-up, and reading a secret: what a user waits for each time."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests.bench import machine, untrimmed
from tests.bench.cases import VARIANT, Lookup, Tools, home_with_secrets
from tests.bench.goals import Outcome, Ratio, outcomes
from tests.bench.measure import Case, interleave
from tests.bench.part import Part
from tests.support.binaries import binary

if TYPE_CHECKING:
    from tests.bench.part import Setting

ROUNDS = 40
METADATA = "docker-cli-plugin-metadata"
BINARY_LIMIT_MB = 25

GOALS = (
    Ratio("Answer Docker's question for a plugin's metadata", "metadata", "compose-metadata", 0.6),
    Ratio("Read one secret of 100", "get-100", "compose-metadata", 2.2),
    Ratio("Read one secret of 100, through Docker", "docker-get-100", "docker-compose-version", 1.0),
    Ratio("Read one secret of 10,000 instead of 10", "get-10000", "get-10", 1.5),
)
YARDSTICKS = (
    Ratio("Metadata, beside Docker itself", "metadata", "docker-version"),
    Ratio("Metadata, beside a bare Python", "metadata", "python"),
    Ratio("Metadata, beside a default PyInstaller build", "metadata", "default-metadata"),
    Ratio("Read one secret, beside a default PyInstaller build", "get-100", "default-get-100"),
    Ratio("The same through Docker", "docker-get-100", "docker-default-get-100"),
)


def measure(setting: Setting) -> Part:
    """Measure all of it."""
    default_build = untrimmed.build("docker-dso", setting.say) if setting.default_build else None
    rounds = setting.rounds or ROUNDS
    cases = startup_cases(setting.scratch, setting.tools, default_build)
    activity = machine.Activity()
    series = interleave(cases, rounds, setting.progress("start-up", rounds))
    disturbance = activity.share()
    found = {each.key: each for each in series}
    return Part(
        [*outcomes(found, GOALS), size_outcome(os.stat(binary("docker-dso", VARIANT)).st_size)],
        outcomes(found, YARDSTICKS),
        series,
        rounds=f"{rounds} rounds of start-up",
        disturbance=disturbance,
    )


def startup_cases(scratch: str, tools: Tools, default_build: str | None) -> list[Case]:
    """Start-up and reading a secret; `default_build` is a docker-dso built without any tuning."""
    small, usual, large = (
        Lookup(home_with_secrets(os.path.join(scratch, f"home-{count}"), count), count) for count in (10, 100, 10_000)
    )
    home = usual.home
    env = home.environment()
    ours = binary("docker-dso", VARIANT)

    def other(key: str, label: str, *argv: str, expect: bytes = b"") -> Case:
        return Case(key, f"`{label}`", argv, env, home.path, expect)

    cases = [
        other("metadata", f"docker-dso {METADATA}", ours, METADATA, expect=b"SchemaVersion"),
        other("compose-metadata", f"docker-compose {METADATA}", tools.compose, METADATA, expect=b"SchemaVersion"),
        other("docker-version", "docker --version", tools.docker, "--version", expect=b"Docker version"),
        other("python", "python3 -S -c pass", tools.python, "-S", "-c", "pass"),  # what -S skips differs by machine
        usual.case("get-100", "docker-dso", ours),
        usual.case("docker-get-100", "docker dso", tools.docker, "dso"),
        other("docker-compose-version", "docker compose version", tools.docker, "compose", "version", expect=b"v"),
        small.case("get-10", "docker-dso", ours),
        large.case("get-10000", "docker-dso", ours),
    ]
    return cases + (default_build_cases(scratch, tools, default_build) if default_build else [])


def default_build_cases(scratch: str, tools: Tools, binary: str) -> list[Case]:
    """The same work done by a docker-dso that was built without any tuning."""
    usual = Lookup(home_with_secrets(os.path.join(scratch, "home-default-build"), 100, binary), 100)
    env, path = usual.home.environment(), usual.home.path
    label = f"`docker-dso {METADATA}` (default build)"
    return [
        Case("default-metadata", label, (binary, METADATA), env, path, b"SchemaVersion"),
        usual.case("default-get-100", "docker-dso", binary, build=", default build"),
        usual.case("docker-default-get-100", "docker dso", tools.docker, "dso", build=", default build"),
    ]


def size_outcome(size: int) -> Outcome:
    """The binary's size in bytes against its limit."""
    megabytes = size / 1e6
    return Outcome(
        "Size of the binary",
        f"`docker-dso`, {megabytes:.1f} MB",
        "",
        f"{megabytes:.1f} MB",
        f"at most {BINARY_LIMIT_MB} MB",
        megabytes <= BINARY_LIMIT_MB,
    )
