"""Stacks as they grow: from 1 to 500 services, three references in each."""

from __future__ import annotations

import json
import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from tests.bench.cases import NAMESPACE, VARIANT, home_with_secrets, secret_value
from tests.bench.curves.family import Command, Family, Line, joined, measured
from tests.bench.measure import Case, CommandFailedError
from tests.support.binaries import binary
from tests.support.engine import Engine, Images
from tests.support.project import Project

if TYPE_CHECKING:
    from tests.bench.part import Setting
    from tests.support.home import DsoHome

SIZES = (1, 20, 100, 500)
PLAIN = SIZES[:-1]  # of plain Compose's: 500 containers more take minutes to start and to stop
ROUNDS = {1: 12, 20: 12, 100: 6, 500: 4}
REFERENCES = 3  # of each service: a variable, a part of a variable, a file
PATIENCE = 600.0  # seconds to start or to remove a stack
UP, DRY_RUN = "`up -d`, nothing to change", "`up --dry-run`"


def measure(setting: Setting) -> Family:
    """Start a stack of each size, and all but the largest as one would write them without DSO.

    One size after another: the keeper of another stack on the same Engine would cost its share.
    """
    engine = Engine.of_the_tester()
    home = home_with_secrets(os.path.join(setting.scratch, "stacks-home"), REFERENCES * SIZES[-1])
    home.env.update(engine.env)
    return Family("stacks", "A stack", "Services", joined([_measure(setting, size, home, engine) for size in SIZES]))


def _measure(setting: Setting, size: int, home: DsoHome, engine: Engine) -> list[Line]:
    """Start it and measure; a trial plans the largest one and does not start it."""
    kinds = {"dso": setting.rounds is None or size in PLAIN, "compose": size in PLAIN}
    with ExitStack() as cleanup:
        projects: dict[str, Project] = {}
        for command, started in kinds.items():
            directory = os.path.join(setting.scratch, f"dsocurve{command}{size}x{os.getpid()}")
            projects[command] = Project(directory, home, engine)
            _write(projects[command], size, with_references=command == "dso")
            if started:
                setting.tell(f"starting a stack of {size} services")
                cleanup.callback(_remove, projects[command], command)
                _docker(projects[command], command, "up", "-d")
        before = [project.containers() for project in projects.values()]
        commands = _plans(setting, size, projects["dso"]) + [
            _up(setting, size, projects[command], command) for command, started in kinds.items() if started
        ]
        rounds = setting.rounds or ROUNDS[size]
        lines = measured(commands, rounds, setting, f"a stack of {size} services")
        if before != [project.containers() for project in projects.values()]:
            raise CommandFailedError("`up` was to find nothing to change, but it did create containers")
    return lines


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


def _docker(project: Project, *words: str) -> None:
    project.home.command("docker", *words, cwd=project.directory, timeout=PATIENCE)


def _remove(project: Project, command: str) -> None:
    """Compose takes containers away side by side; what it leaves goes one by one."""
    project.home.command(
        "docker", command, "down", "-v", "-t", "0", cwd=project.directory, check=False, timeout=PATIENCE
    )
    project.remove()


def _plans(setting: Setting, size: int, project: Project) -> list[Command]:
    """What starts nothing."""
    return [
        _command(setting, DRY_RUN, "dso up --dry-run", size, project, b"service000"),
        _command(setting, "`docker compose config`", "compose config", size, project, b"service000"),
    ]


def _up(setting: Setting, size: int, project: Project, command: str) -> Command:
    """`up` of what runs already; what is plain Compose's says so."""
    label = UP if command == "dso" else "`docker compose up -d`, nothing to change"
    return _command(setting, label, f"{command} up -d", size, project)


def _command(setting: Setting, label: str, words: str, size: int, project: Project, expect: bytes = b"") -> Command:
    key = f"curve-{words.replace(' ', '-')}-{size}"
    name = f"`docker {words}`, {size} service{'s' * (size > 1)}"
    argv = (setting.tools.docker, *words.split())
    case = Case(key, name, argv, project.home.environment(), project.directory, expect)
    alone = (binary("docker-dso", VARIANT), *argv[2:])
    return Command(label, {size: case}, (lambda _size: alone) if argv[1] == "dso" else None)
