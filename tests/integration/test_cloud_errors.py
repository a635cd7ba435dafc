"""Cloud Mode that cannot work says why and what mends it, and starts nothing."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile

import pytest

from dso import paths
from tests.support.agent import Agent
from tests.support.cloud import CloudAgent
from tests.support.engine import Engine, Images
from tests.support.fake_agent import FakeAgent
from tests.support.home import FROZEN
from tests.support.private_engine import PrivateEngine

SERVICE = "image: dso-test/busybox\n    command: sleep 1000\n    stop_signal: SIGKILL"
VARIABLE = f"services:\n  api:\n    {SERVICE}\n    environment: {{A: 'dso://kv/db'}}\n"
FILE = VARIABLE.replace("dso://", "dsofile://")
SECRETS = {"kv/db": {"text": "x"}}
COMMANDS = (("up", "-d"), ("up", "--dry-run"), ("validate",), ("diff",), ("compose", "run", "--rm", "api", "true"))


@pytest.fixture(scope="module")
def engine():
    """An Engine of this module's own, which finds no driver at all."""
    with PrivateEngine(own_plugins=True) as private:
        yield Engine({"DOCKER_HOST": private.host})


@pytest.fixture(scope="module")
def images(engine):
    """None are needed: nothing is started."""
    return Images()


@pytest.fixture
def directory():
    """A short path for sockets."""
    found = tempfile.mkdtemp(prefix="dso-cloud-")
    os.chmod(found, 0o755)
    yield found
    shutil.rmtree(found)


@pytest.fixture
def stack(home, project):
    home.env[paths.MODE_VARIABLE] = "cloud"
    project.compose_yaml(VARIABLE)
    return project


def refused(stack, code, *told, words=("up", "-d"), env=None):
    """A command that must fail with one error that tells these things, and start nothing."""
    done = stack.dso(*words, env=env, check=False)
    assert done.returncode == code, done.err
    assert done.err.count("Error: ") == 1, done.err
    assert "Traceback" not in done.err
    for text in told:
        assert text in done.err
    assert stack.leftovers() == []


@pytest.mark.parametrize("words", COMMANDS, ids="-".join)
def test_agent_that_does_not_run(stack, directory, words):
    path = f"{directory}/none.sock"
    told = (f"there is no {path}", "sudo systemctl start dso-agent", "dso-agent --config ./dso.yaml")
    refused(stack, 40, *told, words=words, env={paths.SOCKET_VARIABLE: path})


def test_agent_that_left_its_socket_behind(stack, directory):
    path = f"{directory}/left.sock"
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(path)
    refused(stack, 40, path, "left behind", env={paths.SOCKET_VARIABLE: path})


def test_agent_of_another_version(stack, directory):
    with FakeAgent(directory, api=2) as agent:
        refused(stack, 42, "version 2", "systemctl restart dso-agent", env={paths.SOCKET_VARIABLE: agent.socket})


def test_what_is_no_agent(stack, directory):
    with FakeAgent(directory) as agent:
        agent.broken["/v1/secrets"] = b"220 mail ESMTP\r\n\r\n"
        refused(stack, 43, agent.socket, env={paths.SOCKET_VARIABLE: agent.socket})


@pytest.mark.parametrize("words", [("validate",), ("status",)], ids="-".join)
def test_user_outside_the_group_is_told_to_join_it(stack, directory, words):
    """A real second user, with a home and a project of its own, before a real agent of root's."""
    place = f"{directory}/project"
    os.mkdir(place)
    with open(f"{place}/compose.yaml", "w") as file:
        file.write(VARIABLE)
    with Agent().use_fake() as agent:
        agent.start()
        env = {"HOME": directory, "DSO_MODE": "cloud", paths.SOCKET_VARIABLE: agent.socket}
        done = _as_another_user(stack, directory, words, env, place)
    assert done.returncode == 41, done.err
    assert agent.socket in done.err
    assert "sudo usermod -aG dso $USER" in done.err


def _as_another_user(stack, directory, words, env, cwd):
    plugin = f"{directory}/docker-dso"
    shutil.copyfile(FROZEN, plugin)  # the source's interpreter need not be there for other users
    os.chmod(plugin, 0o755)
    switch = ("setpriv", "--reuid=41001", "--regid=41001", "--clear-groups")
    return stack.home.command(*switch, plugin, *words, env=env, cwd=cwd, check=False)


def test_secret_that_access_does_not_grant(home, stack):
    """The rule is tested with two users in test_agent_users.py; here a provider that refuses."""
    with CloudAgent({"kv/db": {"error": "permission_denied"}}) as agent:
        agent.serve(home)
        refused(stack, 45, "dso://kv/db (service api, variable A)", "permission_denied")


@pytest.mark.parametrize(("code", "expected"), [("unavailable", 46), ("unauthenticated", 45), ("throttled", 46)])
def test_provider_that_fails(home, stack, code, expected):
    with CloudAgent({"*": {"error": code}}) as agent:
        agent.serve(home)
        refused(stack, expected, "dso://kv/db (service api, variable A)", f"the fake says {code}")


def test_of_mixed_faults_the_missing_secret_decides_and_all_are_told(home, stack):
    stack.compose_yaml(f"services:\n  api:\n    {SERVICE}\n    environment: {{A: 'dso://kv/db', B: 'dso://kv/no'}}\n")
    with CloudAgent({"kv/db": {"error": "unavailable"}}) as agent:
        agent.serve(home)
        refused(stack, 21, "dso://kv/db (service api, variable A)", "dso://kv/no (service api, variable B)")


# Files that cannot be delivered


def test_engine_that_does_not_find_the_driver(home, stack):
    stack.compose_yaml(FILE)
    with Agent().use_fake() as agent:  # its volume socket is not where the Engine looks
        agent.write_secrets(SECRETS)
        agent.start()
        refused(stack, 47, "does not know the agent's volume driver", env={paths.SOCKET_VARIABLE: agent.socket})


@pytest.mark.parametrize("words", COMMANDS, ids="-".join)
@pytest.mark.parametrize("host", ["tcp://192.0.2.1:2376", "ssh://nobody@192.0.2.1"])
def test_engine_on_another_machine(home, stack, host, words):
    stack.compose_yaml(FILE)
    with CloudAgent(SECRETS) as agent:
        agent.serve(home)
        refused(stack, 47, host, "--mode=local", words=words, env={"DOCKER_HOST": host})
        assert not [call for call in agent.calls if call.startswith("get")]
