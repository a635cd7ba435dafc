"""Taking over a new configuration while the agent runs: all of it or nothing of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from dso.agent.events import Events
    from dso.agent.metrics import Metrics
    from dso.config.model import CloudConfig

# Keys of `agent:` that are read once.
RESTART_KEYS = ("socket", "plugin_dir", "state_dir", "runtime_dir", "volume_socket")


class Changes(NamedTuple):
    """What a new configuration changes; names of providers, numbers of secrets, keys of `agent:`."""

    added: tuple[str, ...]
    changed: tuple[str, ...]
    removed: tuple[str, ...]
    secrets: int
    needs_restart: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """As the answer of `POST /v1/reload` has it."""
        return {
            "providers_added": list(self.added),
            "providers_changed": list(self.changed),
            "providers_removed": list(self.removed),
            "secrets": self.secrets,
            "restart_needed": list(self.needs_restart),
        }


def changes(running: CloudConfig, new: CloudConfig, *, first: CloudConfig) -> Changes:
    """What changes from the running configuration to a new one; `first` is the one the agent started with."""
    before, after = running.providers, new.providers
    return Changes(
        tuple(name for name in after if name not in before),
        tuple(name for name in after if name in before and after[name] != before[name]),
        tuple(name for name in before if name not in after),
        len(new.secrets),
        tuple(f"agent.{key}" for key in RESTART_KEYS if getattr(new.agent, key) != getattr(first.agent, key)),
    )


class Reloader:
    """Reads the file again when asked, one reading at a time.

    Attributes:
        error: what is wrong with the file, "" when it is the configuration in force.
        needs_restart: keys of `agent:` whose new values count after a restart only.
    """

    def __init__(
        self,
        running: CloudConfig,
        load: Callable[[], CloudConfig],
        apply: Callable[[CloudConfig], Awaitable[None]],
        *,
        events: Events,
        metrics: Metrics,
    ) -> None:
        """`load` reads the file, in a thread; `apply` has the agent's parts take it over."""
        self.error = ""
        self.needs_restart: tuple[str, ...] = ()
        self._first = self._running = running
        self._load = load
        self._apply = apply
        self._events = events
        self._metrics = metrics
        self._current: asyncio.Task[Changes] | None = None
        self._next: asyncio.Task[Changes] | None = None  # waits for that one
        metrics.sources.append(self._gauges)

    def _gauges(self) -> Mapping[tuple[str, tuple[str, ...]], float]:
        return {("dso_agent_config_ok", ()): 0.0 if self.error else 1.0}

    async def reload(self) -> Changes:
        """Take over what the file says now. All who ask while one reading is under way share the next.

        Raises:
            ConfigError: the file is faulty, and the former configuration stays in force.
        """
        if self._next is not None:
            return await asyncio.shield(self._next)
        if self._current is None or self._current.done():
            self._current = self._begun(self._read())
            return await asyncio.shield(self._current)
        self._next = self._begun(self._read_after(self._current))
        return await asyncio.shield(self._next)

    @staticmethod
    def _begun(reading: Coroutine[Any, Any, Changes]) -> asyncio.Task[Changes]:
        task = asyncio.get_running_loop().create_task(reading)
        task.add_done_callback(
            lambda done: done.cancelled() or done.exception()
        )  # it may be that nobody waits any more
        return task

    async def _read_after(self, current: asyncio.Task[Changes]) -> Changes:
        await asyncio.wait([current])
        self._current, self._next = self._next, None  # who asks from now on may know of a later state of the file
        return await self._read()

    async def _read(self) -> Changes:
        try:
            new = await asyncio.to_thread(self._load)
        except ConfigError as error:
            self.error = error.message
            self._metrics.count("dso_agent_reloads_total", "failed")
            self._events(
                "reload.failed",
                message=f"{error.message}; the former configuration stays in force",
                hint=error.hint,
            )
            raise
        found = changes(self._running, new, first=self._first)
        await self._apply(new)
        self._running, self.error, self.needs_restart = new, "", found.needs_restart
        self._metrics.count("dso_agent_reloads_total", "ok")
        fields = {name: value for name, value in found.to_json().items() if value}
        self._events("reload.done", **fields, level="warning" if found.needs_restart else "info")
        return found
