"""An HTTP proxy that leads production host names to servers of the tests, so that clients keep all their checks."""

from __future__ import annotations

import base64
import fnmatch
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    Address = tuple[str, int]

_CHUNK = 65536


class ConnectProxy:
    """Listens on loopback while its `with` block lasts; names it does not know are refused with 403.

    It understands CONNECT alone: a request it is to make itself, such as one to a metadata service that a
    client must never send through a proxy, is refused too, and its host stands in `hosts()`.

    Attributes:
        address: for HTTPS_PROXY, such as http://127.0.0.1:12345; without credentials.
        credentials: `user:password` that it asks for with 407 if they are set.
    """

    def __init__(
        self,
        routes: Mapping[str, Address] | None = None,
        *,
        credentials: str = "",
        listener: socket.socket | None = None,
    ) -> None:
        """`routes`: where host names lead; `*` stands for any characters, the first pattern that fits counts.

        `listener` is a socket to listen with instead of one on loopback.
        """
        self.credentials = credentials
        self._routes = dict(routes or {})
        self._hosts: list[str] = []
        self._gone: set[Address] = set()
        self._tunnels: dict[socket.socket, Address] = {}
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler, bind_and_activate=listener is None)
        self._server.proxy = self
        if listener is not None:
            self._server.socket.close()
            self._server.socket = listener
        self.address = "http://{}:{}".format(*self._server.socket.getsockname())

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=[0.05], daemon=True).start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def add(self, pattern: str, address: Address) -> None:
        """One more route, or another end of one."""
        with self._lock:
            self._routes[pattern] = address

    def patterns(self) -> list[str]:
        """What there are routes for."""
        with self._lock:
            return list(self._routes)

    def cut(self, *patterns: str) -> None:
        """Have the servers of these routes vanish until `mend`: tunnels to them break, new ones get 502."""
        with self._lock:
            self._gone.update(self._routes[pattern] for pattern in patterns)
            broken = [tunnel for tunnel, address in self._tunnels.items() if address in self._gone]
        for tunnel in broken:
            with suppress(OSError):
                tunnel.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """All servers are there again."""
        with self._lock:
            self._gone.clear()

    def hosts(self) -> list[str]:
        """The host names asked for since the last `clear`, those refused too."""
        with self._lock:
            return list(self._hosts)

    def clear(self) -> None:
        """Forget what came."""
        with self._lock:
            self._hosts.clear()

    def route(self, host: str) -> Address | None:
        """Write a host down and find where it leads."""
        with self._lock:
            self._hosts.append(host)
            return next((to for pattern, to in self._routes.items() if fnmatch.fnmatchcase(host, pattern)), None)

    @contextmanager
    def tunnel(self, address: Address) -> Iterator[socket.socket]:
        """A connection to a server; OSError if there is none."""
        with socket.create_connection(address, 10) as there:
            with self._lock:
                if address in self._gone:
                    raise ConnectionRefusedError
                self._tunnels[there] = address
            try:
                yield there
            finally:
                with self._lock:
                    del self._tunnels[there]


class _Server(ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    block_on_close = False
    request_queue_size = 128
    proxy: ConnectProxy

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that hangs up is no failure of the test."""


class _Handler(StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        method, _, rest = self.rfile.readline(_CHUNK).decode("latin-1").partition(" ")
        target = rest.partition(" ")[0]
        headers = {}
        while line := self.rfile.readline(_CHUNK).strip():
            name, _, value = line.decode("latin-1").partition(":")
            headers[name.lower()] = value.strip()
        if not target:
            return
        host = target.removeprefix("http://").partition("/")[0].rpartition(":")[0] or target
        proxy = self.server.proxy
        address = proxy.route(host.lower())
        if proxy.credentials and headers.get("proxy-authorization") != _basic(proxy.credentials):
            self._refuse(407, 'Proxy Authentication Required\r\nProxy-Authenticate: Basic realm="tests"')
        elif method != "CONNECT" or address is None:
            self._refuse(403, "Forbidden")
        else:
            self._connect(address)

    def _refuse(self, status: int, rest: str) -> None:
        self.wfile.write(f"HTTP/1.1 {status} {rest}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def _connect(self, address: Address) -> None:
        with ExitStack() as stack:
            try:
                there = stack.enter_context(self.server.proxy.tunnel(address))
            except OSError:
                return self._refuse(502, "Bad Gateway")
            there.settimeout(None)
            self.wfile.write(b"HTTP/1.1 200 Connection Established\r\n\r\n")
            back = threading.Thread(target=_pump, args=(there, self.connection), daemon=True)
            back.start()
            _pump(self.connection, there)
            back.join()
        return None


def _pump(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes until one side ends; the other is told."""
    with suppress(OSError):
        while chunk := source.recv(_CHUNK):
            sink.sendall(chunk)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _basic(credentials: str) -> str:
    return "Basic " + base64.b64encode(credentials.encode()).decode()
