"""What happens in the agent: each event is logged, counted, and told to those who watch.

An event has a name such as `secret.changed` and fields that say to what; never a value.
docs/agent-api.md lists them.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from dso.protocol.stream import LOST, AgentEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from dso.agent.logbook import Logbook

KEPT_EVENTS = 256  # for a reader that lost its connection and says which was the last it saw
MAX_WAITING = 256  # events that wait for one reader
_AT_ONCE = 32  # of those that are handed out at a time

# How loud an event is in the log, unless it says so itself. What is not here is "info".
_LEVELS = {
    "secret.fetched": "debug",
    "secret.failed": "warning",
    "secret.stale": "warning",
    "secret.removed": "warning",
    "access.refused": "warning",
    "reload.failed": "error",
    "volume.failed": "error",
    "volume.state_damaged": "error",
    "volume.state_unwritten": "error",
    "volume.waiting": "warning",
    "volume.retained": "warning",
}


class Watcher:
    """Somebody who watches; `wants` decides which events it may see."""

    __slots__ = ("_lost", "_waiting", "_woken", "wants")

    def __init__(self, wants: Callable[[AgentEvent], bool]) -> None:
        self.wants = wants
        self._waiting: deque[AgentEvent] = deque()
        self._lost = 0
        self._woken = asyncio.Event()

    def add(self, event: AgentEvent) -> None:
        """Hand it an event; a reader that is too slow misses the oldest, and is told how many."""
        if not self.wants(event):
            return
        if len(self._waiting) >= MAX_WAITING:
            self._waiting.popleft()
            self._lost += 1
        self._waiting.append(event)
        self._woken.set()

    async def next(self) -> list[AgentEvent]:
        """The next events, as many as are there up to a bound; waits for one."""
        await self._woken.wait()
        found = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        if not self._waiting:
            self._woken.clear()
        if self._lost:
            found.insert(0, AgentEvent(LOST, found[0].time, {"count": self._lost}, found[0].number))
            self._lost = 0
        return found


class Events:
    """The agent's events; calling it is what `emit` is for everybody. From the event loop's thread only."""

    def __init__(self, book: Logbook, *, clock: Callable[[], float] = time.time) -> None:
        self._book = book
        self._clock = clock
        self._number = 0
        self._recent: deque[AgentEvent] = deque(maxlen=KEPT_EVENTS)
        self._watchers: set[Watcher] = set()
        self._listeners: list[Callable[[AgentEvent], object]] = []
        self.counts: dict[str, int] = {}

    def __call__(self, event: str, /, **fields: Any) -> None:
        """Tell that something happened. `level` among the fields says how loud it is in the log."""
        self.log(event, fields, fields.pop("level", None))
        self.tell(event, fields)

    def log(self, event: str, fields: dict[str, Any], level: str | None = None) -> int:
        """Write a line of the log only; its characters."""
        return self._book.write(level or _LEVELS.get(event, "info"), event, fields)

    def tell(self, event: str, fields: dict[str, Any]) -> None:
        """Tell those who watch only."""
        self._number += 1
        happened = AgentEvent(event, round(self._clock(), 3), fields, self._number)
        self.counts[event] = self.counts.get(event, 0) + 1
        self._recent.append(happened)
        for watcher in self._watchers:
            watcher.add(happened)
        for listener in self._listeners:
            listener(happened)

    def listen(self, listener: Callable[[AgentEvent], object]) -> None:
        """Have a function called with every event, as long as the agent lives."""
        self._listeners.append(listener)

    def watch(self, wants: Callable[[AgentEvent], bool], *, after: int | None = None) -> Watcher:
        """Watch from now on, or from behind an event's number as far as it is kept; `unwatch` ends it."""
        watcher = Watcher(wants)
        if after is not None:
            for event in self._recent:
                if event.number > after:
                    watcher.add(event)
        self._watchers.add(watcher)
        return watcher

    def unwatch(self, watcher: Watcher) -> None:
        """See `watch`."""
        self._watchers.discard(watcher)
