"""`docker dso system` on a machine with systemd, an Engine and no Python."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dso.version import VERSION
from tests.support.hashicorp import server_program
from tests.support.process import environment
from tests.support.release import Key, Release
from tests.support.systemd import BINARIES, CLI_PLUGINS, PLUGIN_DIR, Machine
from tests.support.tty import Terminal
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images
    from tests.support.process import Result

UNITS = ("dso-agent.service", "dso-agent.socket", "dso-volume.socket")
PLUGIN = f"{CLI_PLUGINS}/docker-dso"
BACKEND = "/run/backend.json"
UNHEALTHY, UNFINISHED, FAILED, ROOT_NEEDED = 60, 61, 62, 63

STACK = """
services:
  web:
    image: dso-test/busybox
    command: ["sh", "-c", "exec sleep 2147483647"]
    stop_signal: KILL
    environment:
      PASSWORD_FILE: dsofile://vault/shop/db#password
      USER_NAME: dso://vault/shop/db#user
"""


class Backend(NamedTuple):
    """A HashiCorp Vault server on the machine."""

    address: str
    token: str

    @property
    def variables(self) -> dict[str, str]:
        return {"VAULT_ADDR": self.address, "VAULT_TOKEN": self.token}


@pytest.fixture(scope="module")
def release() -> Iterator[Release]:
    """The binaries in a release; the plugins but Vault's are stand-ins, which do not work."""
    directory = tempfile.mkdtemp()
    made = Release(VERSION, Key.make(directory), directory)
    made.use(BINARIES, "docker-dso", "dso-agent", "dso-provider-vault")
    yield made.pack()
    shutil.rmtree(directory)


@pytest.fixture(scope="module")
def bare(images: Images, release: Release) -> Iterator[Machine]:
    with Machine() as machine:
        for path in (release.tarball, release.script):
            machine.copy(path, f"/root/{os.path.basename(path)}")
        machine.load(images.busybox)
        machine.shell("useradd -m -G docker ann; useradd -m -G docker bob")
        machine.copy(server_program(), "/usr/local/sbin/vault-server")
        serve = f"sleep infinity | /usr/local/sbin/vault-server >{BACKEND}"
        machine.run("systemd-run", "-q", "--unit=backend", "sh", "-c", serve)
        yield machine


@pytest.fixture(scope="module")
def backend(bare: Machine) -> Backend:
    said = bare.shell(f"until grep -q root_token {BACKEND}; do sleep 0.1; done; cat {BACKEND}").out
    found = json.loads(said)
    backend = Backend(found["http"], found["root_token"])
    secret = json.dumps({"data": {"user": "shop", "password": "hunter2-of-the-shop"}})
    put = f"curl -fsS -H 'X-Vault-Token: {backend.token}' -d '{secret}' {backend.address}/v1/secret/data/shop/db"
    bare.shell(put)
    return backend


@pytest.fixture(scope="module")
def installed(bare: Machine, release: Release) -> str:
    """Installed: what is where then."""
    install(bare, release)
    return programs(bare)


@pytest.fixture
def machine(bare: Machine, release: Release, installed: str) -> Machine:
    """Installed, and not set up."""
    undo = """
        systemctl disable -q --now "$@" 2>/dev/null || :
        rm -rf /etc/dso /var/lib/dso /run/dso /etc/systemd/system/dso-* /root/.docker/cli-plugins
        groupdel dso 2>/dev/null || :
        for user in dso-vault dso-aws dso-azure dso-huawei dso-plugin; do userdel "$user" 2>/dev/null || :; done
        systemctl daemon-reload
        systemctl reset-failed
    """
    bare.shell(undo, *UNITS)
    if programs(bare) != installed:
        install(bare, release)
    return bare


@pytest.fixture
def ready(request: pytest.FixtureRequest, bare: Machine, installed: str) -> Machine:
    """Set up, by an earlier test or now."""
    shown = bare.run("docker", "dso", "system", "doctor", "--format", "json", check=False)
    found = json.loads(shown.out)["findings"] if shown.out.startswith("{") else []
    is_set_up = any(one["check"] == "providers" for one in found)
    if not is_set_up or faults(found) or programs(bare) != installed:
        backend = request.getfixturevalue("backend")
        machine = request.getfixturevalue("machine")
        system(machine, "setup", "--provider", "vault", "--yes", variables=backend.variables)
    return bare


def install(machine: Machine, release: Release) -> None:
    """Run the installer."""
    machine.run("sh", "/root/install.sh", "--offline", tarball(release), "--providers", "vault")


def programs(machine: Machine) -> str:
    """What the installer has put where, and who may do what with it."""
    script = """
        find /usr/local ! -name vault-server -printf '%p %M %u\n' | sort
        find /usr/local -type f ! -name vault-server -exec cksum {} + | sort -k 3
    """
    return machine.shell(script).out


def tarball(release: Release) -> str:
    return f"/root/{os.path.basename(release.tarball)}"


def system(
    machine: Machine, *words: str, check: bool = True, user: str = "ann", variables: dict[str, str] | None = None
) -> Result:
    """`sudo docker dso system WORDS`, called by a user."""
    given = [f"{name}={value}" for name, value in (variables or {}).items()]
    return machine.run("env", f"SUDO_USER={user}", *given, "docker", "dso", "system", *words, check=check)


def as_ann(machine: Machine, *words: str, check: bool = True) -> Result:
    """`docker dso WORDS` as an ordinary user, in the project's directory."""
    there = ["env", "HOME=/home/ann", "sh", "-euc", 'mkdir -p ~/shop; cd ~/shop; exec docker dso "$@"', "sh"]
    return machine.user("ann", *there, *words, check=check)


def state(machine: Machine) -> str:
    """All that setup could change: files of /etc, of the installation and of the agent, groups, units."""
    script = """
        cd /
        set -- etc usr/local var/lib/dso run/dso run/dso.sock
        find "$@" -type f ! -name '*-' ! -name vault-server -exec cksum {} + | sort -k 3
        find "$@" ! -name '*-' ! -path etc -printf '%p %M %u %g %l\\n' | sort
        cat etc/group
        systemctl is-enabled dso-agent.service dso-agent.socket dso-volume.socket
        systemctl is-active dso-agent.service dso-agent.socket dso-volume.socket
    """
    return machine.run("sh", "-c", script, check=False).out


def findings(machine: Machine, *words: str, code: int | None = None) -> list[dict[str, Any]]:
    """What `doctor` finds."""
    done = system(machine, "doctor", "--format", "json", *words, check=False)
    report = json.loads(done.out)
    if code is not None:
        assert done.returncode == code, report
    assert report["healthy"] == (done.returncode == 0)
    return list(report["findings"])


def faults(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in found if one["state"] in ("warning", "error")]


# A machine that is set up


def test_from_installed_programs_to_a_stack_in_cloud_mode(machine: Machine, backend: Backend) -> None:
    done = system(machine, "setup", "--provider", "vault", "--yes", variables=backend.variables)
    assert "Provider vault (vault): works" in done.out
    assert "ann is in the group dso from the next login on" in done.err
    assert backend.token not in done.out + done.err
    shown = machine.shell("stat -c '%a %U %G' /etc/dso /etc/dso/dso.yaml /etc/dso/agent.env /run/dso.sock").out
    assert shown.splitlines() == ["755 root root", "644 root root", "600 root root", "660 root dso"]
    assert [machine.unit(unit, "ActiveState") for unit in UNITS] == ["active"] * 3
    assert [machine.unit(unit, "UnitFileState") for unit in UNITS] == ["enabled"] * 3
    assert not faults(findings(machine, code=0))

    machine.write("/home/ann/shop/compose.yaml", STACK)
    machine.shell("chown -R ann:ann /home/ann")
    up = as_ann(machine, "up", "-d")
    assert "CLOUD" in up.err
    seen = as_ann(machine, "compose", "exec", "-T", "web", "sh", "-c", 'cat "$PASSWORD_FILE"; echo " $USER_NAME"')
    assert seen.out == "hunter2-of-the-shop shop\n"
    as_ann(machine, "down")


def test_setup_again_changes_nothing(ready: Machine) -> None:
    machine = ready
    machine.shell("echo '# mine' >>/etc/dso/dso.yaml")
    before, pid = state(machine), machine.unit("dso-agent.service", "MainPID")
    again = system(machine, "setup", "--provider", "vault", "--provider", "aws")
    assert "Everything is set up already." in again.out
    assert "exists and is kept as it is: add aws to it yourself" in again.err
    assert state(machine) == before
    assert machine.unit("dso-agent.service", "MainPID") == pid


def test_users_are_told_of_the_group(ready: Machine) -> None:
    machine = ready

    def group(*become: str) -> dict[str, str]:
        done = machine.run(
            "setpriv", *become, "env", "HOME=/tmp", "docker", "dso", "system", "doctor", "--format=json", check=False
        )
        (found,) = [one for one in json.loads(done.out)["findings"] if one["check"] == "group"]
        return dict(found)

    docker_only = machine.run("id", "-g", "bob").out.strip()
    docker_group = machine.shell("getent group docker | cut -d: -f3").out.strip()
    assert group("--reuid=ann", "--regid=ann", "--init-groups")["state"] == "ok"
    older = group("--reuid=ann", "--regid=ann", f"--groups={docker_group}")
    assert (older["state"], "newgrp dso" in older["remedy"]) == ("error", True)
    other = group("--reuid=bob", f"--regid={docker_only}", "--init-groups")
    assert (other["state"], "usermod -aG dso bob" in other["remedy"]) == ("warning", True)


def test_disable_and_enable_stop_and_start_it_for_good(ready: Machine) -> None:
    machine = ready
    system(machine, "disable")
    assert [machine.unit(unit, "ActiveState") for unit in UNITS] == ["inactive"] * 3
    assert [machine.unit(unit, "UnitFileState") for unit in UNITS] == ["disabled"] * 3
    assert machine.shell("ls /run/dso.sock /run/docker/plugins/dso.sock", check=False).out == ""
    shown = system(machine, "status", "--format", "json", check=False)
    assert shown.returncode == 40
    assert [one["active"] for one in json.loads(shown.out)["units"]] == ["inactive"] * 3
    system(machine, "enable")
    shown = system(machine, "status", "--format", "json")
    assert [(one["active"], one["enabled"]) for one in json.loads(shown.out)["units"]] == [("active", "enabled")] * 3
    assert json.loads(shown.out)["agent"]["providers"][0]["name"] == "vault"
    assert "dso-agent" in system(machine, "logs", "-n", "3").out


def test_the_doctor_mends_what_is_safe(ready: Machine) -> None:
    machine = ready
    plant = f"""
        chmod 644 /etc/dso/agent.env; chmod 666 /etc/dso/dso.yaml; chmod 777 /run/dso.sock
        chmod 775 {PLUGIN_DIR}/dso-provider-vault
        systemctl disable -q dso-volume.socket
    """
    machine.shell(plant)
    pid = machine.unit("dso-agent.service", "MainPID")
    found = faults(findings(machine, code=UNHEALTHY))
    remedies = {
        "chmod 600 /etc/dso/agent.env": "permissions",
        "chmod 644 /etc/dso/dso.yaml": "permissions",
        "chown root:dso /run/dso.sock": "socket",
        f"chmod go-w {PLUGIN_DIR}/dso-provider-vault": "programs",
        "docker dso system enable": "units",
    }
    for remedy, check in remedies.items():
        named = [one for one in found if remedy in one["remedy"]]
        assert [one["check"] for one in named] == [check], (remedy, found)
        assert named[0]["fixable"], remedy
    mended = system(machine, "doctor", "--fix", check=False)
    assert mended.returncode == 0, mended.out
    assert mended.err.count("[DSO] mended: ") == len(remedies)
    assert not faults(findings(machine, code=0))
    assert machine.unit("dso-agent.service", "MainPID") == pid


def test_the_doctor_names_cause_and_remedy_and_leaves_the_rest_alone(ready: Machine) -> None:
    machine = ready
    plant = f"""
        mkdir -p /root/.docker/cli-plugins; cp {PLUGIN} /root/.docker/cli-plugins/docker-dso
        chown bob {PLUGIN_DIR}/dso-provider-vault
        sed 's/^Description=.*/&, changed/' /usr/local/lib/systemd/system/dso-agent.socket \
            >/etc/systemd/system/dso-agent.socket
        echo 'providors: {{}}' >>/etc/dso/dso.yaml
        : >/usr/local/lib/dso/.journal
        systemctl daemon-reload
    """
    machine.shell(plant)
    expected = [
        ("plugin", "another docker-dso, which is not used", f"rm {PLUGIN}"),
        ("programs", "belongs to user", f"chown root:root {PLUGIN_DIR}/dso-provider-vault"),
        ("units", "takes the place of the installed dso-agent.socket", "rm /etc/systemd/system/dso-agent.socket"),
        ("configuration", "providors: unknown", ""),
        ("programs", "installation of DSO was interrupted", "run the installer again"),
    ]
    before = state(machine)
    found = faults(findings(machine, "--fix", code=UNHEALTHY))
    for check, what, remedy in expected:
        named = [one for one in found if one["check"] == check and what in one["what"]]
        assert len(named) == 1, (what, found)
        assert remedy in (named[0]["remedy"] or "")
    assert state(machine) == before
    mend = f"""
        rm -r /root/.docker/cli-plugins /etc/systemd/system/dso-agent.socket /usr/local/lib/dso/.journal
        chown root {PLUGIN_DIR}/dso-provider-vault
        sed -i /providors/d /etc/dso/dso.yaml
        systemctl daemon-reload
    """
    machine.shell(mend)


def test_the_doctor_says_why_the_agent_failed(ready: Machine) -> None:
    machine = ready
    machine.shell("echo 'providors: {}' >>/etc/dso/dso.yaml")
    restarted = system(machine, "restart", check=False)
    assert restarted.returncode == 64
    found = faults(findings(machine, code=UNHEALTHY))
    (unit,) = [one for one in found if one["check"] == "units" and "has failed" in one["what"]]
    assert "system restart" in unit["remedy"]
    assert any(one["check"] == "configuration" and "providors" in one["what"] for one in found)
    machine.run("sed", "-i", "/providors/d", "/etc/dso/dso.yaml")
    system(machine, "restart")


def test_uninstall_is_the_installers(ready: Machine) -> None:
    machine = ready
    system(machine, "uninstall", "--yes")
    left = machine.shell(f"ls {PLUGIN} /usr/local/bin/dso-agent /usr/local/lib/dso", check=False)
    assert left.out == ""
    assert machine.shell("ls /etc/dso").out == "agent.env\ndso.yaml\n"
    assert machine.unit("dso-agent.service", "LoadState") == "not-found"


# Setting up


def test_without_values_everything_is_written_and_the_agent_waits(machine: Machine, backend: Backend) -> None:
    done = system(machine, "setup", "--provider", "vault", "--yes", check=False)
    assert done.returncode == UNFINISHED
    assert "VAULT_ADDR, VAULT_TOKEN" in done.err
    assert "sudoedit /etc/dso/agent.env" in done.err
    assert [machine.unit(unit, "ActiveState") for unit in UNITS] == ["inactive"] * 3
    again = system(machine, "setup", "--yes", check=False)
    assert again.returncode == UNFINISHED
    lines = "".join(f"{name}={value}\n" for name, value in backend.variables.items())
    machine.write("/etc/dso/agent.env", lines, 0o644)
    system(machine, "setup", "--yes")
    assert machine.shell("stat -c %a /etc/dso/agent.env; cat /etc/dso/agent.env").out == f"600\n{lines}"
    assert machine.unit("dso-agent.service", "ActiveState") == "active"


def test_a_provider_that_does_not_work_is_told_and_nothing_is_undone(machine: Machine, backend: Backend) -> None:
    variables = {**backend.variables, "VAULT_TOKEN": "hvs.wrong"}
    done = system(machine, "setup", "--provider", "vault", "--yes", variables=variables, check=False)
    assert done.returncode not in (0, FAILED)
    assert "the agent is set up and runs, but its provider vault does not work" in done.err
    assert "agent.env" in done.err
    assert machine.unit("dso-agent.service", "ActiveState") == "active"
    (fault,) = [one for one in faults(findings(machine, code=UNHEALTHY)) if one["check"] == "providers"]
    assert "agent.env" in fault["remedy"]
    machine.shell('sed -i "s/hvs.wrong/$1/" /etc/dso/agent.env', backend.token)
    system(machine, "restart")
    # the agent does not keep systemd waiting for providers
    wait_until(lambda: "running" in system(machine, "status").out, "the provider works")


def test_a_terminal_is_asked_and_does_not_show_the_secret(machine: Machine, backend: Backend) -> None:
    argv = ["docker", "exec", "-it", machine.name, "docker", "dso", "system", "setup"]
    with Terminal(argv, env=environment(), cwd="/") as terminal:
        terminal.expect("Where are the secrets?")
        terminal.line("valt")
        terminal.expect("Where are the secrets?")
        terminal.line("vault")
        terminal.expect("VAULT_ADDR")
        terminal.line(backend.address)
        terminal.expect("VAULT_TOKEN")
        terminal.line(backend.token)
        terminal.expect("Go on? [y/N]")
        terminal.line("y")
        terminal.expect("Cloud Mode is set up.")
        assert terminal.wait() == 0
        assert backend.token.encode() not in terminal.shown


def test_nothing_happens_without_a_yes_or_root_or_a_provider(machine: Machine) -> None:
    before = state(machine)
    for words, code, said in (
        (("setup", "--provider", "vault"), 125, "--yes"),
        (("setup",), 125, "--provider vault"),
        (("setup", "--yes"), 125, "--provider vault"),
        (("setup", "--provider", "acme", "--yes"), 125, "vault, aws, azure, huawei"),
    ):
        done = system(machine, *words, check=False)
        assert (done.returncode, said in done.err) == (code, True), done.err
    for command in ("setup", "enable", "disable", "restart"):
        done = as_ann(machine, "system", command, check=False)
        assert (done.returncode, f"sudo docker dso system {command}" in done.err) == (ROOT_NEEDED, True), done.err
    shown = as_ann(machine, "system", "setup", "--provider", "vault", "--dry-run")
    assert "create the group dso" in shown.out
    assert "create the users that plugins run as: dso-vault, dso-aws, dso-azure, dso-huawei, dso-plugin" in shown.out
    assert "    address: ${VAULT_ADDR}" in shown.out
    assert state(machine) == before


def test_systemd_reads_agent_env_as_dso_does(machine: Machine) -> None:
    value = "a'b\"c$d`e\\f #g"
    system(machine, "setup", "--provider", "vault", "--yes", variables={"VAULT_TOKEN": value}, check=False)
    shown = machine.run(
        "systemd-run", "--pipe", "-q", "-p", "EnvironmentFile=/etc/dso/agent.env", "printenv", "VAULT_TOKEN"
    )
    assert shown.out == value + "\n"


# Failing


@pytest.mark.parametrize("end", ["by itself", "by a signal"])
def test_an_agent_that_does_not_come_up_leaves_what_was_there(machine: Machine, backend: Backend, end: str) -> None:
    program = "/bin/false" if end == "by itself" else "/bin/sleep infinity"
    drop_in = f"[Service]\nExecStart=\nExecStart={program}\n"
    machine.write("/etc/systemd/system/dso-agent.service.d/x.conf", drop_in)
    machine.run("systemctl", "daemon-reload")
    before = state(machine)
    script = f"""
        export SUDO_USER=ann VAULT_ADDR=$1 VAULT_TOKEN=$2
        {PLUGIN} system setup --provider vault --yes &
        setup=$!
        until [ "$3" = "by itself" ] || [ "$(systemctl is-active dso-agent.service)" = activating ]; do sleep 0.1; done
        [ "$3" = "by itself" ] || kill -TERM "$setup"
        code=0; wait "$setup" || code=$?; exit "$code"
    """
    done = machine.shell(script, *backend, end, check=False)
    assert done.returncode == FAILED
    assert "undoing: create the group dso" in done.out
    assert "undoing: create the users that plugins run as" in done.out
    assert ("it was interrupted" in done.err) == (end == "by a signal")
    assert "what was there before is there again" in done.err
    assert state(machine) == before


def test_missing_programs_are_told_and_installed_from_a_release(
    machine: Machine, backend: Backend, release: Release
) -> None:
    machine.run("rm", f"{PLUGIN_DIR}/dso-provider-vault")
    before = state(machine)
    setup = ["setup", "--provider", "vault", "--yes"]
    done = system(machine, *setup, variables=backend.variables, check=False)
    assert done.returncode == FAILED
    assert "dso-provider-vault is missing" in done.err
    assert "install.sh --offline" in done.err
    assert state(machine) == before
    system(machine, *setup, "--from", tarball(release), variables=backend.variables)
    assert machine.unit("dso-agent.service", "ActiveState") == "active"


def test_a_release_with_a_wrong_signature_is_refused(machine: Machine, backend: Backend, release: Release) -> None:
    machine.shell('mkdir -p /root/x; tar -C /root/x -xzf "$1"', tarball(release))
    unpacked = machine.shell("echo /root/x/*").out.strip()
    machine.shell('echo >>"$1/bin/dso-agent"', unpacked)
    before = state(machine)
    setup = ["setup", "--provider", "vault", "--yes", "--from", unpacked]
    done = system(machine, *setup, variables=backend.variables, check=False)
    assert done.returncode == FAILED
    assert "bin/dso-agent is not what was signed" in done.err
    assert state(machine) == before
    machine.run("rm", "-rf", "/root/x")


def test_a_plugin_that_does_not_run_is_taken_away_again(machine: Machine, release: Release) -> None:
    before = state(machine)
    setup = ["setup", "--provider", "aws", "--yes", "--from", tarball(release)]
    done = system(machine, *setup, variables={"AWS_REGION": "us-east-1"}, check=False)
    assert done.returncode == FAILED, done.err
    assert "dso-provider-aws is version" in done.err, "the stand-in of the test's release"
    assert state(machine) == before
