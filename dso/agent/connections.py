"""The agent's connections: how many each user may have, how long each may take, who is at the other end.

HTTP itself is aiohttp's. It has no limit for how long a request's head may take to come, nor for its size, takes the
end of what a client sends for its end, and accepts without bound: that is what is here.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
from typing import TYPE_CHECKING, Any

from aiohttp import web

from dso.agent.access import Peer, peer_of
from dso.agent.fairness.budgets import TRUSTED_POOL, Budget
from dso.agent.fairness.turns import Turns
from dso.agent.web.limits import HEAD_TIMEOUT, Limits

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from dso.agent.access import Caller
    from dso.agent.fairness.budgets import Hold
    from dso.agent.logbook import Logbook
    from dso.agent.metrics import Metrics

__all__ = ["BACKLOG", "HEAD_TIMEOUT", "Connection", "Hub", "Limits"]

BACKLOG = 1024
MAX_HEAD = 64 * 1024  # bytes of a request's head
_AT_ONCE, _AT_ONCE_SHARED = 32, 4  # connections that are accepted in a round; where several users are there
_READ_SIZE = 16 * 1024  # bytes that are read at a time
_HIGH_WATER = 32 * 1024  # bytes that wait in a connection's buffer before its answer has to wait too
_HALF_CLOSED_DELAY = 0.05  # seconds
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

IDLE, HEAD, BODY, ANSWER = "idle", "head", "body", "answer"


class Connection(web.RequestHandler):
    """One connection. `state` is where it is with its request, `caller` who is at the other end once that is known.

    `pool` is the one it counts to, `hold` the memory of its request, `stalled` since when its client reads nothing.
    """

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop, peer: Peer, pool: str) -> None:
        # aiohttp's own bound for idle connections starts with a request's end; ours is for all of them
        super().__init__(
            hub.server,
            loop=loop,
            keepalive_timeout=3600,
            lingering_time=1,
            access_log=None,  # type: ignore[arg-type]  # its documented way to have none
            auto_decompress=False,
            read_bufsize=_READ_SIZE,
        )
        self.hub = hub
        self.peer = peer
        self.pool = pool
        self.hold: Hold | None = None
        self.stalled: float | None = None
        self.caller: Caller | None = None
        self.state = IDLE
        self.since = loop.time()
        self.was_opened = self.is_lost = False
        self._stream: asyncio.Task[Any] | None = None
        self._half_closed = False
        self._head = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Set how much is read and kept at a time; asyncio's."""
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)  # noqa: S101
        transport.max_size = _READ_SIZE  # type: ignore[attr-defined]  # asyncio's own is four times as much
        transport.set_write_buffer_limits(_HIGH_WATER)
        self.hub.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End a stream, whose reader is gone; asyncio's."""
        self.is_lost = True
        if self._stream is not None:
            self._stream.cancel()
        super().connection_lost(exc)
        self.hub.closed(self)

    def data_received(self, data: bytes) -> None:
        """A request begins with its first byte, and its head has an end; asyncio's."""
        if self.state == IDLE:
            self._enter(HEAD)
            self._head = 0
        super().data_received(data)
        if self.state == HEAD and not self._messages:  # the head is not complete
            self._head += len(data)
            if self._head > MAX_HEAD:
                self.abort()

    def pause_writing(self) -> None:
        """The client does not keep up with its answer; asyncio's."""
        super().pause_writing()
        self.stalled = self._loop.time()

    def resume_writing(self) -> None:
        """It does again; asyncio's."""
        super().resume_writing()
        self.stalled = None

    def eof_received(self) -> bool:  # type: ignore[override]  # aiohttp never keeps it open
        """A client that has said all it has to say still gets its answer; asyncio's.

        Whether it has is not known yet when its end comes together with its request: a moment later it is.
        """
        if self._stream is not None:
            return False
        self._half_closed = True
        if self.state != ANSWER:
            self._loop.call_later(_HALF_CLOSED_DELAY, self._close_unless_answering)
        return True

    def handle_error(
        self,
        request: web.BaseRequest,  # noqa: ARG002  # aiohttp's signature
        status: int = 500,
        exc: BaseException | None = None,  # noqa: ARG002
        message: str | None = None,  # noqa: ARG002
    ) -> web.StreamResponse:
        """What is no HTTP gets an error with a code, as everything else; aiohttp calls it for nothing else."""
        response = self.hub.malformed(status)
        response.force_close()
        return response

    def begin(self, *, has_body: bool) -> None:
        """A request's head is complete."""
        self._enter(BODY if has_body else ANSWER)

    def body_is_read(self) -> None:
        """So is its body."""
        self._enter(ANSWER)

    def stream(self) -> None:
        """The answer of the running task goes on until somebody ends it."""
        self._stream = asyncio.current_task()

    def end(self) -> None:
        """The answer is written."""
        self._stream = None
        self._enter(IDLE)
        if self._half_closed:
            self._loop.call_later(_HALF_CLOSED_DELAY, self._close_unless_answering)

    def end_stream(self) -> None:
        """Have a stream end as it should."""
        if self._stream is not None:
            self._stream.cancel()

    def _close_unless_answering(self) -> None:
        if self.state != ANSWER:
            self.abort()

    def overdue(self, now: float, limits: Limits) -> bool:
        """Whether it took too long over what it is at; bodies and answers have their own time limits."""
        return now - self.since > {IDLE: limits.idle, HEAD: limits.head}.get(self.state, math.inf)

    def abort(self) -> None:
        """End it at once, whatever is still to be sent."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        self.force_close()

    def _enter(self, state: str) -> None:
        self.state = state
        self.since = self._loop.time()


class Hub:
    """Accepts connections, as many as each user may have; who has more is told to come back."""

    def __init__(  # noqa: PLR0913  # what it needs of the server
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        malformed: Callable[[int], web.StreamResponse],
        *,
        pool_of: Callable[[Peer], str] = lambda _: TRUSTED_POOL,
        refusal: bytes = b"",
        turns: Turns | None = None,
        book: Logbook,
        metrics: Metrics,
        limits: Limits | None = None,
    ) -> None:
        """`handler` answers requests, `malformed` what is none. Make it in a running event loop.

        `pool_of` tells which budget a peer is of, `refusal` is sent to who has too many connections already.
        """
        self.server = web.Server(handler)
        self.malformed = malformed
        self.limits = limits or Limits()
        self._budget = Budget(self.limits.shares)
        self._pool_of = pool_of
        self._refusal = refusal
        self._turns = turns or Turns()
        self._book = book
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._open: dict[Connection, None] = {}
        self._ended = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming: set[asyncio.Task[None]] = set()  # accepted, and not open yet
        self._listening: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        connection.was_opened = True
        self._open[connection] = None
        self._metrics.count("dso_agent_connections_total")

    def closed(self, connection: Connection) -> None:
        """A connection is no more."""
        if connection in self._open:
            del self._open[connection]
            self._give_back(connection)
        self._ended.set()

    def _give_back(self, connection: Connection) -> None:
        self._budget.take(connection.pool, connection.peer.uid, -1)

    def move(self, connection: Connection, pool: str) -> None:
        """A connection turns out to be of another pool."""
        if connection.pool != pool and connection in self._open:
            self._give_back(connection)
            self._budget.take(pool, connection.peer.uid, 1)
        connection.pool = pool

    @property
    def connections(self) -> list[Connection]:
        """All that are open."""
        return list(self._open)

    def listen(self, listening: socket.socket) -> None:
        """Accept connections of a listening socket from now on."""
        listening.setblocking(False)
        self._listening.append(listening)
        self._run(self._accept(listening))
        if len(self._tasks) == 1:
            self._run(self._sweep())

    def is_accepting(self) -> bool:
        """Whether all its tasks run, as they should until `close`."""
        return bool(self._tasks) and not any(task.done() for task in self._tasks)

    def _run(self, work: Any) -> None:
        self._tasks.add(self._loop.create_task(work))

    async def _accept(self, listening: socket.socket) -> None:
        """Accept whoever is there, many in one turn of the loop: in each turn all who are in already are served."""
        in_turn = 0
        while True:
            try:
                accepted, _ = await self._loop.sock_accept(listening)  # takes a turn only when nobody is there
            except OSError as error:
                if error.errno not in (*_OUT_OF_RESOURCES, errno.ECONNABORTED):
                    self._book.error("the agent cannot accept connections", error=error.strerror)
                self._make_room()
                await asyncio.sleep(0.1)
                continue
            self._take(accepted)
            in_turn += 1
            if in_turn >= (_AT_ONCE_SHARED if self._turns.is_shared else _AT_ONCE):
                in_turn = 0
                await asyncio.sleep(0)

    def _take(self, accepted: socket.socket) -> None:
        """Open a connection, or refuse it: nobody waits here, since whoever is next may be root."""
        try:
            peer = peer_of(accepted)
        except OSError:  # it is gone already
            accepted.close()
            return
        pool = self._pool_of(peer)
        lacking = self._budget.lacks(pool, peer.uid, 1)
        if lacking and not self._make_room(pool, peer.uid if lacking == "user" else None):
            self._refuse(accepted)
            return
        self._budget.take(pool, peer.uid, 1)
        task = self._loop.create_task(self._connect(accepted, peer, pool))
        self._coming.add(task)
        task.add_done_callback(self._coming.discard)

    def _refuse(self, accepted: socket.socket) -> None:
        self._metrics.count("dso_agent_connections_closed_early_total", "budget")
        with contextlib.suppress(OSError):
            accepted.setblocking(False)
            accepted.send(self._refusal)
        accepted.close()

    async def _connect(self, accepted: socket.socket, peer: Peer, pool: str) -> None:
        coming: Connection | None = None
        try:
            await self._turns.take(peer.uid)
            coming = Connection(self, self._loop, peer, pool)
            await self._loop.connect_accepted_socket(lambda: coming, accepted)
        except BaseException as error:
            accepted.close()
            if not isinstance(error, OSError):
                raise
        finally:
            if coming is None or not coming.was_opened:
                self._budget.take(pool, peer.uid, -1)

    def _make_room(self, pool: str | None = None, user: int | None = None) -> bool:
        """End the connection that has been waiting for its client for longest; whether there is one.

        Of a user, or of the one in a pool who has most of those. Those whose body does not come go after idle ones, as
        their clients have asked for something, but before those that have just connected: whoever comes next would
        take their place before they said a word.
        """
        late = self._loop.time() - self.limits.grace
        waiting = [
            one
            for one in self._open
            if (one.state in (IDLE, HEAD) or (one.state == BODY and one.since <= late))
            and (pool is None or one.pool == pool)
            and (user is None or one.peer.uid == user)
        ]
        if user is None and pool is not None and waiting:
            used = self._budget.used
            most = max(used[pool, one.peer.uid] for one in waiting)
            waiting = [one for one in waiting if used[pool, one.peer.uid] == most]
        oldest = min(waiting, key=lambda one: (one.since > late, one.state == BODY, one.since), default=None)
        if oldest is None:
            return False
        self.end_early(oldest, "room")
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.limits.sweep)
            now = self._loop.time()
            for connection in [one for one in self._open if one.overdue(now, self.limits)]:
                self.end_early(connection, "idle" if connection.state == IDLE else "slow")

    def end_early(self, connection: Connection, reason: str) -> None:
        """End a connection that has had its time; its place is free at once."""
        self._metrics.count("dso_agent_connections_closed_early_total", reason)
        self._book.debug("connection ended", reason=reason, uid=connection.peer.uid, pid=connection.peer.pid)
        connection.abort()
        self.closed(connection)

    async def stop_accepting(self) -> None:
        """Accept no more; what is open stays."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._coming, return_exceptions=True)
        for listening in self._listening:
            listening.close()

    async def close(self, grace: float) -> None:
        """Accept no more, end what waits for its client and what goes on for ever, and wait for the others' answers."""
        await self.stop_accepting()
        for connection in list(self._open):
            connection.end_stream()
            if connection.state in (IDLE, HEAD):
                connection.force_close()
            else:
                connection.close()  # after its answer
        deadline = self._loop.time() + grace
        while self._open and self._loop.time() < deadline:
            self._ended.clear()
            try:
                await asyncio.wait_for(self._ended.wait(), max(deadline - self._loop.time(), 0.01))
            except TimeoutError:
                break
        for connection in list(self._open):
            connection.abort()
        await self.server.shutdown(0.1)
