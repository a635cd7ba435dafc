"""A server in front of an HTTP server that writes down what passes, and may hold it up, change it or break it."""

from __future__ import annotations

import http.client
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, NamedTuple, Self
from urllib.parse import urlsplit

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable, Mapping

_PASSED_ON = ("content-type", "retry-after", "location")


class Seen(NamedTuple):
    """A request that came; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    def __str__(self) -> str:
        return f"{self.method} {self.path}"


class Reply(NamedTuple):
    """An answer of the proxy's own. Without a status the connection is closed in the middle of nothing."""

    status: int | None
    body: bytes = b"{}"
    headers: Mapping[str, str] = {}


class HttpProxy:
    """Listens on loopback, or with a socket of yours, while its `with` block lasts.

    Without an `upstream`, `reply` has to answer every request.

    Attributes:
        address: for clients, such as http://127.0.0.1:12345.
        seen: what came.
        delay: seconds that each request is held up.
        together: if set, requests wait here for each other.
        most: the most requests that were held up at the same time.
        reply: called with each request; what it returns is answered, None passes the request on.
    """

    def __init__(
        self, upstream: str, *, tls: ssl.SSLContext | None = None, listener: socket.socket | None = None
    ) -> None:
        self.upstream = urlsplit(upstream).netloc
        self.seen: list[Seen] = []
        self.delay = 0.0
        self.together: threading.Barrier | None = None
        self.most = 0
        self.reply: Callable[[Seen], Reply | None] = lambda _seen: None
        self._inside = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler, bind_and_activate=listener is None)
        self._server.proxy = self
        if listener is not None:
            self._server.socket.close()
            self._server.socket = listener
        host, port = self._server.socket.getsockname()
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True, do_handshake_on_connect=False)
        self.address = f"http{'s' if tls else ''}://{host}:{port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def requests(self, beginning: str = "") -> list[str]:
        """Those that came whose method and path begin so."""
        with self._lock:
            return [str(seen) for seen in self.seen if str(seen).startswith(beginning)]

    def clear(self) -> None:
        """Forget what came."""
        with self._lock:
            self.seen.clear()
            self.most = 0

    def take(self, seen: Seen) -> Reply:
        """Deal with one request."""
        with self._lock:
            self.seen.append(seen)
            self._inside += 1
            self.most = max(self.most, self._inside)
        try:
            if self.together is not None:
                self.together.wait()
            if self.delay:
                time.sleep(self.delay)
            return self.reply(seen) or self._pass_on(seen)
        finally:
            with self._lock:
                self._inside -= 1

    def _pass_on(self, seen: Seen) -> Reply:
        connection = http.client.HTTPConnection(self.upstream, timeout=60)
        try:
            headers = {name: value for name, value in seen.headers.items() if name not in ("host", "connection")}
            connection.request(seen.method, seen.path, seen.body or None, headers)
            answer = connection.getresponse()
            kept = {name: value for name, value in answer.getheaders() if name.lower() in _PASSED_ON}
            return Reply(answer.status, answer.read(), kept)
        finally:
            connection.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: HttpProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up, or one that does not trust us, is no failure of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        headers = {name.lower(): value for name, value in self.headers.items()}
        path = self.path.removeprefix(f"http://{headers.get('host', '')}")  # as a forward proxy is asked
        reply = self.server.proxy.take(Seen(self.command, path, headers, self.rfile.read(length)))
        if reply.status is None:
            self.close_connection = True
            return
        self.send_response(reply.status)
        for name, value in reply.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(reply.body)))
        self.end_headers()
        self.wfile.write(reply.body)

    do_POST = do_PUT = do_GET  # noqa: N815  # http.server's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # http.server's name
        """Nothing."""
