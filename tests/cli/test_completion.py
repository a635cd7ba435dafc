"""Docker hands the shell's question on to docker-dso, and prints what that answers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.cli.commands import COMMANDS

if TYPE_CHECKING:
    from tests.support.home import DsoHome

COMPOSE = "services:\n  api: {image: x}\n  worker: {image: y}\n"


@pytest.fixture
def user(home: DsoHome) -> DsoHome:
    """A user with a secret and a project."""
    home.dso("init")
    home.dso("secret", "set", "shop/db", input="value")
    with open(os.path.join(home.path, "compose.yaml"), "w") as file:
        file.write(COMPOSE)
    return home


def ask(home: DsoHome, *words: str) -> list[str]:
    """What Docker prints for the shell."""
    return home.command("docker", "__complete", "dso", *words).out.splitlines()


def test_docker_hands_the_question_on(user: DsoHome) -> None:
    answer = ask(user, "")
    assert [line.partition("\t")[0] for line in answer] == [*COMMANDS, ":4"]
    assert ask(user, "secret", "get", "shop/d") == ["shop/db", ":4"]
    assert ask(user, "--mode", "local", "secret", "list", "--format", "j") == ["json", ":4"]
    assert user.command("docker", "__complete", "ds").out.startswith("dso\t")


def test_services_and_flags_of_the_project_are_composes(user: DsoHome) -> None:
    assert ask(user, "up", "") == ["api", "worker", ":4"]
    assert ask(user, "up", "-d", "--mode=local", "w") == ["worker", ":4"]
    assert ask(user, "compose", "logs", "a") == ["api", ":4"]
    flags = [line.partition("\t")[0] for line in ask(user, "up", "-")]
    assert {"--dry-run", "--mode", "--detach", "--file"} <= set(flags)
    assert len(flags) == len(set(flags))


def test_broken_project_prints_nothing(user: DsoHome) -> None:
    with open(os.path.join(user.path, "compose.yaml"), "w") as file:
        file.write("services: [")
    done = user.dso("__complete", "dso", "up", "")
    assert (done.returncode, done.stdout.splitlines()[-1:], done.stderr) == (0, [b":4"], b"")
