"""The life of dso-agent's process, from source and frozen."""

from __future__ import annotations

import json
import os
import signal
import stat
from functools import partial
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import Agent, agent_command
from tests.support.canary import Canary
from tests.support.memory import MIB, resident
from tests.support.process import run
from tests.support.processes import descendants
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

NOBODY = 65534


@pytest.fixture(params=["source", "frozen"])
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    with Agent(variant=request.param) as made:
        made.write_secrets({"a": {"text": "the value"}})
        yield made.use_fake()


def _are_gone(pids: list[int]) -> bool:
    return not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def check(agent: Agent) -> tuple[int, str, str]:
    done = run(agent.command("--check"), env=agent.environment(), check=False)
    return done.returncode, done.out, done.err


# Beginning and end


def test_the_first_lines_say_what_runs_with_which_configuration_and_plugins(agent: Agent) -> None:
    agent.start()
    agent.wait_for_log("state=running")
    first, *others = [line for line in agent.log.splitlines() if "WARNING" not in line]
    assert f"dso-agent 0.1.0 starts with {agent.config_file}" in first
    assert f"[DSO] Using FAKE provider plugin: {agent.plugin_dir}/dso-provider-fake" in others[0]
    assert any(f"listening on {agent.socket}" in line for line in others)


def test_sigterm_and_sigint_end_it_with_everything_it_started(agent: Agent) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        agent.start()
        assert agent.value("dso://a") == "the value"
        started = [one.pid for one in descendants(agent.pid)]
        assert started
        agent.signal(number)
        assert agent.process is not None
        assert agent.process.wait(60) == 0
        assert not os.path.exists(agent.socket)
        assert not os.path.exists(agent.volume_socket)
        wait_until(partial(_are_gone, started), "the end of all")
    assert agent.log.rstrip().endswith("ended")


def test_a_terminals_interrupt_which_comes_twice_is_one(agent: Agent) -> None:
    """^C goes to the whole group, and who is impatient presses it again."""
    agent.start()
    assert agent.process is not None
    os.killpg(agent.process.pid, signal.SIGINT)
    os.killpg(agent.process.pid, signal.SIGINT)
    assert agent.process.wait(60) == 0


def test_after_sigkill_the_next_one_starts_and_knows_its_fingerprints(agent: Agent) -> None:
    agent.start()
    before = agent.resolve("dso://a")["resolved"][0]["fingerprint"]
    agent.kill()
    assert os.path.exists(agent.socket)
    agent.start()
    assert agent.resolve("dso://a")["resolved"][0]["fingerprint"] == before
    assert stat.S_IMODE(os.stat(os.path.join(agent.state_dir, "mac.key")).st_mode) == 0o600


def test_sigkill_takes_its_plugins_along_whatever_they_do_and_leaves_no_files(agent: Agent) -> None:
    """One of them waits for input, one never looks at it again. Both are ended by the kernel."""
    temporary = agent.path("tmp")
    os.mkdir(temporary)
    os.chmod(temporary, 0o1777)  # its plugins are other users
    agent.env["TMPDIR"] = temporary
    agent.install_plugin("hangs", HANGS)
    agent.write_config("providers:\n" + agent.fake_provider("fake") + '  hangs: {"type": "hangs"}\n')
    agent.start()
    assert agent.value("dso://fake/a") == "the value"
    wait_until(lambda: os.path.exists(os.path.join(temporary, "hangs")), "the one that hangs")
    started = [one.pid for one in descendants(agent.pid)]
    assert len(started) == 2
    os.kill(agent.pid, signal.SIGKILL)
    assert agent.process is not None
    agent.process.wait(60)
    wait_until(partial(_are_gone, started), "the end of its plugins")
    assert os.listdir(temporary) == ["hangs"]


def test_a_second_agent_on_the_same_socket_is_refused(agent: Agent) -> None:
    agent.start()
    done = run(agent.command(), env=agent.environment(), check=False)
    assert done.returncode == 48
    assert f"Error: another agent listens at {agent.socket} already\n  hint: " in done.err
    assert agent.value("dso://a") == "the value"


def test_flags_and_variables_win_over_the_configuration(agent: Agent) -> None:
    configured, agent.socket = agent.socket, agent.path("other.sock")
    agent.env["DSO_SOCKET_PATH"] = agent.socket
    agent.start()
    assert agent.get("/v1/status")["socket"] == agent.socket
    agent.stop()
    agent.env["DSO_SOCKET_PATH"] = agent.path("third.sock")
    agent.args = ["--socket", agent.socket, "--plugin-dir", agent.path("nowhere"), "--log-format", "json"]
    agent.start()
    assert not os.path.exists(configured)
    assert "plugin_missing" in json.dumps(agent.resolve("dso://a")["errors"])
    lines = [json.loads(line) for line in agent.log.splitlines() if line.startswith("{")]
    assert "starts with" in lines[0]["message"]


# --check


def test_check_has_a_line_for_each_provider_and_ends_with_0(agent: Agent) -> None:
    assert check(agent) == (0, f"{agent.config_file}: 1 provider, 0 secrets\nfake (fake): ok\n", "")
    assert agent.calls == ["check"]


@pytest.mark.parametrize(
    ("code", "exit_code"),
    [("permission_denied", 45), ("unauthenticated", 45), ("unavailable", 46), ("invalid_config", 46)],
)
def test_check_ends_with_the_code_of_what_is_wrong(code: str, exit_code: int) -> None:
    with Agent() as agent:
        agent.write_config("providers:\n" + agent.fake_provider("good") + agent.fake_provider("bad", check=code))
        ended, out, _ = check(agent)
        assert ended == exit_code
        assert "good (fake): ok\n" in out
        assert f"the fake says {code} [{code}]\n" in out


def test_check_of_a_plugin_that_is_not_there_names_it(agent: Agent) -> None:
    os.unlink(os.path.join(agent.plugin_dir, "dso-provider-fake"))
    code, out, _ = check(agent)
    assert code == 46
    assert f"{agent.plugin_dir}/dso-provider-fake" in out


def test_check_by_root_has_the_variables_that_systemd_gives_the_agent(agent: Agent) -> None:
    """In a mount name space of its own, with its own /etc/dso."""
    agent.use_fake(token="${DSO_TEST_TOKEN:?set it}")
    script = (
        'set -e; mkdir -p /etc/dso; mount -t tmpfs none /etc/dso; cp "$0" /etc/dso/dso.yaml; '
        'printf "DSO_TEST_TOKEN=\'a b\'\\n" >/etc/dso/agent.env; chmod "$1" /etc/dso/agent.env; shift; exec "$@"'
    )
    for mode, code, told in (("600", 0, "fake (fake): ok"), ("622", 44, "can be written by others than root")):
        command = [*agent_command("source"), "--check"]
        words = ["unshare", "-m", "sh", "-c", script, agent.config_file, mode, *command]
        done = run(words, env=agent.environment(), check=False)
        assert done.returncode == code, done.err
        assert told in done.out + done.err
    assert check(agent)[0] == 44  # another file than /etc/dso/dso.yaml is checked with the caller's variables only


def test_check_disturbs_no_running_agent(agent: Agent) -> None:
    agent.start()
    assert check(agent)[0] == 0
    assert agent.value("dso://a") == "the value"


# Configuration


def test_sighup_takes_over_a_new_configuration_and_keeps_what_is_the_same(agent: Agent) -> None:
    agent.start()
    agent.wait_for_log("state=running")
    before = agent.get("/v1/status")["providers"][0]["pid"]
    agent.write_config("providers:\n" + agent.fake_provider("fake") + agent.fake_provider("second"))
    agent.signal(signal.SIGHUP)
    agent.wait_for_log("reload.done providers_added=second")
    wait_until(lambda: agent.get("/v1/status")["providers"][1]["state"] == "running", "the second provider")
    assert agent.get("/v1/status")["providers"][0]["pid"] == before
    assert agent.value("dso://second/a") == "the value"


def test_a_faulty_configuration_is_told_everywhere_and_changes_nothing(agent: Agent) -> None:
    agent.start()
    with open(agent.config_file, "a", encoding="utf-8") as file:
        file.write("provders: {}\n")
    agent.signal(signal.SIGHUP)
    agent.wait_for_log("reload.failed")
    assert "did you mean providers?" in agent.get("/v1/status")["config_error"]
    answer = agent.request("POST", "/v1/reload")
    assert (answer.status, answer.code) == (422, "reload_failed")
    assert agent.value("dso://a") == "the value"
    agent.use_fake()
    assert agent.request("POST", "/v1/reload").status == 200
    assert agent.get("/v1/status")["config_error"] == ""


def test_what_takes_a_restart_is_told(agent: Agent) -> None:
    agent.start()
    socket = agent.socket
    agent.use_fake(agent={"socket": agent.path("new.sock")})
    answer = agent.request("POST", "/v1/reload").json()
    assert answer["configuration"]["restart_needed"] == ["agent.socket"]
    assert agent.get("/v1/status")["restart_needed"] == ["agent.socket"]
    assert agent.socket == socket


def test_another_address_of_a_provider_is_asked_anew(agent: Agent) -> None:
    agent.start()
    assert agent.value("dso://a") == "the value"
    agent.secrets_file = agent.path("others.json")
    agent.write_secrets({"a": {"text": "of another server"}})
    agent.use_fake()
    assert agent.request("POST", "/v1/reload").json()["configuration"]["providers_changed"] == ["fake"]
    assert agent.value("dso://a") == "of another server"


def test_credentials_are_in_no_line_of_the_log() -> None:
    first, second = Canary.new(), Canary.new()
    with Agent() as agent:
        agent.env["TOKEN"] = first.text
        agent.write_secrets({})
        settings = {"auth": {"method": "token", "token": "${TOKEN}"}}
        agent.install_plugin("loud", LOUD)
        agent.write_config(f"providers:\n  loud: {json.dumps({'type': 'loud', **settings})}\n")
        agent.start()
        agent.resolve("dso://a")
        agent.write_config(f"providers:\n  loud: {json.dumps({'type': 'loud', 'auth': {'token': second.text}})}\n")
        agent.request("POST", "/v1/reload")
        agent.resolve("dso://b")
        agent.wait_for_log("I have ******** for b")
        assert "I have ******** for a" in agent.log
        for told in (agent.log, agent.request("GET", "/v1/logs").body.decode(), json.dumps(agent.get("/v1/status"))):
            assert not first.find(told.encode())
            assert not second.find(told.encode())


# A plugin that answers nothing, and notices nothing.
HANGS = """#!/usr/bin/env python3
import os, time
open(os.environ["TMPDIR"] + "/hangs", "x").close()
while True:
    time.sleep(1000)
"""

# A plugin that says its credentials wherever it can.
LOUD = """#!/usr/bin/env python3
import json, sys
for line in sys.stdin:
    request = json.loads(line)
    method, params = request["method"], request.get("params") or {}
    answer = {"jsonrpc": "2.0", "id": request["id"], "result": {}}
    if method == "initialize":
        token = params["config"]["auth"]["token"]
        answer["result"] = {"protocol": 1, "provider": "loud", "version": "1"}
    elif method == "get":
        print("I have", token, "for", params["path"], file=sys.stderr, flush=True)
        del answer["result"]
        answer["error"] = {"code": 1, "message": token, "data": {"code": "unavailable"}}
    print(json.dumps(answer), flush=True)
    if method == "shutdown":
        break
"""


# Whom it runs as, and what it keeps to itself


@pytest.fixture
def unprivileged() -> Iterator[Agent]:
    with Agent(variant="frozen") as made:
        made.write_secrets({"a": {"text": "the value"}})
        made.use_fake()
        os.chown(made.directory, NOBODY, NOBODY)
        os.chown(made.secrets_file, NOBODY, NOBODY)
        yield made


def test_any_user_may_have_an_agent_of_its_own(unprivileged: Agent) -> None:
    agent = unprivileged
    agent.start(user=NOBODY, group=NOBODY, extra_groups=[])
    assert agent.value("dso://a") == "the value"
    assert stat.S_IMODE(os.stat(agent.socket).st_mode) == 0o600
    status = agent.get("/v1/status")
    assert status["uid"] == NOBODY
    assert not status["volume_driver"]["available"]
    assert status["volume_driver"]["reason"]
    answer = agent.request("PUT", "/v1/volumes", {"volumes": {}})
    assert (answer.status, answer.code) == (503, "volume_unavailable")


def test_other_processes_of_its_user_cannot_look_into_it(unprivileged: Agent) -> None:
    agent = unprivileged
    agent.start(user=NOBODY, group=NOBODY, extra_groups=[])
    pid = agent.pid
    for name in ("mem", "environ", "maps"):
        assert "Permission denied" in _cat_as_nobody(pid, name)
    with open(f"/proc/{pid}/limits", encoding="ascii") as limits:
        core = next(line for line in limits if line.startswith("Max core file size"))
    assert core.split()[4] in ("0", "1")


def _cat_as_nobody(pid: int, name: str) -> str:
    words = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "cat", f"/proc/{pid}/{name}"]
    return run(words, check=False).err


def test_it_is_small_after_a_thousand_secrets() -> None:
    with Agent(variant="frozen") as agent:
        agent.write_secrets({"*": {"text": "a value of the usual length, about fifty characters"}})
        agent.use_fake().start()
        for start in range(0, 1000, 100):
            answer = agent.resolve(*[f"dso://secret/{at}" for at in range(start, start + 100)])
            assert not answer["errors"]
        assert agent.get("/v1/status")["cache"]["entries"] == 1000
        assert resident([agent.pid]) <= 60 * MIB
