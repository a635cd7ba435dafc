"""`fetch`, `export`, `sync`, `logs` and `watch` with a real agent, a real Engine and a real journal."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from dso import paths
from tests.support.agent import Agent
from tests.support.canary import Canary
from tests.support.cloud import DRIVER, CloudAgent
from tests.support.engine import Images
from tests.support.process import ROOT, started
from tests.support.systemd import BINARIES, PLUGIN_DIR, Machine
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from tests.support.home import DsoHome
    from tests.support.private_engine import PrivateEngine

ENTRIES = """
secrets:
  - {name: prod/db, provider: fake, path: kv/db, mappings: {password: DB_PASSWORD, port: DB_PORT}}
  - {name: prod/api, provider: fake, path: kv/api, mappings: {value: API_KEY}}
  - {name: prod/down, provider: fake, path: kv/down}
"""
BINARY = bytes(range(256))


@pytest.fixture(scope="module")
def canary() -> Canary:
    return Canary.new()


@pytest.fixture
def agent(home: DsoHome, canary: Canary) -> Iterator[Agent]:
    with Agent() as found:
        found.use_fake(ENTRIES)
        found.write_secrets(secrets_of(canary.text))
        found.start()
        home.env.update({paths.SOCKET_VARIABLE: found.socket, paths.MODE_VARIABLE: "cloud"})
        yield found


def secrets_of(password: str) -> dict[str, dict[str, Any]]:
    import base64

    return {
        "kv/db": {"fields": {"password": password, "port": 5432, "odd name": "x"}, "version": "3"},
        "kv/api": {"text": "line\n"},
        "kv/bin": {"binary": base64.b64encode(BINARY).decode()},
        "kv/hidden": {"fields": {"value": "v", "other": "o"}},
        "kv/down": {"error": "unavailable"},
    }


class Following:
    """A command that goes on; `lines` are what it has written by now. It is killed at the end of the `with`."""

    def __init__(self, home: DsoHome, *words: str, env: Mapping[str, str] | None = None) -> None:
        self._process = subprocess.Popen(
            ["docker", "dso", *words],
            env=home.environment(env),
            cwd=home.path,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.read: dict[str, bytes] = {"stdout": b"", "stderr": b""}
        for name in self.read:
            os.set_blocking(getattr(self._process, name).fileno(), False)

    def shows(self, text: str, *, where: str = "stdout") -> str:
        """Wait until a text is in what it has written, and return that."""

        def arrived() -> bool:
            stream = getattr(self._process, where)
            self.read[where] += stream.read() or b""
            return text.encode() in self.read[where]

        try:
            wait_until(arrived, f"{text!r} on {where}")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.read}") from None
        return self.read[where].decode()

    def interrupt(self) -> int:
        """Press ^C; the exit code."""
        os.killpg(self._process.pid, signal.SIGINT)
        return self._process.wait(60)

    def close_output(self) -> int:
        """Stop reading; the exit code."""
        self._process.stdout.close()
        return self._process.wait(60)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(60)
        for stream in (self._process.stdout, self._process.stderr):
            if not stream.closed:
                stream.close()


# fetch


def test_values_reach_a_script_to_the_byte(home: DsoHome, agent: Agent, canary: Canary) -> None:
    script = 'printf %s "$(docker dso fetch prod/db#password --reveal)"'
    assert home.command("sh", "-c", script).stdout == canary.value
    assert home.run("fetch", "fake/kv/bin", "--reveal").stdout == BINARY
    assert home.run("fetch", "prod/api", "--reveal").stdout == b"line\n"
    assert home.run("fetch", "prod/db#port", "--reveal").stdout == b"5432"


def test_masked_fetch_gets_names_and_sizes_and_no_value_leaves_the_agent(
    home: DsoHome, agent: Agent, canary: Canary
) -> None:
    shown = home.run("fetch", "prod/db", "--format=json")
    assert canary.text not in shown.out + shown.err
    found = json.loads(shown.out)
    assert found["fields"] == {"password": None, "port": None, "odd name": None}
    assert found["version"] == "3"
    answer = agent.resolve(checks=["dso://prod/db#value"])
    assert answer["resolved"][0]["fields"] == ["password", "port", "odd name"]
    assert "value" not in answer["resolved"][0]
    for checks in (["dso://prod/db#password"], ["dso://prod/api#value"], ["dsofile://kv/bin"]):
        assert "fields" not in agent.resolve(checks=checks)["resolved"][0]
    assert "fields" not in agent.resolve("dso://prod/db#value")["resolved"][0]


def test_field_called_value_does_not_hide_the_others(home: DsoHome, agent: Agent) -> None:
    found = json.loads(home.run("fetch", "fake/kv/hidden", "--reveal", "--format=json").out)
    assert found["fields"] == {"value": "v", "other": "o"}


def test_terminal_shows_text_and_refuses_bytes(home: DsoHome, agent: Agent, canary: Canary) -> None:
    with home.terminal("docker", "dso", "fetch", "prod/db#password", "--reveal") as terminal:
        assert terminal.wait() == 0
        assert terminal.shown == canary.value + b"\r\n"
    with home.terminal("docker", "dso", "fetch", "fake/kv/bin", "--reveal") as terminal:
        assert terminal.wait() == 24
        assert b"> FILE" in terminal.shown


def test_list_shows_what_is_in_memory(home: DsoHome, agent: Agent) -> None:
    home.run("fetch", "prod/db")
    home.run("fetch", "fake/kv/bin")
    rows = {row["name"]: row for row in json.loads(home.run("fetch", "--format=json").out)}
    assert list(rows) == ["prod/api", "prod/db", "prod/down", "fake/kv/bin"]
    assert (rows["prod/db"]["version"], rows["prod/db"]["stale"]) == ("3", False)
    assert rows["prod/api"]["version"] is None
    assert rows["fake/kv/bin"]["entry"] is False


def test_provider_that_is_down_is_its_own_exit_code(home: DsoHome, agent: Agent) -> None:
    done = home.run("fetch", "prod/down", check=False)
    assert done.returncode == 46
    assert "prod/down" in done.err
    assert home.run("fetch", "fake/nowhere", check=False).returncode == 21


# export


def test_exported_file_is_what_compose_reads(home: DsoHome, agent: Agent, canary: Canary) -> None:
    with open(os.path.join(home.path, "compose.yaml"), "w") as file:
        file.write("services: {a: {image: x, env_file: out.env}}")
    home.run("export", "-o", "out.env")
    assert os.stat(os.path.join(home.path, "out.env")).st_mode & 0o777 == 0o600
    config = json.loads(home.command("docker", "compose", "config", "--format=json").out)
    expected = {"DB_PASSWORD": canary.text, "DB_PORT": "5432", "API_KEY": "line\n"}
    assert config["services"]["a"]["environment"] == expected
    assert json.loads(home.run("export", "--format=json").out) == expected
    assert home.run("export", "-o", "out.env", check=False).returncode == 57


def test_export_of_a_secret_that_fails_writes_nothing(home: DsoHome, agent: Agent) -> None:
    agent.use_fake(ENTRIES.replace("path: kv/down", "path: kv/down, mappings: {value: X}"))
    home.run("sync", check=False)
    done = home.run("export", "-o", "out.env", check=False)
    assert done.returncode == 46
    assert not os.path.exists(os.path.join(home.path, "out.env"))


# status


def test_status_tells_a_rejected_configuration_until_it_is_mended(home: DsoHome, agent: Agent) -> None:
    assert f"Config:  {agent.config_file}\n" in home.run("status").out
    with open(agent.config_file, "a", encoding="utf-8") as file:
        file.write("provders: {}\n")
    agent.signal(signal.SIGHUP)
    agent.wait_for_log("reload.failed")
    shown = home.run("status").out
    assert f"Config:  {agent.config_file} (FAULTY, a former one is in force: {agent.config_file}, line " in shown
    assert "provders" in shown
    assert "provders" in json.loads(home.run("status", "--format", "json").out)["agent"]["config_error"]
    agent.use_fake(ENTRIES, agent={"socket": agent.path("new.sock")})
    agent.signal(signal.SIGHUP)
    agent.wait_for_log("reload.done")
    shown = home.run("status").out
    assert f"Config:  {agent.config_file}\n" in shown
    assert "agent.socket: changed, and read at the next start of the agent only" in shown


# sync


def test_sync_tells_what_changed_and_the_next_fetch_has_it(home: DsoHome, agent: Agent) -> None:
    home.run("export", "-o", "out.env")
    agent.write_secrets(secrets_of("another"))
    assert home.run("sync", "prod/api", "-q").out == ""
    done = home.run("sync")
    assert [line.split() for line in done.out.splitlines()] == [
        ["SECRET", "RESULT"],
        ["prod/api", "unchanged"],
        ["prod/db", "changed"],
    ]
    assert "docker dso up" in done.err
    assert home.run("fetch", "prod/db#password", "--reveal").stdout == b"another"


def test_sync_tells_what_failed_and_why(home: DsoHome, agent: Agent) -> None:
    home.run("export", "-o", "out.env")
    agent.write_secrets({**secrets_of("x"), "kv/api": {"error": "unavailable"}})
    done = home.run("sync", "--format=json", check=False)
    assert done.returncode == 46
    found = {one["name"]: one for one in json.loads(done.out)["secrets"]}
    assert (found["prod/api"]["result"], found["prod/api"]["code"]) == ("failed", 46)
    assert found["prod/db"]["result"] == "changed"
    agent.write_secrets({**secrets_of("x"), "kv/api": {"error": "permission_denied"}})
    assert home.run("sync", "prod/api", check=False).returncode == 45
    done = home.run("sync", "prod/api", "prod/db", "prod/nope", check=False)
    assert done.returncode == 21
    assert "2 of 3 secrets could not be fetched" in done.err


def test_sync_reads_the_configuration_and_a_faulty_one_changes_nothing(home: DsoHome, agent: Agent) -> None:
    agent.use_fake(ENTRIES + "  - {name: prod/new, provider: fake, path: kv/db}\n")
    home.run("sync")
    assert home.run("fetch", "prod/new#port", "--reveal").stdout == b"5432"
    agent.write_config("secrets: 5")
    done = home.run("sync", check=False)
    assert done.returncode == 44
    assert "line 2" in done.err
    assert home.run("fetch", "prod/new#port", "--reveal").stdout == b"5432"


def test_projects_own_entry_is_synchronised(home: DsoHome, agent: Agent) -> None:
    with open(os.path.join(home.path, "mine.yaml"), "w") as file:
        file.write("version: 1\nsecrets:\n  - {name: mine, provider: fake, path: kv/db}\n")
    home.run("fetch", "-c", "mine.yaml", "mine")
    agent.write_secrets(secrets_of("another"))
    assert home.run("sync", "-c", "mine.yaml", "mine", "-q").out == "mine\n"


# logs, without a journal


def test_logs_are_the_agents_and_hold_no_value(home: DsoHome, agent: Agent, canary: Canary) -> None:
    home.run("fetch", "prod/db", "--reveal")
    shown = home.run("logs").out
    assert "secrets.read" in shown
    assert canary.text not in shown
    assert len(home.run("logs", "-n", "2").out.splitlines()) == 2
    assert home.run("logs", "--level", "error").out == ""
    assert home.run("logs", "--since", "2000-01-01").out.startswith(shown)
    assert home.run("logs", "--since", "0s", "--level", "warning").out == ""


def test_followed_log_survives_a_restart_of_the_agent(home: DsoHome, agent: Agent) -> None:
    with Following(home, "logs", "-f", "-n0") as following:
        wait_until(lambda: streams(agent) == 1, "it follows")
        agent.request("POST", "/v1/reload")
        following.shows("reload.done")
        agent.restart()
        following.shows("waiting for it", where="stderr")
        following.shows("answers again", where="stderr")
        following.shows("dso-agent")
        assert following.interrupt() == 130


# watch


@pytest.fixture
def stack(
    private: PrivateEngine, home: DsoHome, canary: Canary, monkeypatch: pytest.MonkeyPatch
) -> Iterator[CloudAgent]:
    """A project in HOME, of an agent whose volume driver an Engine of this module's own uses."""
    home.env["DOCKER_HOST"] = private.host
    with CloudAgent(secrets_of(canary.text), ENTRIES, engine=private) as agent:
        agent.serve(home)
        with open(os.path.join(home.path, "compose.yaml"), "w") as file:
            file.write(
                f"name: dsotestwatch\nservices:\n  api:\n    image: {Images().busybox}\n    network_mode: none\n"
                "    command: sleep 1000\n    stop_signal: SIGKILL\n"
                "    environment: {PW: 'dso://prod/db#password', KEY: dsofile://fake/kv/bin}\n"
                f"  plain:\n    image: {Images().busybox}\n    network_mode: none\n    command: 'true'\n"
            )
        yield agent
        home.run("down", "--volumes", check=False)


def test_watch_shows_agent_and_engine_until_interrupted(
    home: DsoHome, stack: CloudAgent, canary: Canary, private: PrivateEngine
) -> None:
    with Following(home, "watch") as following, Following(home, "watch", "--format=json") as as_json:
        wait_until(lambda: streams(stack) == 2, "both watch")
        home.run("up", "-d", timeout=180)
        shown = following.shows("container.start")
        shown = following.shows(f"name=dsotestwatch_dso_api driver={DRIVER}")
        assert "service=api" in shown
        assert "service=plain" not in shown
        assert "secrets.read" in shown
        lines = [json.loads(line) for line in as_json.shows("container.start").splitlines()[:-1]]
        assert {line["source"] for line in lines} >= {"agent"}
        assert all(line.keys() == {"time", "source", "event", "fields"} for line in lines)
        stack.change("kv/db", {"fields": {"password": "another"}})
        shown = following.shows("secret.changed")
        assert canary.text not in shown
        assert following.interrupt() == 130


def test_watch_goes_on_after_agent_and_engine_are_restarted(
    home: DsoHome, stack: CloudAgent, private: PrivateEngine
) -> None:
    with Following(home, "watch") as following:
        wait_until(lambda: streams(stack) == 1, "it watches")
        stack.restart()
        following.shows("waiting for it", where="stderr")
        following.shows(", restarted)", where="stderr")
        private.restart()
        following.shows("the Docker Engine answers again", where="stderr")
        home.run("up", "-d", timeout=180)
        following.shows("container.start")


def test_watch_ends_when_nobody_reads_it(home: DsoHome, agent: Agent) -> None:
    with Following(home, "watch") as following:
        wait_until(lambda: streams(agent) == 1, "it watches")
        assert following.close_output() == 141


def test_watch_in_a_pipeline_ends_with_its_reader(home: DsoHome, agent: Agent) -> None:
    script = "docker dso watch | head -n 1; echo ended"
    with started(
        ["sh", "-c", script], env=home.environment(), cwd=home.path, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as shell:
        wait_until(lambda: agent.request("POST", "/v1/reload") and shell.poll() is not None, "its end", interval=0.5)
        out, _ = shell.communicate(timeout=60)
    first, last = out.decode().splitlines()
    assert first.split()[2] in ("agent", "engine")  # the Engine has events of other tests too
    assert last == "ended"


def streams(agent: Agent) -> int:
    """How many watch the agent's events, or follow its log."""
    metrics = agent.request("GET", "/metrics").body.decode().splitlines()
    return int(float(next(line.split()[-1] for line in metrics if line.startswith("dso_agent_streams"))))


# logs, from the journal


FIXTURES = os.path.join(ROOT, "tests", "fixtures", "systemd")


@pytest.fixture(scope="module")
def machine(images: Images) -> Iterator[Machine]:
    """A machine whose systemd runs the frozen agent, with the frozen command line and three users."""
    with Machine() as running:
        running.install()
        running.copy(os.path.join(BINARIES, "docker-dso"), "/usr/local/bin/docker-dso")
        running.copy(os.path.join(FIXTURES, "dso-provider-static"), f"{PLUGIN_DIR}/dso-provider-static")
        for unit in ("dso-agent.service", "dso-agent.socket", "dso-volumes.socket"):
            running.copy(os.path.join(FIXTURES, unit), f"/etc/systemd/system/{unit}", 0o644)
        running.write("/etc/dso/static.secrets", "shop/db value\n", 0o600)
        running.write("/etc/dso/agent.env", "STATIC_TOKEN=t\n", 0o600)
        running.write(
            "/etc/dso/dso.yaml",
            "version: 1\nproviders:\n"
            '  static: {type: static, file: /etc/dso/static.secrets, token: "${STATIC_TOKEN}"}\n'
            "secrets:\n  - {name: shop/db, provider: static, path: shop/db}\n",
        )
        running.shell(
            "systemctl daemon-reload; systemctl start dso-agent.socket dso-agent.service; "
            "useradd -m -G dso,systemd-journal reader; useradd -m -G dso plain; useradd -m nobodys"
        )
        yield running


def test_journal_is_shown_with_the_same_flags(machine: Machine) -> None:
    shown = machine.run("docker-dso", "logs").out
    assert "dso-agent[" in shown
    assert "starts with /etc/dso/dso.yaml" in shown
    assert len(machine.run("docker-dso", "logs", "-n", "1").out.splitlines()) == 1
    assert "starts with" not in machine.run("docker-dso", "logs", "--level", "error").out
    assert "starts with" in machine.run("docker-dso", "logs", "--since", "1h").out
    assert "starts with" in machine.run("docker-dso", "logs", "--since", "2000-01-01T00:00Z").out
    # The journal counts whole seconds, so that a line of this one is shown too.
    wait_until(lambda: "starts with" not in machine.run("docker-dso", "logs", "--since", "0s").out, "an empty log")


def test_journal_is_for_its_groups_and_others_get_the_agents_memory(machine: Machine) -> None:
    done = machine.user("reader", "docker-dso", "logs")
    assert "dso-agent[" in done.out
    assert done.err == ""
    done = machine.user("plain", "docker-dso", "logs")
    assert "INFO" in done.out
    assert "dso-agent[" not in done.out
    assert "systemd-journal and adm" in done.err
    assert machine.user("nobodys", "docker-dso", "logs", check=False).returncode == 41


def test_journal_is_shown_when_the_agent_does_not_start(machine: Machine) -> None:
    machine.write("/etc/dso/dso.yaml", "version: 7\n")
    machine.run("systemctl", "stop", "dso-agent.socket", "dso-agent.service")
    machine.run("systemctl", "start", "dso-agent.service", check=False)
    assert "/etc/dso/dso.yaml" in machine.run("docker-dso", "logs", "--mode=cloud", "-n", "all").out
