"""HTTP/1.1 as far as the Engine and the agent speak it (RFC 9112), over a connected socket.

Not http.client: importing that takes 40 ms (email, urllib, ssl), more than all of DSO before it
hands over to Compose.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812  # the class, under a name that cannot be mistaken for the module
    from collections.abc import Iterator, Mapping

MAX_HEAD = 64 * 1024
_NO_BODY_STATUSES = (204, 304)
_UNRESERVED = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
_CHUNK = 256 * 1024
_FIRST = 32 * 1024
_MAX_CHUNK = 64 * 1024 * 1024
_LINE_END = b"\r\n"
_CREDENTIALS = 12  # bytes of `struct ucred`


class WireError(Exception):
    """The other side closed the connection or does not speak HTTP; `early` when it said nothing at all."""

    def __init__(self, message: str, *, early: bool = False) -> None:
        super().__init__(message)
        self.early = early


class Response:
    """Status, headers (names in lower case) and body of one answer."""

    __slots__ = ("body", "headers", "status")

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def closes(self) -> bool:
        """Whether the connection cannot be used for another request."""
        return self.headers.get("connection", "").lower() == "close"


def open_unix_socket(path: str, timeout: float) -> Socket:
    """Connect to a Unix socket; `timeout` (seconds) counts for each later call as well. OSError."""
    import _socket  # the C half of socket: the Python half (selectors, enum) is not needed here

    connection = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    connection.settimeout(timeout)
    try:
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def peer_of(connection: Socket) -> tuple[int, int]:
    """Process and user at the other end of a connected Unix socket, as they were when it began to listen.

    Source: unix(7), SO_PEERCRED, `struct ucred`: pid, uid, gid, each an int. A user that has no number in our user
    name space is 65534 there.
    """
    import _socket
    from sys import byteorder

    raw: bytes = connection.getsockopt(_socket.SOL_SOCKET, _socket.SO_PEERCRED, _CREDENTIALS)
    return int.from_bytes(raw[:4], byteorder), int.from_bytes(raw[4:8], byteorder)


def quote(text: str) -> str:
    """Percent-encode everything but RFC 3986 unreserved characters (urllib.parse costs 4 ms)."""
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text.encode())


def send_request(
    connection: Socket,
    method: str,
    target: str,
    body: bytes | None,
    content_type: str,
    *,
    host: str = "docker",
    headers: Mapping[str, str] | None = None,
) -> None:
    """Send one request, with further headers; OSError when the connection breaks.

    A server may answer and close before it has read a large body: the caller then still tries to
    read the answer.
    """
    head = f"{method} {target} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: docker-dso\r\n"
    if body is not None:
        head += f"Content-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
    elif method in ("POST", "PUT"):
        head += "Content-Length: 0\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
    first = (body or b"")[:_FIRST]  # with the head, so that the server need not wait for the body of a small request
    connection.sendall(head.encode("ascii") + b"\r\n" + first)
    rest = memoryview(body or b"")[len(first) :]
    while rest:
        connection.sendall(rest[:_CHUNK])  # in pieces: a socket's timeout is for each call as a whole
        rest = rest[_CHUNK:]


class Reader:
    """Reads answers from a connection, keeping bytes that belong to the next one."""

    __slots__ = ("_buffer", "_connection")

    def __init__(self, connection: Socket) -> None:
        self._connection = connection
        self._buffer = bytearray()

    def read_response(self, method: str, max_body: int) -> Response:
        """One answer, bodies of at most max_body bytes; WireError, OSError or TimeoutError."""
        if not self._buffer and not self._fill():
            raise WireError("the connection was closed", early=True)
        status, headers = self.read_head()
        if method == "HEAD" or status in _NO_BODY_STATUSES:
            body = b""
        elif headers.get("transfer-encoding", "").lower() == "chunked":
            body = self._read_chunked(max_body)
        elif "content-length" in headers:
            body = self._take(_number(headers["content-length"], 10, max_body))
        else:
            body = self._read_rest(max_body)
            headers["connection"] = "close"
        return Response(status, headers, body)

    def read_head(self) -> tuple[int, dict[str, str]]:
        """Status and headers (names in lower case) of the next answer, whose body is still to come; WireError."""
        status = 100
        headers: dict[str, str] = {}
        while status < 200:  # noqa: PLR2004  # informational answers precede the real one
            status, headers = self._read_one_head()
        return status, headers

    def read_lines(self, headers: dict[str, str]) -> Iterator[bytes]:
        """The lines of an answer that goes on for as long as the other side likes, each without its end.

        Call it after `read_head`. A last line without an end is a line too.

        Raises:
            WireError: the connection broke in the middle, or a line is longer than MAX_HEAD.
        """
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        pending = b""
        for data in self._chunks() if chunked else self._pieces(headers):
            *lines, pending = (pending + data).split(b"\n")
            yield from lines
            if len(pending) > MAX_HEAD:
                raise WireError("a line of the answer is too large")
        if pending:
            yield pending

    def stream(self, headers: dict[str, str]) -> LineStream:
        """The same for who waits for several connections at once; the connection is used up by that."""
        rest, self._buffer = self._buffer, bytearray()
        return LineStream(self._connection, headers, rest)

    def _chunks(self) -> Iterator[bytes]:
        while size := _number(self._take_until(b"\r\n").split(b";")[0].decode("latin-1"), 16, _MAX_CHUNK):
            yield self._take(size)
            self._take_until(b"\r\n")
        while self._take_until(b"\r\n"):
            pass  # trailers

    def _pieces(self, headers: dict[str, str]) -> Iterator[bytes]:
        """What comes without chunks: so many bytes, or everything until the connection is closed."""
        left = _number(headers.get("content-length", str(_MAX_CHUNK)), 10, _MAX_CHUNK)
        while left and (self._buffer or self._fill()):
            data = self._take(min(len(self._buffer), left))
            left -= len(data) if "content-length" in headers else 0
            yield data

    def _read_one_head(self) -> tuple[int, dict[str, str]]:
        lines = bytes(self._take_until(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        version, _, rest = lines[0].partition(" ")
        if not version.startswith("HTTP/1.") or not rest[:3].isdigit():
            raise WireError("the answer is not HTTP")
        headers = {}
        for line in lines[1:]:
            name, colon, value = line.partition(":")
            if colon:
                headers[name.strip().lower()] = value.strip()
        return int(rest[:3]), headers

    def _read_chunked(self, max_body: int) -> bytes:
        body = bytearray()
        while True:
            size = _number(self._take_until(b"\r\n").split(b";")[0].decode("latin-1"), 16, max_body - len(body))
            if size == 0:
                break
            body += self._take(size)
            self._take_until(b"\r\n")
        while self._take_until(b"\r\n"):
            pass  # trailers
        return bytes(body)

    def _read_rest(self, max_body: int) -> bytes:
        while len(self._buffer) <= max_body and self._fill():
            pass
        if len(self._buffer) > max_body:
            raise WireError("the answer is too large")
        body = bytes(self._buffer)
        self._buffer.clear()
        return body

    def _take(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not self._fill():
                raise WireError("the connection was closed in the middle of an answer")
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _take_until(self, mark: bytes) -> bytes:
        """What precedes mark; both are taken."""
        while (end := self._buffer.find(mark)) < 0:
            if len(self._buffer) > MAX_HEAD:
                raise WireError("the answer's header is too large")
            if not self._fill():
                raise WireError("the connection was closed in the middle of an answer")
        taken = bytes(self._buffer[:end])
        del self._buffer[: end + len(mark)]
        return taken

    def _fill(self) -> bool:
        data = self._connection.recv(_CHUNK)
        self._buffer += data
        return bool(data)


class LineStream:
    """The lines of an answer that goes on, as their bytes come; its `fileno` is for `select.poll`."""

    __slots__ = ("_chunked", "_connection", "_data", "_left", "_over", "_pending")

    def __init__(self, connection: Socket, headers: dict[str, str], data: bytearray) -> None:
        """`data` is what has been received behind the headers."""
        self._connection = connection
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._data = data
        self._left = 0  # bytes of the chunk that are still to come, with the line end behind it
        self._pending = b""
        self._over = False

    def fileno(self) -> int:
        """The connection's descriptor."""
        return self._connection.fileno()

    def receive(self) -> bool:
        """Take what has come; call it when there is something to read. False when nothing more will come.

        Raises:
            OSError: the connection broke.
        """
        data = self._connection.recv(_CHUNK)
        self._data += data
        return bool(data)

    def lines(self) -> list[bytes]:
        """The lines that are whole by now, each without its end; it waits for nothing. WireError."""
        *lines, self._pending = (self._pending + self._decoded()).split(b"\n")
        if len(self._pending) > MAX_HEAD:
            raise WireError("a line of the answer is too large")
        return lines

    @property
    def is_over(self) -> bool:
        """Whether the answer has come to its end, by what `lines` has seen."""
        return self._over

    def _decoded(self) -> bytes:
        if not self._chunked:
            data = bytes(self._data)
            self._data.clear()
            return data
        text = b""
        while not self._over:
            piece = bytes(self._data[: self._left])
            del self._data[: len(piece)]
            text += piece[: max(self._left - len(_LINE_END), 0)]
            self._left -= len(piece)
            end = self._data.find(_LINE_END)
            if not self._left and end < 0 and len(self._data) > MAX_HEAD:
                raise WireError("the length of a piece is too large")
            if self._left or end < 0:
                break
            size = _number(self._data[:end].split(b";")[0].decode("latin-1"), 16, _MAX_CHUNK)
            del self._data[: end + len(_LINE_END)]
            self._over = size == 0
            self._left = size + len(_LINE_END)
        return text


def _number(text: str, base: int, limit: int) -> int:
    try:
        number = int(text, base)
    except ValueError:
        raise WireError("the answer has a malformed length") from None
    if not 0 <= number <= limit:
        raise WireError("the answer is too large")
    return number
