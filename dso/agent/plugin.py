"""A provider's plugin, kept running: started, watched, and started again when it fails.

How faults are told apart, and what follows from each, is in docs/decisions/0008.
"""

from __future__ import annotations

import asyncio
import logging
import random as _random
import re
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.agent.backoff import Backoff
from dso.agent.environment import plugin_environment
from dso.agent.isolation.quarters import LOOK_AGAIN
from dso.agent.logbook import where
from dso.agent.process import PluginProcess
from dso.agent.strikes import Strikes
from dso.agent.trust import plugin_file, trusted_plugin
from dso.protocol.codes import (
    PLUGIN_GARBAGE,
    PLUGIN_MISSING,
    PLUGIN_SLOW_START,
    PLUGIN_TIMEOUT,
    PLUGIN_UNTRUSTED,
    PLUGIN_USER,
    PLUGIN_VERSION,
    PROVIDER_CODES,
    TRANSIENT,
    UNAVAILABLE,
)
from dso.protocol.provider import PROTOCOL_VERSION, Initialized, ProviderError
from dso.protocol.reading import MessageError
from dso.protocol.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Callable

    from dso.agent.isolation.quarters import Quarters
    from dso.agent.seams import Emit
    from dso.config.model import ProviderConfig

_LOG = logging.getLogger("dso.agent.plugin")
_DEBUG_LINE = "DEBUG "  # how a plugin begins a line of its log that is for `log_level: debug` only
_LOOK_AGAIN = frozenset({PLUGIN_MISSING, PLUGIN_UNTRUSTED, PLUGIN_USER})  # costs nothing: each request may do it
_WORTH_WAITING = TRANSIENT - _LOOK_AGAIN  # what the next start may mend by itself

STARTING, RUNNING, WAITING, STOPPED = "starting", "running", "waiting", "stopped"


class Limits(NamedTuple):
    """Seconds, but for `strikes`; tests have shorter ones."""

    start: float = 20.0  # from the start of the program to its answer to `initialize`
    probe: float = 2.0  # for any sign of life after a request has timed out
    strikes: int = 3  # rounds of requests that came to nothing, without a good answer between them
    healthy: float = 60.0  # after that long, the next failure is the first one again
    backoff: float = 0.5
    longest_backoff: float = 60.0
    margin: float = 0.9  # the part of a request's time that the plugin has for it; the rest is for the way


class ProviderState(NamedTuple):
    """How a provider is doing.

    `state`: "starting", "running", "waiting" (it failed and will be started again in `retry_in` seconds), "stopped".
    `error` is the last failure of the process; None while it runs well.
    """

    name: str
    type: str
    state: str
    path: str
    pid: int | None
    version: str
    restarts: int
    error: ProviderError | None
    retry_in: float | None


class Plugin:
    """The plugin of one configured provider."""

    def __init__(
        self,
        config: ProviderConfig,
        plugin_dir: str,
        *,
        quarters: Quarters,
        emit: Emit,
        announce: Callable[[str], None],
        limits: Limits = Limits(),  # noqa: B008  # immutable
        random: Callable[[], float] = _random.random,
    ) -> None:
        """Nothing is started yet; `announce` is told once which program is used."""
        self.config = config
        self._plugin_dir = plugin_dir
        self._emit = emit
        self._announce = announce
        self._limits = limits
        self._backoff = Backoff(limits.backoff, limits.longest_backoff, random)
        environment = plugin_environment(config.type, config.env)
        self._room = quarters.room(config, environment)
        self._orphans = quarters.orphans
        self._redactor = Redactor(config.settings.reveal(), environment)
        self._path = ""
        self._state = STARTING
        self._error: ProviderError | None = None
        self._retry_at = 0.0
        self._starts = 0
        self._failed_starts = 0
        self._told = Initialized(PROTOCOL_VERSION, "", "", 0)
        self._process: PluginProcess | None = None
        self._strikes = Strikes()
        self._probing: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # replaced at every change of state
        self._look_again = asyncio.Event()
        self._in_a_hurry = False
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to keep it running; does not wait for it."""
        if self._running is None:
            self._running = asyncio.get_running_loop().create_task(self._keep_running())

    async def close(self, *, drain: bool = False) -> None:
        """End it for good, after the requests in flight if it is to `drain`. Takes seconds at most otherwise."""
        if drain and self._process is not None:
            await self._drain(self._process)
        stopped = ProviderError(UNAVAILABLE, f"provider {self.config.name!r} is being stopped")
        self._set(STOPPED, stopped)
        for task in (self._running, self._probing):
            if task is not None:
                task.cancel()
                await asyncio.wait([task])
        if self._process is not None:
            await self._process.stop(stopped)
        await self._room.close()

    def hurry(self) -> None:
        """Have a `close` that drains wait no longer."""
        self._in_a_hurry = True

    async def _drain(self, process: PluginProcess) -> None:
        until = time.monotonic() + self.config.timeout
        while process.in_flight and process.is_usable and not self._in_a_hurry and time.monotonic() < until:  # noqa: ASYNC110
            await asyncio.sleep(0.05)  # this is rare, and not worth an event for each answer

    async def request(self, method: str, params: dict[str, Any], deadline: float) -> Any:
        """The result of a request.

        Args:
            method: of the protocol.
            params: its parameters.
            deadline: on time.monotonic(); a start that is under way or due is waited for until then.

        Raises:
            ProviderError: what the plugin answered, or the fault of the plugin.
        """
        process = await self._usable(deadline)
        began = time.monotonic()
        try:
            return await process.request(method, params, max(0.0, deadline - began))
        except ProviderError as error:
            if error.code == PLUGIN_TIMEOUT and process.is_usable:
                self._suspect(process, began)
            elif error.code in PROVIDER_CODES:
                self.good()
            raise self._named(error) from None

    async def batch(self, deadline: float) -> int:
        """How many secrets one `get_many` may ask for; waits for the start as `request` does."""
        await self._usable(deadline)
        return self._told.batch

    def good(self) -> None:
        """An answer was as it should be."""
        self._strikes = Strikes()

    def refusal(self, error: object) -> ProviderError:
        """The error of one secret among those of a `get_many`."""
        return self._named(ProviderError.from_rpc(error, self._redact))

    def bad(self, error: MessageError, began: float) -> ProviderError:
        """An answer had a result of the wrong kind: the error for whoever asked."""
        fault = self._named(ProviderError(PLUGIN_GARBAGE, f"the plugin broke the protocol: {error}"))
        if self._strikes.count(began) >= self._limits.strikes and self._process is not None:
            self._process.kill(fault)
        return fault

    def state(self) -> ProviderState:
        """How it is doing."""
        return ProviderState(
            self.config.name,
            self.config.type,
            self._state,
            self._path,
            self._process.pid if self._process is not None else None,
            self._told.version,
            max(0, self._starts - 1),
            self._error,
            max(0.0, self._retry_at - time.monotonic()) if self._state == WAITING else None,
        )

    async def _keep_running(self) -> None:
        while True:
            try:
                error = await self._run_once()
            except ProviderError as failed:
                error = failed
            except Exception as defect:  # noqa: BLE001  # it is to be kept running whatever happens
                _LOG.error("provider %s: a defect while starting its plugin: %s", self.config.name, where(defect))
                error = ProviderError(UNAVAILABLE, f"a defect of the agent: {type(defect).__name__}")
                if self._process is not None:
                    self._process.kill(error)
            self._failed_starts += self._state == STARTING or error.code in _LOOK_AGAIN
            delay = self._backoff.failed(error.retry_after)
            self._retry_at = time.monotonic() + delay
            self._look_again.clear()
            self._set(WAITING, self._named(error))
            try:
                async with asyncio.timeout(delay):
                    await self._look_again.wait()
            except TimeoutError:
                pass

    async def _run_once(self) -> ProviderError:
        """Start the program and see it through to its end, whose reason is returned or raised."""
        real_path = trusted_plugin(self._plugin_dir, self.config.type)
        await self._room.prepare()
        if not self._path:
            self._path = plugin_file(self._plugin_dir, self.config.type)
            self._announce(f"[DSO] Using {self.config.type.upper()} provider plugin: {self._path}")
        self._starts += 1
        self._set(STARTING, self._error)
        self._strikes = Strikes()
        self._process = process = await PluginProcess.spawn(
            real_path,
            self._room.environment,
            account=self._room.account,
            orphans=self._orphans,
            redact=self._redact,
            log=self._log_line,
        )
        try:
            self._told = await self._initialize(process)
            began = time.monotonic()
            self._set(RUNNING, None)
            await self._see_through(process)
        except ProviderError as error:
            await process.stop(error)
            await process.gone()
            raise
        finally:
            if process.ended.done():
                self._process = None
        if time.monotonic() - began >= self._limits.healthy:
            self._backoff.succeeded()
        return process.ended.result()

    async def _see_through(self, process: PluginProcess) -> None:
        """Wait for the end of a process, whose files may be renewed while nobody asks for a secret."""
        while not process.ended.done():
            await asyncio.wait([process.ended], timeout=LOOK_AGAIN if self._room.has_files else None)
            await self.refresh(time.monotonic() + LOOK_AGAIN)

    async def refresh(self, deadline: float) -> None:
        """Have the plugin see what its files hold now."""
        await self._room.refresh(deadline)

    def _redact(self, text: str) -> str:
        """What the plugin wrote, without credentials, and with files called as they are in dso.yaml."""
        return self._room.original(self._redactor(text))

    async def _initialize(self, process: PluginProcess) -> Initialized:
        """Make the program's acquaintance; ProviderError."""
        config = self.config
        params = {
            "protocol": PROTOCOL_VERSION,
            "name": config.name,
            "config": self._room.settings,
            "timeout": round(config.timeout * self._limits.margin, 3),
        }
        try:
            told = Initialized.from_result(await process.request("initialize", params, self._limits.start))
        except MessageError as error:
            raise ProviderError(PLUGIN_GARBAGE, f"the plugin broke the protocol: {error}") from None
        except ProviderError as error:
            if error.code != PLUGIN_TIMEOUT:
                raise
            raise _slow_start(self._limits.start) from None
        if told.protocol != PROTOCOL_VERSION:
            raise ProviderError(
                PLUGIN_VERSION,
                f"the plugin {self._path} (version {told.version or 'unknown'}) speaks version {told.protocol} of the "
                f"provider protocol and this agent version {PROTOCOL_VERSION}: install that of this release",
            )
        return told

    async def _usable(self, deadline: float) -> PluginProcess:
        """The process, once it can be asked; waits for a start that is under way or due before the deadline."""
        may_look_again = True
        failed_before = self._failed_starts
        while True:
            process, error = self._process, self._error
            if self._state == RUNNING and process is not None and process.is_usable:
                return process
            if self._state == STOPPED and error is not None:
                raise self._failed(error)
            if self._state == WAITING and error is not None:
                if error.code in _LOOK_AGAIN and may_look_again:
                    may_look_again = False
                    self._look_again.set()
                elif error.code not in _WORTH_WAITING or self._retry_at > deadline:
                    raise self._failed(error)
            if not await self._change(deadline):
                raise self._named(_slow_start(self.config.timeout))
            if self._failed_starts > failed_before and self._state == WAITING and self._error is not None:
                raise self._failed(self._error)  # one start is waited for, not a row of them

    async def _change(self, deadline: float) -> bool:
        """Wait for a change of state; False when the deadline came first."""
        changed = self._changed
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                await changed.wait()
        except TimeoutError:
            return False
        return True

    def _suspect(self, process: PluginProcess, began: float) -> None:
        """A request got no answer: see whether the plugin is alive, and whether it is of any use."""
        if self._strikes.count(began) >= self._limits.strikes:
            text = f"the plugin left every request unanswered, {self._limits.strikes} times in a row, and was ended"
            process.kill(ProviderError(PLUGIN_TIMEOUT, text))
        elif self._probing is None or self._probing.done():
            self._probing = asyncio.get_running_loop().create_task(self._probe(process))

    async def _probe(self, process: PluginProcess) -> None:
        """End a plugin that gives no sign of life. A refusal of `ping` is one, and so is any other answer."""
        answers = process.answers
        try:
            await process.request("ping", {}, self._limits.probe)
        except ProviderError as error:
            if error.code == PLUGIN_TIMEOUT and process.answers == answers:
                process.kill(ProviderError(PLUGIN_TIMEOUT, "the plugin hung and was ended"))

    def _set(self, state: str, error: ProviderError | None) -> None:
        """Change the state and tell everybody; the same failure once more is no news."""
        is_first = state == STARTING and self._starts == 1
        is_news = is_first or (state, _fault(error)) != (self._state, _fault(self._error))
        self._state, self._error = state, error
        self._changed.set()
        self._changed = asyncio.Event()
        if not is_news:
            return
        self._emit(
            "provider.state",
            provider=self.config.name,
            type=self.config.type,
            state=state,
            code=error.code if error is not None else "",
            message=error.message if error is not None else "",
            restarts=max(0, self._starts - 1),
            level="warning" if state == WAITING else "info",
        )

    def _named(self, error: ProviderError) -> ProviderError:
        """The error with the provider's name in its message, which every one has that a caller gets."""
        message = error.message
        if not re.search(rf"(?<![\w-]){re.escape(self.config.name)}(?![\w-])", message):
            message = f"provider {self.config.name!r}: {message}"
        return ProviderError(error.code, message, retry_after=error.retry_after)

    def _failed(self, error: ProviderError) -> ProviderError:
        """Why the plugin does not run, for one more caller."""
        wait = error.retry_after
        if self._state == WAITING and error.code in _WORTH_WAITING:
            wait = max(0.0, self._retry_at - time.monotonic())
        return ProviderError(error.code, error.message, retry_after=wait)

    def _log_line(self, line: str) -> None:
        _LOG.log(logging.DEBUG if line.startswith(_DEBUG_LINE) else logging.INFO, "%s: %s", self.config.name, line)


def _slow_start(seconds: float) -> ProviderError:
    return ProviderError(PLUGIN_SLOW_START, f"the plugin has not answered `initialize` within {seconds:.3g} s")


def _fault(error: ProviderError | None) -> tuple[str, str] | None:
    return None if error is None else (error.code, error.message)
