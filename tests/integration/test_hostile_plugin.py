"""What a hostile plugin of root's agent does to its own user's processes and files, it cannot do to the agent."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.agent import Agent
from tests.support.plugin_dir import SOURCES, PluginDir
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

CREDENTIAL = f"/run/credentials/dso-test-{os.getpid()}"  # what plugins of other types get copies of


@pytest.fixture(params=["source", "frozen"])
def agent(request: pytest.FixtureRequest) -> Iterator[Agent]:
    """With two hostile plugins, which have the same user, and an honest one."""
    os.makedirs(os.path.dirname(CREDENTIAL), exist_ok=True)
    with open(CREDENTIAL, "w", encoding="utf-8") as file:
        file.write("a token")
    try:
        with Agent(variant=request.param) as made:
            PluginDir(made.plugin_dir)
            with open(f"{SOURCES}/hostile.py", encoding="utf-8") as source:
                made.install_plugin("hostile", source.read())
            made.write_secrets({"ok": {"text": "fine"}})
            made.write_config(f"providers:\n{made.fake_provider(cache_ttl='0s')}{hostile()}{hostile('victim')}")
            yield made.start()
    finally:
        os.unlink(CREDENTIAL)


def hostile(name: str = "hostile") -> str:
    """A provider of the hostile type."""
    return f"  {name}: {json.dumps({'type': 'hostile', 'cache_ttl': '0s', 'token': CREDENTIAL})}\n"


def attacked(agent: Agent, attack: str, provider: str = "hostile") -> Any:
    """What came of an attack."""
    return json.loads(agent.value(f"dso://{provider}/{attack}#value"))


# Its copies


def test_it_can_change_nothing_of_the_copies_that_others_of_its_user_read_too(agent: Agent) -> None:
    found = attacked(agent, "tamper")
    assert {what: how for what, how in found.items() if not how.startswith("refused: ")} == {}
    assert [os.listdir(directory) for directory in agent.copies()] == [["token"]] * 2


def test_nothing_it_does_to_its_directory_keeps_the_copies_or_the_next_agent_from_starting(agent: Agent) -> None:
    attacked(agent, "nest")
    copies = agent.copies()
    assert agent.stop() == 0
    assert not any(map(os.path.exists, copies))
    agent.start()
    assert agent.value("dso://fake/ok") == "fine"


# Processes of its user


@pytest.mark.parametrize("attack", ["stop", "terminate"])
def test_signals_to_a_child_that_is_about_to_be_a_plugin_neither_hold_up_nor_end_the_agent(
    agent: Agent, attack: str
) -> None:
    agent.value("dso://victim/tamper#value")
    attacked(agent, attack)
    assert agent.resolve("dso://victim/die")["errors"]
    wait_until(lambda: state(agent, "victim")["restarts"] > 0, "another start of the plugin")
    assert agent.value("dso://fake/ok") == "fine"
    assert state(agent, "hostile")["restarts"] == 0
    assert "ending: what is under way" not in agent.log


def state(agent: Agent, provider: str) -> Any:
    return next(one for one in agent.get("/v1/status")["providers"] if one["name"] == provider)


def test_what_it_starts_and_lets_go_ends_with_it_and_what_is_of_others_goes_on(agent: Agent) -> None:
    daemon = attacked(agent, "daemon")
    assert runs(daemon)
    agent.write_config(f"providers:\n{agent.fake_provider(cache_ttl='0s')}{hostile('victim')}")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: not runs(daemon), "the end of what the plugin has left")
    assert state(agent, "victim")["restarts"] == 0
    assert agent.value("dso://fake/ok") == "fine"


def test_what_it_starts_and_lets_go_ends_with_the_agent_and_is_no_zombie_before(agent: Agent) -> None:
    daemons = [attacked(agent, "daemon/1"), attacked(agent, "daemon/2")]
    os.kill(daemons[0], signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{daemons[0]}"), "the end of a process in the table of processes")
    assert agent.stop() == 0
    assert not runs(daemons[1])


def runs(pid: int) -> bool:
    """Whether a process is there, and no zombie that waits for its parent."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rpartition(") ")[2][0] not in "ZX"
    except OSError:
        return False
