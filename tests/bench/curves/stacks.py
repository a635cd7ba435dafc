"""Stacks as they grow: from 1 to 500 services, three references in each."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.bench.cases import NAMESPACE, VARIANT, home_with_secrets, secret_value
from tests.bench.curves.family import Command, Family, measured
from tests.bench.measure import Case, CommandFailedError
from tests.support.binaries import binary
from tests.support.engine import Engine, Images
from tests.support.project import Project

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.bench.part import Setting

SIZES = (1, 20, 100, 500)
PLAIN = SIZES[:-1]  # of plain Compose's: 500 containers more take minutes to start and to stop
ROUNDS = 12
REFERENCES = 3  # of each service: a variable, a part of a variable, a file
PATIENCE = 600.0  # seconds to start or to remove a stack
UP, DRY_RUN = "`up -d`, nothing to change", "`up --dry-run`"


def measure(setting: Setting) -> Family:
    """Start a stack of each size with references, and all but the largest as one would write them without DSO."""
    engine = Engine.of_the_tester()
    home = home_with_secrets(os.path.join(setting.scratch, "stacks-home"), REFERENCES * SIZES[-1])
    home.env.update(engine.env)

    def project(kind: str, size: int) -> Project:
        made = Project(os.path.join(setting.scratch, f"dsocurve{kind}{size}x{os.getpid()}"), home, engine)
        _write(made, size, with_references=kind == "dso")
        return made

    with ExitStack() as cleanup:
        ours = {size: project("dso", size) for size in SIZES}
        plain = {size: project("plain", size) for size in PLAIN}
        for command, projects in (("dso", ours), ("compose", plain)):
            for size, each in projects.items():
                setting.tell(f"starting a stack of {size} services")
                cleanup.callback(_remove, each, command)
                _docker(each, command, "up", "-d")
        before = _containers(ours, plain)
        lines = measured(_commands(setting, ours, plain), setting.rounds or ROUNDS, setting, "stacks")
        if before != _containers(ours, plain):
            raise CommandFailedError("`up` was to find nothing to change, but it did create containers")
    return Family("stacks", "A stack", "Services", lines)


def model(size: int, *, with_references: bool) -> dict[str, Any]:
    """A Compose model whose containers are as small as can be, and without a network, which would take time to make."""
    services: dict[str, Any] = {}
    found: dict[str, Any] = {"services": services}
    for index in range(size):
        first = index * REFERENCES + 1
        texts = [_text(number, with_references=with_references) for number in range(first, first + REFERENCES)]
        service: dict[str, Any] = {
            "image": Images().scratch,
            "network_mode": "none",
            "stop_signal": "SIGKILL",
            "environment": {
                "PORT": "80",
                "API_KEY": texts[0],
                "DATABASE_URL": f"postgres://shop:{_part(texts[1])}@database:5432/shop",
                "PASSWORD_FILE": texts[2].replace("dso://", "dsofile://"),
            },
        }
        if not with_references:
            secret = f"secret_{index:03d}"
            service["environment"]["PASSWORD_FILE"] = f"/run/secrets/{secret}"
            service["secrets"] = [secret]
            found.setdefault("secrets", {})[secret] = {"file": "./secret.txt"}
        services[f"service{index:03d}"] = service
    return found


def _text(number: int, *, with_references: bool) -> str:
    return f"dso://{NAMESPACE}/SECRET_{number:05d}" if with_references else secret_value(number)


def _part(text: str) -> str:
    return "{{" + text + "}}" if text.startswith("dso://") else text


def _write(project: Project, size: int, *, with_references: bool) -> None:
    project.write("secret.txt", secret_value(0))
    project.compose_yaml(json.dumps(model(size, with_references=with_references), indent=2))


def _containers(*stacks: Mapping[int, Project]) -> list[str]:
    return [container for projects in stacks for project in projects.values() for container in project.containers()]


def _docker(project: Project, *words: str) -> None:
    project.home.command("docker", *words, cwd=project.directory, timeout=PATIENCE)


def _remove(project: Project, command: str) -> None:
    """Compose takes containers away side by side; what it leaves goes one by one."""
    project.home.command(
        "docker", command, "down", "-v", "-t", "0", cwd=project.directory, check=False, timeout=PATIENCE
    )
    project.remove()


def _commands(setting: Setting, ours: Mapping[int, Project], plain: Mapping[int, Project]) -> Sequence[Command]:
    """`up` and its yardsticks; what is plain Compose's says so."""

    def cases(key: str, words: str, projects: Mapping[int, Project], expect: str = "") -> dict[int, Case]:
        return {
            size: Case(
                f"curve-{key}-{size}",
                f"`docker {words}`, {size} service{'s' * (size > 1)}",
                (setting.tools.docker, *words.split()),
                project.home.environment(),
                project.directory,
                expect.encode(),
            )
            for size, project in projects.items()
        }

    def alone(words: str) -> Callable[[int], Sequence[str]]:
        return lambda _size: (binary("docker-dso", VARIANT), *words.split())

    return [
        Command(DRY_RUN, cases("dry-run", "dso up --dry-run", ours, "service000"), alone("up --dry-run")),
        Command(UP, cases("up", "dso up -d", ours), alone("up -d")),
        Command("`docker compose up -d`, nothing to change", cases("compose-up", "compose up -d", plain)),
        Command("`docker compose config`", cases("config", "compose config", ours, "service000")),
    ]
