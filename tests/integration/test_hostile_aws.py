"""What answers in AWS's place cannot take the plugin's memory, its threads or its word: frozen and from source."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from dso.protocol.codes import INVALID_REQUEST, UNAVAILABLE
from tests.support.memory import MIB, peak
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGES = 60  # secrets that are asked for at once: three batches
TIMEOUT = 3


class Hostile(BaseHTTPRequestHandler):
    """Answers by the secret's name."""

    protocol_version = "HTTP/1.1"
    batches: ClassVar[list[int]] = []
    given_up: ClassVar[threading.Semaphore]

    def log_message(self, *_words: object) -> None:
        """Nothing."""

    def do_POST(self) -> None:  # the name that http.server looks for
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if "BatchGetSecretValue" in self.headers["X-Amz-Target"]:
            self.batches.append(1)
            return self._say({"SecretValues": [], "Errors": [], "NextToken": "again"})
        name = asked["SecretId"]
        if name in ("endless", "drip in the body", "drip in the head"):
            return self._say_on_and_on(name)
        code = {"code": "SECRET\x1b[31m-IN-CODE", "letters": "x" * 100}.get(name)
        if code is not None:
            return self._say({"__type": code, "message": "SECRET-IN-MESSAGE"}, 400)
        answers: dict[str, dict[str, Any]] = {
            "no text": {"SecretString": {"a": 1}},
            "no id": {"SecretString": "x", "VersionId": ["x"]},
            "long id": {"SecretString": "x", "VersionId": "V" * 100_000},
        }
        return self._say(answers.get(name, {"SecretString": "fine", "VersionId": "1"}))

    def _say(self, document: dict[str, Any], status: int = 200) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _say_on_and_on(self, how: str) -> None:
        self.close_connection = True
        piece, pause = (b" " * MIB, 0.0) if how == "endless" else (b" ", 0.2)
        self.send_response(200)
        if how == "drip in the head":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
        else:
            self.send_header("Content-Length", str(1 << 40))
            self.end_headers()
        try:
            while not _PAUSE.wait(pause):
                self.wfile.write(piece)
        except OSError:
            self.given_up.release()


_PAUSE = threading.Event()  # never set: what waits for it is awake at once when it is


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Hostile.batches.clear()
    Hostile.given_up = threading.Semaphore(0)
    with ThreadingHTTPServer(("127.0.0.1", 0), Hostile) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def plugin(server: ThreadingHTTPServer, variant: str) -> Iterator[Plugin]:
    config = {
        "region": "eu-central-1",
        "endpoint_url": f"http://127.0.0.1:{server.server_port}",
        "access_key_id": "some",
        "secret_access_key": "some",
    }
    with Plugin(plugin_argv("dso-provider-aws", variant)) as plugin:
        begun = plugin.send("initialize", {"protocol": 1, "name": "aws", "timeout": TIMEOUT, "config": config})
        assert plugin.answer(begun).error is None
        yield plugin


def ask(plugin: Plugin, name: str) -> Any:
    return plugin.answer(plugin.send("get", {"path": name}))


def test_an_answer_without_an_end_is_refused_and_takes_no_memory(plugin: Plugin) -> None:
    before = peak(plugin.process.pid)
    error = ask(plugin, "endless").error
    assert error.oversized
    assert "more than a secret can be" in error.message
    assert peak(plugin.process.pid) - before < 40 * MIB


@pytest.mark.parametrize("how", ["drip in the body", "drip in the head"])
def test_answers_that_trickle_end_with_their_time_and_leave_others_theirs(plugin: Plugin, how: str) -> None:
    asked = [plugin.send("get", {"path": how}) for _ in range(40)]
    assert {plugin.answer(one).error.code for one in asked} == {UNAVAILABLE}
    assert Hostile.given_up.acquire(timeout=60)  # their connections are closed, not only forgotten
    assert ask(plugin, "honest").result["text"] == "fine"


def test_there_are_no_more_pages_than_secrets(plugin: Plugin) -> None:
    found = plugin.answer(plugin.send("get_many", {"requests": [{"path": f"p{at}"} for at in range(PAGES)]}))
    assert {one["secret"]["text"] for one in found.result["results"]} == {"fine"}
    assert len(Hostile.batches) <= PAGES


@pytest.mark.parametrize("name", ["no text", "no id", "long id"])
def test_an_answer_that_is_none_of_secrets_managers_is_no_secret(plugin: Plugin, name: str) -> None:
    error = ask(plugin, name).error
    assert (error.code, "without a secret" in error.message) == (UNAVAILABLE, True)


@pytest.mark.parametrize("name", ["code", "letters"])
def test_what_is_no_code_is_not_repeated(plugin: Plugin, name: str) -> None:
    error = ask(plugin, name).error
    assert (error.code, "an unknown error" in error.message) == (INVALID_REQUEST, True)
    assert "SECRET" not in error.message
    assert "xxx" not in error.message
