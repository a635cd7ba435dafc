"""File secrets of one service as they grow in number: from 1 to 200."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.bench.cases import NAMESPACE, VARIANT, home_with_secrets
from tests.bench.curves.family import Command, Family, measured
from tests.bench.measure import Case
from tests.support.binaries import binary
from tests.support.engine import Engine, Images
from tests.support.project import Project

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.bench.part import Setting

SIZES = (1, 10, 50, 200)
ROUNDS = 8
UP, NEW = "`up -d`, nothing to change", "`up -d` from nothing"


def measure(setting: Setting) -> Family:
    """Bring a service up whose files are there already, and one of which nothing is there."""
    engine = Engine.of_the_tester()
    home = home_with_secrets(os.path.join(setting.scratch, "files-home"), SIZES[-1])
    home.env.update(engine.env)
    with ExitStack() as cleanup:

        def project(kind: str, size: int) -> Project:
            made = Project(os.path.join(setting.scratch, f"dsocurve{kind}{size}x{os.getpid()}"), home, engine)
            made.compose_yaml(json.dumps(model(size), indent=2))
            cleanup.callback(made.remove)
            return made

        running = {size: project("kept", size) for size in SIZES}
        absent = {size: project("new", size) for size in SIZES}
        for each in running.values():
            each.dso("up", "-d")
        commands = [
            _command(setting, "kept", UP, running),
            _command(setting, "new", NEW, absent),
        ]
        commands[1] = commands[1]._replace(after=lambda size: absent[size].dso("down", "-v", "-t", "0"))
        lines = measured(commands, setting.rounds or ROUNDS, setting, "file secrets")
    return Family("files", "File secrets", "File secrets of the service", lines)


def model(size: int) -> dict[str, Any]:
    """A Compose model of one service with so many files."""
    variables = {f"FILE_{number:05d}": f"dsofile://{NAMESPACE}/SECRET_{number:05d}" for number in range(1, size + 1)}
    service = {
        "image": Images().scratch,
        "network_mode": "none",
        "stop_signal": "SIGKILL",
        "environment": variables,
    }
    return {"services": {"service": service}}


def _command(setting: Setting, key: str, label: str, projects: Mapping[int, Project]) -> Command:
    cases = {
        size: Case(
            f"curve-files-{key}-{size}",
            f"`docker dso up -d`{label.removeprefix('`up -d`')}, {size} file{'s' * (size > 1)}",
            (setting.tools.docker, "dso", "up", "-d"),
            project.home.environment(),
            project.directory,
        )
        for size, project in projects.items()
    }
    return Command(label, cases, lambda _size: (binary("docker-dso", VARIANT), "up", "-d"))
