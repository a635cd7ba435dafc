"""The agent as a whole: its parts, put together, started and ended in order."""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import signal
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from dso import paths
from dso.agent.access import Access, Accounts, agent_group
from dso.agent.cache import Cache
from dso.agent.endpoints import Endpoints
from dso.agent.environment import redactor_of
from dso.agent.events import Events
from dso.agent.fingerprints import fingerprint_key
from dso.agent.isolation.quarters import Quarters
from dso.agent.logbook import take_over_logging, where
from dso.agent.metrics import Metrics, resident_memory
from dso.agent.plugin import RUNNING
from dso.agent.providers import Providers
from dso.agent.reload import Reloader
from dso.agent.resolver import Resolver
from dso.agent.server import Server
from dso.agent.sockets import activated_sockets, bind
from dso.agent.volumesocket import open_driver
from dso.config.load import load_config
from dso.config.model import DEFAULT_CACHE_TTL
from dso.errors import ConfigError
from dso.protocol.agent import API_VERSION
from dso.protocol.state import AgentInfo, VolumeDriverState
from dso.system import hardening, systemd
from dso.system.memory import forbid_core_files
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dso.agent.logbook import Logbook
    from dso.agent.plugin import ProviderState
    from dso.agent.sockets import Listening
    from dso.agent.volumedriver import VolumeDriver
    from dso.agent.volumesocket import DriverServer
    from dso.config.model import CloudConfig, ProviderConfig

GRACE = 10.0  # seconds for requests that are under way when the agent ends
TIDY_INTERVAL = 60.0
FAILING = "failing"  # a plugin runs, and its backend gives nothing
_FILES = 65536  # descriptors, where we may have as many


class Options(NamedTuple):
    """What the command line says; None where it says nothing."""

    config: str
    socket: str | None = None
    plugin_dir: str | None = None
    log_level: str | None = None
    log_format: str | None = None


class Places(NamedTuple):
    """Where the agent has its things."""

    socket: str
    plugin_dir: str
    state_dir: str
    runtime_dir: str
    volume_socket: str | None

    @classmethod
    def of(cls, options: Options, config: CloudConfig) -> Places:
        """The command line first (it has DSO_SOCKET_PATH and DSO_PLUGIN_DIR too), then dso.yaml, then the defaults."""
        uid, agent = os.geteuid(), config.agent
        return cls(
            options.socket or agent.socket or paths.agent_socket(uid),
            options.plugin_dir or agent.plugin_dir or paths.SYSTEM_PLUGIN_DIR,
            agent.state_dir or paths.agent_state_dir(uid),
            agent.runtime_dir or paths.agent_runtime_dir(uid),
            agent.volume_socket or paths.volume_socket(uid),
        )


def harden() -> list[str]:
    """Keep this process's memory to ourselves, before any secret is in it; returns what could not be done."""
    os.umask(0o077)
    forbid_core_files()
    faults = []
    if reason := hardening.forbid_dumping():
        faults.append(f"other processes of this user may look into the agent's memory: {reason}")
    if reason := hardening.lock_memory():
        faults.append(f"the agent's memory may be written to swap: {reason}")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _FILES if hard == resource.RLIM_INFINITY else min(hard, _FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return faults


class Agent:
    """A running agent. What the endpoints ask for are its attributes (`dso.agent.endpoints.State`)."""

    def __init__(self, options: Options, config: CloudConfig, book: Logbook) -> None:
        """Make it in a running event loop; nothing is started yet."""
        self.options = options
        self.config = config
        self.book = book
        self.places = Places.of(options, config)
        self.metrics = Metrics(VERSION)
        self.events = Events(book)
        self.events.listen(lambda event: self._notice(event.name))
        self.providers = Providers(
            config.providers,
            self.places.plugin_dir,
            quarters=Quarters.of_this_process(),
            emit=self.events,
            announce=book.info,
        )
        self.cache = Cache(self.providers.get_many, self._ttl, emit=self.events)
        access = Access(config.access, own_uid=os.geteuid())
        self.resolver = Resolver(config, self.cache, fingerprint_key(self.places.state_dir), access)
        self.reloader = Reloader(config, self._load, self._apply, events=self.events, metrics=self.metrics)
        self.group = agent_group()
        self.server = Server(
            Endpoints(self).routes,
            access=lambda: self.resolver.access,
            accounts=Accounts(),
            group=self.group,
            book=book,
            events=self.events,
            metrics=self.metrics,
        )
        self.metrics.sources.append(self._gauges)
        self._driver: DriverServer | None = None
        self._listening: Listening | None = None
        self._activated = False
        self._started = time.monotonic()
        self._since = time.time()
        self._ends = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._redact(config, {})

    @property
    def driver(self) -> VolumeDriver | None:
        """The volume driver, once it is there."""
        return self._driver.driver if self._driver is not None else None

    # Its life.

    async def run(self) -> None:
        """Serve until SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        take_over_logging(self.book, loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.end)
        loop.add_signal_handler(signal.SIGHUP, lambda: self._spawn(self._hang_up()))
        try:
            await self._start()
            await self._ends.wait()
        finally:
            await self._stop()

    def end(self) -> None:
        """Have `run` end."""
        self._ends.set()

    async def _start(self) -> None:
        agent, volume = activated_sockets(self.places.socket, self.places.volume_socket)
        self._activated = agent is not None
        self._listening = agent or bind(self.places.socket, group=self.group)
        await self.providers.start()
        self._driver = await open_driver(
            self.resolver.render,
            state_dir=self.places.state_dir,
            runtime_dir=self.places.runtime_dir,
            path=self.places.volume_socket,
            emit=self.events,
            activated=volume.listener if volume is not None else None,
        )
        self.server.hub.listen(self._listening.listener)
        self._spawn(self._tidy())
        self._spawn(self.server.keep_checking())
        if interval := systemd.watchdog_interval():
            self._spawn(self._feed_watchdog(interval))
        gc.collect()
        gc.freeze()  # what is there now stays
        self._announce()
        systemd.notify("READY=1", f"STATUS={self._summary()}")

    def _announce(self) -> None:
        assert self._listening is not None  # noqa: S101  # _start made it
        self.book.info(f"listening on {self._listening.path}" + (" (socket of systemd)" if self._activated else ""))
        if self.group is None and not self._activated and os.geteuid() == 0:
            self.book.warning(
                f"there is no group {paths.AGENT_GROUP}: nobody but root may use the agent "
                f"(`groupadd --system {paths.AGENT_GROUP}`, then start it again)"
            )
        if os.geteuid() != 0:
            self.book.info("plugins run as this user too: they can read whatever this agent can")
        driver = self._driver_state()
        if driver.available:
            self.book.info(f"file secrets are served to the Engine by the volume driver {driver.name!r}")
        else:
            self.book.info(f"no file secrets from this agent: {driver.reason}")

    async def _stop(self) -> None:
        systemd.notify("STOPPING=1", "STATUS=Finishing what is under way")
        self.book.info("ending: what is under way is finished first")
        await self.server.hub.close(GRACE)
        if self._listening is not None:
            self._listening.remove()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._driver is not None:
            await self._driver.close()
        await self.providers.close()
        await self.cache.close()
        self.book.info("ended")

    def _spawn(self, work: Any) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_INTERVAL)
            try:
                self.resolver.forget()
                systemd.notify(f"STATUS={self._summary()}")
            except Exception as error:  # noqa: BLE001  # the next round may do better
                self.book.error("old secrets may not have been forgotten", error=where(error))

    async def _feed_watchdog(self, interval: float) -> None:
        """Tell systemd that the loop turns and connections are accepted; it restarts us when it hears nothing."""
        while True:
            if self.server.hub.is_accepting():
                systemd.notify("WATCHDOG=1")
            await asyncio.sleep(interval)

    # Its configuration.

    def _load(self) -> CloudConfig:
        return load_config(self.options.config, environment=os.environ)

    async def _apply(self, new: CloudConfig) -> None:
        gone = await self.providers.reconfigure(new.providers)
        for name in gone:
            self.cache.forget(name)
        former, self.config = self.config, new
        self.cache.reckon()
        self.resolver.configure(new, Access(new.access, own_uid=os.geteuid()))
        self._redact(new, former.providers)
        self.book.configure(
            self.options.log_level or new.agent.log_level, self.options.log_format or new.agent.log_format
        )

    def _redact(self, config: CloudConfig, known: Mapping[str, ProviderConfig]) -> None:
        """Keep credentials out of the log; those of a former configuration are no less secret."""
        for name, provider in config.providers.items():
            if provider != known.get(name):
                self.book.redact(redactor_of(provider))

    def _ttl(self, provider: str) -> float:
        found = self.config.providers.get(provider)
        return found.cache_ttl if found is not None else DEFAULT_CACHE_TTL

    async def reload(self) -> Mapping[str, Any]:
        """Read the configuration again; ConfigError: it is faulty, and the former one in force."""
        systemd.notify_reloading()
        try:
            return (await self.reloader.reload()).to_json()
        finally:
            systemd.notify("READY=1", f"STATUS={self._summary()}")

    async def _hang_up(self) -> None:
        """SIGHUP: as `POST /v1/reload` does."""
        try:
            await self.reload()
        except ConfigError:
            return  # told already; the former configuration stays in force
        await self.cache.refresh()

    # What it says of itself.

    def _notice(self, event: str) -> None:
        if event == "provider.state" and self._driver is not None:
            systemd.notify(f"STATUS={self._summary()}")

    def _summary(self) -> str:
        states = [self._provider(one, 0)["state"] for one in self.providers.states()]
        running = states.count(RUNNING)
        text = f"{running} of {len(states)} providers running, {self.cache.counts()['entries']} secrets in memory"
        return f"{text}; the configuration is faulty, a former one in force" if self.reloader.error else text

    def _driver_state(self) -> VolumeDriverState:
        if self._driver is None:
            return VolumeDriverState("", available=False, reason="the agent is starting")
        return VolumeDriverState(**self._driver.driver.status())

    def info(self) -> AgentInfo:
        """Which agent this is."""
        return AgentInfo(API_VERSION, VERSION, os.geteuid(), self._driver_state())

    def status(self) -> dict[str, Any]:
        """The answer of /v1/status."""
        cached: dict[str, int] = {}
        for key in self.cache.known():
            cached[key.provider] = cached.get(key.provider, 0) + 1
        return {
            **self.info().to_json(),
            "pid": os.getpid(),
            "uptime": round(time.monotonic() - self._started, 3),
            "started": round(self._since, 3),
            "socket": self._listening.path if self._listening is not None else "",
            "activated": self._activated,
            "config": self.options.config,
            "config_error": self.reloader.error,
            "restart_needed": list(self.reloader.needs_restart),
            "secrets": len(self.config.secrets),
            "providers": [self._provider(one, cached.get(one.name, 0)) for one in self.providers.states()],
            "cache": self.cache.counts(),
            "connections": len(self.server.hub),
            "memory": resident_memory(),
        }

    def _provider(self, one: ProviderState, cached: int) -> dict[str, Any]:
        """A provider's state: of its plugin, and of the backend behind one that runs."""
        trouble = self.cache.trouble(one.name) if one.state == RUNNING else one.error
        return {
            "name": one.name,
            "type": one.type,
            "state": FAILING if trouble and one.state == RUNNING else one.state,
            "error": trouble.message if trouble else "",
            "code": trouble.code if trouble else "",
            "plugin": one.path,
            "pid": one.pid,
            "version": one.version,
            "restarts": one.restarts,
            "retry_in": one.retry_in,
            "cached": cached,
        }

    def _gauges(self) -> dict[tuple[str, tuple[str, ...]], float]:
        counts = self.cache.counts()
        driver = self._driver_state()
        found: dict[tuple[str, tuple[str, ...]], float] = {
            ("dso_agent_cache_entries", ()): counts.pop("entries"),
            ("dso_agent_cache_bytes", ()): counts.pop("bytes"),
            ("dso_agent_volumes", ()): driver.volumes,
            ("dso_agent_volumes_mounted", ()): driver.mounted,
        }
        found.update({("dso_agent_cache_total", (what,)): count for what, count in counts.items()})
        found.update({("dso_agent_events_total", (event,)): count for event, count in self.events.counts.items()})
        for one in self.providers.states():
            found["dso_agent_provider_up", (one.name, one.type)] = self._provider(one, 0)["state"] == RUNNING
            found["dso_agent_provider_restarts_total", (one.name, one.type)] = one.restarts
        return found
