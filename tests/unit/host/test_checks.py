"""What the doctor makes of what it sees, each fault with a remedy."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from dso.delivery.keeper import KeeperState
from dso.errors import AgentForbiddenError, AgentUnavailableError, ConfigError
from dso.host import check_agent, check_docker, check_leftovers, check_machine, check_programs
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding, is_fault
from dso.host.installation import HOME, find_installation
from dso.host.units import UNITS, Unit
from dso.protocol.state import AgentInfo, AgentStatus, ProviderInfo, VolumeDriverState
from dso.version import VERSION

if TYPE_CHECKING:
    from tests.support.host import FakeHost

NOW = 1_800_000_000.0


def only(findings: list[Finding]) -> Finding:
    (found,) = findings
    return found


# Docker


@pytest.mark.parametrize(
    ("said", "code", "state", "what"),
    [
        ("2.26.1-4", 0, OK, "Compose 2.26.1"),
        ("v2.24.0", 0, OK, "Compose 2.24.0"),
        ("2.23.3", 0, ERROR, "too old"),
        ("docker: 'compose' is not a docker command.", 1, ERROR, "no Compose plugin"),
        ("there is no program docker", 127, ERROR, "no docker command"),
    ],
)
def test_compose(host: FakeHost, said: str, code: int, state: str, what: str) -> None:
    host.says["docker --context far compose version --short"] = (said, code)
    found = only(check_docker.compose(host, ["docker", "--context", "far"]))
    assert (found.state, what in found.what) == (state, True)
    assert bool(found.remedy) == (state == ERROR)


def test_docker_finds_no_plugin(host: FakeHost) -> None:
    host.says["docker info"] = ('{"Plugins": [{"Name": "compose", "Path": "/x"}]}', 0)
    found = only(check_docker.plugin(host, ["docker"]))
    assert (found.state, "cli-plugins" in found.cause) == (ERROR, True)


@pytest.mark.parametrize("said", ["", "null", "[]", "not json"])
def test_docker_that_does_not_tell_is_no_error(host: FakeHost, said: str) -> None:
    host.says["docker info"] = (said, 0)
    assert [one.state for one in check_docker.plugin(host, ["docker"])] == [WARNING]


@pytest.mark.parametrize(
    ("plugin", "states", "remedy"),
    [
        ({"Path": "/a", "Version": VERSION}, [OK], ""),
        ({"Path": "/a", "Version": "0.0.1"}, [WARNING], "rm /a"),
        ({"Path": "/a", "Version": VERSION, "ShadowedPaths": ["/b"]}, [OK, WARNING], "rm /b"),
        ({"Path": "/a", "Err": "exec format error"}, [ERROR], "rm /a"),
    ],
)
def test_which_plugin_docker_runs_and_hides(plugin: dict[str, Any], states: list[str], remedy: str) -> None:
    found = check_docker.read_plugin(plugin)
    assert [one.state for one in found] == states
    assert remedy in found[-1].remedy


@pytest.mark.parametrize(
    ("version", "numbers"), [("26.1.5+dfsg1", (26, 1, 5)), ("2.24.6-desktop.1", (2, 24, 6)), ("", ()), ("6.4", (6, 4))]
)
def test_versions(version: str, numbers: tuple[int, ...]) -> None:
    assert check_docker.number(version) == numbers


# The machine

SWAPS = "Filename Type Size Used Priority\n/dev/sda2 partition 1 0 -2\n"


@pytest.mark.parametrize(
    ("kernel", "options", "swaps", "state"),
    [
        ("6.4.0", [], SWAPS, OK),
        ("6.1.0-13-amd64", [], SWAPS, WARNING),
        ("6.1.0-13-amd64", [], "Filename Type\n", OK),
        ("6.8.0", ["name=seccomp", "name=rootless"], SWAPS, WARNING),
    ],
)
def test_swap(host: FakeHost, kernel: str, options: list[str], swaps: str, state: str) -> None:
    host.write("/proc/swaps", swaps)
    found = only(check_machine.swap(host, {"KernelVersion": kernel, "SecurityOptions": options}))
    assert (found.state, "swapoff" in found.remedy) == (state, state == WARNING)


@pytest.mark.parametrize(
    ("said", "code", "state"),
    [
        ("NTP=yes\nNTPSynchronized=yes\n", 0, OK),
        ("NTP=no\nNTPSynchronized=no\n", 0, NOTE),
        ("no such program", 127, NOTE),
    ],
)
def test_clock(host: FakeHost, said: str, code: int, state: str) -> None:
    host.says["timedatectl"] = (said, code)
    assert only(check_machine.clock(host, find_installation(host), NOW)).state == state


def test_a_clock_that_is_behind_what_is_on_the_disk(host: FakeHost) -> None:
    host.write("/etc/dso/dso.yaml")
    os.utime(host.path("/etc/dso/dso.yaml"), (NOW, NOW + 3 * 86400))
    found = only(check_machine.clock(host, find_installation(host), NOW))
    assert (found.state, "/etc/dso/dso.yaml" in found.cause, "timedatectl" in found.remedy) == (ERROR, True, True)


# Leftovers


def test_keepers_without_a_project_and_without_content() -> None:
    swept: list[str] = []
    states = [
        KeeperState("runs", ("a",), running=True, content=True, delivered_at=1, files=1, vault_id="v"),
        KeeperState("lost", ("a",), running=True, content=False, delivered_at=0, files=0, vault_id="v"),
        KeeperState("gone", ("a",), running=True, content=True, delivered_at=1, files=1, vault_id="v"),
    ]
    found = check_leftovers.judged(states, {"runs", "lost"}, lambda: swept.append("x"))
    assert [(one.state, one.remedy.split(",")[0]) for one in found] == [
        (ERROR, "docker dso up"),
        (WARNING, "docker dso status"),
    ]
    assert found[0].fix is None
    assert found[1].fix is not None
    found[1].fix()
    assert swept == ["x"]


def test_volumes_that_no_container_has() -> None:
    idle = [{"Name": "b", "Driver": "local"}, {"Name": "a", "Driver": "local"}, {"Name": "c", "Driver": "dso"}]
    local, agents = check_leftovers.idle_volumes(idle, lambda: None)
    assert (local.state, local.remedy, local.fix is None) == (WARNING, "docker volume rm a b", False)
    assert (agents.state, agents.remedy, agents.fix) == (NOTE, "docker volume rm c", None)


# Programs and units


def test_a_plugin_that_the_configuration_needs_and_that_is_missing(host: FakeHost) -> None:
    host.write("/usr/local/bin/dso-agent", "", 0o755)
    host.says["/usr/local/bin/dso-agent --version"] = (f"dso-agent {VERSION}", 0)
    found = check_programs.programs(host, find_installation(host), ["acme"], "/opt/plugins")
    assert [one.state for one in found] == [OK, ERROR]
    assert found[1].what == "/opt/plugins/dso-provider-acme is missing"


def test_permissions_are_mended_by_root_only(host: FakeHost) -> None:
    host.write("/usr/local/bin/dso-agent", "", 0o777)
    found = only(check_programs.programs(host, find_installation(host), [], ""))
    assert found.remedy == "sudo chmod go-w /usr/local/bin/dso-agent"
    assert found.fix is not None
    found.fix()
    assert os.stat(host.path("/usr/local/bin/dso-agent")).st_mode & 0o7777 == 0o755
    host.uid = 1000
    os.chmod(host.path("/usr/local/bin/dso-agent"), 0o777)
    assert only(check_programs.programs(host, find_installation(host), [], "")).fix is None


def test_a_manifest_that_others_could_have_written_is_named(host: FakeHost) -> None:
    host.write("/usr/local/bin/dso-agent", "", 0o755)
    host.says["/usr/local/bin/dso-agent --version"] = (f"dso-agent {VERSION}", 0)
    host.write(f"{HOME}/manifest", f"version {VERSION}\nproviders evil\n", 0o666)
    found = [one for one in check_programs.programs(host, find_installation(host), [], "") if is_fault(one)]
    assert [one.what for one in found] == [f"{HOME}/manifest can be changed by other users"]
    assert found[0].remedy == f"sudo chmod go-w {HOME}/manifest"


def unit_states(**changes: dict[str, Any]) -> dict[str, Unit]:
    path = "/usr/local/lib/systemd/system"
    right = {name: Unit(name, "loaded", "active", "running", "enabled", f"{path}/{name}") for name in UNITS}
    return {
        name: unit._replace(**changes.get(name.replace("-", "_").replace(".", "_"), {})) for name, unit in right.items()
    }


@pytest.mark.parametrize(
    ("changes", "state", "what", "remedy", "calls"),
    [
        ({}, OK, "enabled and active", "", None),
        ({"dso_agent_service": {"load": "not-found"}}, ERROR, "does not know dso-agent.service", "setup --from", None),
        (
            {"dso_agent_socket": {"load": "masked"}},
            ERROR,
            "dso-agent.socket is masked",
            "unmask dso-agent.socket",
            None,
        ),
        ({"dso_agent_service": {"load": "bad-setting"}}, ERROR, "is faulty", "systemd-analyze verify", None),
        (
            {"dso_agent_service": {"needs_reload": True}},
            WARNING,
            "changed on the disk",
            "daemon-reload",
            ["daemon-reload"],
        ),
        (
            {"dso_volume_socket": {"enabled": "disabled"}},
            WARNING,
            "dso-volume.socket not enabled",
            "system enable",
            ["enable dso-volume.socket"],
        ),
        (
            {"dso_volume_socket": {"active": "failed"}},
            ERROR,
            "dso-volume.socket not active",
            "system enable",
            ["reset-failed dso-volume.socket", "start dso-volume.socket"],
        ),
        (
            {"dso_agent_service": {"active": "failed", "result": "exit-code"}},
            ERROR,
            "has failed",
            "system restart",
            None,
        ),
        ({"dso_agent_service": {"drop_ins": ("/etc/x.conf",)}}, NOTE, "changed by /etc/x.conf", "", None),
    ],
)
def test_units(
    host: FakeHost, changes: dict[str, Any], state: str, what: str, remedy: str, calls: list[str] | None
) -> None:
    found = only(check_programs.units(host, find_installation(host), unit_states(**changes), is_set_up=True))
    assert (found.state, what in found.what, remedy in found.remedy) == (state, True, True), found
    assert (found.fix is None) == (calls is None)
    if found.fix:
        host.calls.clear()
        found.fix()
        assert host.calls == [f"systemctl {call}" for call in calls or []]


def test_units_that_were_changed_or_replaced(host: FakeHost) -> None:
    path = "/usr/local/lib/systemd/system/dso-agent.socket"
    host.write(path, "[Socket]\n")
    host.write(f"{HOME}/manifest", f"version {VERSION}\nagent yes\nfile {'0' * 64} 644 {path}\n")
    found = only(check_programs.units(host, find_installation(host), unit_states(), is_set_up=True))
    assert (found.state, found.what) == (WARNING, f"{path} is not as it was installed")
    replaced = unit_states(dso_agent_socket={"path": "/etc/systemd/system/dso-agent.socket"})
    found = only(check_programs.units(host, find_installation(host), replaced, is_set_up=True))
    assert "takes the place of" in found.what
    assert "rm /etc/systemd/system/dso-agent.socket" in found.remedy


def test_units_of_a_machine_that_is_not_set_up_are_no_fault(host: FakeHost) -> None:
    stopped = {
        name: {"active": "inactive", "enabled": "disabled"} for name in ("dso_agent_socket", "dso_volume_socket")
    }
    states = unit_states(**stopped, dso_agent_service={"active": "inactive", "enabled": "disabled"})
    found = only(check_programs.units(host, find_installation(host), states, is_set_up=False))
    assert (found.state, "system setup" in found.remedy) == (NOTE, True)
    faults = [
        one for one in check_programs.units(host, find_installation(host), states, is_set_up=True) if is_fault(one)
    ]
    assert len(faults) == 2
    assert not any(one.fix for one in faults), "somebody has stopped and disabled it"


# The agent


@pytest.mark.parametrize(
    ("members", "user", "session", "state", "remedy"),
    [
        (None, "ann", [7], ERROR, "system setup"),
        (("ann",), "", [0], OK, ""),
        (("ann",), "ann", [5, 7], OK, ""),
        ((), "ann", [5, 7], OK, ""),  # her main group
        (("ann",), "ann", [5], ERROR, "newgrp dso"),
        (("eve",), "ann", [5], WARNING, "usermod -aG dso ann"),
    ],
)
def test_group(members: tuple[str, ...] | None, user: str, session: list[int], state: str, remedy: str) -> None:
    found = only(check_agent.membership(members, user, session, 7))
    assert (found.state, remedy in found.remedy) == (state, True)


def test_users_that_plugins_need_and_that_are_missing_are_made_by_root_only(host: FakeHost) -> None:
    host.says["getent passwd dso-aws"] = ("", 2)
    host.says["getent passwd dso-huawei"] = ("", 2)
    assert only(check_agent.plugin_users(host, ["vault", "acme"])).state == OK
    found = only(check_agent.plugin_users(host, ["vault", "aws"]))
    assert (found.state, "dso-aws" in found.what, "huawei" in found.what) == (ERROR, True, False)
    assert "system setup" in found.remedy
    assert found.fix is not None
    found.fix()
    assert host.calls[-1].startswith("useradd --system")
    host.uid = 1000
    assert only(check_agent.plugin_users(host, ["vault", "aws"])).fix is None


def test_a_unit_that_cannot_become_the_users_is_told(host: FakeHost) -> None:
    host.says["systemctl show --property=CapabilityBoundingSet"] = ("CapabilityBoundingSet=cap_chown cap_kill\n", 0)
    found = only(check_agent.plugin_users(host, ["vault"]))
    assert (found.state, "CAP_SETUID, CAP_SETGID" in found.what) == (ERROR, True)


def test_a_configuration_of_somebody_elses_is_told_and_not_mended(host: FakeHost) -> None:
    host.write("/etc/dso/dso.yaml")
    host.owners["/etc/dso/dso.yaml"] = 1000
    found = only(check_agent.files(host))
    assert (found.state, found.fix, "chown root:root /etc/dso/dso.yaml" in found.remedy) == (ERROR, None, True)


def test_a_link_in_the_place_of_a_file_is_not_followed(host: FakeHost) -> None:
    host.write("/etc/dso/agent.env", "", 0o644)
    host.write("/etc/shadow", "", 0o640)
    fix = only(check_agent.files(host)).fix
    assert fix is not None
    os.unlink(host.path("/etc/dso/agent.env"))
    os.symlink(host.path("/etc/shadow"), host.path("/etc/dso/agent.env"))
    with pytest.raises(OSError, match=r"."):
        fix()
    assert os.stat(host.path("/etc/shadow")).st_mode & 0o7777 == 0o640


def test_the_socket_missing_or_no_socket(host: FakeHost) -> None:
    assert "system enable" in only(check_agent.socket(host, 7)).remedy
    host.write("/run/dso.sock")
    assert "rm /run/dso.sock" in only(check_agent.socket(host, 7)).remedy


def test_the_socket_open_to_others(host: FakeHost) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(host.path("/run/dso.sock"))
        gid = os.stat(host.path("/run/dso.sock")).st_gid
        os.chmod(host.path("/run/dso.sock"), 0o666)
        assert only(check_agent.socket(host, gid)).state == ERROR
        os.chmod(host.path("/run/dso.sock"), 0o660)
        assert only(check_agent.socket(host, gid)).state == OK
        assert only(check_agent.socket(host, gid + 1)).state == ERROR


def status(**changes: Any) -> AgentStatus:
    driver = changes.pop("driver", VolumeDriverState("dso", available=True))
    info = AgentInfo(1, changes.pop("version", VERSION), 0, driver)
    given: dict[str, Any] = {"config": "/etc/dso/dso.yaml", "providers": [], **changes}
    return AgentStatus(info, 1.0, **given)


@pytest.mark.parametrize(
    ("changes", "state", "what", "remedy"),
    [
        ({}, OK, "answers", ""),
        ({"version": "0.0.1"}, WARNING, "version 0.0.1", "system restart"),
        ({"config_error": "line 3: no"}, ERROR, "line 3: no", "correct it"),
        ({"restart_needed": ["socket"]}, WARNING, "socket", "system restart"),
        ({"driver": VolumeDriverState("dso", available=False, reason="no")}, ERROR, "volume driver", "system enable"),
    ],
)
def test_what_the_agent_says(changes: dict[str, Any], state: str, what: str, remedy: str) -> None:
    found, _ = check_agent.agent(lambda: status(**changes))
    assert (found[-1].state, what in found[-1].what, remedy in found[-1].remedy) == (state, True, True)


@pytest.mark.parametrize(
    "error", [AgentUnavailableError("nobody", "start it"), AgentForbiddenError("not you", "start it")]
)
def test_an_agent_that_does_not_answer(error: AgentUnavailableError) -> None:
    def ask() -> AgentStatus:
        raise error

    found, answered = check_agent.agent(ask)
    assert answered is None
    assert (only(found).state, only(found).remedy) == (ERROR, "start it")


def test_a_faulty_configuration() -> None:
    def load() -> None:
        raise ConfigError("line 2: wrong", hint="right")

    found = only(check_agent.configuration(load))
    assert (found.state, found.what, found.remedy) == (ERROR, "line 2: wrong", "right")


def test_users_are_told_what_the_agent_knows_of_its_providers(host: FakeHost) -> None:
    host.uid = 1000
    known = status(providers=[ProviderInfo("v", "vault", "running"), ProviderInfo("a", "aws", "failed", "no key")])
    found = check_agent.providers(host, "/usr/local/bin/dso-agent", known, may_run=True)
    assert [one.state for one in found] == [OK, ERROR]
    assert host.calls == []


def test_root_asks_the_providers_unless_the_program_cannot_be_trusted(host: FakeHost) -> None:
    host.says["/usr/local/bin/dso-agent --check"] = (
        "c: 1 provider, 0 secrets\nv (vault): wrong [unauthenticated]\n",
        0,
    )
    found = only(check_agent.providers(host, "/usr/local/bin/dso-agent", None, may_run=True))
    assert (found.state, found.cause, "agent.env" in found.remedy) == (ERROR, "wrong", True)
    host.calls.clear()
    assert check_agent.providers(host, "/usr/local/bin/dso-agent", None, may_run=False) == []
    assert host.calls == []
