"""What goes back over a connection: an answer as a whole, or the beginning of one that goes on."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from dso.version import VERSION

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from aiohttp.abc import AbstractStreamWriter

_SERVER = f"dso-agent/{VERSION}"
_AT_ONCE = 64 * 1024  # bytes that are handed to the connection, before its client has to read some


class WholeResponse(web.StreamResponse):
    """An answer that is there as a whole, in one piece or in several.

    aiohttp's own would build its head header by header and send head and body as two pieces; most of the agent's
    answers take less time than that. A large one goes out in parts (`send_more`), so that no second copy of it
    waits in the connection's buffer.
    """

    def __init__(
        self, body: Sequence[bytes], content_type: str, status: int = HTTPStatus.OK, *, retry_after: float = 0.0
    ) -> None:
        """`body` is used up; `retry_after` seconds, if the client is to come back then."""
        super().__init__(status=status)
        self._whole: Sequence[bytes] | None = body
        self._rest: list[bytes] = []  # the last part first
        self._sent = 0  # of the first of them
        self._type = content_type
        self._retry_after = retry_after
        self._stays: bool | None = None  # the connection, after it

    @property
    def keep_alive(self) -> bool | None:
        """Whether the connection goes on after it, once it is sent; aiohttp asks."""
        return self._stays

    def force_close(self) -> None:
        """End the connection after it."""
        self._stays = False

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send it; aiohttp calls it once more, which does nothing."""
        body, self._whole = self._whole, None
        if body is None:
            return None
        if self._stays is None:
            self._stays = request.keep_alive
        head = self._head(request, sum(map(len, body)))
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        if request.method == hdrs.METH_HEAD:
            request.transport.write(head)
        elif len(body) == 1 and len(body[0]) <= _AT_ONCE:
            request.transport.write(head + body[0])
        else:
            request.transport.write(head)
            self._rest = [*reversed(body)]
        return None

    @property
    def has_more(self) -> bool:
        """Whether there is still something to send."""
        return bool(self._rest)

    def send_more(self, transport: asyncio.Transport) -> None:
        """Send the next part, and forget it."""
        piece = self._rest[-1]
        part = memoryview(piece)[self._sent : self._sent + _AT_ONCE]
        self._sent += len(part)
        if self._sent >= len(piece):
            self._rest.pop()
            self._sent = 0
        transport.write(part)

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""

    def _head(self, request: web.BaseRequest, size: int) -> bytes:
        version = request.version
        connection = ""
        if not self._stays and version >= HttpVersion11:
            connection = "Connection: close\r\n"
        elif self._stays and version == HttpVersion10:
            connection = "Connection: keep-alive\r\n"
        if self._retry_after:
            connection += f"Retry-After: {math.ceil(self._retry_after)}\r\n"
        return (
            f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}\r\nContent-Type: {self._type}\r\n"
            f"Content-Length: {size}\r\nDate: {rfc822_formatted_time()}\r\nServer: {_SERVER}\r\n{connection}\r\n"
        ).encode("ascii")


def streaming_response(content_type: str) -> web.StreamResponse:
    """The beginning of an answer that goes on, which nobody is to keep."""
    return web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: content_type, hdrs.SERVER: _SERVER, hdrs.CACHE_CONTROL: "no-store"}
    )


def refusal(body: bytes, status: HTTPStatus, retry_after: float) -> bytes:
    """An answer as it goes over the line, for a connection that is not even opened."""
    return (
        f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n"
        f"Retry-After: {math.ceil(retry_after)}\r\nServer: {_SERVER}\r\nConnection: close\r\n\r\n"
    ).encode("ascii") + body
