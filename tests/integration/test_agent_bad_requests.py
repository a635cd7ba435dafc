"""Whatever is sent to the agent, by whomever, it answers with a code or hangs up, and goes on as before."""

from __future__ import annotations

import contextlib
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from dso.protocol import agent as api
from tests.support.agent import Agent, Answer, ask
from tests.support.canary import Canary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SECRET = Canary.new()

# One agent takes all of it, as a real one would; what it keeps for requests is bounded.
thorough = settings(
    max_examples=60,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)

ENDPOINTS = [
    ("POST", api.RESOLVE),
    ("PUT", api.VOLUMES),
    ("POST", api.RELOAD),
    ("GET", api.STATUS),
    ("GET", api.SECRETS),
    ("GET", api.METRICS),
    ("GET", api.HEALTH),
]
DRIVER = [
    *["/Plugin.Activate", "/VolumeDriver.Capabilities", "/VolumeDriver.Create", "/VolumeDriver.Get"],
    *["/VolumeDriver.List", "/VolumeDriver.Path", "/VolumeDriver.Mount", "/VolumeDriver.Unmount"],
    *["/VolumeDriver.Remove"],
]

# JSON, and what looks like it.
TEXTS = st.text(max_size=30) | st.sampled_from(["dso://fake/a", "dsofile://fake/a", "{{dso://fake/a}}", "\ud800", "\0"])
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | TEXTS
JSON = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4), max_leaves=12
)
ENTRY = {"name": "mine/a", "provider": "fake", "path": "a"}
FILE = {"name": "a", "template": "{{dso://fake/a}}", "uid": 0, "gid": 0, "mode": 0o444}
VALID: dict[str, Any] = {
    api.RESOLVE: {"values": ["dso://fake/a"], "checks": ["dso://mine/a"], "secrets": [ENTRY]},
    api.VOLUMES: {"volumes": {"p_dso_web": {"files": [FILE], "secrets": [ENTRY]}}},
    "/VolumeDriver.Create": {"Name": "fuzzed", "Opts": {"spec": json.dumps({"files": [FILE]})}},
    "/VolumeDriver.Mount": {"Name": "fuzzed", "ID": "1"},
}


@st.composite
def almost(draw: Callable[..., Any], valid: Any) -> Any:
    """A valid document in which one place is something else, missing, or one too many."""
    if not isinstance(valid, dict | list) or not valid or draw(st.integers(0, 5)) == 0:
        return draw(JSON)
    if isinstance(valid, list):
        index = draw(st.integers(0, len(valid) - 1))
        return [*valid[:index], draw(almost(valid[index])), *valid[index + 1 :]]
    name = draw(st.sampled_from(sorted(valid)))
    how = draw(st.sampled_from(["change", "drop", "rename", "add"]))
    if how == "drop":
        return {key: value for key, value in valid.items() if key != name}
    if how == "rename":
        return {draw(TEXTS) if key == name else key: value for key, value in valid.items()}
    if how == "add":
        return {**valid, draw(TEXTS): draw(JSON)}
    return {**valid, name: draw(almost(valid[name]))}


def encoded(document: Any) -> bytes:
    return json.dumps(document).encode("utf-8", "surrogatepass")


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as running:
        running.write_secrets({"a": {"text": SECRET.text}})
        running.use_fake().start()
        yield running


@pytest.fixture(autouse=True)
def unharmed(agent: Agent) -> Iterator[None]:
    since = len(agent.log)
    yield
    assert agent.process.poll() is None, agent.log[-4000:]
    assert agent.value("dso://fake/a") == SECRET.text
    said = agent.log[since:]
    assert "internal" not in said, said[-4000:]
    assert "Traceback" not in said, said[-4000:]
    assert not SECRET.find(agent.log.encode())


def sensible(answer: Answer) -> None:
    """Understood, or refused with a code and a message that say why."""
    assert answer.status < 500, answer
    if answer.status >= 400:
        fault = answer.json()["error"]
        assert fault["code"].isidentifier()
        assert fault["message"]


# Bodies


@pytest.mark.parametrize(("method", "path"), ENDPOINTS)
@thorough
@given(body=st.binary(max_size=300))
@example(body=b"")
@example(body=b"[" * 100_000)
@example(body=b'{"values": ' * 50_000)
@example(body=b"1" * 100_000)
@example(body=b'{"values": [1e999999]}')
@example(body=b"\xff\xfe{\x00}\x00")
def test_random_bytes(agent: Agent, method: str, path: str, body: bytes) -> None:
    sensible(agent.request(method, path, body))


@pytest.mark.parametrize("path", [api.RESOLVE, api.VOLUMES])
@thorough
@given(data=st.data())
def test_documents_that_are_almost_right(agent: Agent, path: str, data: st.DataObject) -> None:
    method = {where: how for how, where in ENDPOINTS}[path]
    sensible(agent.request(method, path, encoded(data.draw(almost(VALID[path])))))


@pytest.mark.parametrize("path", DRIVER)
@thorough
@given(data=st.data())
def test_the_engine_may_send_anything_too(agent: Agent, path: str, data: st.DataObject) -> None:
    document = data.draw(st.binary(max_size=100) | almost(VALID.get(path, {"Name": "fuzzed"})).map(encoded))
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(60)
        connection.connect(agent.volume_socket)
        answer = ask(connection, "POST", path, document)
    assert answer.status in (200, 400, 404, 500), answer  # what the plugin protocol has
    found = answer.json()
    assert isinstance(found, dict)
    assert answer.status == 200 or found["Err"], answer


@pytest.mark.parametrize(
    "references",
    [
        ["dso://fake/a"] * (api.MAX_REFERENCES + 1),
        ["dso://fake/" + "x" * 100_000],
        ["dso://fake/../../etc/passwd", "dso://", "dso:///", "dso://fake", "a", "", "dso://fake/a?version=\n", "\0"],
        [f"dso://fake/none-{number}" for number in range(2000)],
    ],
    ids=["too many", "long", "malformed", "many missing"],
)
def test_references_that_lead_nowhere(agent: Agent, references: list[str]) -> None:
    sensible(agent.request("POST", api.RESOLVE, {"values": references}))


def test_a_body_beyond_the_limit_is_refused_before_it_is_read(agent: Agent) -> None:
    answer = agent.request("POST", api.RESOLVE, b" " * (api.MAX_REQUEST_BYTES + 1))
    assert (answer.status, answer.code) == (413, "too_large")
    with agent.connect() as connection:
        connection.sendall(b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nContent-Length: 99999999999\r\n\r\n")
        assert b" 413 " in connection.recv(4096)


# Targets and methods


@thorough
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "BREW"]),
    path=st.sampled_from(
        [where for _, where in ENDPOINTS] + ["/", "/v1", "/v2/resolve", "/v1/resolve/", "/v1//status"]
    ),
    query=st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
def test_methods_and_queries(agent: Agent, method: str, path: str, query: str) -> None:
    answer = agent.request(method, f"{path}?{query.replace('#', '')}", b"{}" if method != "HEAD" else None)
    if method == "HEAD":
        assert answer.status < 500
    else:
        sensible(answer)


@pytest.mark.parametrize(
    "query", ["lines=-1", "lines=x", "lines=99999999999999999999", "level=loud", "since=yesterday"]
)
def test_queries_of_the_log_that_make_no_sense(agent: Agent, query: str) -> None:
    answer = agent.request("GET", f"{api.LOGS}?{query}")
    assert answer.status == 400, answer
    sensible(answer)


# What is no HTTP

RAW = [
    b"\r\n\r\n",
    b"GET\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\n" + b"A: b\r\n" * 100_000 + b"\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: dso\r\nX: " + b"x" * 1_000_000 + b"\r\n\r\n",
    b"GET /" + b"x" * 1_000_000 + b" HTTP/1.1\r\nHost: dso\r\n\r\n",
    b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nContent-Length: -1\r\n\r\n{}",
    b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
    b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n{}\r\n",
    b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n{}",
    b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nabcd",
    b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nExpect: the-impossible\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /v1/events HTTP/1.1\r\nHost: dso\r\nLast-Event-ID: \xff\r\n\r\n",
    b"GET /healthz HTTP/1.1\r\nHost: dso\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500,
]


def spoken(agent: Agent, words: bytes) -> bytes:
    """What the agent says to raw words, up to the first that is not the beginning of a stream."""
    with agent.connect() as connection:
        connection.settimeout(10)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            return connection.recv(65536)
    return b""


@pytest.mark.parametrize("words", RAW, ids=range(len(RAW)))
def test_what_is_no_proper_http(agent: Agent, words: bytes) -> None:
    assert b" 500 " not in spoken(agent, words).partition(b"\r\n")[0]


@thorough
@given(
    words=st.binary(max_size=200) | st.sampled_from(RAW).flatmap(lambda raw: st.integers(0, 200).map(lambda n: raw[:n]))
)
def test_random_words(agent: Agent, words: bytes) -> None:
    assert b" 500 " not in spoken(agent, words).partition(b"\r\n")[0]


def test_several_requests_at_once_on_one_connection_are_answered_in_order(agent: Agent) -> None:
    one = b"GET /healthz HTTP/1.1\r\nHost: dso\r\n\r\n"
    with agent.connect() as connection:
        connection.sendall(one * 50)
        said = b""
        while said.count(b" 200 OK") < 50:
            piece = connection.recv(65536)
            assert piece
            said += piece
