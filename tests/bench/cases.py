"""The commands that are measured, and the vaults and stacks they need."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.measure import Case
from tests.support.home import FROZEN, DsoHome
from tests.support.process import run

if TYPE_CHECKING:
    from tests.support.project import Project

NAMESPACE = "bench"
METADATA = "docker-cli-plugin-metadata"

SERVICES = 20
WHOLE = 20  # references that are a variable's whole value
BRACES = 15  # references in braces
FILES = 15  # references to files


class Tools(NamedTuple):
    """What is measured beside DSO: paths of `docker`, the Compose plugin and a Python without a virtual environment."""

    docker: str
    compose: str
    python: str


def find_tools() -> Tools:
    """Where Docker, Compose and Python are on this machine."""
    docker = shutil.which("docker")
    if not docker:
        raise FileNotFoundError("there is no docker in PATH: run `make bench`")
    plugins = json.loads(run([docker, "info", "--format", "{{json .ClientInfo.Plugins}}"]).stdout)
    (compose,) = (plugin["Path"] for plugin in plugins if plugin["Name"] == "compose")
    return Tools(docker, compose, sys._base_executable)  # type: ignore[attr-defined]


def secret_value(number: int) -> str:
    """40 characters that need no quoting anywhere."""
    return f"{number:08d}-as-long-as-most-tokens-are-today"


def home_with_secrets(path: str, count: int, plugin: str = FROZEN) -> DsoHome:
    """A user whose vault, opened with the key file, has so many secrets: bench/SECRET_00001 and so on."""
    home = DsoHome(path)
    if plugin != FROZEN:
        os.unlink(home.plugin)
        os.symlink(plugin, home.plugin)
    lines = (f"SECRET_{number:05d}={secret_value(number)}\n" for number in range(1, count + 1))
    file = os.path.join(path, "secrets.env")
    with open(file, "x") as target:
        target.writelines(lines)
    home.dso("init")
    home.dso("env", "import", file, NAMESPACE)
    os.unlink(file)
    return home


class Lookup(NamedTuple):
    """Reading the secret in the middle of a vault."""

    home: DsoHome
    size: int

    def words(self) -> tuple[str, ...]:
        return ("secret", "get", f"{NAMESPACE}/SECRET_{self.size // 2:05d}")

    def case(self, key: str, label: str, *program: str, build: str = "") -> Case:
        """The case of `program secret get ...`."""
        env = self.home.environment()
        expect = secret_value(self.size // 2).encode()
        name = f"`{label} secret get` ({self.size:,} secrets{build})"
        return Case(key, name, (*program, *self.words()), env, self.home.path, expect)


def startup_cases(scratch: str, tools: Tools, default_build: str | None) -> list[Case]:
    """Start-up and reading a secret; `default_build` is a docker-dso built without any tuning."""
    small, usual, large = (
        Lookup(home_with_secrets(os.path.join(scratch, f"home-{count}"), count), count) for count in (10, 100, 10_000)
    )
    home = usual.home
    env = home.environment()

    def other(key: str, label: str, *argv: str, expect: bytes = b"") -> Case:
        return Case(key, f"`{label}`", argv, env, home.path, expect)

    cases = [
        other("metadata", f"docker-dso {METADATA}", FROZEN, METADATA, expect=b"SchemaVersion"),
        other("compose-metadata", f"docker-compose {METADATA}", tools.compose, METADATA, expect=b"SchemaVersion"),
        other("docker-version", "docker --version", tools.docker, "--version", expect=b"Docker version"),
        other("python", "python3 -S -c pass", tools.python, "-S", "-c", "pass"),  # what -S skips differs by machine
        usual.case("get-100", "docker-dso", FROZEN),
        usual.case("docker-get-100", "docker dso", tools.docker, "dso"),
        other("docker-compose-version", "docker compose version", tools.docker, "compose", "version", expect=b"v"),
        small.case("get-10", "docker-dso", FROZEN),
        large.case("get-10000", "docker-dso", FROZEN),
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


def stack(image: str, *, with_references: bool) -> dict[str, Any]:
    """A Compose model with 20 services and 50 secrets, as references or as its user would write it without DSO."""
    numbers = iter(range(1, WHOLE + BRACES + FILES + 1))
    names = [f"service{index:02d}" for index in range(SERVICES)]
    services: dict[str, Any] = {
        name: {"image": image, "command": "sleep 2147483647", "stop_signal": "SIGKILL", "environment": {"PORT": "80"}}
        for name in names
    }
    model: dict[str, Any] = {"services": services}

    def text(number: int, *, whole: bool = False) -> str:
        reference = f"dso://{NAMESPACE}/SECRET_{number:05d}"
        if not with_references:
            return secret_value(number)
        return reference if whole else "{{" + reference + "}}"

    for index in range(WHOLE):
        services[names[index % SERVICES]]["environment"]["API_KEY"] = text(next(numbers), whole=True)
    for index in range(BRACES // 3):  # five services with three references each
        first, second, third = (text(next(numbers)) for _ in range(3))
        environment = services[names[index]]["environment"]
        environment["DATABASE_URL"] = f"postgres://{first}:{second}@database:5432/shop"
        environment["CACHE_URL"] = f"redis://:{third}@cache:6379/0"
    for index in range(FILES):
        number = next(numbers)
        service = services[names[SERVICES - 1 - index]]
        if with_references:
            service["environment"]["PASSWORD_FILE"] = f"dsofile://{NAMESPACE}/SECRET_{number:05d}"
        else:
            name = f"secret_{number:05d}"
            service["environment"]["PASSWORD_FILE"] = f"/run/secrets/{name}"
            service["secrets"] = [name]
            model.setdefault("secrets", {})[name] = {"file": f"./{name}.txt"}
    return model


def stack_cases(tools: Tools, plain: Project, referring: Project, image: str) -> list[Case]:
    """Two running stacks that do the same, the one with literal values, the other with references.

    Afterwards nothing is left to change for `up`.
    """
    for number in range(1, WHOLE + BRACES + FILES + 1):
        plain.write(f"secret_{number:05d}.txt", secret_value(number))
    plain.compose_yaml(json.dumps(stack(image, with_references=False), indent=2))
    referring.compose_yaml(json.dumps(stack(image, with_references=True), indent=2))
    plain.compose("up", "-d")
    referring.dso("up", "-d")
    env = referring.home.environment()

    def case(key: str, label: str, project: Project) -> Case:
        return Case(key, f"`{label}`", (tools.docker, *label.split()[1:]), env, project.directory)

    return [
        case("dso-up", "docker dso up -d", referring),
        case("compose-up", "docker compose up -d", plain),
        case("compose-config", "docker compose config", referring),
    ]
