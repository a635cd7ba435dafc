"""README's own words, typed in as they stand there: Cloud Mode installed by hand on a machine with systemd."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from tests.support.canary import Canary
from tests.support.process import ROOT
from tests.support.systemd import BINARIES, PLUGIN_DIR, Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images

FIXTURES = "tests/fixtures/systemd"
UNITS = ("dso-agent.service", "dso-agent.socket", "dso-volumes.socket")
PLUGINS = ("dso-provider-aws", "dso-provider-azure", "dso-provider-huawei", "dso-provider-vault")
PROGRAMS = ("docker-dso", "dso-agent", *PLUGINS)
SECRET = Canary.new()
CONFIG = 'version: 1\nproviders: {here: {type: static, file: "${SECRETS_FILE}"}}\n'
STACK = """
services:
  web:
    image: dso-test/busybox
    command: sleep 1000
    stop_signal: KILL
    network_mode: none
    environment: {PASSWORD_FILE: "dsofile://here/shop/db"}
"""


def commands(heading: str, prompt: str) -> list[str]:
    """The commands of the first console block below a heading of README.md."""
    with open(f"{ROOT}/README.md", encoding="utf-8") as file:
        text = file.read().partition(f"\n{heading}\n")[2]
    block = re.search(r"```console\n(.*?)```", text, re.DOTALL)
    assert block, f"README has no commands below {heading!r}"
    # indented further than a command is a remark
    return [line.removeprefix(prompt) for line in block[1].splitlines() if re.match(re.escape(prompt) + r"\S", line)]


@pytest.fixture
def machine(images: Images) -> Iterator[Machine]:
    """A new machine with a checkout in /src, binaries built (which takes Python, so not here)."""
    with Machine() as running:
        for name in PROGRAMS:
            running.copy(os.path.join(BINARIES, name), f"/src/dist/bin/{name}")
        for unit in UNITS:
            running.copy(f"{ROOT}/{FIXTURES}/{unit}", f"/src/{FIXTURES}/{unit}", 0o644)
        running.load(images.busybox)
        yield running


def test_readmes_commands_install_cloud_mode(machine: Machine) -> None:
    machine.run("useradd", "--create-home", "-G", "docker", "ann")
    for command in commands("### Install Cloud Mode", "# "):
        if command.startswith("dso-agent --check"):  # here the reader has written these, for a provider of his own
            machine.copy(f"{ROOT}/{FIXTURES}/dso-provider-static", f"{PLUGIN_DIR}/dso-provider-static")
            machine.write("/etc/dso/static.secrets", f"shop/db {SECRET.text}\n", 0o600)
            machine.write("/etc/dso/dso.yaml", CONFIG)
            machine.shell("echo SECRETS_FILE=/etc/dso/static.secrets >>/etc/dso/agent.env")
        machine.shell(f"cd /src; {command}")
    assert machine.unit("dso-agent.service", "ActiveState") == "active"
    assert machine.shell("stat -c %a /etc/dso/agent.env").out.strip() == "600"
    assert machine.shell(f"ls {PLUGIN_DIR}").out.split() == [*PLUGINS[:3], "dso-provider-static", PLUGINS[3]]
    machine.run("usermod", "-aG", "dso", "ann")

    as_ann = ["env", "HOME=/home/ann", "sh", "-euc"]
    for command in commands("## Install", "$ "):
        if not command.startswith("make"):
            machine.user("ann", *as_ann, f"cd /src; {command}")
    machine.write("/home/ann/shop/compose.yaml", STACK)
    up = machine.user("ann", *as_ann, "cd /home/ann/shop; docker dso up -d")
    assert up.err.startswith("[DSO] Running in CLOUD mode (auto-detected: /etc/dso/dso.yaml)\n")
    found = machine.user("ann", *as_ann, 'cd /home/ann/shop; docker compose exec -T web sh -c "cat \\$PASSWORD_FILE"')
    assert found.out == SECRET.text
    shown = machine.user("ann", *as_ann, "cd /home/ann/shop; docker dso status")
    assert "here" in shown.out
    assert not SECRET.find(up.stdout + up.stderr + shown.stdout + machine.journal().encode())
