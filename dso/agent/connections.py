"""The agent's connections: how many there may be, how long each may take, who is at the other end.

HTTP itself is aiohttp's. It has no limit for how long a request's head may take to come, takes the end
of what a client sends for its end, and accepts without bound: that is what is here.
"""

from __future__ import annotations

import asyncio
import errno
from typing import TYPE_CHECKING, Any

from aiohttp import web

from dso.agent.access import Peer, peer_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from dso.agent.access import Caller
    from dso.agent.logbook import Logbook
    from dso.agent.metrics import Metrics

MAX_CONNECTIONS = 1024
IDLE_TIMEOUT = 60.0  # between requests, and before the first
HEAD_TIMEOUT = 10.0  # from a request's first byte to the end of its head
GRACE = 1.0  # for which a client that has just begun is spared when room has to be made
SWEEP_INTERVAL = 1.0
BACKLOG = 1024
_AT_ONCE = 64  # connections that are accepted before others have their turn
_HALF_CLOSED_DELAY = 0.05
_OUT_OF_RESOURCES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_NOBODY = Peer(-1, -1, -1, frozenset())

IDLE, HEAD, BODY, ANSWER = "idle", "head", "body", "answer"


class Limits:
    """What connections may take; tests make them small."""

    def __init__(
        self,
        *,
        connections: int = MAX_CONNECTIONS,
        idle: float = IDLE_TIMEOUT,
        head: float = HEAD_TIMEOUT,
        grace: float = GRACE,
        sweep: float = SWEEP_INTERVAL,
    ) -> None:
        self.connections = connections
        self.idle = idle
        self.head = head
        self.grace = grace
        self.sweep = sweep


class Connection(web.RequestHandler):
    """One connection. `state` is where it is with its request, `caller` who is at the other end once that is known."""

    def __init__(self, hub: Hub, loop: asyncio.AbstractEventLoop) -> None:
        # aiohttp's own bound for idle connections starts with a request's end; ours is for all of them
        super().__init__(
            hub.server,
            loop=loop,
            keepalive_timeout=3600,
            lingering_time=1,
            access_log=None,  # type: ignore[arg-type]  # its documented way to have none
            auto_decompress=False,
        )
        self.hub = hub
        self.peer = _NOBODY
        self.caller: Caller | None = None
        self.state = IDLE
        self.since = loop.time()
        self.is_lost = False
        self._stream: asyncio.Task[Any] | None = None
        self._half_closed = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note who it is; asyncio's."""
        super().connection_made(transport)
        try:
            self.peer = peer_of(transport.get_extra_info("socket"))
        except OSError:
            self.force_close()  # it is gone already
        self.hub.opened(self)

    def connection_lost(self, exc: BaseException | None) -> None:
        """End a stream, whose reader is gone; asyncio's."""
        self.is_lost = True
        if self._stream is not None:
            self._stream.cancel()
        super().connection_lost(exc)
        self.hub.closed(self)

    def data_received(self, data: bytes) -> None:
        """A request begins with its first byte; asyncio's."""
        if self.state == IDLE:
            self._enter(HEAD)
        super().data_received(data)

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
        allowed = {IDLE: limits.idle, HEAD: limits.head}.get(self.state)
        return allowed is not None and now - self.since > allowed

    def abort(self) -> None:
        """End it at once, whatever is still to be sent."""
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()
        self.force_close()

    def _enter(self, state: str) -> None:
        self.state = state
        self.since = self._loop.time()


class Hub:
    """Accepts connections, as many as there may be; the kernel lets others wait meanwhile."""

    def __init__(
        self,
        handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
        malformed: Callable[[int], web.StreamResponse],
        *,
        book: Logbook,
        metrics: Metrics,
        limits: Limits | None = None,
    ) -> None:
        """`handler` answers requests, `malformed` what is none. Make it in a running event loop."""
        self.server = web.Server(handler)
        self.malformed = malformed
        self.limits = limits or Limits()
        self._book = book
        self._metrics = metrics
        self._loop = asyncio.get_running_loop()
        self._open: dict[Connection, None] = {}
        self._room = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._coming: dict[Connection, asyncio.Task[None]] = {}  # accepted, and not open yet
        self._listening: list[socket.socket] = []

    def __len__(self) -> int:
        return len(self._open)

    def opened(self, connection: Connection) -> None:
        """A connection was made."""
        self._coming.pop(connection, None)
        self._open[connection] = None
        self._metrics.count("dso_agent_connections_total")

    def closed(self, connection: Connection) -> None:
        """A connection is no more."""
        self._open.pop(connection, None)
        self._room.set()

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
            try:
                while len(self._open) + len(self._coming) >= self.limits.connections and not self._make_room():
                    self._room.clear()
                    await self._room.wait()
            except BaseException:
                accepted.close()
                raise
            coming = Connection(self, self._loop)
            self._coming[coming] = self._loop.create_task(self._connect(coming, accepted))
            in_turn = (in_turn + 1) % _AT_ONCE
            if not in_turn:
                await asyncio.sleep(0)

    async def _connect(self, coming: Connection, accepted: socket.socket) -> None:
        try:
            await self._loop.connect_accepted_socket(lambda: coming, accepted)
        except BaseException as error:
            accepted.close()
            if not isinstance(error, OSError):
                raise
        finally:
            self._coming.pop(coming, None)
            self._room.set()  # it is open now, and may be the one to make room

    def _make_room(self) -> bool:
        """End the connection that has been waiting for its client for longest; whether there is one.

        Those whose body does not come go after idle ones, as their clients have asked for something, but before
        those that have just connected: whoever comes next would take their place before they said a word.
        """
        late = self._loop.time() - self.limits.grace
        waiting = [one for one in self._open if one.state in (IDLE, HEAD) or (one.state == BODY and one.since <= late)]
        oldest = min(waiting, key=lambda one: (one.since > late, one.state == BODY, one.since), default=None)
        if oldest is None:
            return False
        self._end_early(oldest, "room")
        self._open.pop(oldest, None)
        return True

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(self.limits.sweep)
            now = self._loop.time()
            for connection in [one for one in self._open if one.overdue(now, self.limits)]:
                self._end_early(connection, "idle" if connection.state == IDLE else "slow")
            self._room.set()  # a body may have become late: whoever waits for room looks again

    def _end_early(self, connection: Connection, reason: str) -> None:
        self._metrics.count("dso_agent_connections_closed_early_total", reason)
        self._book.debug("connection ended", reason=reason, uid=connection.peer.uid, pid=connection.peer.pid)
        connection.abort()

    async def stop_accepting(self) -> None:
        """Accept no more; what is open stays."""
        tasks, self._tasks = self._tasks, set()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._coming.values(), return_exceptions=True)
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
            self._room.clear()
            try:
                await asyncio.wait_for(self._room.wait(), max(deadline - self._loop.time(), 0.01))
            except TimeoutError:
                break
        for connection in list(self._open):
            connection.abort()
        await self.server.shutdown(0.1)
