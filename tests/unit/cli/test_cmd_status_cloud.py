"""`docker dso status` in Cloud Mode: the agent, its providers, what it has in memory, and what is wrong with it."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.cli import cmd_status
from dso.protocol.state import CachedSecret, ProviderInfo, SecretInfo, VolumeDriverState
from tests.support.fake_agent import FakeAgent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import User

NO_ENGINE = 32


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/no-engine.sock")
    found = FakeAgent(
        tmp_path,
        entries=[SecretInfo("prod/db", "v", "kv/db")],
        providers=[ProviderInfo("v", "vault", "ready"), ProviderInfo("a", "aws", "failed", "no credentials")],
        cached=[CachedSecret("v", "kv/db", None, "7", 12.0, stale=False), CachedSecret("a", "x", "3", "3", 7300, True)],
        driver=VolumeDriverState("dso", available=True, volumes=2, mounted=1),
    )
    with found:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, found.socket)
        yield found


def test_table_has_agent_providers_driver_and_secrets_with_their_ages(user: User, agent: FakeAgent) -> None:
    shown = user.dso("status", "--mode=cloud").out
    assert f"{agent.socket} (dso-agent 0.0.0-fake, up 1 min)" in shown
    assert "volume driver dso, 2 volumes, 1 mounted" in shown
    lines = [line.split() for line in shown.splitlines()]
    assert ["a", "aws", "failed", "no", "credentials"] in lines
    assert ["v/kv/db", "prod/db", "7", "12", "s"] in lines
    assert any(line[:6] == ["a/x?version=3", "-", "3", "2", "h", "STALE:"] for line in lines)


def test_json_has_the_same(user: User, agent: FakeAgent) -> None:
    found = json.loads(user.dso("status", "--mode=cloud", "--format", "json").out)["agent"]
    assert found["providers"][1] == {"name": "a", "type": "aws", "state": "failed", "error": "no credentials"}
    assert found["secrets"][0] == {
        "name": "prod/db",
        "provider": "v",
        "path": "kv/db",
        "pin": None,
        "version": "7",
        "age": 12.0,
        "stale": False,
    }
    assert found["volume_driver"]["available"] is True
    assert found["uid"] == os.getuid()


def test_configuration_in_force_is_just_named(user: User, agent: FakeAgent) -> None:
    assert "Config:  /etc/dso/dso.yaml\n" in user.dso("status", "--mode=cloud").out
    found = json.loads(user.dso("status", "--mode=cloud", "--format", "json").out)["agent"]
    assert (found["config_error"], found["restart_needed"]) == ("", [])


def test_rejected_configuration_is_told(user: User, agent: FakeAgent) -> None:
    agent.config_error = "/etc/dso/dso.yaml has 2 faults:\n  line 3: a\n  line 4: b"
    shown = user.dso("status", "--mode=cloud").out
    assert "Config:  /etc/dso/dso.yaml (FAULTY, a former one is in force: /etc/dso/dso.yaml has 2 faults:\n" in shown
    assert "           line 4: b)\n" in shown
    found = json.loads(user.dso("status", "--mode=cloud", "--format", "json").out)["agent"]
    assert found["config_error"] == agent.config_error


def test_settings_that_wait_for_a_restart_are_told(user: User, agent: FakeAgent) -> None:
    agent.restart_needed = ["agent.socket", "agent.state_dir"]
    assert "         agent.socket, agent.state_dir: changed, and " in user.dso("status", "--mode=cloud").out
    found = json.loads(user.dso("status", "--mode=cloud", "--format", "json").out)["agent"]
    assert found["restart_needed"] == ["agent.socket", "agent.state_dir"]


def test_quiet_names_the_providers(user: User, agent: FakeAgent) -> None:
    assert user.dso("status", "--mode=cloud", "-q").out == "v\na\n"


def test_agent_that_does_not_answer_is_the_exit_code_and_the_rest_is_shown(
    user: User, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(paths.SOCKET_VARIABLE, str(tmp_path / "none.sock"))
    done = user.dso("status", "--mode=cloud")
    assert done.code == 40
    assert f"Agent:   {tmp_path}/none.sock (does not answer)" in done.out
    assert f"Error: no dso-agent runs here: there is no {tmp_path}/none.sock" in done.err
    assert "systemctl start dso-agent" in done.err


def test_agent_that_was_not_asked_is_not_said_to_be_silent(
    user: User, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(paths.SOCKET_VARIABLE)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dso.yaml").write_text(f"version: 1\nagent: {{socket: {tmp_path}/theirs.sock}}\n")
    done = user.dso("status")
    assert done.code == 29
    assert "Agent:   (not asked)\n" in done.out


def test_agent_without_a_driver_says_why(user: User, agent: FakeAgent) -> None:
    agent.info = agent.info._replace(volume_driver=VolumeDriverState("", available=False, reason="it is not root"))
    done = user.dso("status", "--mode=cloud")
    assert "Files:   unavailable (it is not root)" in done.out
    assert done.code == NO_ENGINE


def test_local_mode_does_not_ask_the_agent(user: User, agent: FakeAgent) -> None:
    shown = json.loads(user.dso("status", "--mode=local", "--format", "json").out)
    assert shown["agent"] is None
    assert agent.requests == []


@pytest.mark.parametrize("output_format", ["table", "json"])
def test_watch_shows_it_again_until_interrupted(
    user: User, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, output_format: str
) -> None:
    rounds = []

    def interrupt_in_the_third(seconds: float) -> None:
        rounds.append(seconds)
        if len(rounds) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", interrupt_in_the_third)
    before = signal.getsignal(signal.SIGINT)
    try:
        done = user.dso("status", "--mode=cloud", "--watch", "--format", output_format)
    finally:
        signal.signal(signal.SIGINT, before)
    assert rounds == [cmd_status.PERIOD] * 3
    assert done.code == 130
    assert done.out.count("0.0.0-fake") == 3
    assert "\x1b" not in done.out
