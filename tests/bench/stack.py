"""`docker dso up` of 20 services that run already, beside `docker compose up` of the same."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from dso.paths import ALLOW_VARIABLE
from tests.bench.cases import BRACES, FILES, WHOLE, Tools, home_with_secrets, secret_value, stack
from tests.bench.goals import Outcome, milliseconds, timed
from tests.bench.measure import Case, CommandFailedError, estimate, interleave
from tests.bench.part import Part
from tests.support.engine import Engine, Images
from tests.support.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.measure import Series
    from tests.bench.part import Setting

ROUNDS = 20
UP_ALLOWANCE_MS = 150


def measure(setting: Setting) -> Part:
    """Start both stacks, measure, and remove them."""
    rounds = setting.rounds or ROUNDS
    home = home_with_secrets(os.path.join(setting.scratch, "home"), 100)
    engine = Engine.of_the_tester()
    home.env.update(engine.env)
    home.env.pop(ALLOW_VARIABLE, None)  # the directory is granted what it needs, as a user's is
    plain, referring = (
        Project(os.path.join(setting.scratch, f"dsobench{kind}{os.getpid()}"), home, engine)
        for kind in ("plain", "dso")
    )
    try:
        setting.tell("starting two stacks")
        measured = stack_cases(setting.tools, plain, referring, Images().busybox)
        before = plain.containers(), referring.containers(), referring.keepers()
        series = interleave(measured, rounds, setting.progress("stack", rounds))
        if before != (plain.containers(), referring.containers(), referring.keepers()):
            raise CommandFailedError("`up` was to find nothing to change, but it did create containers")
    finally:
        referring.dso("down", "-v", check=False)
        plain.remove()
        referring.remove()
    return Part(up_outcome({each.key: each for each in series}), (), series, rounds=f"{rounds} rounds of the stack")


def literal_stack(project: Project, image: str) -> None:
    """Write the stack as its user would without DSO: values in compose.yaml, and in files beside it."""
    for number in range(1, WHOLE + BRACES + FILES + 1):
        project.write(f"secret_{number:05d}.txt", secret_value(number))
    project.compose_yaml(json.dumps(stack(image, with_references=False), indent=2))


def stack_cases(tools: Tools, plain: Project, referring: Project, image: str) -> list[Case]:
    """Two running stacks that do the same, the one with literal values, the other with references.

    Afterwards nothing is left to change for `up`.
    """
    literal_stack(plain, image)
    referring.compose_yaml(json.dumps(stack(image, with_references=True), indent=2))
    plain.compose("up", "-d")
    referring.dso("allow", "--yes")
    referring.dso("up", "-d")
    env = referring.home.environment()

    def case(key: str, label: str, project: Project) -> Case:
        return Case(key, f"`{label}`", (tools.docker, *label.split()[1:]), env, project.directory)

    return [
        case("dso-up", "docker dso up -d", referring),
        case("compose-up", "docker compose up -d", plain),
        case("compose-config", "docker compose config", referring),
    ]


def up_outcome(series: Mapping[str, Series]) -> list[Outcome]:
    """What `docker dso up` adds to `docker compose up`, against one `docker compose config` and some more."""
    if "dso-up" not in series:
        return []
    ours, theirs, config = series["dso-up"], series["compose-up"], series["compose-config"]
    added = estimate(lambda up, plain: up - plain, ours, theirs)
    allowed = config.typical + UP_ALLOWANCE_MS
    return [
        Outcome(
            "Bring up 20 services, 50 references, nothing to change",
            timed(ours),
            timed(theirs),
            f"{milliseconds(added)}, {ours.typical / theirs.typical:.2f} x",
            f"at most +{allowed:.0f} ms (`docker compose config`, {config.typical:.0f} ms, + {UP_ALLOWANCE_MS} ms)",
            added.value <= allowed,
        )
    ]
