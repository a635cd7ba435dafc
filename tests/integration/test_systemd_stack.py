"""A stack of an ordinary user's on a machine with systemd: up, reboots, logs, and no value anywhere."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from dso.paths import PLUGIN_USER
from tests.support.canary import Canary
from tests.support.process import ROOT
from tests.support.systemd import PLUGIN_DIR, Machine
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images
    from tests.support.process import Result

FIXTURES = os.path.join(ROOT, "tests", "fixtures", "systemd")
UNITS = ("dso-agent.service", "dso-agent.socket", "dso-volumes.socket")
HOME = "/home/ann"

IN_FILE, IN_VARIABLE = Canary.new(), Canary.new()

CONFIG = """version: 1
providers:
  static: {type: static, file: /etc/dso/static.secrets}
secrets:
  - {name: shop/db, provider: static, path: shop/db}
"""
STACK = """
services:
  web:
    image: dso-test/busybox
    command:
      - sh
      - -c
      - sha256sum <$$PASSWORD_FILE >/seen/first; mv /seen/first /seen/at-start; echo started; exec sleep 2147483647
    tmpfs: /seen
    stop_signal: KILL
    restart: always
    environment:
      PASSWORD_FILE: dsofile://shop/db
      API_KEY: dso://static/shop/api
"""


@pytest.fixture(scope="module")
def machine(images: Images) -> Iterator[Machine]:
    with Machine() as running:
        running.install()
        running.copy(os.path.join(FIXTURES, "dso-provider-static"), f"{PLUGIN_DIR}/dso-provider-static")
        for unit in UNITS:
            running.copy(os.path.join(FIXTURES, unit), f"/etc/systemd/system/{unit}", 0o644)
        secrets = f"shop/db {IN_FILE.text}\nshop/api {IN_VARIABLE.text}\n"
        running.write("/etc/dso/static.secrets", secrets, 0o600)
        running.give("/etc/dso/static.secrets", PLUGIN_USER)
        running.write("/etc/dso/dso.yaml", CONFIG)
        running.load(images.busybox)
        running.run("useradd", "--create-home", "-G", "dso,docker,systemd-journal", "ann")
        running.run("systemctl", "enable", "--now", *UNITS)
        running.write(f"{HOME}/shop/compose.yaml", STACK)
        running.run("chown", "-R", "ann:ann", HOME)
        yield running


def dso(machine: Machine, *args: str, check: bool = True) -> Result:
    """`docker dso ARGS` as a user in the groups `dso` and `docker`, in the project's directory."""
    there = ["env", f"HOME={HOME}", "sh", "-euc", f'cd {HOME}/shop; exec docker dso "$@"', "sh"]
    return machine.user("ann", *there, *args, check=check)


def containers(machine: Machine) -> list[str]:
    """The stack's containers that run."""
    return machine.run("docker", "ps", "-q", "--filter", "label=com.docker.compose.project=shop").out.split()


def seen(machine: Machine) -> tuple[str, str, str]:
    """The file now, the digest of what it was when the container started, the variable."""
    (web,) = containers(machine)
    script = "until [ -e /seen/at-start ]; do sleep 0.1; done; "
    script += 'cat "$PASSWORD_FILE"; echo; cut -d" " -f1 /seen/at-start; echo "$API_KEY"'
    now, then, variable = machine.run("docker", "exec", web, "sh", "-c", script).out.splitlines()
    return now, then, variable


def test_a_stack_comes_up_and_survives_reboots_and_shows_nothing(machine: Machine) -> None:
    up = dso(machine, "up", "-d")
    assert "CLOUD" in up.err
    expected = (IN_FILE.text, sha256(IN_FILE.value).hexdigest(), IN_VARIABLE.text)
    assert seen(machine) == expected
    before = containers(machine)
    for _ in range(2):
        machine.reboot()
        wait_until(lambda: containers(machine), "the stack's return", timeout=120, interval=0.5)
        assert seen(machine) == expected
    assert containers(machine) == before  # the same container, not another one
    again = dso(machine, "up", "-d")
    assert containers(machine) == before, again.err

    shown = {
        "the journal": machine.journal().encode(),
        "up": up.stdout + up.stderr + again.stdout + again.stderr,
        "status": dso(machine, "status").stdout,
        "the volumes": machine.shell("docker volume inspect $(docker volume ls -q)").stdout,
        "the agent's state": machine.shell("cat /var/lib/dso/*").stdout,
    }
    found = [name for name, text in shown.items() for each in (IN_FILE, IN_VARIABLE) if each.find(text)]
    assert not found, f"a value is in {found}"
    on_disk = machine.shell(f"grep -rlF {IN_FILE.text} /etc /var /home /root /usr/local 2>/dev/null", check=False).out
    assert on_disk == "/etc/dso/static.secrets\n"


def test_logs_are_the_journals(machine: Machine) -> None:
    dso(machine, "up", "-d")
    whole = dso(machine, "logs", "-n", "500")
    assert "listening on /run/dso.sock" in whole.out
    assert len(dso(machine, "logs", "-n", "3").out.splitlines()) == 3
    assert not IN_FILE.find(whole.stdout)
    machine.run("systemctl", "stop", "dso-agent.service")  # the journal has them still
    assert "listening on /run/dso.sock" in dso(machine, "logs", "-n", "500").out


def test_down_leaves_nothing(machine: Machine) -> None:
    dso(machine, "up", "-d")
    dso(machine, "down")
    assert not containers(machine)
    assert machine.shell("docker volume ls -q").out == ""
    assert machine.shell("ls /run/dso/volumes", check=False).out == ""
    kept = machine.shell("cat /var/lib/dso/volumes.json", check=False).out
    assert not json.loads(kept or "{}").get("volumes")
