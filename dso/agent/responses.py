"""What goes back over a connection: an answer as a whole, or the beginning of one that goes on."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.helpers import rfc822_formatted_time

from dso.version import VERSION

if TYPE_CHECKING:
    from aiohttp.abc import AbstractStreamWriter

_SERVER = f"dso-agent/{VERSION}"


class WholeResponse(web.StreamResponse):
    """An answer that is there as a whole.

    aiohttp's own would build its head header by header and send head and body as two pieces; most of the agent's
    answers take less time than that.
    """

    def __init__(self, body: bytes, content_type: str, status: int = HTTPStatus.OK) -> None:
        super().__init__(status=status)
        self._whole: bytes | None = body
        self._type = content_type
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
        head = self._head(request, len(body))
        if request.transport is None or request.transport.is_closing():
            raise ConnectionResetError("the client is gone")
        request.transport.write(head if request.method == hdrs.METH_HEAD else head + body)
        return None

    async def write_eof(self, data: bytes = b"") -> None:
        """Nothing is left to send."""

    def _head(self, request: web.BaseRequest, size: int) -> bytes:
        version = request.version
        connection = ""
        if not self._stays and version >= HttpVersion11:
            connection = "Connection: close\r\n"
        elif self._stays and version == HttpVersion10:
            connection = "Connection: keep-alive\r\n"
        return (
            f"HTTP/{version.major}.{version.minor} {self.status} {self.reason}\r\nContent-Type: {self._type}\r\n"
            f"Content-Length: {size}\r\nDate: {rfc822_formatted_time()}\r\nServer: {_SERVER}\r\n{connection}\r\n"
        ).encode("ascii")


def streaming_response(content_type: str) -> web.StreamResponse:
    """The beginning of an answer that goes on, which nobody is to keep."""
    return web.StreamResponse(
        headers={hdrs.CONTENT_TYPE: content_type, hdrs.SERVER: _SERVER, hdrs.CACHE_CONTROL: "no-store"}
    )
