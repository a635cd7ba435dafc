"""A hostile plugin of root's agent reads neither the agent nor another plugin, and is root in nothing."""

from __future__ import annotations

import json
import os
import pwd
import signal
import stat
from typing import TYPE_CHECKING, Any

import pytest

from dso.paths import SYSTEM_CREDENTIALS_DIR
from tests.support.agent import Agent
from tests.support.canary import Canary
from tests.support.process import run
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

TOKEN = Canary.new()


def settings(agent: Agent, name: str, **own: Any) -> str:
    return f"  {name}: {json.dumps(own)}\n"


@pytest.fixture(params=["source", "frozen"])
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """With a spy, which is of no type that DSO knows, and two that take the places of DSO's own plugins."""
    with Agent(variant=request.param, env={"OWN_TOKEN": TOKEN.text}) as made:
        made.install_plugin("spy")
        for name in ("aws", "vault"):
            with open(made.path("plugins/dso-provider-spy"), encoding="utf-8") as spy:
                made.install_plugin(name, spy.read())
        private(made.path("ca.pem"), "an authority")
        private(made.path("token"), "a token")
        with open(made.path("orders"), "w", encoding="utf-8") as orders:
            orders.write("{}")
        made.write_config(
            "providers:\n"
            + settings(made, "spy", type="spy", cache_ttl="0s")
            + settings(
                made, "other", type="aws", cache_ttl="0s", region="eu-central-1", tls={"ca_cert": made.path("ca.pem")}
            )
            + settings(
                made,
                "third",
                type="vault",
                cache_ttl="0s",
                address="https://127.0.0.1:1",
                auth={"method": "token_file", "token_file": made.path("token")},
            )
        )
        yield made.start()


def private(path: str, content: str) -> None:
    """A file of root's alone, written in one step."""
    with open(path + ".new", "w", encoding="utf-8") as file:
        os.chmod(path + ".new", 0o600)
        file.write(content)
    os.rename(path + ".new", path)


def asked(agent: Agent, path: str, provider: str = "spy") -> dict[str, str]:
    """What a plugin tells."""
    return dict(json.loads(agent.value(f"dso://{provider}/{path}#value")))


def attacked(agent: Agent, provider: str = "spy", /, **orders: Any) -> dict[str, str]:
    """What came of a plugin's attack: what was tried, and how it ended."""
    with open(agent.path("orders"), "w", encoding="utf-8") as file:
        json.dump(orders, file)
    return asked(agent, "attack", provider)


def plugins(agent: Agent) -> dict[str, int]:
    """The plugins' processes by the provider's name, once all run."""

    def running() -> bool:
        return all(one["state"] == "running" for one in agent.get("/v1/status")["providers"])

    wait_until(running, "the plugins")
    return {one["name"]: one["pid"] for one in agent.get("/v1/status")["providers"]}


def refused(findings: dict[str, str]) -> None:
    """Every try came to nothing."""
    assert len(findings) > 1
    got = {what: how for what, how in findings.items() if not how.startswith("refused: ")}
    assert not got


def test_a_plugin_can_neither_read_nor_trace_nor_signal_the_agent(agent: Agent) -> None:
    refused(attacked(agent, pids=[agent.pid]))


def test_a_plugin_can_neither_read_nor_trace_nor_signal_a_plugin_of_another_type(agent: Agent) -> None:
    found = plugins(agent)
    refused(attacked(agent, pids=[found["other"], found["third"]]))
    refused(attacked(agent, "third", pids=[found["other"], found["spy"]]))


def test_a_plugin_reads_none_of_the_files_of_the_agent_or_of_other_plugins(agent: Agent) -> None:
    plugins(agent)
    private(agent.path("agent.env"), f"TOKEN={TOKEN.text}\n")
    copies = [os.path.join(directory, name) for directory in agent.copies() for name in os.listdir(directory)]
    assert {os.path.basename(path) for path in copies} == {"tls.ca_cert", "auth.token_file"}
    state = [os.path.join(directory, name) for directory, _, names in os.walk(agent.state_dir) for name in names]
    assert state
    files = [agent.path("agent.env"), agent.path("ca.pem"), agent.path("token"), "/etc/shadow", *copies, *state]
    closed = [SYSTEM_CREDENTIALS_DIR, *agent.copies(), agent.state_dir, agent.runtime_dir, "/root"]
    refused(attacked(agent, files=files, directories=closed, sockets=[agent.socket, agent.volume_socket]))


def test_a_plugin_can_change_nothing_of_the_agent(agent: Agent) -> None:
    directories = [agent.directory, agent.plugin_dir, agent.state_dir, SYSTEM_CREDENTIALS_DIR, "/etc", "/run"]
    refused(attacked(agent, made=[f"{directory}/dso-was-here" for directory in directories]))


def test_a_plugin_is_a_user_of_its_own_without_any_capability(agent: Agent) -> None:
    for provider, name in (("spy", "dso-plugin"), ("other", "dso-aws"), ("third", "dso-vault")):
        user = pwd.getpwnam(name)
        found = asked(agent, "status", provider)
        assert found["Uid"].split() == [str(user.pw_uid)] * 4
        assert found["Gid"].split() == [str(user.pw_gid)] * 4
        assert found["Groups"].split() == []
        assert {name: int(value, 16) for name, value in found.items() if name.startswith("Cap")} == dict.fromkeys(
            ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
        )
        assert (found["NoNewPrivs"], found["umask"], found["session"]) == ("1", "0077", "True")
        assert (found["home"], found["user"]) == ("/nonexistent", name)
        assert "OWN_TOKEN" not in found["environment"]


def test_a_plugin_reads_copies_of_the_files_that_its_settings_name(agent: Agent) -> None:
    found = asked(agent, "content/tls/ca_cert", "other")
    assert found["content"] == "an authority"
    assert found["mode"] == "0o440"
    told = json.loads(asked(agent, "status", "other")["settings"])["tls"]["ca_cert"]
    assert told.startswith(f"{SYSTEM_CREDENTIALS_DIR}/other.{agent.pid}.")
    status = os.stat(os.path.dirname(told))
    group = pwd.getpwnam("dso-aws").pw_gid
    assert (stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid) == (0o550, 0, group)
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        (mount,) = [line for line in table if f" {os.path.dirname(told)} " in line]
    assert " - tmpfs " in mount


def test_a_file_that_was_replaced_is_seen_by_the_next_request(agent: Agent) -> None:
    assert asked(agent, "content/auth/token_file", "third")["content"] == "a token"
    private(agent.path("token"), "another token")
    assert asked(agent, "content/auth/token_file", "third")["content"] == "another token"
    with open(agent.path("token"), "w", encoding="utf-8") as file:  # in place
        file.write("a third token")
    assert asked(agent, "content/auth/token_file", "third")["content"] == "a third token"


def test_a_file_that_is_gone_is_gone_for_the_plugin_which_names_the_file_itself(agent: Agent) -> None:
    os.unlink(agent.path("token"))
    answer = agent.resolve("dso://third/content/auth/token_file")
    assert answer["errors"][0]["code"] == "unavailable"
    assert f"{agent.path('token')}: No such file or directory" in answer["errors"][0]["message"]
    private(agent.path("token"), "a token again")
    assert asked(agent, "content/auth/token_file/again", "third")["content"] == "a token again"


def test_nothing_of_the_copies_is_left_when_the_agent_ends_and_a_killed_one_is_tidied_up_after(agent: Agent) -> None:
    for end in (agent.stop, agent.kill):
        plugins(agent)
        copies = agent.copies()
        assert len(copies) == 2
        end()
        if end == agent.stop:
            assert not any(map(os.path.exists, copies))
        agent.start()
        plugins(agent)
        assert not any(map(os.path.exists, copies))


def test_it_ends_with_the_agent_although_it_is_another_user(agent: Agent) -> None:
    found = plugins(agent)
    agent.signal(signal.SIGKILL)
    assert agent.process is not None
    agent.process.wait()
    wait_until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in found.values()), "the end of the plugins")


# What needs a home directory


@pytest.fixture
def service() -> Iterator[Agent]:
    """Root's agent with DSO's own plugins, frozen; its home is a directory of the test's."""
    with Agent(variant="frozen") as made:
        yield made


def checked(agent: Agent, provider: str) -> str:
    """What `--check` says of one provider of a dso.yaml."""
    agent.write_config(f"providers:\n{provider}")
    done = run(agent.command("--check"), env=agent.environment(), check=False)
    return done.out.splitlines()[1]


def test_keys_in_a_profile_of_roots_reach_the_aws_plugin(service: Agent) -> None:
    service.install_frozen("aws")
    os.mkdir(service.path(".aws"), 0o700)
    private(service.path(".aws/config"), "[profile prod]\nregion = eu-central-1\n")
    private(service.path(".aws/credentials"), "[prod]\naws_access_key_id = AKIA0\naws_secret_access_key = x\n")
    # It has its credentials if it gets as far as the backend, which is not there.
    provider = settings(service, "aws", type="aws", profile="prod", endpoint_url="http://127.0.0.1:9", timeout="2s")
    assert "[unavailable]" in checked(service, provider)


@pytest.mark.parametrize("key", ["credential_process", "sso_start_url"])
def test_a_profile_that_needs_a_home_is_refused_by_name(service: Agent, key: str) -> None:
    service.install_frozen("aws")
    os.mkdir(service.path(".aws"), 0o700)
    private(service.path(".aws/config"), f"[profile prod]\nregion = eu-central-1\n{key} = /usr/bin/something\n")
    said = checked(service, settings(service, "aws", type="aws", profile="prod"))
    assert said.endswith("[invalid_config]")
    assert f"`{key}`" in said
    assert "dso-aws" in said


def test_a_login_of_azures_command_line_is_refused_by_name(service: Agent) -> None:
    service.install_frozen("azure")
    service.env["AZURE_TOKEN_CREDENTIALS"] = "AzureCliCredential"
    said = checked(service, settings(service, "azure", type="azure", vault_url="https://dso-test.vault.azure.net"))
    assert said.endswith("[invalid_config]")
    assert "AZURE_TOKEN_CREDENTIALS" in said
    assert "managed_identity" in said
