"""A socket in front of the Docker Engine that writes down every request that passes.

    with EngineProxy() as proxy:
        run(["docker", "ps"], env=environment(extra={"DOCKER_HOST": proxy.host}))
        assert proxy.requests == ["HEAD /_ping", "GET /containers/json"]

Everything is passed on unchanged: several requests on a connection, bodies with a length and chunked
ones, and upgraded connections (attach, exec, BuildKit), whose bytes are no requests any more. With a
TLS context it listens on a loopback TCP port instead, which makes an Engine that is reached by TLS.

What has to happen between two requests is done by `before`, which is called with each ("GET /info")
before it is passed on.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import tempfile
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

ENGINE_SOCKET = "/var/run/docker.sock"
_VERSION = re.compile(r"^/v\d+\.\d+")
_CHUNK = 1 << 16


class EngineProxy:
    """Listens while its `with` block lasts.

    Attributes:
        host: for DOCKER_HOST and `-H`.
        lines: the request lines as they came, such as "GET /v1.44/containers/json?all=1 HTTP/1.1".
        connections: how many were accepted.
    """

    def __init__(
        self,
        upstream: str = ENGINE_SOCKET,
        *,
        tls: ssl.SSLContext | None = None,
        before: Callable[[str], None] = lambda _request: None,
    ) -> None:
        self.lines: list[str] = []
        self._before = before
        self.connections = 0
        self._upstream = upstream
        self._tls = tls
        self._directory = tempfile.mkdtemp(prefix="dso-proxy-")
        self._open: list[socket.socket] = []
        self._lock = threading.Lock()
        if tls is None:
            self.path = os.path.join(self._directory, "docker.sock")
            self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            self._listener.bind(self.path)
            self.host = f"unix://{self.path}"
        else:
            self._listener = socket.create_server(("127.0.0.1", 0))
            self.host = f"tcp://127.0.0.1:{self._listener.getsockname()[1]}"
        self._listener.listen()

    @property
    def requests(self) -> list[str]:
        """Method and path of each request, without API version and query: "GET /containers/json"."""
        with self._lock:
            return [_short(line) for line in self.lines]

    def clear(self) -> None:
        """Forget the requests so far."""
        with self._lock:
            self.lines.clear()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.drop_connections()
        shutil.rmtree(self._directory, ignore_errors=True)

    def drop_connections(self) -> None:
        """Break every connection, as a restarting Engine or a lost network does."""
        with self._lock:
            dropped, self._open = self._open, []
        for connection in dropped:
            _shut(connection, socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            if self._tls is not None:
                client = self._tls.wrap_socket(client, server_side=True)
            server.connect(self._upstream)
        except OSError:
            client.close()
            server.close()
            return
        with self._lock:
            self.connections += 1
            self._open += [client, server]
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        with contextlib.suppress(OSError):
            self._pass_requests(client, server)
        _shut(server, socket.SHUT_WR)
        back.join()
        client.close()
        server.close()

    def _pass_requests(self, client: socket.socket, server: socket.socket) -> None:
        stream = _Stream(client, server)
        while head := stream.until(b"\r\n\r\n"):
            line, *fields = head.decode("latin-1").split("\r\n")
            with self._lock:
                self.lines.append(line)
            self._before(_short(line))
            stream.send()
            headers = {name.strip().lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)}
            if "upgrade" in headers:
                break
            if headers.get("transfer-encoding") == "chunked":
                stream.pass_chunks()
            else:
                stream.pass_bytes(int(headers.get("content-length", "0")))
        stream.pass_rest()


class _Stream:
    """What one side sends, cut into requests and passed on to the other side."""

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self._source = source
        self._target = target
        self._buffer = b""
        self._pending = b""

    def until(self, mark: bytes) -> bytes:
        """Everything up to and with mark, kept for `send`; b"" at the end of the input."""
        while mark not in self._buffer:
            if not self._fill():
                return b""
        end = self._buffer.index(mark) + len(mark)
        taken, self._buffer = self._buffer[:end], self._buffer[end:]
        self._pending += taken
        return taken

    def send(self) -> None:
        self._target.sendall(self._pending)
        self._pending = b""

    def pass_bytes(self, size: int) -> None:
        while size:
            if not self._buffer and not self._fill():
                return
            part, self._buffer = self._buffer[:size], self._buffer[size:]
            self._target.sendall(part)
            size -= len(part)

    def pass_chunks(self) -> None:
        size = -1
        while size:
            size = int(self.until(b"\r\n").split(b";")[0] or b"0", 16)
            self.send()
            self.pass_bytes(size)
            self.until(b"\r\n")
            self.send()

    def pass_rest(self) -> None:
        self._target.sendall(self._pending + self._buffer)
        _copy(self._source, self._target)

    def _fill(self) -> bool:
        data = self._source.recv(_CHUNK)
        self._buffer += data
        return bool(data)


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK):
            target.sendall(data)
    _shut(target, socket.SHUT_WR)


def _shut(connection: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(how)


def _short(line: str) -> str:
    method, target, _ = line.split(" ")
    return f"{method} {_VERSION.sub('', target.partition('?')[0])}"
