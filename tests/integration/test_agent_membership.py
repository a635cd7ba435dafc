"""Whoever is removed from group dso has lost the agent, on open connections too. With the real tools."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import Agent, ask
from tests.support.users import DSO_GROUP, User, as_user, while_user
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LEAVER = User("dsoleaver", 40021, groups=(DSO_GROUP,))  # its processes keep the group they logged in with
STAYER = User("dsostayer", 40022, groups=(DSO_GROUP,))

_OWN_ETC = 'mount --bind "$1" /etc && shift && exec "$@"'


class AgentWithEtc(Agent):
    """An agent whose /etc is a copy of its own, so that real tools may change the user database in it."""

    def __init__(self) -> None:
        super().__init__()
        self.etc = self.path("etc")
        subprocess.run(["cp", "-a", "/etc", self.etc], check=True)
        for user in (LEAVER, STAYER):
            self._administer("useradd", "--no-create-home", "--uid", str(user.uid), user.name)
        self._administer("sh", "-c", f"groupdel dso 2>/dev/null; groupadd --gid {DSO_GROUP} dso")
        for user in (LEAVER, STAYER):
            self._administer("gpasswd", "-a", user.name, "dso")

    def remove(self, user: User) -> None:
        """As an administrator does."""
        self._administer("gpasswd", "-d", user.name, "dso")

    def add(self, user: User) -> None:
        """And again."""
        self._administer("gpasswd", "-a", user.name, "dso")

    def _administer(self, *command: str) -> None:
        within = ["unshare", "--mount", "sh", "-euc", _OWN_ETC, "sh", self.etc, *command]
        done = subprocess.run(within, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def command(self, *args: str) -> list[str]:
        return ["unshare", "--mount", "sh", "-euc", _OWN_ETC, "sh", self.etc, *super().command(*args)]


@pytest.fixture
def agent() -> Iterator[AgentWithEtc]:
    with AgentWithEtc() as running:
        running.write_secrets({"a": {"text": "x"}})
        running.use_fake()
        running.start()
        yield running


def asking(agent: Agent, told: str) -> Callable[[Callable[[], None]], None]:
    """Asks again and again on one connection, until it is refused; writes that to a file."""

    def run(begun: Callable[[], None]) -> None:
        with agent.connect() as connection:
            assert ask(connection, "GET", "/healthz").status == 200
            begun()
            while (answer := ask(connection, "POST", "/v1/resolve", {"values": ["dso://fake/a"]})).status == 200:
                pass
            with open(told, "w", encoding="utf-8") as file:
                file.write(f"{answer.status} {answer.code}")

    return run


def watching(agent: Agent, told: str) -> Callable[[Callable[[], None]], None]:
    """Watches events until the stream ends; writes what came of another try to a file."""

    def run(begun: Callable[[], None]) -> None:
        stream = agent.stream("/v1/events")
        next(stream)
        begun()
        for _ in stream:
            pass
        with open(told, "w", encoding="utf-8") as file:
            file.write(str(agent.request("GET", "/v1/events").status))

    return run


def told(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def test_removal_from_the_group_reaches_open_connections_and_streams(agent: AgentWithEtc) -> None:
    places = [agent.path("asked"), agent.path("watched")]
    for place in places:
        with open(place, "w", encoding="utf-8"):
            os.chown(place, LEAVER.uid, LEAVER.uid)
    with (
        while_user(LEAVER, asking(agent, places[0])),
        while_user(LEAVER, watching(agent, places[1])),
        while_user(STAYER, watching(agent, agent.path("nothing"))) as stayer,
    ):
        agent.remove(LEAVER)
        wait_until(lambda: told(places[0]), "a refusal on the open connection", timeout=60)
        assert told(places[0]) == "403 permission_denied"
        wait_until(lambda: told(places[1]), "the end of the stream", timeout=60)
        assert told(places[1]) == "403"
        assert as_user(LEAVER, lambda: agent.request("GET", "/healthz").status) == 403, "nor on a new one"
        assert as_user(STAYER, lambda: agent.request("GET", "/healthz").status) == 200
        assert os.path.exists(f"/proc/{stayer}")
        assert not told(agent.path("nothing"))
        agent.add(LEAVER)
        wait_until(lambda: as_user(LEAVER, lambda: agent.request("GET", "/healthz").status) == 200, "its return")
