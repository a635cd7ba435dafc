"""`docker dso watch`: events of agent and Engine as they come, over restarts of both, until nobody reads them."""

from __future__ import annotations

import itertools
import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from dso import paths
from dso.cli import cmd_watch, happenings
from dso.cli.happenings import AgentSource, EngineSource, Happening, Happenings
from dso.config.mode import CLOUD, Mode
from dso.errors import AgentForbiddenError, AgentProtocolError, AgentUnavailableError, DsoError, EngineError
from dso.protocol.agent import Fault
from dso.protocol.stream import AgentEvent
from dso.system.http import LineStream
from tests.support.fake_agent import FakeAgent, answer, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import User

CHANGED = AgentEvent("secret.changed", 1_700_000_000.25, {"provider": "v", "path": "kv/db"}, 7)
BEAT = ": still here\n\n"


def stream(*pieces: str, end: bool = False) -> bytes:
    """The head and chunks of an answer that goes on, and its end if it has one."""
    chunks = [b"%x\r\n%b\r\n" % (len(piece.encode()), piece.encode()) for piece in pieces]
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    return head + b"".join(chunks) + (b"0\r\n\r\n" if end else b"")


def engine_event(kind: str, action: str, actor_id: str, /, **attributes: str) -> str:
    actor = {"ID": actor_id, "Attributes": attributes}
    event = {
        "Type": kind,
        "Action": action,
        "Actor": actor,
        "time": 1_700_000_001,
        "timeNano": 1_700_000_001_500_000_000,
    }
    return json.dumps(event) + "\n"


STARTED = engine_event(
    "container",
    "start",
    "0123456789abcdef",
    **{
        "name": "shop-api-1",
        "image": "shop/api",
        "com.docker.compose.project": "shop",
        "com.docker.compose.service": "api",
        paths.LABEL_DIGEST: "d",
        paths.LABEL_MANIFEST: '{"x": 1}',
    },
)
SHOWN_START = {"name": "shop-api-1", "image": "shop/api", "project": "shop", "service": "api", "id": "0123456789ab"}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path) as found:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, found.socket)
        found.answers["/v1/events"] = stream(BEAT, CHANGED.to_text())
        yield found


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    """An Engine that knows two requests: its version, and events."""
    directory = tmp_path / "engine"
    directory.mkdir()
    with FakeAgent(directory) as found:
        monkeypatch.setenv("DOCKER_HOST", f"unix://{found.socket}")
        found.answers["/v1.44/version"] = answer(200, {"ApiVersion": "1.45"})
        found.answers["/v1.44/events"] = stream(STARTED)
        yield found


def agent_source() -> AgentSource:
    return AgentSource(Mode(CLOUD, "test"))


def take(count: int, found: Happenings) -> list[Happening]:
    return list(itertools.islice(found, count))


def test_events_of_both_are_merged(agent: FakeAgent, engine: FakeAgent) -> None:
    told: list[str] = []
    source = agent_source()
    found = take(2, Happenings([source, EngineSource((), lambda: source.driver)], told.append))
    assert sorted(found, key=lambda one: one.source) == [
        Happening(1_700_000_000.25, "agent", "secret.changed", {"provider": "v", "path": "kv/db"}),
        Happening(1_700_000_001.5, "engine", "container.start", SHOWN_START),
    ]
    assert told == []


def test_engine_is_asked_for_containers_and_volumes_only(agent: FakeAgent, engine: FakeAgent) -> None:
    take(1, Happenings([EngineSource((), str)], print))
    (query,) = [request.target for request in engine.requests if "/events?" in request.target]
    filters = json.loads(re.sub("%(..)", lambda match: chr(int(match[1], 16)), query.partition("filters=")[2]))
    assert filters["type"] == ["container", "volume"]
    assert "exec_start" not in filters["event"]
    assert {"start", "die", "mount", "unmount"} <= set(filters["event"])


@pytest.mark.parametrize(
    ("event", "fields"),
    [
        (engine_event("container", "start", "a", name="foreign"), None),
        (engine_event("volume", "mount", "data", driver="local", container="c" * 64), None),
        (
            engine_event("volume", "mount", "shop_dso_api", driver="dso", container="c" * 64),
            {"name": "shop_dso_api", "driver": "dso", "container": "c" * 12},
        ),
        (
            engine_event("container", "die", "k" * 64, **{paths.LABEL_ROLE: "keeper", paths.LABEL_PROJECT: "shop"}),
            {"id": "k" * 12, "role": "keeper", "project": "shop"},
        ),
        (
            engine_event("container", "die", "k", **{paths.LABEL_DIGEST: "", "exitCode": "137"}),
            {"id": "k", "exit_code": "137"},
        ),
    ],
)
def test_only_what_dso_made_is_shown(agent: FakeAgent, event: str, fields: dict[str, str] | None) -> None:
    source = EngineSource((), lambda: "dso")
    assert [dict(one.fields) for one in source.happenings([event.encode()])] == ([] if fields is None else [fields])


def test_without_a_volume_driver_no_volume_is_the_agents(agent: FakeAgent) -> None:
    event = engine_event("volume", "mount", "x", driver="")
    assert list(EngineSource((), str).happenings([event.encode()])) == []


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b'{"Actor": 5}',
        b'{"Actor": {"Attributes": 7}}',
        b'{"time": "x", "Type": "volume", "Actor": {"Attributes": {"driver": "dso"}}}',
    ],
)
def test_garbage_of_the_engine_is_its_error(line: bytes) -> None:
    with pytest.raises(EngineError):
        list(EngineSource((), lambda: "dso").happenings([line]))


def test_garbage_of_the_agent_is_its_error(agent: FakeAgent) -> None:
    agent.answers["/v1/events"] = stream("data: {\n\n")
    with pytest.raises(AgentProtocolError):
        take(1, Happenings([agent_source()], print))


def test_event_in_pieces_is_one_event(agent: FakeAgent) -> None:
    text = CHANGED.to_text()
    agent.answers["/v1/events"] = stream(*text)
    (found,) = take(1, Happenings([agent_source()], print))
    assert found.event == "secret.changed"


# Restarts


def test_after_a_lost_connection_it_asks_for_what_it_missed(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "RETRY", 0.01)
    monkeypatch.setattr("time.monotonic", lambda: 1000.0)
    agent.answers["/v1/events"] = stream(CHANGED.to_text(), end=True)
    told: list[str] = []
    source = agent_source()
    heads = record_heads(monkeypatch)
    clock = itertools.count(1000)
    found = Happenings([source], told.append)
    found._clock = lambda: float(next(clock))
    assert [one.event for one in take(2, found)] == ["secret.changed"] * 2
    assert heads == [None, {"Last-Event-ID": "7"}]
    assert told == [
        f"the agent at {agent.socket} ended its events; waiting for it",
        f"the agent at {agent.socket} answers again (dso-agent 0.0.0-fake)",
    ]


def test_agent_that_was_restarted_is_asked_from_its_first_event(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(happenings, "RETRY", 0.01)
    agent.answers["/v1/events"] = stream(CHANGED.to_text(), end=True)
    told: list[str] = []
    heads = record_heads(monkeypatch)
    clock = itertools.count(1000, 10)
    monkeypatch.setattr("time.monotonic", lambda: float(next(clock)))  # yet it says it is up for as long as before
    take(2, Happenings([agent_source()], told.append))
    assert heads == [None, {"Last-Event-ID": "0"}]
    assert told[1].endswith("answers again (dso-agent 0.0.0-fake, restarted)")


def record_heads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    from dso.protocol.client import AgentClient

    heads: list[Any] = []
    follow = AgentClient.follow

    def recorded(self: AgentClient, target: str, headers: Any = None) -> LineStream:
        heads.append(headers)
        return follow(self, target, headers)

    monkeypatch.setattr(AgentClient, "follow", recorded)
    return heads


class Scripted:
    """A source that does as told: each `open` takes the next step, an error or the bytes of a connection."""

    silence: float | None = None
    passing: tuple[type[DsoError], ...] = (AgentUnavailableError,)
    label = "it"

    def __init__(self, *steps: Any) -> None:
        self.steps = list(steps)
        self.ends: list[int] = []

    def open(self) -> LineStream:
        from _socket import AF_UNIX, SOCK_STREAM, socketpair

        step = self.steps.pop(0)
        if isinstance(step, Exception):
            raise step
        ours, self.theirs = socketpair(AF_UNIX, SOCK_STREAM)
        self.theirs.sendall(step)
        self.ours = ours
        return LineStream(ours, {}, bytearray())

    def news(self) -> str:
        return ""

    def happenings(self, lines: Any) -> Iterator[Happening]:
        for line in lines:
            if line == b"close":
                self.theirs.close()
            else:
                yield Happening(0, "agent", line.decode(), {})

    def close(self) -> None:
        self.ends.append(1)
        if hasattr(self, "ours"):
            self.ours.close()
            self.theirs.close()


GONE = AgentUnavailableError("nobody is there")


def test_source_that_is_gone_for_a_while_is_told_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "RETRY", 0.01)
    told: list[str] = []
    source = Scripted(b"a\nclose\n", GONE, GONE, b"b\n")
    assert [one.event for one in take(2, Happenings([source], told.append))] == ["a", "b"]
    assert told == ["it closed the connection; waiting for it", "it answers again"]


def test_first_source_has_to_answer_at_the_start() -> None:
    with pytest.raises(AgentUnavailableError):
        take(1, Happenings([Scripted(GONE)], print))


def test_other_sources_may_come_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "RETRY", 0.01)
    told: list[str] = []
    first, second = Scripted(b""), Scripted(GONE, GONE, b"x\n")
    assert [one.event for one in take(1, Happenings([first, second], told.append))] == ["x"]
    assert told == ["it cannot be reached yet: nobody is there", "it answers again"]
    assert first.ends
    assert second.ends


def test_error_that_waiting_does_not_mend_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "RETRY", 0.01)
    source = Scripted(b"close\n", AgentForbiddenError("another group"))
    with pytest.raises(AgentForbiddenError):
        take(1, Happenings([source], print))


def test_source_without_a_sign_of_life_counts_as_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(happenings, "RETRY", 0.01)
    told: list[str] = []
    source = Scripted(b"a\n", b"b\n")
    source.silence = 0.05
    assert [one.event for one in take(2, Happenings([source], told.append))] == ["a", "b"]
    assert "has said nothing" in told[0]


def test_closed_pipe_ends_it_although_nothing_happens() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        with pytest.raises(BrokenPipeError):
            take(1, Happenings([Scripted(b"")], print, output=writer))
    finally:
        os.close(writer)


def test_regular_file_as_output_is_no_reason_to_end(tmp_path: Path) -> None:
    with (tmp_path / "out").open("wb") as file:
        found = take(1, Happenings([Scripted(b"a\n")], print, output=file.fileno()))
    assert [one.event for one in found] == ["a"]


# The command


def interrupt_after(count: int, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    shown = getattr(cmd_watch, name)
    seen = itertools.count(1)

    def wrapped(happening: Happening) -> str:
        if next(seen) > count:
            raise KeyboardInterrupt
        return str(shown(happening))

    monkeypatch.setattr(cmd_watch, name, wrapped)


def test_command_prints_a_line_each_until_interrupted(
    user: User, agent: FakeAgent, engine: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answers["/v1/events"] = stream(CHANGED.to_text() * 3)
    engine.answers["/v1.44/events"] = stream(engine_event("container", "start", "a", name="foreign"))
    interrupt_after(2, monkeypatch, "as_line")
    done = user.dso("watch", "--mode=cloud")
    assert done.code == 130
    first, second = done.out.splitlines()
    assert first == second
    assert first.split()[2:] == ["agent", "secret.changed", "provider=v", "path=kv/db"]


def test_json_is_one_object_a_line(
    user: User, agent: FakeAgent, engine: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answers["/v1/events"] = stream(CHANGED.to_text() * 2)
    engine.answers["/v1.44/events"] = stream("")[:-5]
    interrupt_after(1, monkeypatch, "as_json")
    assert json.loads(user.dso("watch", "--mode=cloud", "--format=json").out) == {
        "time": 1_700_000_000.25,
        "source": "agent",
        "event": "secret.changed",
        "fields": {"provider": "v", "path": "kv/db"},
    }


def test_engine_that_does_not_run_leaves_the_agents_events(
    user: User, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere/engine.sock")
    agent.answers["/v1/events"] = stream(CHANGED.to_text() * 2)
    interrupt_after(1, monkeypatch, "as_line")
    done = user.dso("watch", "--mode=cloud")
    assert "secret.changed" in done.out
    assert "the Docker Engine cannot be reached yet: no Docker Engine runs here" in done.err


def test_local_mode_shows_the_engines_events_only(
    owner: User, agent: FakeAgent, engine: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine.answers["/v1.44/events"] = stream(STARTED * 2)
    interrupt_after(1, monkeypatch, "as_line")
    done = owner.dso("watch", "--mode=local")
    assert "container.start" in done.out
    assert agent.requests == []
    assert "has no agent" in done.err


@pytest.mark.parametrize(
    ("status", "fault", "code"),
    [(403, Fault("permission_denied", "not you"), 41), (429, Fault("busy", "too many watch"), 65)],
)
def test_refusal_at_the_start_is_the_exit_code(
    user: User, agent: FakeAgent, status: int, fault: Fault, code: int
) -> None:
    agent.answers["/v1/events"] = refusal(status, fault)
    assert user.dso("watch", "--mode=cloud").code == code


def test_agent_that_does_not_run_is_named(user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(paths.SOCKET_VARIABLE, f"{tmp_path}/none.sock")
    assert user.dso("watch", "--mode=cloud").code == 40


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("word", "word"),
        ("two words", '"two words"'),
        ("", '""'),
        (True, "true"),
        (1.5, "1.5"),
        (["a", "b"], "a,b"),
        (["a b"], '["a b"]'),
        ("\x1b[2J", '"\\u001b[2J"'),
        ('a"b', '"a\\"b"'),
        ("é", "é"),
    ],
)
def test_fields_are_words_or_json(value: object, shown: str) -> None:
    assert cmd_watch.as_line(Happening(0, "agent", "e", {"x": value})).endswith(f"x={shown}")
