"""`docker dso system`: who may, what is asked and said, and how it ends; the machine is a stand-in."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING, Any

import pytest

from dso import paths
from dso.cli import cmd_system_doctor
from dso.cli.main import main
from dso.errors import ServiceError, UsageError
from dso.host import setup_steps
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding
from dso.host.installation import HOME
from dso.host.units import UNITS
from dso.version import VERSION
from tests.support.fake_agent import FakeAgent
from tests.support.host import FakeHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import Done, User

VALUES = {"VAULT_ADDR": "https://vault.example.com:8200", "VAULT_TOKEN": "hvs.secret"}
AGENT = "/usr/local/bin/dso-agent"
USAGE, NOT_RUNNING, UNHEALTHY, UNFINISHED, FAILED, ROOT_NEEDED, SERVICE = 125, 40, 60, 61, 62, 63, 64


def units(active: str, enabled: str, load: str = "loaded") -> str:
    shown = "Id={}\nLoadState={}\nActiveState={}\nUnitFileState={}\n"
    return "\n".join(shown.format(name, load, active, enabled) for name in UNITS)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHost:
    """A machine where the agent and the plugin for Vault are installed, and nothing is set up."""
    machine = FakeHost(str(tmp_path / "root"))
    os.makedirs(machine.path("/run/systemd/system"))
    os.makedirs(machine.path("/etc"))
    for path in (AGENT, f"{HOME}/plugins/dso-provider-vault"):
        machine.write(path, "", 0o755)
        machine.says[f"{path} --version"] = (f"x {VERSION}", 0)
    machine.says["systemctl show"] = (units("inactive", "disabled"), 0)
    machine.says["getent group dso"] = ("", 2)
    machine.says[f"{AGENT} --check"] = ("c: 1 provider, 0 secrets\nvault (vault): ok\n", 0)
    monkeypatch.setattr("dso.host.machine.Host", lambda: machine)
    for name in ("SUDO_USER", *VALUES):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("dso.system.terminal.has_terminal", lambda: False)
    return machine


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as running:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, running.socket)
        yield running


@pytest.fixture
def values(host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    assert host  # which takes them away first
    for name, value in VALUES.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Somebody who types lines; returns the prompts as they come."""

    def use(*lines: str, agrees: bool = True) -> list[str]:
        left, prompts = list(lines), []

        def ask(prompt: str) -> str:
            prompts.append(prompt)
            return left.pop(0)

        def confirm(question: str) -> bool:
            prompts.append(question)
            return agrees

        monkeypatch.setattr("dso.system.terminal.has_terminal", lambda: True)
        monkeypatch.setattr("dso.system.terminal.ask_line", ask)
        monkeypatch.setattr("dso.system.terminal.ask_hidden", lambda prompt: ask(prompt + " (hidden)").encode())
        monkeypatch.setattr("dso.system.terminal.confirm", confirm)
        return prompts

    return use


# setup


@pytest.mark.usefixtures("agent", "values")
def test_setup_with_values_from_the_environment(user: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SUDO_USER", "ann")
    done = user.ok("system", "setup", "--provider", "vault", "--yes")
    assert done.out.splitlines()[0] == "- create the group dso"
    assert "Provider vault (vault): works" in done.out
    assert "ann is in the group dso from the next login on" in done.err
    assert VALUES["VAULT_TOKEN"] not in done.out + done.err
    assert b"VAULT_TOKEN=hvs.secret" in (host.read(paths.SYSTEM_ENVIRONMENT) or b"")
    assert "gpasswd -a ann dso" in host.calls


@pytest.mark.usefixtures("agent")
def test_setup_asks_at_a_terminal(user: User, host: FakeHost, terminal: Callable[..., list[str]]) -> None:
    prompts = terminal("valt", "Vault", VALUES["VAULT_ADDR"], VALUES["VAULT_TOKEN"])
    done = user.ok("system", "setup")
    assert [prompt.split()[0] for prompt in prompts] == ["Where", "Where", "VAULT_ADDR,", "VAULT_TOKEN,", "Go"]
    assert [prompt for prompt in prompts if "(hidden)" in prompt] == [prompts[3]]
    assert "  write /etc/dso/agent.env (0600)" in done.out
    assert b"VAULT_TOKEN=hvs.secret" in (host.read(paths.SYSTEM_ENVIRONMENT) or b"")


@pytest.mark.usefixtures("values")
def test_a_no_changes_nothing(user: User, host: FakeHost, terminal: Callable[..., list[str]]) -> None:
    terminal(agrees=False)
    done = user.dso("system", "setup", "--provider", "vault")
    assert (done.code, "nothing was changed" in done.err) == (USAGE, True)
    assert not host.exists("/etc/dso")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (["setup"], "--provider vault"),
        (["setup", "--yes"], "--provider vault"),
        (["setup", "--provider", "vault"], "--yes"),
        (["setup", "--provider", "gcp", "--yes"], "vault, aws, azure, huawei"),
    ],
)
def test_without_a_terminal_nobody_is_asked(user: User, host: FakeHost, words: list[str], hint: str) -> None:
    done = user.dso("system", *words)
    assert (done.code, hint in done.err) == (USAGE, True), done.err
    assert not host.exists("/etc/dso")


def test_a_dry_run_shows_steps_and_configuration_and_changes_nothing(
    user: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "hvs.secret")
    host.uid = 1000
    done = user.ok("system", "setup", "--provider", "vault", "--dry-run")
    assert "1. create the group dso" in done.out
    assert "    address: ${VAULT_ADDR}" in done.out
    assert "before these have values: VAULT_ADDR" in done.out
    assert "hvs.secret" not in done.out + done.err
    assert not host.exists("/etc/dso")
    assert not [call for call in host.calls if call.startswith(("groupadd", "gpasswd", "systemctl start"))]


def test_missing_values_are_an_unfinished_setup(user: User, host: FakeHost) -> None:
    done = user.dso("system", "setup", "--provider", "vault", "--yes")
    assert (done.code, "VAULT_ADDR, VAULT_TOKEN" in done.err) == (UNFINISHED, True)
    assert host.exists(paths.SYSTEM_CONFIG)
    assert not [call for call in host.calls if call.startswith("systemctl start")]


@pytest.mark.usefixtures("values")
def test_a_value_that_agent_env_cannot_hold_is_refused(
    user: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAULT_TOKEN", "two\nlines")
    done = user.dso("system", "setup", "--provider", "vault", "--yes")
    assert (done.code, "VAULT_TOKEN" in done.err, "two" in done.err) == (USAGE, True, False)
    assert not host.exists("/etc/dso")


@pytest.mark.usefixtures("agent", "values")
def test_a_provider_that_does_not_work_ends_with_its_code_and_undoes_nothing(user: User, host: FakeHost) -> None:
    host.says[f"{AGENT} --check"] = ("c: 1 provider, 0 secrets\nvault (vault): refused [permission_denied]\n", 0)
    done = user.dso("system", "setup", "--provider", "vault", "--yes")
    assert done.code == 45
    assert "does not work: refused" in done.err
    assert host.exists(paths.SYSTEM_CONFIG)


@pytest.mark.usefixtures("values")
def test_an_agent_that_does_not_answer_undoes_everything(
    user: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(paths.SOCKET_VARIABLE, str(tmp_path / "nobody.sock"))
    monkeypatch.setattr(setup_steps, "HEALTHY_WITHIN", 0.0)
    done = user.dso("system", "setup", "--provider", "vault", "--yes")
    assert (done.code, "what was there before is there again" in done.err) == (FAILED, True)
    assert "- undoing: write /etc/dso/agent.env" in done.out
    assert not host.exists("/etc/dso")


# The service


@pytest.mark.parametrize("command", ["setup", "enable", "disable", "restart"])
def test_only_root_may(user: User, host: FakeHost, command: str) -> None:
    host.uid = 1000
    done = user.dso("system", command)
    assert (done.code, f"sudo docker dso system {command}" in done.err) == (ROOT_NEEDED, True)
    assert not [call for call in host.calls if not call.startswith("systemctl show")]


@pytest.mark.parametrize(
    ("command", "calls"),
    [
        ("enable", ["enable", "start", "start"]),
        ("disable", ["disable"]),
        ("restart", ["reset-failed", "restart"]),
    ],
)
@pytest.mark.usefixtures("agent")
def test_what_systemd_is_told(user: User, host: FakeHost, command: str, calls: list[str]) -> None:
    user.ok("system", command)
    assert [call.split()[1] for call in host.calls if not call.startswith("systemctl show")] == calls


def test_enable_of_an_agent_that_does_not_start_leaves_no_socket_that_nobody_answers(
    user: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored: list[dict[str, object]] = []
    monkeypatch.setattr("dso.host.units.restore", lambda _host, before: restored.append(before))
    host.says["systemctl start dso-agent.service"] = ("no", 1)
    assert user.dso("system", "enable").code == SERVICE
    assert [sorted(before) for before in restored] == [sorted(UNITS)]


@pytest.mark.parametrize("command", ["enable", "disable", "restart"])
def test_an_agent_that_is_not_installed(user: User, host: FakeHost, command: str) -> None:
    host.says["systemctl show"] = (units("inactive", "", "not-found"), 0)
    assert user.dso("system", command).code == SERVICE


def test_status_has_the_units_and_the_agent(user: User, host: FakeHost, agent: FakeAgent) -> None:
    host.says["systemctl show"] = (units("active", "enabled"), 0)
    shown = json.loads(user.ok("system", "status", "--format", "json").out)
    assert [(one["name"], one["active"], one["enabled"]) for one in shown["units"]] == [
        (name, "active", "enabled") for name in UNITS
    ]
    assert shown["agent"]["socket"] == agent.socket
    table = user.ok("system", "status").out
    assert "dso-agent.service" in table
    assert f"Agent:   {agent.socket}" in table


def test_status_ends_with_the_code_of_an_agent_that_does_not_answer(
    user: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(paths.SOCKET_VARIABLE, str(tmp_path / "nobody.sock"))
    done = user.dso("system", "status")
    assert (done.code, "dso-agent.service" in done.out) == (NOT_RUNNING, True)
    assert host.calls


def test_uninstall_is_handed_to_the_installed_script(
    user: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    attached: list[list[str]] = []

    def attach(argv: list[str]) -> int:
        attached.append(argv)
        return 7

    monkeypatch.setattr("dso.system.proc.attach", attach)
    assert user.dso("system", "uninstall").code == FAILED
    host.write(f"{HOME}/uninstall.sh")
    assert user.dso("system", "uninstall", "--purge", "-y").code == 7
    assert attached == [["sh", f"{HOME}/uninstall.sh", "--purge", "--yes"]]
    os.chmod(host.path(f"{HOME}/uninstall.sh"), 0o664)
    done = user.dso("system", "uninstall")
    assert (done.code, f"chmod go-w {HOME}/uninstall.sh" in done.err) == (FAILED, True)
    assert len(attached) == 1, "root runs nothing that others could have written"
    host.uid = 1000
    own = f"{user.home}/.local/share/dso/uninstall.sh"
    host.write(own)
    user.dso("system", "uninstall")
    assert attached[-1] == ["sh", own]


# doctor


@pytest.fixture
def found(monkeypatch: pytest.MonkeyPatch) -> list[Finding]:
    """What the doctor finds, to be filled by the test."""
    findings: list[Finding] = []
    monkeypatch.setattr(cmd_system_doctor, "examine", lambda _args: list(findings))
    return findings


def test_the_doctor_prints_cause_and_remedy(user: User, found: list[Finding]) -> None:
    found += [
        Finding("engine", OK, "Docker Engine 26"),
        Finding("units", WARNING, "not enabled", "a\ncause \x1b[2J", "a remedy"),
        Finding("cloud", NOTE, "not set up"),
    ]
    done = user.ok("system", "doctor")
    assert done.out.splitlines() == [
        "ok       engine: Docker Engine 26",
        "WARNING  units: not enabled",
        "         cause: a",
        "           cause \\x1b[2J",
        "         remedy: a remedy",
        "note     cloud: not set up",
    ]


def test_an_error_is_the_exit_code_and_json_has_it_all(user: User, found: list[Finding]) -> None:
    found.append(Finding("socket", ERROR, "open", "because", "chmod", lambda: None))
    done = user.dso("system", "doctor", "--format", "json")
    assert done.code == UNHEALTHY
    assert json.loads(done.out) == {
        "version": VERSION,
        "healthy": False,
        "findings": [
            {
                "check": "socket",
                "state": "error",
                "what": "open",
                "cause": "because",
                "remedy": "chmod",
                "fixable": True,
            }
        ],
        "fixed": [],
    }
    assert "doctor --fix" in done.err


def test_fix_mends_faults_says_so_and_looks_again(user: User, found: list[Finding]) -> None:
    def broken() -> None:
        raise ServiceError("no systemd")

    untouched: list[str] = []
    found += [
        Finding("socket", ERROR, "open", "", "sudo chmod 660", found.clear),
        Finding("socket", ERROR, "open too", "", "sudo chmod 660", lambda: untouched.append("twice")),
        Finding("vault", NOTE, "as it is", "", "x", lambda: untouched.append("note")),
        Finding("units", WARNING, "stuck", "", "start", broken),
    ]
    done = user.ok("system", "doctor", "--fix")
    assert "[DSO] mended: open (chmod 660)" in done.err
    assert "could not mend: stuck: no systemd" in done.err
    assert untouched == []
    assert done.out == ""


def report(done: Done) -> list[dict[str, Any]]:
    return list(json.loads(done.out)["findings"])


def test_a_machine_in_local_mode_only_is_not_told_that_cloud_mode_is_missing(
    owner: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    os.unlink(host.path(AGENT))
    host.says["systemctl show"] = (units("inactive", "", "not-found"), 0)
    host.uid = os.getuid()
    host.says["docker compose version"] = ("2.26.1", 0)
    host.says["docker info"] = (json.dumps({"Plugins": [{"Name": "dso", "Path": "/p", "Version": VERSION}]}), 0)
    found = report(owner.dso("system", "doctor", "--format", "json"))
    assert [one["check"] for one in found if one["state"] == "error"] == ["engine"]
    assert [one["state"] for one in found if one["check"] == "cloud"] == ["note"]
    assert [one["state"] for one in found if one["check"] == "vault"] == ["ok"]
    assert not {"units", "group", "socket", "programs", "agent"} & {one["check"] for one in found}


def test_a_vault_that_others_can_read_is_mended(
    owner: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    os.chmod(owner.vault_file, 0o644)
    os.chmod(owner.dso_dir, 0o755)
    faults = [one for one in report(owner.dso("system", "doctor", "--format=json")) if one["check"] == "vault"]
    assert {f"chmod 600 {owner.vault_file}", f"chmod 700 {owner.dso_dir}"} <= {one["remedy"] for one in faults}
    owner.dso("system", "doctor", "--fix")
    assert stat.S_IMODE(owner.vault_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(owner.dso_dir.stat().st_mode) == 0o700
    assert host.calls


def test_a_damaged_vault_is_an_error(
    owner: User, host: FakeHost, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    content = owner.vault_file.read_bytes()
    owner.vault_file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    states = [one["state"] for one in report(owner.dso("system", "doctor", "--format=json")) if one["check"] == "vault"]
    assert states == ["error"]
    assert host.calls


def test_a_mistyped_provider_is_told_whatever_else_is_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["docker-dso", "dso", "system", "setup", "--provider", "nope"]) == UsageError.code
    told = capsys.readouterr().err
    assert "no provider: 'nope'" in told
    assert "vault, aws, azure, huawei" in told
