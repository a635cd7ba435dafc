"""What Compose starts is what DSO looked at: the same files, with the same variables put into them."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import Canary

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.home import DsoHome
    from tests.support.project import Project

VOLUME_CONFLICT = 37  # docs/exit-codes.md

# What a plugin of Docker's gets besides the user's own environment, and what DSO sets to read a file.
VARIABLES = (
    "COMPOSE_EXPERIMENTAL_GIT_REMOTE",
    "COMPOSE_EXPERIMENTAL_OCI_REMOTE",
    "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND",
    "DOCKER_CLI_PLUGIN_SOCKET",
    "OTEL_RESOURCE_ATTRIBUTES",
)


@pytest.fixture
def bank(home: DsoHome, project: Project) -> Project:
    """A project of the user's that runs, with a secret in a file and another in a variable."""
    home.run("init")
    for name in ("file", "variable"):
        home.run("secret", "set", f"bank/{name}", "--from-file", "-", input=Canary.new().value)
    environment = "{F: 'dsofile://bank/file', V: 'dso://bank/variable'}"
    project.compose_yaml(
        f"services: {{web: {{image: dso-test/busybox, command: sleep 1000, init: true, environment: {environment}}}}}\n"
    )
    project.dso("up", "-d")
    return project


@pytest.fixture
def clone(home: DsoHome, make_project: Callable[[], Project]) -> Project:
    """A stranger's project, which was granted nothing."""
    home.env.pop("DSO_ALLOW", None)
    return make_project()


@pytest.fixture
def compose(home: DsoHome) -> str:
    """Where each run of Compose leaves its environment, by the word that it is run for."""
    listed = json.loads(home.command("docker", "info", "--format", "{{json .ClientInfo.Plugins}}").stdout)
    (real,) = [plugin["Path"] for plugin in listed if plugin["Name"] == "compose"]
    place = os.path.join(home.path, "environment")
    os.mkdir(place)
    plugin = os.path.join(os.path.dirname(home.plugin), "docker-compose")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(plugin)
    with open(plugin, "x", encoding="utf-8") as stream:
        stream.write(
            "#!/bin/sh\n"
            f"cd {shlex.quote(place)}\n"
            'for word; do case $word in config | up) env | sort | grep -v "^_=" >"$word" ;; esac; done\n'
            'cd "$OLDPWD"\n'
            f'exec {shlex.quote(real)} "$@"\n'
        )
    os.chmod(plugin, 0o755)
    return place


@pytest.mark.parametrize("standalone", [False, True])
def test_compose_reads_and_starts_a_stack_in_one_and_the_same_environment(
    standalone: bool, compose: str, bank: Project
) -> None:
    for name in os.listdir(compose):
        os.unlink(f"{compose}/{name}")
    bank.home.command(*([bank.home.plugin] if standalone else ["docker", "dso"]), "up", "-d", cwd=bank.directory)
    seen = {}
    for word in ("config", "up"):
        with open(f"{compose}/{word}", encoding="utf-8") as stream:
            seen[word] = stream.read().splitlines()
    random = "DOCKER_CLI_PLUGIN_SOCKET=" if standalone else "never"  # its name is Docker's, and another each time
    for lines in seen.values():
        lines[:] = [random if line.startswith(random) else line for line in lines]
    assert seen["config"] == seen["up"]


@pytest.mark.parametrize("variable", VARIABLES)
def test_no_variable_makes_a_file_another_one_when_it_is_started(variable: str, bank: Project, clone: Project) -> None:
    volume = f"{bank.name}_dso_web"

    def users() -> set[str]:
        return set(bank.engine.docker("ps", "-aq", "--filter", f"volume={volume}").out.split())

    before = users()
    for name in (f"${{{variable}:-{volume}}}", f"{bank.name}_d${{{variable}:+so}}_web"):
        clone.compose_yaml(
            "services: {spy: {image: dso-test/busybox, command: sleep 1000, volumes: ['data:/s']}}\n"
            f'volumes: {{data: {{external: true, name: "{name}"}}}}\n'
        )
        assert clone.dso("up", "-d", check=False).returncode != 0
        assert users() == before


@pytest.mark.parametrize("joining", ["volumes_from: ['container:%s']", "pid: 'container:%s'"])
@pytest.mark.parametrize("takes_its_name", [False, True])
def test_a_stranger_cannot_join_a_container_with_secrets(
    joining: str, takes_its_name: bool, bank: Project, clone: Project
) -> None:
    (web,) = bank.containers()
    service = f"image: dso-test/busybox, command: sleep 1000, {joining % web}"
    name = f"name: {bank.name}\n" if takes_its_name else ""
    clone.compose_yaml(f"{name}services: {{spy: {{{service}}}}}\n")
    refused = clone.dso("up", "-d", check=False)
    assert (refused.returncode, "gave secrets to" in refused.err) == (VOLUME_CONFLICT, True)
    assert (clone.containers(), bank.containers()) == ([], [web])
