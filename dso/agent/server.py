"""HTTP for the agent's API: requests in, endpoints called, answers and errors out. docs/agent-api.md.

Every error has a code. No request can end in a traceback, or in an answer that shows one.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING

from dso.agent.access import Caller
from dso.agent.connections import Connection, Hub
from dso.agent.fairness.budgets import (
    MEMBER_POOL,
    RETRY_AFTER,
    STRANGER_POOL,
    TRUSTED_POOL,
    Budget,
    BusyError,
    Hold,
    Share,
    memory_budget,
)
from dso.agent.fairness.rates import Rate
from dso.agent.fairness.turns import Turns, begin, others_first
from dso.agent.logbook import where
from dso.agent.responses import WholeResponse, refusal, streaming_response
from dso.agent.web.exchange import Answer, RefusedError, Request, parse
from dso.agent.web.members import RECHECK, Members
from dso.protocol import codes
from dso.protocol.agent import Fault
from dso.protocol.reading import MessageError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping

    from aiohttp import web

    from dso.agent.access import Access, Accounts
    from dso.agent.connections import Limits
    from dso.agent.events import Events
    from dso.agent.logbook import Logbook
    from dso.agent.metrics import Metrics

    Endpoint = Callable[["Request"], Awaitable["Answer"]]

__all__ = ["Answer", "RefusedError", "Request", "Server", "parse"]

WRITE_TIMEOUT = 60.0
STREAMS = {TRUSTED_POOL: Share(64, 64), MEMBER_POOL: Share(8, 64)}


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
        self._members = Members(access, accounts, group, book)
        self._book = book
        self._events = events
        self._metrics = metrics
        self._streams = Budget(STREAMS)
        self._memory = memory_budget()
        self._turns = Turns()
        self._strangers = Rate("connections of users who may not use this agent", burst=10, per_second=1)
        self.hub = Hub(
            self._handle,
            _malformed,
            pool_of=self._members.pool_of,
            refusal=_TOO_MANY,
            turns=self._turns,
            book=book,
            metrics=metrics,
            limits=limits,
        )
        metrics.sources.append(self._gauges)

    def _gauges(self) -> dict[tuple[str, tuple[str, ...]], float]:
        return {
            ("dso_agent_connections", ()): len(self.hub),
            ("dso_agent_streams", ()): sum(self._streams.used.values()),
            ("dso_agent_held_bytes", ()): sum(self._memory.used.values()),
        }

    async def _handle(self, raw: web.BaseRequest) -> web.StreamResponse:
        """Answer one request; the hub calls it."""
        connection = raw.protocol
        assert isinstance(connection, Connection)  # noqa: S101  # the hub makes no others
        started = asyncio.get_running_loop().time()
        connection.begin(has_body=not raw.content.is_eof())
        status = 0
        try:
            await begin(self._turns, connection.peer.uid)
            response = await self._respond(raw, connection)
            status = response.status
        finally:
            connection.end()
            if connection.hold is not None:
                connection.hold.release()
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
            del answer  # the response gives up its parts as they are sent
        await self._write(raw, response, connection)
        return response

    def _endpoint(self, raw: web.BaseRequest) -> str:
        return raw.path if raw.path in self._routes else "other"

    async def _answer(self, raw: web.BaseRequest, connection: Connection) -> Answer:
        try:
            caller = await self._caller(connection)
            hold = Hold(self._memory, connection.pool, caller.uid, self._end_unread)
            connection.hold = hold
            answer = await self._route(raw)(Request(raw, connection, caller, hold))
            if not answer.is_held:
                hold.grow(sum(map(len, answer.body)))
            if connection.caller is None:  # somebody who has lost the group meanwhile
                await self._caller(connection)
        except BusyError as busy:
            raise RefusedError.busy(busy) from None
        except MessageError as error:
            raise RefusedError(codes.INVALID_REQUEST, str(error)) from None
        except (RefusedError, asyncio.CancelledError):
            raise
        except Exception as error:  # noqa: BLE001  # a defect must not end the connection without an answer
            self._book.error(f"a request failed: {where(error)}", endpoint=self._endpoint(raw))
            raise RefusedError(
                codes.INTERNAL, f"the agent failed in a way it should not: {type(error).__name__}", _DEFECT_HINT
            ) from None
        else:
            return answer

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
            peer = connection.peer
            found = await self._members.identify(peer)
            if not isinstance(found, Caller):
                self.hub.move(connection, STRANGER_POOL)
                self._strangers.spend(peer.uid)  # who asks again and again fills no log
                self._metrics.count("dso_agent_connections_refused_total")
                self._events("access.refused", uid=peer.uid, pid=peer.pid, user=found, message="not in group dso")
                raise RefusedError(codes.PERMISSION_DENIED, f"user {found or peer.uid} may not use this agent")
            connection.caller = found
            self.hub.move(connection, TRUSTED_POOL if found.trusted else MEMBER_POOL)
        return connection.caller

    async def keep_checking(self) -> None:
        """For as long as the agent runs: who has left group dso has left it on open connections too."""
        while True:
            await asyncio.sleep(RECHECK)
            await self._members.recheck(self.hub.connections)

    # Answers.

    async def _write(self, raw: web.BaseRequest, response: web.StreamResponse, connection: Connection) -> None:
        """Send an answer, to a client that reads it."""
        await response.prepare(raw)
        await response.write_eof()
        whole = response if isinstance(response, WholeResponse) and response.has_more else None
        if whole is None and not connection.writing_paused:  # all of it, or nearly, is on its way
            return
        try:
            async with asyncio.timeout(WRITE_TIMEOUT):
                while whole is not None and whole.has_more:
                    if connection.transport is None:
                        return
                    whole.send_more(connection.transport)
                    if connection.writing_paused:
                        await raw.writer.drain()
                    else:
                        await others_first()
                await raw.writer.drain()
        except TimeoutError:
            self._too_slow(connection)
        except ConnectionError:
            pass  # nobody waits for it any more

    def _end_unread(self, pool: str, user: int, lacking: str) -> bool:
        """Make room for a request: end the answer whose client has read nothing for longest; whether there is one.

        One of the same user where that user has too much, else one of whoever has most.
        """
        late = asyncio.get_running_loop().time() - self.hub.limits.grace
        unread = [
            one
            for one in self.hub.connections
            if one.hold is not None
            and one.hold.amount
            and one.stalled is not None
            and one.stalled <= late
            and one.hold.pool == pool
            and (lacking == "pool" or one.peer.uid == user)
        ]
        if not unread:
            return False
        used = self._memory.used
        one = min(unread, key=lambda one: (-used[pool, one.peer.uid], one.stalled))
        self.hub.end_early(one, "unread")
        assert one.hold is not None  # noqa: S101  # those were chosen
        one.hold.release()
        return True

    def _too_slow(self, connection: Connection) -> None:
        self._metrics.count("dso_agent_connections_closed_early_total", "unread")
        connection.abort()

    async def _stream(
        self, raw: web.BaseRequest, connection: Connection, answer: Answer, pieces: AsyncGenerator[str, None]
    ) -> web.StreamResponse:
        """Send pieces as they come, until the client goes or the agent ends."""
        response = streaming_response(answer.content_type)
        pool, uid = connection.pool, connection.peer.uid
        if lacking := self._streams.lacks(pool, uid, 1):
            what = "this user has as many event streams as one may have" if lacking == "user" else _WATCHED
            hint = "end some of those, or try later"
            busy = self._refusal(RefusedError(codes.BUSY, what, hint, retry_after=STREAM_RETRY), raw)
            await self._write(raw, busy, connection)
            return busy
        self._streams.take(pool, uid, 1)
        connection.stream()
        try:
            await response.prepare(raw)
            async with aclosing(pieces):
                async for piece in pieces:
                    await others_first()
                    async with asyncio.timeout(WRITE_TIMEOUT):
                        await response.write(piece.encode("utf-8", "backslashreplace"))
        except TimeoutError:
            self._too_slow(connection)
        except (asyncio.CancelledError, ConnectionError):
            if not connection.is_lost:  # the agent ends
                response.force_close()
                await self._write(raw, response, connection)
        finally:
            self._streams.take(pool, uid, -1)
        return response


_DEFECT_HINT = "`docker dso logs` says where; please report it"
_WATCHED = "as many event streams go on as the agent allows"
STREAM_RETRY = 10.0


def _malformed(_status: int) -> WholeResponse:
    return _fault_response(
        Fault(codes.INVALID_REQUEST, "this is not HTTP/1.1, or its head is too large"), HTTPStatus.BAD_REQUEST
    )


def _fault_response(fault: Fault, status: int) -> WholeResponse:
    answer = Answer.of({"error": fault.to_json()})
    return WholeResponse(answer.body, answer.content_type, status, retry_after=fault.retry_after)


_TOO_MANY = refusal(
    b"".join(
        Answer.of(
            {
                "error": Fault(
                    codes.BUSY,
                    "this user has as many connections as there may be",
                    "try again a little later",
                    retry_after=RETRY_AFTER,
                ).to_json()
            }
        ).body
    ),
    HTTPStatus.TOO_MANY_REQUESTS,
    RETRY_AFTER,
)
