"""A request as an endpoint sees it, and what it answers or refuses."""

from __future__ import annotations

import asyncio
import json
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from dso.agent.fairness.turns import others_first
from dso.protocol import codes
from dso.protocol.agent import MAX_REQUEST_BYTES, Fault
from dso.system.json_fast import loads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from aiohttp import StreamReader

    from dso.agent.access import Caller
    from dso.agent.connections import Connection
    from dso.agent.fairness.budgets import BusyError, Hold

BODY_TIMEOUT = 30.0
REQUEST_FACTOR = 6  # the memory a request takes while it is answered, for each byte of its body

STATUSES = {
    codes.INVALID_REQUEST: HTTPStatus.BAD_REQUEST,
    codes.PERMISSION_DENIED: HTTPStatus.FORBIDDEN,
    codes.UNSUPPORTED: HTTPStatus.NOT_FOUND,
    codes.UNKNOWN_SECRET: HTTPStatus.NOT_FOUND,
    codes.NOT_FOUND: HTTPStatus.NOT_FOUND,
    codes.TOO_LARGE: HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
    codes.RELOAD_FAILED: HTTPStatus.UNPROCESSABLE_ENTITY,
    codes.UNKNOWN_PROVIDER: HTTPStatus.UNPROCESSABLE_ENTITY,
    codes.UNKNOWN_FIELD: HTTPStatus.UNPROCESSABLE_ENTITY,
    codes.VOLUME_UNAVAILABLE: HTTPStatus.SERVICE_UNAVAILABLE,
    codes.BUSY: HTTPStatus.TOO_MANY_REQUESTS,
    codes.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}  # what a provider is to blame for is 502


class RefusedError(Exception):
    """A request is refused as a whole."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str = "",
        *,
        status: int | None = None,
        retry_after: float = 0.0,
        **more: str,
    ) -> None:
        super().__init__(message)
        self.fault = Fault(code, message, hint, retry_after=round(retry_after, 1), **more)
        self.status = status or STATUSES.get(code, HTTPStatus.BAD_GATEWAY)

    @classmethod
    def of(cls, fault: Fault) -> RefusedError:
        """The refusal with a fault that is there already."""
        return cls(fault.code, fault.message, fault.hint, reference=fault.reference, provider=fault.provider)

    @classmethod
    def busy(cls, busy: BusyError) -> RefusedError:
        """The refusal of a user who has as much as one may have."""
        return cls(codes.BUSY, busy.message, "try again a little later", retry_after=busy.retry_after)


class Request:
    """What an endpoint is asked: by whom, with which query, with which body; `hold` is the memory it takes."""

    __slots__ = ("_raw", "caller", "connection", "hold")

    def __init__(self, raw: web.BaseRequest, connection: Connection, caller: Caller, hold: Hold) -> None:
        self._raw = raw
        self.connection = connection
        self.caller = caller
        self.hold = hold

    def query(self, *known: str) -> dict[str, str]:
        """The query's parameters, which have to be among the known ones, each once; RefusedError."""
        found: dict[str, str] = {}
        if not self._raw.query_string:
            return found
        for name, value in self._raw.rel_url.query.items():
            if name not in known or name in found:
                what = "twice" if name in found else "unknown"
                raise RefusedError(codes.INVALID_REQUEST, f"the parameter {name[:40]!r} is {what}")
            found[name] = value
        return found

    def header(self, name: str) -> str:
        """A header, or ""."""
        return self._raw.headers.get(name, "")

    async def json(self) -> object:
        """The body; RefusedError."""
        return parse(await self.body())

    async def body(self) -> bytes:
        """The body as it came; RefusedError, or BusyError before any of it is read."""
        length = self._raw.content_length
        if (length or 0) > MAX_REQUEST_BYTES:
            raise _too_large()
        self.hold.grow(REQUEST_FACTOR * (MAX_REQUEST_BYTES if length is None else length))
        if self._raw.headers.get(hdrs.EXPECT, "").lower() == "100-continue":
            await self._raw.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        content = self._raw.content
        try:
            if content.is_eof():  # it came with the head, as most do
                body = content.read_nowait()
            else:
                async with asyncio.timeout(BODY_TIMEOUT):
                    body = await _read(content)
        except TimeoutError:
            raise RefusedError(
                codes.INVALID_REQUEST,
                f"the body did not come within {BODY_TIMEOUT:.0f} seconds",
                status=HTTPStatus.REQUEST_TIMEOUT,
            ) from None
        except (web.RequestPayloadError, ConnectionError):  # or it broke off: then nobody reads this
            raise RefusedError(codes.INVALID_REQUEST, "the body is not as its headers say") from None
        if len(body) > MAX_REQUEST_BYTES:
            raise _too_large()
        self.hold.shrink(self.hold.amount - REQUEST_FACTOR * len(body))
        self.connection.body_is_read()
        return body


class Answer:
    """What an endpoint answers: text as it is, in one or several parts, or pieces of text that come as they happen.

    `is_held`: its bytes are in the request's account already.
    """

    __slots__ = ("body", "content_type", "is_held", "pieces")

    def __init__(
        self,
        body: bytes | Sequence[bytes] = b"",
        content_type: str = "application/json",
        pieces: AsyncGenerator[str, None] | None = None,
        *,
        is_held: bool = False,
    ) -> None:
        self.body = (body,) if isinstance(body, bytes) else body
        self.content_type = content_type
        self.pieces = pieces
        self.is_held = is_held

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Answer:
        """JSON."""
        return cls(json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n")


async def _read(content: StreamReader) -> bytes:
    """A body to its end, or a little beyond what one may have."""
    pieces = bytearray()
    while len(pieces) <= MAX_REQUEST_BYTES:
        try:
            piece = await content.readany()
        except RuntimeError as error:  # what aiohttp says where the connection is gone before the reading begins
            raise ConnectionResetError from error
        if not piece:
            break
        pieces += piece
        await others_first()  # what is not read here stops what comes in
    return bytes(pieces)


def parse(body: bytes) -> object:
    """A body as JSON; RefusedError."""
    try:
        return loads(body.decode())
    except (ValueError, RecursionError):
        raise RefusedError(codes.INVALID_REQUEST, "the body is not JSON in UTF-8") from None


def _too_large() -> RefusedError:
    return RefusedError(codes.TOO_LARGE, f"a body has at most {MAX_REQUEST_BYTES} bytes")
