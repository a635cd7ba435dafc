"""A server made distant: a TCP proxy that holds back whatever the client sends for a while.

    with FarAway(port, delay=0.05) as proxy:
        connect_to("127.0.0.1", proxy.port)

Each piece is held back by itself, so that requests on several connections, or behind each other on one, do
not add up.
"""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self


class FarAway:
    """`port` is where it listens on loopback; `connections` how many it has had."""

    def __init__(self, target: int, delay: float) -> None:
        self._target = target
        self._delay = delay
        self.port = 0
        self.connections = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        listening = asyncio.start_server(self._serve, "127.0.0.1", 0)
        self._server = asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _close(self) -> None:
        self._server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            near, far = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(_pass_on(reader, far, self._delay))
                group.create_task(_pass_on(near, writer, 0))
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            far.close()
            writer.close()


async def _pass_on(source: asyncio.StreamReader, target: asyncio.StreamWriter, delay: float) -> None:
    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()
    clock = asyncio.get_running_loop().time

    async def deliver() -> None:
        while True:
            due, piece = await pieces.get()
            await asyncio.sleep(max(0, due - clock()))
            if not piece:
                target.close()
                return
            target.write(piece)
            await target.drain()

    async with asyncio.TaskGroup() as group:
        group.create_task(deliver())
        while piece := await source.read(65536):
            pieces.put_nowait((clock() + delay, piece))
        pieces.put_nowait((clock() + delay, b""))
