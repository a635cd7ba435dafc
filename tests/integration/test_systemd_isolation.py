"""Plugins under the unit that is installed: each a user of its own, and shut out from the agent."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import pytest

from dso.paths import PLUGIN_USERS
from tests.support.process import ROOT
from tests.support.systemd import PLUGIN_DIR, Machine
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SERVICE = "dso-agent.service"
UNITS = ("dso-agent.socket", "dso-volume.socket", SERVICE)
PROBE = os.path.join(ROOT, "tests", "fixtures", "systemd", "dso-provider-probe")
CONFIG = """version: 1
providers:
  probe: {type: probe, cache_ttl: 0s}
  vault:
    type: vault
    address: https://127.0.0.1:1
    auth: {method: token, token: x}
    tls: {ca_cert: /etc/dso/private.pem}
"""


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as running:
        for unit in UNITS:
            source = os.path.join(ROOT, "installer", "systemd", unit)
            running.copy(source, f"/usr/local/lib/systemd/system/{unit}", 0o644)
        running.install("dso-provider-vault")
        running.copy(PROBE, f"{PLUGIN_DIR}/dso-provider-probe")
        running.write("/etc/dso/agent.env", "TOKEN=canary\n", 0o600)
        running.write("/etc/dso/private.pem", "no certificate\n", 0o600)
        running.write("/etc/dso/dso.yaml", CONFIG)
        running.run("systemctl", "daemon-reload")
        yield running


@pytest.fixture(autouse=True)
def _started(machine: Machine) -> None:
    start(machine, "restart", *UNITS)


def start(machine: Machine, *words: str) -> None:
    """Have systemd start something, however often it did: more than five times in ten seconds is its limit."""
    machine.run("systemctl", "reset-failed")
    machine.run("systemctl", *words)


def status(machine: Machine) -> dict[str, dict[str, object]]:
    """The providers, by name."""
    shown = machine.run("docker", "dso", "status", "--format", "json")
    return {one["name"]: one for one in json.loads(shown.out)["agent"]["providers"]}


def probe(machine: Machine) -> dict[str, str]:
    """What the hostile plugin got at: `what` and `got` or `refused`."""
    shown = machine.run("docker", "dso", "fetch", "--reveal", "dso://probe/x", check=False)
    assert shown.returncode == 0, shown.err
    return dict(word.split("=", 1) for word in shown.out.split() if "=" in word)


def test_a_plugin_gets_at_nothing_of_the_agents_and_of_other_plugins(machine: Machine) -> None:
    wait_until(lambda: status(machine)["vault"]["state"] != "starting", "the other plugin's copies")
    found = probe(machine)
    tries = {what: how for what, how in found.items() if how in ("got", "refused")}
    assert len(tries) > 15
    assert [what for what, how in tries.items() if how == "got"] == []
    uid = machine.run("id", "-u", "dso-plugin").out.strip()
    assert found["Uid"] == ",".join([uid] * 4)
    assert found["NoNewPrivs"] == "1"
    assert {found[name].strip("0") for name in ("CapPrm", "CapEff", "CapInh", "CapAmb")} == {""}


def test_copies_are_in_a_file_system_that_only_the_agent_and_its_plugins_see(machine: Machine) -> None:
    pid = machine.unit(SERVICE, "MainPID")
    wait_until(lambda: status(machine)["vault"]["state"] != "starting", "the plugin")
    listed = machine.shell('grep " /run/dso-credentials/vault\\." "/proc/$1/mountinfo"', pid).out
    assert " - tmpfs dso-credentials " in listed
    inside = machine.shell('stat -c "%a %U %G %n" "/proc/$1"/root/run/dso-credentials/vault.*/*', pid).out
    assert inside.split()[:3] == ["440", "root", "dso-vault"]
    assert machine.shell("ls /run/dso-credentials/vault.*/", check=False).out.strip() == ""
    machine.run("systemctl", "stop", SERVICE)
    assert machine.run("ls", "/run/dso-credentials").out == ""


def test_plugins_end_with_the_agent_although_they_are_other_users(machine: Machine) -> None:
    wait_until(lambda: status(machine)["probe"]["state"] == "running", "the plugin")
    machine.run("systemctl", "kill", "--kill-whom=main", "--signal=KILL", SERVICE)
    wait_until(
        lambda: len(machine.processes(SERVICE)) == 3, "another agent with two plugins, and nothing else", timeout=60
    )
    for user in PLUGIN_USERS:
        found = machine.run("pgrep", "-c", "-u", user, check=False).out.strip()
        assert int(found) <= 1


def test_an_agent_without_the_user_starts_no_plugin_and_the_doctor_mends_that(machine: Machine) -> None:
    machine.run("systemctl", "stop", SERVICE)
    machine.run("userdel", "dso-vault")
    try:
        start(machine, "start", SERVICE)
        wait_until(lambda: status(machine)["vault"]["state"] == "waiting", "the refusal")
        said = machine.journal(SERVICE)
        assert "there is no user dso-vault for it to run as" in said
        assert "docker dso system setup" in said
        shown = machine.run("docker", "dso", "system", "doctor", "--format", "json", check=False)
        (found,) = [one for one in json.loads(shown.out)["findings"] if one["check"] == "users"]
        assert (found["state"], found["fixable"]) == ("error", True)
        machine.run("docker", "dso", "system", "doctor", "--fix", check=False)
        assert machine.run("id", "-u", "dso-vault").out.strip() == str(PLUGIN_USERS["dso-vault"])
        machine.run("docker", "dso", "fetch", "dso://vault/x", check=False)  # looks again at once
        wait_until(lambda: "no user" not in str(status(machine)["vault"]["error"]), "another start")
    finally:
        machine.shell("getent passwd dso-vault >/dev/null || systemd-sysusers dso.conf")


def test_a_unit_without_the_capabilities_starts_no_plugin_and_the_doctor_says_so(machine: Machine) -> None:
    drop_in = f"/etc/systemd/system/{SERVICE}.d/less.conf"
    machine.write(drop_in, "[Service]\nCapabilityBoundingSet=~CAP_SETUID CAP_KILL\n")
    machine.run("systemctl", "daemon-reload")
    try:
        start(machine, "restart", SERVICE)
        wait_until(lambda: status(machine)["probe"]["state"] == "waiting", "the refusal")
        assert "the agent lacks CAP_SETUID, CAP_KILL" in str(status(machine)["probe"]["error"])
        shown = machine.run("docker", "dso", "system", "doctor", "--format", "json", check=False)
        (found,) = [one for one in json.loads(shown.out)["findings"] if one["check"] == "users"]
        assert found["what"] == f"{SERVICE} lacks CAP_SETUID, CAP_KILL"
    finally:
        machine.run("rm", drop_in)
        machine.run("systemctl", "daemon-reload")
