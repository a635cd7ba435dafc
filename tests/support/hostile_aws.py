"""A server that answers as AWS never would, for Secrets Manager, STS and the metadata services alike."""

from __future__ import annotations

import json
import threading
import zlib
from collections import Counter
from contextlib import suppress
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

MIB = 1 << 20
FLOOD = 300 * MIB
CANARY = "c4n4ry-in-an-answer"


class HostileAws:
    """What a request asks for is its answer: the name of a secret, the role of AssumeRole, or the path.

    - `flood`: 300 MiB; `bomb`: the same in gzip.
    - `drip`: a byte now and then, without end; `headers`: the same in a header.
    - `long-version`, `no-text`, `code`, `pause`, `no-json`: what the name says, in an answer's or an error's form.
    - anything else: a secret whose value is its name.

    Batches have no secret and always another page. Use it in a `with`.
    """

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.changed = threading.Condition()
        self.dripping = 0
        self.ends = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.aws = self
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.ends.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_until_dripping(self, count: int) -> None:
        """Wait until so many answers trickle."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.dripping == count, 30), f"{self.dripping} trickle"


class _Server(ThreadingHTTPServer):
    aws: HostileAws
    request_queue_size = 128


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_words: object) -> None:
        pass

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if operation == "BatchGetSecretValue":
            self._count(operation)
            self._reply({"SecretValues": [], "Errors": [], "NextToken": "again"})
        elif operation:
            self._answer(json.loads(body)["SecretId"])
        else:
            self._answer("drip" if b"drip" in body else "flood")  # of STS

    def do_GET(self) -> None:
        self._answer(self.path.strip("/"))

    def do_PUT(self) -> None:
        """What the metadata service of a machine is asked first."""
        self._answer(self.path.split("/")[1])

    def _answer(self, wanted: str) -> None:
        self._count(wanted)
        secret = {"Name": wanted, "SecretString": wanted, "VersionId": "1"}
        with suppress(OSError):
            if wanted == "flood":
                self._flood()
            elif wanted == "bomb":
                self._send(_bomb(), encoding="gzip")
            elif wanted in ("drip", "headers"):
                self._drip(in_headers=wanted == "headers")
            elif wanted == "long-version":
                self._reply({**secret, "VersionId": "V" * 2 * MIB})
            elif wanted == "no-text":
                self._reply({**secret, "SecretString": {"a": 1}, "VersionId": ["x"]})
            elif wanted == "code":
                self._reply({"__type": f"X\x1b[31m {CANARY}", "message": CANARY}, 400)
            elif wanted == "pause":
                self._send(b"{}", 503, pause="4000")
            elif wanted == "no-json":
                self._send(b'["SecretString"]')
            else:
                self._reply(secret)

    def _reply(self, content: Any, status: int = 200) -> None:
        self._send(json.dumps(content).encode(), status)

    def _send(self, body: bytes, status: int = 200, *, encoding: str = "", pause: str = "") -> None:
        self.send_response(status)
        for name, value in (("Content-Encoding", encoding), ("x-amz-retry-after", pause)):
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _flood(self) -> None:
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Length", str(FLOOD))
        self.end_headers()
        for _ in range(FLOOD // MIB):
            self.wfile.write(b" " * MIB)

    def _drip(self, *, in_headers: bool) -> None:
        aws = self.server.aws
        self.close_connection = True
        self.wfile.write(b"HTTP/1.1 200 OK\r\n" + (b"X-Endless: " if in_headers else b"\r\n"))
        self._dripping(1)
        try:
            while not aws.ends.wait(0.1):
                self.wfile.write(b" ")
        finally:
            self._dripping(-1)

    def _dripping(self, more: int) -> None:
        aws = self.server.aws
        with aws.changed:
            aws.dripping += more
            aws.changed.notify_all()

    def _count(self, what: str) -> None:
        with self.server.aws.changed:
            self.server.aws.asked[what] += 1


@cache
def _bomb() -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    return b"".join(packer.compress(b" " * MIB) for _ in range(FLOOD // MIB)) + packer.flush()
