"""The vaults and stacks that several parts measure with, and where the programs beside DSO are."""

from __future__ import annotations

import json
import os
import shutil
import sys
from typing import Any, NamedTuple

from tests.bench.measure import Case
from tests.support.home import DsoHome
from tests.support.process import run

VARIANT = "release"  # of the binaries that are measured: what users install
NAMESPACE = "bench"

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


def home_with_secrets(path: str, count: int, plugin: str | None = None) -> DsoHome:
    """A user whose vault, opened with the key file, has so many secrets: bench/SECRET_00001 and so on.

    `plugin` is the path of another docker-dso than the one that users install.
    """
    home = DsoHome(path, VARIANT)
    if plugin is not None:
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


def stack(image: str, *, with_references: bool, with_variables: bool = False) -> dict[str, Any]:
    """A Compose model with 20 services and 50 secrets, as references or as its user would write it without DSO.

    Without DSO the values stand in it and in files beside it, or they come from variables SECRET_00001 and so on.
    """
    numbers = iter(range(1, WHOLE + BRACES + FILES + 1))
    names = [f"service{index:02d}" for index in range(SERVICES)]
    services: dict[str, Any] = {
        name: {"image": image, "command": "sleep 2147483647", "stop_signal": "SIGKILL", "environment": {"PORT": "80"}}
        for name in names
    }
    model: dict[str, Any] = {"services": services}

    def text(number: int, *, whole: bool = False) -> str:
        reference = f"dso://{NAMESPACE}/SECRET_{number:05d}"
        if with_variables:
            return f"${{SECRET_{number:05d}}}"
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
            source = {"environment": name.upper()} if with_variables else {"file": f"./{name}.txt"}
            model.setdefault("secrets", {})[name] = source
    return model
