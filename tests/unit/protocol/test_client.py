"""The command line's side of the agent's API: what it asks, and what becomes of every kind of answer."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.errors import (
    AgentBusyError,
    AgentForbiddenError,
    AgentProtocolError,
    AgentUnavailableError,
    AgentUntrustedError,
    AgentVersionError,
    ConfigError,
    DsoError,
    FileSecretsUnavailableError,
    SecretForbiddenError,
)
from dso.protocol import client as client_module
from dso.protocol.agent import Fault, ResolveRequest, VolumeFile, VolumeSpec
from dso.protocol.client import AgentClient
from dso.protocol.state import ProviderInfo
from tests.support.fake_agent import FakeAgent, answer, refusal
from tests.support.imports import sources

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[FakeAgent]:
    with FakeAgent(tmp_path, {"prod/db": b"\xffhunter2"}, providers=[ProviderInfo("v", "vault", "ready")]) as found:
        yield found


@pytest.fixture
def client(agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> Iterator[AgentClient]:
    monkeypatch.delenv(paths.SOCKET_VARIABLE, raising=False)
    with AgentClient.connect(agent.socket) as found:
        yield found


def test_requests_share_one_connection_and_answers_are_read(agent: FakeAgent, client: AgentClient) -> None:
    assert client.status().providers == [ProviderInfo("v", "vault", "ready")]
    assert client.secrets().agent.volume_driver.name == "dso"
    (one,) = client.resolve(ResolveRequest(["dso://prod/db"])).resolved
    assert one.value is not None
    assert one.value.reveal() == b"\xffhunter2"
    assert client.put_volumes({"v": VolumeSpec([VolumeFile("f", "dso://prod/db")])}) == "dso"
    assert agent.volumes["v"].files == [VolumeFile("f", "dso://prod/db")]
    assert client.requests == 4


def test_check_brings_no_value(client: AgentClient) -> None:
    (one,) = client.resolve(ResolveRequest([], ["dsofile://prod/db"])).resolved
    assert one.value is None
    assert one.size == 8


def test_reload_names_the_secret_quoted(agent: FakeAgent, client: AgentClient) -> None:
    agent.answers["/v1/reload"] = answer(200, {"refreshed": 1})
    assert client.reload("prod/db") == {"refreshed": 1}
    assert client.reload() == {"refreshed": 1}
    assert agent.asked() == ["POST /v1/reload?secret=prod%2Fdb", "POST /v1/reload"]


def test_request_after_the_agent_closed_the_connection_opens_another(agent: FakeAgent, client: AgentClient) -> None:
    agent.broken["/healthz"] = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{}"
    assert client.get("/healthz") == {}
    assert client.status().info.api == 1


def test_no_socket_names_the_path_and_how_to_start_an_agent(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailableError) as caught:
        AgentClient.connect(str(tmp_path / "none.sock"))
    assert f"there is no {tmp_path}/none.sock" in caught.value.message
    assert "sudo systemctl start dso-agent" in caught.value.hint
    assert "dso-agent --config ./dso.yaml" in caught.value.hint


def test_socket_that_nobody_listens_at_is_said_to_be_left_behind(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(tmp_path / "left.sock"))
    with pytest.raises(AgentUnavailableError, match="left behind"):
        AgentClient.connect(str(tmp_path / "left.sock"))


def test_path_too_long_for_a_socket_is_unavailable_and_no_traceback(tmp_path: Path) -> None:
    with pytest.raises(AgentUnavailableError, match="does not answer"):
        AgentClient.connect(str(tmp_path / ("x" * 200)))


def test_socket_that_may_not_be_opened_names_the_group(monkeypatch: pytest.MonkeyPatch) -> None:
    """With another user: tests/integration/test_cloud_errors.py."""
    error = client_module._unreachable("/run/dso.sock", PermissionError(13, "Permission denied"))
    assert isinstance(error, AgentForbiddenError)
    assert "usermod -aG dso" in error.hint


def test_refusal_without_a_hint_gets_the_one_for_this_socket(
    agent: FakeAgent, client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    agent.answers["/v1/status"] = refusal(403, Fault("permission_denied", "user 1000 may not use this agent"))
    monkeypatch.setattr("dso.protocol.faults.forbidden_hint", lambda socket: f"hint for {socket}")
    with pytest.raises(AgentForbiddenError) as caught:
        client.status()
    assert caught.value.hint == f"hint for {agent.socket}"


@pytest.mark.parametrize("path", ["/v1/status", "/v1/secrets"])
def test_other_api_version_is_named_with_the_release(tmp_path: Path, path: str) -> None:
    with FakeAgent(tmp_path, api=2) as agent, AgentClient.connect(agent.socket) as client:
        with pytest.raises(AgentVersionError) as caught:
            client.status() if path == "/v1/status" else client.secrets()
        assert "version 2" in caught.value.message
        assert "0.0.0-fake" in caught.value.message
        assert "systemctl restart" in caught.value.hint


REFUSALS: dict[str, tuple[Fault, type[DsoError]]] = {
    "peer": (Fault("permission_denied", "user 1000 may not use this agent"), AgentForbiddenError),
    "secret": (Fault("permission_denied", "no rule grants it", reference="dso://a"), SecretForbiddenError),
    "endpoint": (Fault("unsupported", "there is no /v1/resolve"), AgentVersionError),
    "body": (Fault("invalid_request", "the body has an unknown field"), AgentProtocolError),
    "size": (Fault("too_large", "more than 1 MiB"), AgentProtocolError),
    "busy": (Fault("busy", "1000 connections"), AgentBusyError),
    "busy for long": (Fault("busy", "1000 connections", retry_after=1e6), AgentBusyError),
    "defect": (Fault("internal", "see the log"), AgentProtocolError),
    "unknown": (Fault("brand_new_code", "?"), AgentProtocolError),
    "driver": (Fault("volume_unavailable", "not root"), FileSecretsUnavailableError),
    "reload": (Fault("reload_failed", "dso.yaml, line 3"), ConfigError),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_refused_request_is_the_error_its_code_means(agent: FakeAgent, client: AgentClient, name: str) -> None:
    fault, expected = REFUSALS[name]
    agent.answers["/v1/resolve"] = refusal(400, fault)
    with pytest.raises(DsoError) as caught:
        client.resolve(ResolveRequest(["dso://a"]))
    assert type(caught.value) is expected
    assert fault.message in caught.value.message


def test_a_busy_agent_is_asked_again_when_it_says_it_may_have_room(
    agent: FakeAgent, client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            del agent.answers["/v1/resolve"]

    monkeypatch.setattr("dso.protocol.client.time.sleep", sleep)
    agent.answers["/v1/resolve"] = refusal(429, Fault("busy", "no room", retry_after=2.5))
    (one,) = client.resolve(ResolveRequest(["dso://prod/db"])).resolved
    assert one.value is not None
    assert slept == [2.5, 2.5]


def test_a_busy_agent_is_not_waited_for_without_end(
    agent: FakeAgent, client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []
    monkeypatch.setattr("dso.protocol.client.time.sleep", slept.append)
    agent.answers["/v1/resolve"] = refusal(429, Fault("busy", "no room", retry_after=2.5))
    with pytest.raises(AgentBusyError) as caught:
        client.resolve(ResolveRequest(["dso://prod/db"]))
    assert sum(slept) <= client_module.PATIENCE
    assert caught.value.code == 65
    assert caught.value.hint == "try again in 3 s"


GARBAGE = {
    "no HTTP": b"220 mail.example.com ESMTP\r\n\r\n",
    "no JSON": b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n<a>",
    "another JSON": answer(200, ["x"]),
    "JSON of a wrong shape": answer(200, {"resolved": [{"reference": 3}], "errors": []}),
    "value that is not base64": answer(200, {"resolved": [{"reference": "r", "value_base64": "?"}], "errors": []}),
    "refusal without a reason": answer(500, {"oops": 1}),
    "refusal that is no JSON": b"HTTP/1.1 502 X\r\nContent-Length: 2\r\n\r\nhi",
    "cut off": b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{",
    "not UTF-8": b'HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n"\xff\xfe"',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_answer_that_is_none_of_the_agents_names_the_socket(agent: FakeAgent, client: AgentClient, name: str) -> None:
    agent.broken["/v1/resolve"] = GARBAGE[name]
    with pytest.raises(AgentProtocolError) as caught:
        client.resolve(ResolveRequest(["dso://a"]))
    assert client.path in caught.value.message


def test_closed_connection_is_unavailable(agent: FakeAgent, client: AgentClient) -> None:
    agent.broken["/v1/status"] = b""
    with pytest.raises(AgentUnavailableError, match="closed the connection"):
        client.status()


def test_silence_ends_with_the_timeout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "TIMEOUT", 0.05)
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(tmp_path / "silent.sock"))
        silent.listen()
        client = AgentClient.connect(str(tmp_path / "silent.sock"))
        with client, pytest.raises(AgentUnavailableError, match="did not answer within"):
            client.status()


STREAMS = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nb\n\r\n2\r\nc\n\r\n0\r\n\r\n",
    "closed": b"HTTP/1.1 200 OK\r\n\r\na\nb\r\nc",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\na\nb\nc",
}


@pytest.mark.parametrize("name", STREAMS)
def test_stream_yields_lines_as_they_come(agent: FakeAgent, client: AgentClient, name: str) -> None:
    agent.broken["/v1/logs"] = STREAMS[name]
    assert list(client.stream("/v1/logs?follow=1")) == ["a", "b", "c"]


def test_refused_stream_is_the_error_its_code_means(agent: FakeAgent, client: AgentClient) -> None:
    agent.answers["/v1/events"] = refusal(403, Fault("permission_denied", "no"))
    with pytest.raises(AgentForbiddenError):
        list(client.stream("/v1/events"))


def test_stream_that_breaks_off_is_an_error(agent: FakeAgent, client: AgentClient) -> None:
    agent.broken["/v1/events"] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\n"
    with pytest.raises(AgentProtocolError, match="closed in the middle"):
        list(client.stream("/v1/events"))


@pytest.mark.parametrize(("listener", "is_trusted"), [(0, True), (1000, True), (1001, False), (65534, False)])
def test_only_root_and_the_user_themself_are_spoken_to(
    agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, listener: int, is_trusted: bool
) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 1000)
    monkeypatch.setattr(client_module, "peer_of", lambda _connection: (1, listener))
    if is_trusted:
        with AgentClient.connect(agent.socket) as client:
            client.status()
        return
    with pytest.raises(AgentUntrustedError, match=f"belongs to another user \\({listener}\\)"):
        AgentClient.connect(agent.socket)
    assert not agent.requests


def test_whoever_took_the_agent_s_place_is_looked_at_anew(
    agent: FakeAgent, client: AgentClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.status()
    client.close()
    monkeypatch.setattr(client_module, "peer_of", lambda _connection: (1, 4242))
    with pytest.raises(AgentUntrustedError):
        client.status()
    assert len(agent.requests) == 1


# Where Unix sockets are connected to, but by the agent, and why nothing is told to a stranger there.
SOCKETS = {
    "dso.system.http": "opens them for the two below",
    "dso.protocol.client": "the agent's: whose it is, is looked at before a byte is sent",
    "dso.delivery.connection": "the Engine's, which Docker's own configuration chooses, as for `docker` itself",
    "dso.cli.journal": "asks the kernel who listens, and sends nothing",
    "dso.system.systemd": "systemd's own, from NOTIFY_SOCKET; it says `READY=1`",
    "dso.system.proc": "that of the Docker that started us; it is only waited for its end",
}


def test_every_place_that_opens_a_unix_socket_is_known() -> None:
    words = ("AF_UNIX", "open_unix_socket", "open_unix_connection", "UnixConnector")
    found = {module for module, source in sources() if any(word in source for word in words)}
    found = {module for module in found if not module.startswith("dso.agent.")}
    assert found == SOCKETS.keys()
