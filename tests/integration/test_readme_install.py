"""README's own words, typed in as they stand there: DSO installed on a machine with systemd, by a user and by root."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from typing import TYPE_CHECKING

import pytest

from dso.version import VERSION
from tests.support.canary import Canary
from tests.support.hashicorp import server_program
from tests.support.process import ROOT
from tests.support.release import PROVIDERS, Key, Release
from tests.support.systemd import BINARIES, PLUGIN_DIR, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images

PUBLISHED, HERE = "https://URL/", "http://127.0.0.1:8080/"
BACKEND = "/run/backend.json"
SECRET = Canary.new()
STACK = """
services:
  web:
    image: dso-test/busybox
    command: sleep 1000
    stop_signal: KILL
    network_mode: none
    environment: {PASSWORD_FILE: "dsofile://vault/shop/db#password"}
"""


def commands(heading: str, prompt: str) -> list[str]:
    """The commands of the first console block below a heading of README.md."""
    with open(f"{ROOT}/README.md", encoding="utf-8") as file:
        text = file.read().partition(f"\n{heading}\n")[2]
    block = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert block, f"README has no commands below {heading!r}"
    return [line.removeprefix(prompt) for line in block[1].splitlines() if line.startswith(prompt)]


@pytest.fixture
def machine(images: Images) -> Iterator[Machine]:
    """A new machine; a release of the everyday binaries is published on it, at HERE."""
    with Machine() as running:
        place = tempfile.mkdtemp(prefix="dso-install-", dir="/var/tmp")
        try:
            release = Release(VERSION, Key.make(place), place)
            release.use(BINARIES, "docker-dso", "dso-agent", *(f"dso-provider-{each}" for each in PROVIDERS))
            release.pack()
            for file in (release.tarball, release.script, f"{place}/latest"):
                running.copy(file, f"/srv/{os.path.basename(file)}", 0o644)
        finally:
            shutil.rmtree(place)
        running.copy(shutil.which("busybox") or "", "/usr/local/sbin/busybox")
        running.run("busybox", "httpd", "-p", "127.0.0.1:8080", "-h", "/srv")
        running.load(images.busybox)
        running.shell("useradd --create-home -G docker ann")
        yield running


def backend(machine: Machine) -> dict[str, str]:
    """A HashiCorp Vault server with a secret; the variables that lead to it."""
    machine.copy(server_program(), "/usr/local/sbin/vault-server")
    serve = f"sleep infinity | /usr/local/sbin/vault-server >{BACKEND}"
    machine.run("systemd-run", "-q", "--unit=backend", "sh", "-c", serve)
    found = json.loads(machine.shell(f"until grep -q root_token {BACKEND}; do sleep 0.1; done; cat {BACKEND}").out)
    body = json.dumps({"data": {"password": SECRET.text}})
    put = ["curl", "-fsS", "-H", f"X-Vault-Token: {found['root_token']}", "-d", "@-"]
    machine.run(*put, f"{found['http']}/v1/secret/data/shop/db", input=body)
    return {"VAULT_ADDR": found["http"], "VAULT_TOKEN": found["root_token"]}


def test_readmes_commands_install_both_modes(machine: Machine) -> None:
    ann = ["env", "HOME=/home/ann", f"DSO_BASE_URL={HERE}", "sh", "-euc"]
    own, system = commands("## Install", "$ "), commands("### Install Cloud Mode", "# ")
    assert PUBLISHED in own[0]
    assert PUBLISHED in system[0]
    for command in own:
        machine.user("ann", *ann, f"cd; {command.replace(PUBLISHED, HERE)}")
    assert machine.shell("ls /home/ann/.docker/cli-plugins").out == "docker-dso\n"
    machine.run("rm", "-r", "/home/ann/.docker")  # from here on it is the machine's that counts

    variables = [f"{name}={value}" for name, value in backend(machine).items()]
    for command in system:
        # nobody is here to answer: the values come as variables, and the consent as --yes (docs/system.md)
        typed = command.replace(PUBLISHED, HERE) + " --yes" * (" setup " in command)
        machine.run("env", f"DSO_BASE_URL={HERE}", *variables, "sh", "-euc", typed)
    assert machine.unit("dso-agent.service", "ActiveState") == "active"
    assert machine.shell("stat -c '%a %U' /etc/dso/agent.env").out == "600 root\n"
    assert machine.shell(f"ls {PLUGIN_DIR}").out.split() == sorted(f"dso-provider-{each}" for each in PROVIDERS)

    machine.write("/home/ann/shop/compose.yaml", STACK)
    up = machine.user("ann", *ann, "cd ~/shop; docker dso up -d")
    assert up.err.startswith("[DSO] Running in CLOUD mode (auto-detected: /etc/dso/dso.yaml)\n")
    found = machine.user("ann", *ann, 'cd ~/shop; docker compose exec -T web sh -c "cat \\$PASSWORD_FILE"')
    assert found.out == SECRET.text
    shown = machine.user("ann", *ann, "cd ~/shop; docker dso status")
    assert "vault" in shown.out
    assert not SECRET.find(up.stdout + up.stderr + shown.stdout + machine.journal().encode())
