"""The client against an Engine made of canned answers: versions, refusals, broken connections."""

from __future__ import annotations

import json
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from dso.delivery import engine as engine_module
from dso.delivery.engine import Engine
from dso.errors import ContainerNotFoundError, EngineError, EngineUnreachableError, EngineUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def answer(body: object, status: str = "200 OK", **headers: str) -> bytes:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Api_Version": "1.45", "Ostype": "linux", "Content_Length": str(len(text)), **headers}
    head = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + text


class FakeEngine:
    """Answers each request with the next of `answers`; None closes the connection instead."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.answers: list[bytes | None] = []
        self.lines: list[str] = []
        self.connections = 0
        self.read_bodies = True
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while self._serve_connection():
            pass

    def _serve_connection(self) -> bool:
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return False
        self.connections += 1
        with connection, connection.makefile("rb") as stream:
            while line := stream.readline():
                self.lines.append(line.decode().split(" HTTP")[0])
                length = 0
                while field := stream.readline().strip():
                    name, _, value = field.partition(b":")
                    length = int(value) if name == b"Content-Length" else length
                if self.read_bodies:
                    stream.read(length)
                reply = self.answers.pop(0)
                if reply is not None:
                    connection.sendall(reply)
                if reply is None or b"Connection: close" in reply:
                    break
        return True

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(10)


@pytest.fixture
def fake(tmp_path: Path) -> Iterator[FakeEngine]:
    found = FakeEngine(str(tmp_path / "docker.sock"))
    yield found
    found.close()


@pytest.fixture
def engine(fake: FakeEngine) -> Iterator[Engine]:
    with Engine.from_docker_args(["-H", f"unix://{fake.path}"]) as found:
        yield found


def test_all_requests_share_one_connection(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer([]), answer({"Volumes": None}), answer({"Arch": "amd64"})]
    assert engine.containers() == []
    assert engine.volumes(name=["x"]) == []
    assert engine.version() == {"Arch": "amd64"}
    assert (fake.connections, engine.requests, engine.api_version) == (1, 3, "1.45")


def test_filters_are_sent_as_json(fake: FakeEngine, engine: Engine) -> None:
    from urllib.parse import parse_qs, urlsplit

    fake.answers = [answer([]), answer([]), answer([])]
    engine.containers(["a=b", "c"], ["running"])
    engine.containers()
    engine.containers(limit=1)
    queries = [parse_qs(urlsplit(line.split(" ")[1]).query) for line in fake.lines]
    assert json.loads(queries[0]["filters"][0]) == {"label": ["a=b", "c"], "status": ["running"]}
    assert queries[0]["all"] == ["1"]
    assert queries[1] == {"all": ["1"]}
    assert queries[2] == {"all": ["1"], "limit": ["1"]}


TOO_NEW = {"message": "client version 1.44 is too new. Maximum supported API version is 1.41"}
TOO_OLD = {"message": "client version 1.44 is too old. Minimum supported API version is 1.50"}


@pytest.mark.parametrize(("refusal", "version"), [(TOO_NEW, "1.41"), (TOO_OLD, "1.52")])
def test_other_api_version_is_agreed_on_with_one_more_request(
    refusal: object, version: str, fake: FakeEngine, engine: Engine
) -> None:
    fake.answers = [answer(refusal, "400 Bad Request", Api_Version=version), answer([]), answer([])]
    assert engine.containers() == []
    assert engine.containers() == []
    assert [line.split("/")[1] for line in fake.lines] == ["v1.44", f"v{version}", f"v{version}"]


def test_engine_before_20_10_is_refused(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer(TOO_NEW, "400 Bad Request", Api_Version="1.40")]
    with pytest.raises(EngineUnsupportedError, match=r"API 1\.40") as caught:
        engine.containers()
    assert "20.10" in caught.value.hint


def test_another_bad_request_is_not_taken_for_a_version_conflict(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer({"message": "bad filter"}, "400 Bad Request", Api_Version="1.41")]
    with pytest.raises(EngineError, match="bad filter"):
        engine.containers()


def test_windows_engine_is_refused(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer([], Ostype="windows")]
    with pytest.raises(EngineUnsupportedError, match="windows"):
        engine.containers()


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ({"message": "no space left on device"}, "no space left"),
        (b"plain text\n", "plain text"),
        (b"", "500"),
        (b"{", "{"),
    ],
)
def test_refusal_carries_the_engines_own_words(body: object, shown: str, fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer(body, "500 Internal Server Error")]
    with pytest.raises(EngineError, match=shown) as caught:
        engine.put_archive("id", "/run/dso", b"the secret")
    assert "PUT /containers/id/archive" in caught.value.message
    assert "the secret" not in caught.value.message


def test_unknown_container_is_its_own_error(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer({"message": "No such container"}, "404 Not Found")]
    with pytest.raises(ContainerNotFoundError, match="'web'"):
        engine.inspect_container("web")


def test_name_with_slashes_stays_one_segment(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer({"Id": "x"})]
    engine.inspect_container("../secrets?x=1")
    assert fake.lines == ["GET /v1.44/containers/..%2Fsecrets%3Fx%3D1/json"]


def test_connection_that_went_stale_is_opened_again(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer([], Connection="close"), answer([])]
    assert engine.containers() == []
    assert engine.containers() == []
    assert fake.connections == 2


def test_idle_connection_closed_by_the_engine_is_opened_again(tmp_path: Path) -> None:
    fake = FakeEngine(str(tmp_path / "a.sock"))
    with Engine.from_docker_args(["-H", f"unix://{fake.path}"]) as engine:
        fake.answers = [answer([]) + b"", answer([])]
        assert engine.containers() == []
        assert engine._socket is not None
        engine._socket.shutdown(socket.SHUT_RDWR)  # what a restarted Engine does to us
        assert engine.containers() == []
    fake.close()
    assert fake.connections == 2


def test_engine_that_dies_in_the_middle_is_unreachable(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [None, answer([])]
    with pytest.raises(EngineUnreachableError, match="broke"):
        engine.containers()
    assert engine.containers() == []  # and a new connection is tried next time


def test_refusal_before_the_body_was_read_is_still_understood(fake: FakeEngine, engine: Engine) -> None:
    fake.read_bodies = False
    fake.answers = [answer({"message": "no such container"}, "404 Not Found", Connection="close"), answer([])]
    with pytest.raises(EngineError, match="no such container"):
        engine.put_archive("gone", "/run/dso", bytes(16 << 20))
    assert engine.containers() == []


def test_silent_engine_is_given_up(fake: FakeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "TIMEOUT", 0.05)
    fake.answers = [b""]
    with pytest.raises(EngineUnreachableError, match="did not answer within"):
        engine.containers()


def test_endless_answer_is_cut(fake: FakeEngine, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_module, "MAX_BODY", 1000)
    fake.answers = [answer(b"x" * 1001)]
    with pytest.raises(EngineUnreachableError, match="too large"):
        engine.containers()


def test_answer_that_is_not_json_is_an_error(fake: FakeEngine, engine: Engine) -> None:
    fake.answers = [answer(b"<html>")]
    with pytest.raises(EngineError, match="not JSON"):
        engine.containers()


def test_failed_load_is_found_in_the_progress(fake: FakeEngine, engine: Engine) -> None:
    progress = b'{"status":"importing"}\r\n{"errorDetail":{"message":"x"},"error":"no space left"}\r\n'
    fake.answers = [answer(progress)]
    with pytest.raises(EngineError, match="no space left"):
        engine.load_image(b"")


@pytest.mark.parametrize(
    ("status", "removed"), [("204 No Content", True), ("404 Not Found", True), ("409 Conflict", False)]
)
def test_volume_in_use_is_reported_and_a_missing_one_is_not(
    status: str, removed: bool, fake: FakeEngine, engine: Engine
) -> None:
    fake.answers = [answer(b"", status)]
    assert engine.remove_volume("v") is removed
