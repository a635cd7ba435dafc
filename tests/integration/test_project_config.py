"""A stranger's ./dso.yaml: it names secrets, and decides neither whom we talk to nor what of ours it gets.

The frozen program, real users and real Compose; the agent that a stranger would run is a mock, which notes what it is
told and who connects.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.errors import AgentUntrustedError, ConfigError, NotGrantedError
from dso.protocol.agent import ResolveRequest
from dso.protocol.state import SecretInfo
from tests.support.canary import Canary
from tests.support.fake_agent import FakeAgent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.home import DsoHome
    from tests.support.project import Project

STRANGER = 40777  # no user of this machine
ENTRY = "secrets:\n  - {name: shop/key, provider: vault-prod, path: %s}\n"
COMMANDS = [["validate"], ["up", "--dry-run"], ["up"], ["diff"], ["fetch"], ["export"], ["sync"], ["logs"], ["watch"]]
TABS = [["fetch", ""], ["sync", "shop/"], ["export", ""], ["--mode=cloud", "fetch", ""], ["up", ""], [""]]


class Listener:
    """A socket of a stranger's that counts who connects to it, and what they send."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._listening = socket.socket(socket.AF_UNIX)
        with another_user():
            self._listening.bind(path)
            self._listening.listen()
        self._listening.setblocking(False)

    def connections(self) -> list[bytes]:
        """What each of those that have connected by now, and are gone again, has sent."""
        found = []
        with contextlib.suppress(BlockingIOError):
            while True:
                connection, _ = self._listening.accept()
                with connection:
                    found.append(connection.recv(65536))
        return found

    def close(self) -> None:
        self._listening.close()


@contextlib.contextmanager
def another_user() -> Iterator[None]:
    """What is done here is done by a stranger, as far as the kernel is concerned."""
    os.seteuid(STRANGER)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def place() -> Iterator[str]:
    """A directory in which a stranger may make sockets, on a path short enough for one."""
    os.makedirs(directory := f"/tmp/dso-stranger-{os.getpid()}", exist_ok=True)
    os.chown(directory, STRANGER, STRANGER)
    yield directory
    for name in os.listdir(directory):
        os.unlink(f"{directory}/{name}")
    os.rmdir(directory)


@pytest.fixture
def listener(place: str) -> Iterator[Listener]:
    found = Listener(f"{place}/evil.sock")
    yield found
    found.close()


@pytest.fixture
def key() -> Canary:
    return Canary.new()


@pytest.fixture
def project(project: Project, key: Canary) -> Project:
    """A cloned project, and a user whose key is in a variable."""
    project.compose_yaml("services: {api: {image: dso-test/busybox, environment: {KEY: 'dso://shop/key'}}}")
    project.home.env[paths.MASTER_KEY_VARIABLE] = key.text
    project.home.env[paths.PASSPHRASE_FILE_VARIABLE] = f"/{key.text}"
    project.home.env["MY_TOKEN"] = key.text
    project.home.env[paths.ALLOW_VARIABLE] = "*"  # of secrets: no word on whom to talk to
    return project


def allow(project: Project) -> None:
    project.dso("allow", "--configuration")


def deny(project: Project) -> None:
    project.dso("deny", "--configuration")


def dso_yaml(project: Project, path: str = "shop/key", socket: str | None = None) -> None:
    agent = f"agent: {{socket: {socket}}}\n" if socket else ""
    project.write("dso.yaml", "version: 1\n" + ENTRY % json.dumps(path) + agent)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_no_command_connects_where_a_cloned_dso_yaml_says(
    project: Project, listener: Listener, words: list[str]
) -> None:
    dso_yaml(project, "k=${MY_TOKEN}", listener.path)
    refused = project.dso(*words, check=False)
    assert refused.returncode == NotGrantedError.code
    for wanted in ("dso.yaml", listener.path, "MY_TOKEN", "docker dso allow --configuration", "-c ./dso.yaml"):
        assert wanted in refused.err
    assert listener.connections() == []


def test_what_is_allowed_is_named(project: Project, listener: Listener) -> None:
    dso_yaml(project, "k=${MY_TOKEN}", listener.path)
    said = project.dso("allow", "--configuration").err
    assert (listener.path in said, "MY_TOKEN" in said) == (True, True)


@pytest.mark.parametrize("words", [["status"], ["status", "--format", "json"]], ids=" ".join)
def test_status_says_what_a_cloned_dso_yaml_wants_and_connects_nowhere(
    project: Project, listener: Listener, words: list[str]
) -> None:
    dso_yaml(project, socket=listener.path)
    seen = project.dso(*words, check=False)
    assert seen.returncode == NotGrantedError.code
    assert listener.path in seen.err
    assert listener.connections() == []


@pytest.mark.parametrize("words", TABS, ids=" ".join)
def test_completion_is_silent_and_connects_nowhere(project: Project, listener: Listener, words: list[str]) -> None:
    dso_yaml(project, "k=${DSO_MASTER_KEY}", listener.path)
    with project.terminal("docker", "__complete", "dso", *words) as terminal:
        assert terminal.wait() == 0
    assert b"[y/N]" not in terminal.shown
    assert b"Error" not in terminal.shown
    assert listener.connections() == []


@pytest.mark.parametrize("mode", ["flag", paths.MODE_VARIABLE, paths.FORCE_MODE_VARIABLE])
def test_cloud_mode_by_word_makes_the_found_file_no_word_of_the_user(
    project: Project, listener: Listener, mode: str
) -> None:
    dso_yaml(project, socket=listener.path)
    flags = ["--mode=cloud"] if mode == "flag" else []
    env = {} if mode == "flag" else {mode: "cloud"}
    assert project.dso(*flags, "fetch", env=env, check=False).returncode == NotGrantedError.code
    assert listener.connections() == []


def test_a_name_of_a_secret_needs_no_permission(project: Project) -> None:
    dso_yaml(project, "a/plain/path")
    with FakeAgent(project.home.path, {"shop/key": b"v"}) as agent:
        project.dso("validate", env={paths.SOCKET_VARIABLE: agent.socket})
    (request,) = [one for one in agent.requests if one.target == "/v1/resolve"]
    assert ResolveRequest.from_json(request.json()).secrets[0].path == "a/plain/path"


@pytest.mark.parametrize(
    "written", ['"k=${MY_TOKEN}"', '"k=\\x24{MY_TOKEN}"', "'${A:-${MY_TOKEN}}'", "k=${MY_TOKEN:+x}"]
)
def test_a_variable_needs_permission_however_it_is_written(project: Project, written: str, key: Canary) -> None:
    project.write("dso.yaml", "version: 1\n" + ENTRY % written)
    with FakeAgent(project.home.path, {"shop/key": b"v"}) as agent:
        env = {paths.SOCKET_VARIABLE: agent.socket}
        refused = project.dso("validate", env=env, check=False)
        assert refused.returncode == NotGrantedError.code
        assert "MY_TOKEN" in refused.err
        assert not agent.requests
        allow(project)
        project.dso("validate", env=env)
        assert agent.requests
        agent.requests.clear()
        deny(project)
        assert project.dso("validate", env=env, check=False).returncode == NotGrantedError.code
        assert not agent.requests
    assert not key.find(refused.stdout + refused.stderr)


def test_the_question_names_what_is_wanted_and_is_asked_once(project: Project, key: Canary) -> None:
    with FakeAgent(project.home.path, {"shop/key": b"v"}) as agent:
        dso_yaml(project, "k=${MY_TOKEN}", agent.socket)
        for typed, code in (("n", NotGrantedError.code), ("", NotGrantedError.code), ("y", 0)):
            with project.terminal("docker", "dso", "validate") as terminal:
                asked = terminal.expect("[y/N] ").decode()
                assert agent.socket in asked.replace("\r\n", "")
                assert "MY_TOKEN" in asked
                assert not agent.requests
                terminal.line(typed)
                assert terminal.wait() == code
                assert not key.find(terminal.shown)
        assert agent.requests
        with project.terminal("docker", "dso", "validate") as terminal:
            assert terminal.wait() == 0
        assert b"[y/N]" not in terminal.shown


def test_allow_shows_what_is_wanted_and_records_it(project: Project) -> None:
    with FakeAgent(project.home.path, {"shop/key": b"v"}) as agent:
        dso_yaml(project, "k=${MY_TOKEN}", agent.socket)
        with project.terminal("docker", "dso", "allow") as terminal:
            asked = terminal.expect("[y/N] ").decode().replace("\r\n", "")
            assert agent.socket in asked
            assert "MY_TOKEN" in asked
            terminal.line("y")
            assert terminal.wait() == 0
        project.dso("validate")
    listed = json.loads(project.dso("allow", "--list", "--format", "json").out)
    assert [(one["directory"], one["configuration"]) for one in listed] == [(project.directory, True)]


def test_a_grant_reaches_what_is_below_the_directory(project: Project) -> None:
    allow(project)
    os.mkdir(below := project.path("below"))
    with FakeAgent(project.home.path, {"shop/key": b"v"}) as agent:
        dso_yaml(project, socket=agent.socket)
        os.rename(project.path("dso.yaml"), f"{below}/dso.yaml")
        project.home.run("fetch", cwd=below)
        os.chmod(below, 0o777)  # anybody may write the file now
        assert project.home.run("fetch", cwd=below, check=False).returncode == NotGrantedError.code


def test_a_file_that_the_user_names_is_their_own_word(project: Project) -> None:
    with FakeAgent(project.home.path, {"shop/key": b"v"}) as agent:
        dso_yaml(project, "k=${MY_TOKEN}", agent.socket)
        project.dso("-c", "dso.yaml", "validate")
        assert "POST /v1/resolve" in agent.asked()


@pytest.mark.parametrize("flags", [[], ["-c", "dso.yaml"]], ids=["found", "named"])
@pytest.mark.parametrize("variable", paths.PRIVATE_VARIABLES)
@pytest.mark.parametrize("form", ["${%s}", "${%s:-x}", "${%s:+x}", "${A:-${%s}}", "${%s:?no}"])
def test_no_dso_yaml_gets_dso_s_own_variables(
    project: Project, flags: list[str], variable: str, form: str, key: Canary
) -> None:
    dso_yaml(project, "k=" + form % variable)
    with FakeAgent(project.home.path, {"shop/key": b"v"}) as agent:
        allow(project)
        refused = project.dso(*flags, "validate", env={paths.SOCKET_VARIABLE: agent.socket}, check=False)
        assert refused.returncode == ConfigError.code
        assert f"{variable}, which is DSO's own" in refused.err
        assert not [request for request in agent.requests if key.find(request.body)]
        assert "POST /v1/resolve" not in agent.asked()
    assert not key.find(refused.stdout + refused.stderr)


@pytest.mark.parametrize("variable", paths.PRIVATE_VARIABLES)
def test_no_compose_file_and_no_env_file_gets_dso_s_own_variables(project: Project, key: Canary, variable: str) -> None:
    taken = "${" + variable + "}"
    compose = {
        "services": {
            "api": {
                "image": "dso-test/busybox",
                "command": ["echo", taken, "${FROM_ENV_FILE}"],
                "environment": [f"A={taken}", variable, "B=${FROM_ENV_FILE}"],
                "env_file": "service.env",
                "labels": {"c": taken.replace("}", ":-none}")},
            }
        },
        "configs": {"x": {"content": taken + "{{dso://shop/key}}"}},
    }
    project.compose_yaml(json.dumps(compose))
    project.write(".env", f"FROM_ENV_FILE={taken}\n{variable}\n")
    project.write("service.env", f"FROM={taken}\n{variable}\n")
    seen = project.dso("--mode=local", "compose", "config", check=False)
    assert seen.returncode == 0
    assert "c: none" in seen.out
    assert not key.find(seen.stdout + seen.stderr)


def test_no_env_file_puts_dso_s_own_variables_on_compose_s_command_line(project: Project) -> None:
    """DSO names the Compose files that Compose would find, those that COMPOSE_FILE in an env file means among them."""
    for name in paths.PRIVATE_VARIABLES:
        del project.home.env[name]
    project.home.dso("init")
    project.home.dso("secret", "set", "shop/key", input="v")
    with open(f"{project.home.dso_dir}/master.key", encoding="ascii") as file:
        key = file.read().strip()
    project.write(".env", "COMPOSE_FILE=${DSO_MASTER_KEY:-compose.yaml}\n")
    seen = project.dso("--mode=local", "up", "-d", env={paths.MASTER_KEY_VARIABLE: key}, check=False)
    assert key not in seen.out + seen.err
    assert project.containers("api")


def test_no_env_file_puts_dso_s_own_variables_into_the_vault(home: DsoHome) -> None:
    home.dso("init")
    with open(f"{home.dso_dir}/master.key", encoding="ascii") as file:
        env = {paths.MASTER_KEY_VARIABLE: file.read().strip()}
    with open(f"{home.path}/.env", "w", encoding="ascii") as file:
        file.write("A=${DSO_MASTER_KEY:-none}\nDSO_MASTER_KEY\n")
    home.dso("env", "import", "--interpolate", ".env", "shop", env=env, check=False)
    listed = home.dso("secret", "list", "-q", env=env).out.split()
    for name in listed:
        assert env[paths.MASTER_KEY_VARIABLE] not in home.dso("secret", "get", name, env=env).out


# Whose socket it is


@pytest.fixture
def their_agent(place: str) -> Iterator[FakeAgent]:
    """An agent that another user runs, which would answer all that is asked."""
    with another_user():
        agent = FakeAgent(place, {"shop/key": b"forged"}, entries=[SecretInfo("shop/key", "p", "shop/key")])
    with agent:
        yield agent


@pytest.mark.parametrize("words", [*COMMANDS, ["status"], ["-c", "dso.yaml", "validate"]], ids=" ".join)
@pytest.mark.parametrize("by", ["variable", "granted"])
def test_nothing_is_sent_to_an_agent_of_another_user(
    project: Project, their_agent: FakeAgent, words: list[str], by: str
) -> None:
    dso_yaml(project, socket=None if by == "variable" else their_agent.socket)
    allow(project)
    env = {paths.SOCKET_VARIABLE: their_agent.socket} if by == "variable" else {}
    refused = project.dso(*words, env=env, check=False)
    assert refused.returncode == AgentUntrustedError.code
    assert f"belongs to another user ({STRANGER})" in refused.err
    assert their_agent.requests == []


def test_nothing_is_sent_to_another_user_where_one_s_own_agent_was(project: Project, place: str) -> None:
    """A stream that connects again: whoever took the place of the agent meanwhile is looked at anew."""
    with FakeAgent(place, {"shop/key": b"v"}) as mine:
        mine.answers["/v1/logs"] = b"HTTP/1.1 200 X\r\nContent-Length: 0\r\n\r\n"
        env = {paths.SOCKET_VARIABLE: mine.socket, paths.MODE_VARIABLE: "cloud"}
        project.dso("logs", env=env)
    with another_user():
        theirs = FakeAgent(place, {"shop/key": b"forged"})
    with theirs:
        assert project.dso("logs", env=env, check=False).returncode == AgentUntrustedError.code
        assert theirs.requests == []


def test_a_listener_of_another_user_is_sent_no_byte(project: Project, listener: Listener) -> None:
    env = {paths.SOCKET_VARIABLE: listener.path, paths.MODE_VARIABLE: "cloud"}
    assert project.dso("fetch", env=env, check=False).returncode == AgentUntrustedError.code
    assert listener.connections() == [b""]


def test_completion_sends_nothing_to_an_agent_of_another_user(project: Project, their_agent: FakeAgent) -> None:
    env = {paths.SOCKET_VARIABLE: their_agent.socket, paths.MODE_VARIABLE: "cloud"}
    answered = project.dso("__complete", "dso", "fetch", "", env=env)
    assert "shop/key" not in answered.out
    assert their_agent.requests == []
