"""Pressing TAB in bash, zsh and fish: with Docker's own scripts, and with ours for docker-dso itself."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests.support.process import ROOT

if TYPE_CHECKING:
    from tests.support.home import DsoHome
    from tests.support.tty import Terminal

VALUE = "c4n4ry-shown-by-get-only"
SHELLS = ("bash", "zsh", "fish")
PROMPT = "ready> "
KILL_LINE = "\x15"  # ^U
COMPOSE = """\
services:
  api: {image: x, environment: {A: "dso://shop/db", B: "dso://shop/tls"}}
  worker: {image: y, environment: {A: "dso://shop/db"}}
"""

# What a user has who followed docs/commands.md and installed DSO: Docker's script and ours, where the shell finds them.
_SETUP = {
    "bash": (
        ".bashrc",
        f"PS1='{PROMPT}'\n. /usr/share/bash-completion/bash_completion\nbind 'set show-all-if-ambiguous on'\n",
    ),
    "zsh": (
        ".zshrc",
        f"PROMPT='{PROMPT}'\nfpath=(~/.zsh/completions $fpath)\nautoload -Uz compinit\ncompinit -u\nsetopt nobeep\n",
    ),
    "fish": (
        ".config/fish/config.fish",
        f"set -g fish_greeting\nfunction fish_prompt; echo -n '{PROMPT}'; end\n",
    ),
}
_PLACES = {
    "bash": (".local/share/bash-completion/completions", "docker", "docker-dso"),
    "zsh": (".zsh/completions", "_docker", "_docker-dso"),
    "fish": (".config/fish/completions", "docker.fish", "docker-dso.fish"),
}


@pytest.fixture
def user(home: DsoHome) -> DsoHome:
    """A user with secrets, a project, all three shells, and docker-dso on PATH."""
    home.dso("init")
    home.dso("secret", "set", "shop/db", input=VALUE)
    home.dso("secret", "set", "shop/tls", input=VALUE)
    for name, text in (("compose.yaml", COMPOSE), ("prod.env", f"A={VALUE}\n"), *_SETUP.values()):
        path = os.path.join(home.path, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as file:
            file.write(text)
    scripts = os.path.join(home.path, "scripts")
    subprocess.run([sys.executable, os.path.join(ROOT, "build", "completions.py"), scripts], check=True)
    for shell, (directory, dockers, ours) in _PLACES.items():
        place = os.path.join(home.path, directory)
        os.makedirs(place)
        os.rename(os.path.join(scripts, shell, ours), os.path.join(place, ours))
        with open(os.path.join(place, dockers), "wb") as file:
            file.write(home.command("docker", "completion", shell).stdout)
    home.env["PATH"] = f"{os.path.dirname(home.plugin)}:{os.environ['PATH']}"
    return home


def opened(user: DsoHome, shell: str) -> Terminal:
    terminal = user.terminal(shell, "-i")
    terminal.expect(PROMPT)
    return terminal


@pytest.mark.parametrize("command", ["docker dso", "docker-dso"])
@pytest.mark.parametrize("shell", SHELLS)
def test_tab_completes(user: DsoHome, shell: str, command: str) -> None:
    with opened(user, shell) as terminal:
        # a command, a name after a scheme that has the colon bash splits words at, and it runs
        terminal.line(f"{command} secr\tget dso://shop/d\t")
        terminal.expect(VALUE)
        terminal.expect(PROMPT)
        # a flag; and its value, which bash and zsh treat as words of their own
        terminal.line(f"{command} secret list --form\tj\t")
        terminal.expect('"name": "shop/db"')
        terminal.expect(PROMPT)
        terminal.line(f"{command} secret list --format=j\t")
        terminal.expect('"name": "shop/db"')
        terminal.expect(PROMPT)
        # a file
        terminal.line(f"{command} env import prod\t new --dry-run")
        terminal.expect("new/A")
        terminal.expect(PROMPT)
        # a service, from Compose
        terminal.line(f"{command} validate --mode=local w\t")
        terminal.expect("1 reference in 1 service is valid")
        terminal.expect(PROMPT)
        # a namespace, without a blank behind it
        terminal.line(f"{command} secret mv shop/t\tsh\tmoved")
        terminal.expect("shop/moved")
        terminal.expect(PROMPT)
    assert user.dso("secret", "list", "-q").out.split() == ["shop/db", "shop/moved"]


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_shows_names_and_never_values(user: DsoHome, shell: str) -> None:
    with opened(user, shell) as terminal:
        terminal.press("docker dso secret history shop/\t")
        terminal.expect("tls")  # one of the names: neither is on the line yet
        terminal.line("db")
        terminal.expect("current")
    assert VALUE.encode() not in terminal.shown


@pytest.mark.parametrize("shell", SHELLS)
def test_tab_without_a_vault_prints_no_error(user: DsoHome, shell: str) -> None:
    os.unlink(user.vault_file)
    with opened(user, shell) as terminal:
        terminal.press("docker dso secret get shop/\t" + KILL_LINE)
        terminal.line("echo e''nd")
        terminal.expect("end")
    assert b"rror" not in terminal.shown
    assert b"vault" not in terminal.shown


def test_bash_without_its_completion_package_completes_docker_dso(user: DsoHome) -> None:
    with open(os.path.join(user.path, ".bashrc"), "w") as file:
        file.write(f"PS1='{PROMPT}'\n. ~/{_PLACES['bash'][0]}/docker-dso\n")
    with opened(user, "bash") as terminal:
        terminal.line("docker-dso secr\tget dso://shop/d\t")
        terminal.expect(VALUE)
        terminal.expect(PROMPT)
        terminal.line("docker-dso secret list --format=j\t")
        terminal.expect('"name": "shop/db"')
