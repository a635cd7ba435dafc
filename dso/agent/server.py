"""HTTP for the agent's API: requests in, endpoints called, answers and errors out. docs/agent-api.md.

Every error has a code. No request can end in a traceback, or in an answer that shows one.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiohttp import hdrs, web

from dso.agent.access import Caller, Directory, Known
from dso.agent.connections import Connection, Hub
from dso.agent.logbook import where
from dso.agent.responses import WholeResponse, streaming_response
from dso.protocol import codes
from dso.protocol.agent import MAX_REQUEST_BYTES, Fault
from dso.protocol.reading import MessageError
from dso.system.json_fast import loads

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from aiohttp import StreamReader

    from dso.agent.access import Access, Accounts, Peer
    from dso.agent.connections import Limits
    from dso.agent.events import Events
    from dso.agent.logbook import Logbook
    from dso.agent.metrics import Metrics

    Endpoint = Callable[["Request"], Awaitable["Answer"]]

BODY_TIMEOUT = 30.0
WRITE_TIMEOUT = 60.0
LOOK_UP_TIMEOUT = 5.0  # for what the user database knows of a caller
MAX_STREAMS = 128
MAX_STREAMS_OF_A_USER = 32

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
    codes.BUSY: HTTPStatus.SERVICE_UNAVAILABLE,
    codes.INTERNAL: HTTPStatus.INTERNAL_SERVER_ERROR,
}  # what a provider is to blame for is 502


class RefusedError(Exception):
    """A request is refused as a whole."""

    def __init__(self, code: str, message: str, hint: str = "", *, status: int | None = None, **more: str) -> None:
        super().__init__(message)
        self.fault = Fault(code, message, hint, **more)
        self.status = status or STATUSES.get(code, HTTPStatus.BAD_GATEWAY)

    @classmethod
    def of(cls, fault: Fault) -> RefusedError:
        """The refusal with a fault that is there already."""
        return cls(fault.code, fault.message, fault.hint, reference=fault.reference, provider=fault.provider)


class Request:
    """What an endpoint is asked: by whom, with which query, with which body."""

    __slots__ = ("_raw", "caller", "connection")

    def __init__(self, raw: web.BaseRequest, connection: Connection, caller: Caller) -> None:
        self._raw = raw
        self.connection = connection
        self.caller = caller

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
        """The body as it came; RefusedError."""
        if (self._raw.content_length or 0) > MAX_REQUEST_BYTES:
            raise _too_large()
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
        self.connection.body_is_read()
        return body


class Answer:
    """What an endpoint answers: text as it is, or pieces of text that come as they happen."""

    __slots__ = ("body", "content_type", "pieces")

    def __init__(
        self, body: bytes = b"", content_type: str = "application/json", pieces: AsyncGenerator[str, None] | None = None
    ) -> None:
        self.body = body
        self.content_type = content_type
        self.pieces = pieces

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> Answer:
        """JSON."""
        return cls(json.dumps(document, separators=(",", ":")).encode("ascii") + b"\n")


class Server:
    """Takes requests to endpoints."""

    def __init__(  # noqa: PLR0913  # the parts of the agent that it needs
        self,
        routes: Mapping[str, Mapping[str, Endpoint]],
        *,
        access: Callable[[], Access],
        accounts: Accounts,
        group: int | None,
        book: Logbook,
        events: Events,
        metrics: Metrics,
        limits: Limits | None = None,
    ) -> None:
        """`routes` has an endpoint by path and method, `group` the users besides root and our own; in an event loop."""
        self._routes = routes
        self._access = access
        self._directory = Directory(accounts)
        self._group = group
        self._book = book
        self._events = events
        self._metrics = metrics
        self._streams: dict[int, int] = {}
        self.hub = Hub(self._handle, _malformed, book=book, metrics=metrics, limits=limits)
        metrics.sources.append(self._gauges)

    def _gauges(self) -> dict[tuple[str, tuple[str, ...]], float]:
        return {
            ("dso_agent_connections", ()): len(self.hub),
            ("dso_agent_streams", ()): sum(self._streams.values()),
        }

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; the hub calls it."""
        connection = raw.protocol
        assert isinstance(connection, Connection)  # noqa: S101  # the hub makes no others
        started = asyncio.get_running_loop().time()
        connection.begin(has_body=not raw.content.is_eof())
        status = 0
        try:
            response = await self._respond(raw, connection)
            status = response.status
        finally:
            connection.end()
            self._metrics.took(self._endpoint(raw), status, asyncio.get_running_loop().time() - started)
        return response

    async def _respond(self, raw: web.BaseRequest, connection: Connection) -> web.StreamResponse:
        response: web.StreamResponse
        try:
            answer = await self._answer(raw, connection)
        except RefusedError as refused:
            response = self._refusal(refused, raw)
        else:
            if answer.pieces is not None:
                return await self._stream(raw, connection, answer, answer.pieces)
            response = WholeResponse(answer.body, answer.content_type)
        await self._write(raw, response, connection)
        return response

    def _endpoint(self, raw: web.BaseRequest) -> str:
        return raw.path if raw.path in self._routes else "other"

    async def _answer(self, raw: web.BaseRequest, connection: Connection) -> Answer:
        try:
            caller = await self._caller(connection)
            return await self._route(raw)(Request(raw, connection, caller))
        except MessageError as error:
            raise RefusedError(codes.INVALID_REQUEST, str(error)) from None
        except (RefusedError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  # a defect must not end the connection without an answer
            self._book.error(f"a request failed: {where(error)}", endpoint=self._endpoint(raw))
            raise RefusedError(
                codes.INTERNAL, f"the agent failed in a way it should not: {type(error).__name__}", _DEFECT_HINT
            ) from None

    def _route(self, raw: web.BaseRequest) -> Endpoint:
        methods = self._routes.get(raw.path)
        if methods is None:
            raise RefusedError(codes.UNSUPPORTED, f"there is no {raw.path[:80]!r}")
        if raw.method not in methods:
            what = f"{raw.path} takes {' and '.join(methods)}, not {raw.method[:20]!r}"
            raise RefusedError(codes.UNSUPPORTED, what, status=HTTPStatus.METHOD_NOT_ALLOWED)
        return methods[raw.method]

    def _refusal(self, refused: RefusedError, raw: web.BaseRequest) -> WholeResponse:
        response = _fault_response(refused.fault, refused.status)
        if not raw.content.is_eof():
            response.force_close()  # the rest of its body is not worth reading
        return response

    # Who asks.

    async def _caller(self, connection: Connection) -> Caller:
        """Who is at the other end, if it may use the agent; RefusedError."""
        if connection.caller is None:
            connection.caller = await self._identify(connection.peer)
        return connection.caller

    async def _identify(self, peer: Peer) -> Caller:
        if self._access().is_trusted(peer.uid):
            return Caller(peer.pid, peer.uid, "", peer.groups, frozenset(), trusted=True)
        try:
            async with asyncio.timeout(LOOK_UP_TIMEOUT):
                found = await self._directory.find(peer)
        except TimeoutError:
            found = Known("", peer.groups, frozenset())
            self._book.warning("the user database does not answer", uid=peer.uid)
        user, groups, names = found
        if self._group is None or self._group not in groups:
            self._metrics.count("dso_agent_connections_refused_total")
            self._events("access.refused", uid=peer.uid, pid=peer.pid, user=user, message="not in group dso")
            raise RefusedError(codes.PERMISSION_DENIED, f"user {user or peer.uid} may not use this agent")
        return Caller(peer.pid, peer.uid, user, groups, names, trusted=False)

    # Answers.

    async def _write(self, raw: web.BaseRequest, response: web.StreamResponse, connection: Connection) -> None:
        """Send an answer, to a client that reads it."""
        await response.prepare(raw)
        await response.write_eof()
        if not connection.writing_paused:  # all of it, or nearly, is on its way
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                await raw.writer.drain()
        except TimeoutError:
            self._too_slow(connection)

    def _too_slow(self, connection: Connection) -> None:
        self._metrics.count("dso_agent_connections_closed_early_total", "unread")
        connection.abort()

    async def _stream(
        self, raw: web.BaseRequest, connection: Connection, answer: Answer, pieces: AsyncGenerator[str, None]
    ) -> web.StreamResponse:
        """Send pieces as they come, until the client goes or the agent ends."""
        response = streaming_response(answer.content_type)
        uid = connection.peer.uid
        if sum(self._streams.values()) >= MAX_STREAMS or self._streams.get(uid, 0) >= MAX_STREAMS_OF_A_USER:
            refused = RefusedError(codes.BUSY, "too many watch this agent already", "end some of those, or try later")
            busy = self._refusal(refused, raw)
            await self._write(raw, busy, connection)
            return busy
        self._streams[uid] = self._streams.get(uid, 0) + 1
        connection.stream()
        try:
            await response.prepare(raw)
            async with aclosing(pieces):
                async for piece in pieces:
                    async with asyncio.timeout(WRITE_TIMEOUT):
                        await response.write(piece.encode("utf-8", "backslashreplace"))
        except TimeoutError:
            self._too_slow(connection)
        except (asyncio.CancelledError, ConnectionError):
            if not connection.is_lost:  # the agent ends
                response.force_close()
                await self._write(raw, response, connection)
        finally:
            self._streams[uid] -= 1
            if not self._streams[uid]:
                del self._streams[uid]
        return response


_DEFECT_HINT = "`docker dso logs` says where; please report it"


async def _read(content: StreamReader) -> bytes:
    """A body to its end, or a little beyond what one may have."""
    pieces = bytearray()
    while len(pieces) <= MAX_REQUEST_BYTES and (piece := await content.readany()):
        pieces += piece
    return bytes(pieces)


def parse(body: bytes) -> object:
    """A body as JSON; RefusedError."""
    try:
        return loads(body.decode())
    except (ValueError, RecursionError):
        raise RefusedError(codes.INVALID_REQUEST, "the body is not JSON in UTF-8") from None


def _too_large() -> RefusedError:
    return RefusedError(codes.TOO_LARGE, f"a body has at most {MAX_REQUEST_BYTES} bytes")


def _malformed(_status: int) -> WholeResponse:
    return _fault_response(
        Fault(codes.INVALID_REQUEST, "this is not HTTP/1.1, or its head is too large"), HTTPStatus.BAD_REQUEST
    )


def _fault_response(fault: Fault, status: int) -> WholeResponse:
    answer = Answer.of({"error": fault.to_json()})
    return WholeResponse(answer.body, answer.content_type, status)
