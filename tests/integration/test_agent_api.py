"""The agent's API over its socket, as docs/agent-api.md and agent-api.openapi.yaml have it."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import threading
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from dso.agent.endpoints import Endpoints
from dso.protocol import codes
from dso.protocol.client import AgentClient
from dso.protocol.stream import LogLine, read_events
from tests.support.agent import Agent, ask
from tests.support.process import ROOT
from tests.support.schema import Schemas
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRETS: dict[str, dict[str, object]] = {
    "prod/db": {"fields": {"username": "app", "password": "hunter2", "port": 5432}},
    "prod/plain": {"text": "just text"},
    "prod/bytes": {"binary": "/wA="},
    "forbidden": {"error": "permission_denied"},
}
ENTRIES = """
secrets:
  - {name: db, provider: fake, path: prod/db, mappings: {password: DB_PASSWORD}, targets: {services: [api]}}
  - name: tls/key
    provider: fake
    path: prod/plain
    version: "3"
    inject: {type: file, path: /etc/key, uid: 5, gid: 6, mode: "0400"}
    targets: {labels: {tier: web}}
"""


def document(path: str) -> Any:
    with open(os.path.join(ROOT, "docs", path), encoding="utf-8") as page:
        return yaml.safe_load(page) if path.endswith(".yaml") else page.read()


OPENAPI = document("agent-api.openapi.yaml")


SCHEMAS = Schemas(OPENAPI["components"]["schemas"])
faults = SCHEMAS.faults


def answer_schema(method: str, path: str, status: int) -> dict[str, Any]:
    responses = OPENAPI["paths"][path][method.lower()]["responses"]
    if str(status) in responses:
        content = responses[str(status)]["content"]
    else:
        content = OPENAPI["components"]["responses"]["Refusal"]["content"]
    (schema,) = [one["schema"] for one in content.values()]
    return dict(schema)


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as running:
        running.write_secrets(SECRETS)
        running.use_fake(ENTRIES).start()
        yield running


# The pages


def test_the_page_has_the_endpoints_there_are():
    found = {path: {method.upper() for method in methods} for path, methods in OPENAPI["paths"].items()}
    routes = Endpoints(None).routes  # type: ignore[arg-type]
    assert found == {path: set(methods) for path, methods in routes.items()}
    titles = re.findall(r"^### (\w+) (/\S+)$", document("agent-api.md"), re.MULTILINE)
    assert {(method, path) for path, methods in routes.items() for method in methods} == set(titles)


def test_the_page_has_the_codes_there_are():
    known = {value for name, value in vars(codes).items() if name.isupper() and isinstance(value, str)}
    assert set(OPENAPI["components"]["schemas"]["Fault"]["properties"]["code"]["enum"]) == known
    table = document("agent-api.md").partition("## Errors")[2].partition("## Endpoints")[0]
    listed = set(re.findall(r"`([a-z_]+)`", "".join(re.findall(r"^\|([^|]*)\|", table, re.MULTILINE))))
    assert listed == {code for code in known if not code.startswith("plugin_")}


def test_the_page_has_the_events_there_are():
    said: set[str] = set()
    for directory, _, names in os.walk(os.path.join(ROOT, "dso", "agent")):
        for name in names:
            if name.endswith(".py"):
                with open(os.path.join(directory, name), encoding="utf-8") as source:
                    said |= set(re.findall(r"(?:emit|events|_note)\(\s*\"([a-z]+\.[a-z_]+)\"", source.read()))
    table = document("agent-api.md").partition("| event |")[2].partition("### GET /v1/logs")[0]
    rows = re.findall(r"^\| (`[a-z]+\..*?) \|", table, re.MULTILINE)
    listed = {name for row in rows for name in re.findall(r"`([a-z]+\.[a-z_]+)`", row)}
    assert listed == said | {"events.lost"}


# Answers


@pytest.mark.parametrize(
    ("method", "target", "body", "status"),
    [
        ("GET", "/healthz", None, 200),
        ("GET", "/v1/status", None, 200),
        ("GET", "/v1/secrets", None, 200),
        ("POST", "/v1/reload", None, 200),
        ("POST", "/v1/reload?secret=db", None, 200),
        ("POST", "/v1/reload?secret=fake/forbidden", None, 200),
        ("POST", "/v1/reload?secret=../x", None, 400),
        ("PUT", "/v1/volumes", {"volumes": {}}, 200),
        ("PUT", "/v1/volumes", {"volumes": {"a": {"files": [{"name": "../x", "template": "dso://db#port"}]}}}, 400),
        (
            "POST",
            "/v1/resolve",
            {"values": ["dso://db#port", "dso://fake/prod/bytes"], "checks": ["dsofile://tls/key"]},
            200,
        ),
        ("POST", "/v1/resolve", {"values": ["x", "dso://none", "dso://db", "dso://fake/forbidden"]}, 200),
        ("POST", "/v1/resolve", {"values": "x"}, 400),
        ("GET", "/v1/logs?level=x", None, 400),
    ],
)
def test_answers_are_as_the_page_has_them(agent: Agent, method: str, target: str, body: object, status: int):
    answer = agent.request(method, target, body)
    assert answer.status == status, answer
    assert faults(answer.json(), answer_schema(method, target.partition("?")[0], status)) == []


def test_the_check_against_the_page_finds_what_is_wrong():
    schema = {"$ref": "#/components/schemas/ResolveResponse"}
    good = {"reference": "a", "size": 1, "fingerprint": "f", "version": "", "age": 0.1, "stale": False}
    assert faults({"resolved": [good], "errors": []}, schema) == []
    for wrong in ({**good, "age": "1"}, {**good, "more": 1}, {**good, "stale": 0}, {"reference": "a"}):
        assert faults({"resolved": [wrong], "errors": []}, schema)
    assert faults({"resolved": []}, schema)
    assert faults({"resolved": [], "errors": [{"code": "other", "message": ""}]}, schema)


def test_the_command_lines_client_understands_all_of_it(agent: Agent):
    with AgentClient.connect(agent.socket) as client:
        status, listed = client.status(), client.secrets()
        assert status.info.uid == os.geteuid()
        assert status.config == agent.config_file
        assert [one.name for one in status.providers] == ["fake"]
        db, key = listed.secrets
        assert (db.name, db.mappings, db.services) == ("db", (("password", "DB_PASSWORD"),), ("api",))
        assert (key.kind, key.file_path, key.uid, key.gid, key.mode) == ("file", "/etc/key", 5, 6, 0o400)
        assert (key.version, key.labels) == ("3", (("tier", "web"),))


def test_values_of_every_kind(agent: Agent):
    assert agent.value("dso://db#password") == "hunter2"
    assert agent.value("dso://db#port") == "5432"
    assert agent.value("dsofile://tls/key") == "just text"
    assert agent.value("dso://prod/plain?version=9") == "just text"
    assert agent.resolve("dso://fake/prod/bytes")["resolved"][0]["value_base64"] == "/wA="


def test_one_request_is_one_call_of_the_provider():
    with Agent() as agent:
        agent.write_secrets({"*": {"text": "x"}})
        agent.use_fake().start()
        answer = agent.resolve(*[f"dso://a/{at}" for at in range(50)])
        assert len(answer["resolved"]) == 50
        assert len(agent.calls) == 1


def test_every_access_is_logged_with_who_and_what_and_no_value(agent: Agent):
    since = len(agent.log)
    with agent.connect() as connection:
        ask(connection, "POST", "/v1/resolve", {"values": ["dso://db#password"], "checks": ["dsofile://tls/key"]})
    agent.wait_for_log("secrets.read", since=since)
    assert f"uid={os.geteuid()} pid={os.getpid()} secrets=db,tls/key" in agent.log[since:]
    assert "hunter2" not in agent.log


def test_a_secret_that_changed_is_told_and_served_after_a_reload(agent: Agent):
    assert agent.value("dso://prod/plain") == "just text"
    before = agent.resolve(checks=["dso://prod/plain"])["resolved"][0]["fingerprint"]
    try:
        agent.write_secrets({**SECRETS, "prod/plain": {"text": "changed", "version": "2"}})
        assert agent.value("dso://prod/plain") == "just text"
        answer = agent.request("POST", "/v1/reload?secret=fake/prod/plain").json()
        assert answer["changed"] == ["fake/prod/plain"]
        found = agent.resolve("dso://prod/plain")["resolved"][0]
        assert (found["value"], found["version"]) == ("changed", "2")
        assert found["fingerprint"] != before
    finally:
        agent.write_secrets(SECRETS)
        agent.request("POST", "/v1/reload?secret=fake/prod/plain")


def test_a_reload_tells_which_secrets_could_not_be_fetched(agent: Agent):
    agent.value("dso://prod/plain")
    try:
        agent.write_secrets({"prod/plain": {"error": "unavailable"}})
        answer = agent.request("POST", "/v1/reload?secret=prod/plain").json()
        assert [(one["code"], one["reference"]) for one in answer["failed"]] == [
            ("unavailable", "dso://fake/prod/plain")
        ] * len(answer["failed"])
        assert answer["failed"]
        assert agent.resolve("dso://prod/plain")["resolved"][0]["value"] == "just text"
    finally:
        agent.write_secrets(SECRETS)


def test_events_are_told_as_they_happen(agent: Agent):
    found: list[Any] = []
    ready = threading.Event()

    def watch() -> None:
        lines = (line.decode() for line in agent.stream("/v1/events"))
        assert next(lines).startswith(":")
        ready.set()
        for event in read_events(lines):
            found.append(event)
            if event.name == "reload.done":
                return

    watching = threading.Thread(target=watch)
    watching.start()
    assert ready.wait(30)
    agent.resolve("dso://db#password")
    agent.request("POST", "/v1/reload")
    watching.join(30)
    assert not watching.is_alive()
    names = [event.name for event in found]
    assert "secrets.read" in names
    assert names[-2:] == ["reload.asked", "reload.done"]
    assert [event.number for event in found] == sorted(event.number for event in found)
    assert "hunter2" not in repr(found)


def test_the_log_can_be_read_and_followed(agent: Agent):
    lines = [LogLine.from_text(line) for line in agent.request("GET", "/v1/logs").body.decode().splitlines()]
    assert "starts with" in lines[0].message
    last = agent.request("GET", "/v1/logs?lines=1&level=info").body.decode()
    assert len(last.splitlines()) == 1
    assert agent.request("GET", f"/v1/logs?since={lines[-1].time + 1e6:f}").body == b""
    following = agent.stream("/v1/logs?follow=1&lines=0")
    next(following)
    agent.request("POST", "/v1/reload?secret=db")
    assert json.loads(next(following))["message"].startswith("reload.asked")


def test_numbers_are_those_of_what_happened():
    with Agent() as agent:
        agent.write_secrets(SECRETS)
        agent.use_fake(ENTRIES).start()
        agent.resolve("dso://db#password", "dso://db#nope", "dso://tls/key")
        text = agent.request("GET", "/metrics").body.decode()
        for line in (
            'dso_agent_references_total{result="ok"} 2',
            'dso_agent_references_total{result="unknown_field"} 1',
            'dso_agent_requests_total{endpoint="/v1/resolve",status="200"} 1',
            "dso_agent_cache_entries 2",
            'dso_agent_provider_up{provider="fake",type="fake"} 1',
            "dso_agent_config_ok 1",
        ):
            assert line in text.splitlines()


def test_a_provider_whose_backend_gives_nothing_is_failing_until_it_gives_something():
    with Agent() as agent, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(agent.path("notify.sock"))
        agent.env["NOTIFY_SOCKET"] = agent.path("notify.sock")
        agent.write_secrets({"down": {"error": "unavailable"}, "up": {"text": "x"}})
        agent.use_fake().start()

        def seen() -> tuple[dict[str, Any], str, str]:
            status = agent.get("/v1/status")
            assert faults(status, answer_schema("GET", "/v1/status", 200)) == []
            (provider,) = status["providers"]
            (up,) = re.findall("(?m)^dso_agent_provider_up.* (.*)$", agent.request("GET", "/metrics").body.decode())
            systemd.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while systemd.recv(65536):
                    pass  # what it told before
            systemd.settimeout(60)
            assert agent.request("POST", "/v1/reload").status == 200  # it tells systemd how it is
            while True:
                told = re.search("(?s)READY=1.*STATUS=(. of . providers running)", systemd.recv(65536).decode())
                if told:
                    return provider, up, told[1]

        assert agent.value("dso://fake/up") == "x"
        provider, up, told = seen()
        assert (provider["state"], provider["error"], provider["code"]) == ("running", "", "")
        assert (up, told) == ("1", "1 of 1 providers running")

        assert agent.resolve("dso://fake/down")["errors"][0]["code"] == "unavailable"
        provider, up, told = seen()
        assert (provider["state"], provider["code"]) == ("failing", "unavailable")
        assert "the fake says unavailable" in provider["error"]
        assert provider["pid"] is not None
        assert (up, told) == ("0", "0 of 1 providers running")

        agent.write_secrets({"down": {"text": "y"}, "up": {"text": "x"}})
        assert agent.value("dso://fake/down") == "y"
        provider, up, told = seen()
        assert (provider["state"], provider["error"], provider["code"]) == ("running", "", "")
        assert (up, told) == ("1", "1 of 1 providers running")


def test_a_secret_that_was_missing_is_there_after_a_reload():
    with Agent() as agent:
        agent.use_fake().start()
        assert agent.resolve("dso://fake/new")["errors"][0]["code"] == "not_found"
        agent.write_secrets({"new": {"text": "made"}})
        assert agent.request("POST", "/v1/reload").status == 200
        assert agent.value("dso://fake/new") == "made"


def test_a_volume_is_defined_for_the_engine(agent: Agent):
    files = [{"name": "key", "template": "dsofile://tls/key", "mode": 0o400}]
    answer = agent.request("PUT", "/v1/volumes", {"volumes": {"p_dso_web": {"files": files}}})
    assert answer.json() == {"driver": "volume"}
    wait_until(lambda: "volumes.defined" in agent.log, "a line of the log")
    before = agent.get("/v1/status")["volume_driver"]["volumes"]
    assert "no such volume" in agent.engine("Get", {"Name": "p_dso_web"})["Err"], "it has not made it yet"
    assert not agent.engine("Create", {"Name": "p_dso_web"})["Err"]
    assert agent.engine("Get", {"Name": "p_dso_web"})["Volume"]["Status"]["files"] == {"key": "dsofile://tls/key"}
    assert agent.get("/v1/status")["volume_driver"]["volumes"] == before + 1
    with open(os.path.join(agent.state_dir, "volumes.json"), encoding="utf-8") as kept:
        assert "just text" not in kept.read()


def test_a_volume_whose_secrets_lead_nowhere_is_refused_with_all_of_them():
    with Agent() as agent:
        agent.write_config("providers:\n" + agent.fake_provider("one") + agent.fake_provider("two"))
        agent.start()
        files = [{"name": "a", "template": "dsofile://no/a"}, {"name": "b", "template": "x{{dso://no/b}}"}]
        answer = agent.request("PUT", "/v1/volumes", {"volumes": {"v": {"files": files}}})
        assert (answer.status, answer.code) == (404, "unknown_secret")
        message = answer.json()["error"]["message"]
        assert "dsofile://no/a" in message
        assert "dso://no/b" in message
        assert agent.get("/v1/status")["volume_driver"]["volumes"] == 0
