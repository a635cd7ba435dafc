"""The configured providers: one supervised plugin process each."""

from __future__ import annotations

import asyncio
import logging
import random as _random
import time
from typing import TYPE_CHECKING

from dso.agent.logbook import where
from dso.agent.plugin import Limits, Plugin, ProviderState
from dso.protocol.backend_path import path_fault
from dso.protocol.codes import INTERNAL, INVALID_REQUEST, PLUGIN_GARBAGE, PLUGIN_OVERSIZED, UNKNOWN_PROVIDER
from dso.protocol.provider import ProviderError, SecretData
from dso.protocol.reading import MessageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dso.agent.isolation.quarters import Quarters
    from dso.agent.seams import Emit
    from dso.config.model import ProviderConfig

    Request = tuple[str, str | None]

__all__ = ["Limits", "ProviderState", "Providers"]

_LOG = logging.getLogger("dso.agent.providers")
_SHOWN = 200  # characters of a path in a message


class Providers:
    """All providers of a configuration. No failure of one is felt by another, or ends the agent."""

    def __init__(
        self,
        configs: Mapping[str, ProviderConfig],
        plugin_dir: str,
        *,
        quarters: Quarters,
        emit: Emit,
        announce: Callable[[str], None] | None = None,
        limits: Limits = Limits(),  # noqa: B008  # immutable
        random: Callable[[], float] = _random.random,
    ) -> None:
        """`quarters`: as whom plugins run.

        `announce` is given `[DSO] Using VAULT provider plugin: PATH`; by default it goes to the log.
        """
        self._plugin_dir = plugin_dir
        self._quarters = quarters
        self._emit = emit
        self._announce = announce or _LOG.info
        self._limits = limits
        self._random = random
        self._leaving: dict[Plugin, asyncio.Task[None]] = {}
        self._plugins = {name: self._plugin(config) for name, config in configs.items()}

    async def start(self) -> None:
        """Start every plugin; does not wait for them."""
        await self._quarters.tidy()
        for plugin in self._plugins.values():
            plugin.start()

    async def close(self) -> None:
        """Stop every plugin, however unwilling, within seconds."""
        for plugin in self._leaving:
            plugin.hurry()
        closing = [plugin.close() for plugin in self._plugins.values()]
        await asyncio.gather(*closing, *self._leaving.values(), return_exceptions=True)
        await self._quarters.close()

    async def get_many(self, provider: str, requests: Sequence[Request]) -> list[SecretData | ProviderError]:
        """What a provider has of (path, version) pairs, in their order; never raises ProviderError.

        The whole takes no longer than the provider's `timeout`. What could become another path on its way to the
        backend reaches no plugin, wherever it comes from.
        """
        plugin = self._plugins.get(provider)
        if plugin is None:
            return [_unknown(provider) for _ in requests]
        refused = {request: error for request in requests if (error := _refusal(provider, request)) is not None}
        if refused:
            rest = [request for request in requests if request not in refused]
            found = iter(await self.get_many(provider, rest) if rest else ())
            return [refused[request] if request in refused else next(found) for request in requests]
        deadline = time.monotonic() + plugin.config.timeout
        await plugin.refresh(deadline)
        try:
            size = await plugin.batch(deadline) if len(requests) > 1 else 1
        except ProviderError as error:
            return [ProviderError(error.code, error.message, retry_after=error.retry_after) for _ in requests]
        parts = [requests[start : start + (size or 1)] for start in range(0, len(requests), size or 1)]
        answers = await asyncio.gather(*(_get_part(plugin, part, deadline) for part in parts))
        return [answer for part in answers for answer in part]

    async def check(self, provider: str) -> None:
        """Have a provider reach its backend; raises ProviderError."""
        plugin = self._plugins.get(provider)
        if plugin is None:
            raise _unknown(provider)
        deadline = time.monotonic() + plugin.config.timeout
        await plugin.refresh(deadline)
        await plugin.request("check", {}, deadline)
        plugin.good()

    def states(self) -> list[ProviderState]:
        """How each is doing, in the order of the configuration."""
        return [plugin.state() for plugin in self._plugins.values()]

    async def reconfigure(self, configs: Mapping[str, ProviderConfig]) -> set[str]:
        """Take over a new configuration; unchanged providers keep running.

        The others' new plugins are started, and the old ones stopped once their requests are answered; neither
        is waited for. Returns the names of those that were removed or replaced: what the cache has of them is void.
        """
        former, self._plugins = self._plugins, {}
        for name, config in configs.items():
            plugin = former.get(name)
            if plugin is not None and _is_same(plugin.config, config):
                plugin.config = config
                self._plugins[name] = former.pop(name)
            else:
                self._plugins[name] = self._plugin(config)
                self._plugins[name].start()
        for plugin in former.values():
            self._leaving[plugin] = asyncio.create_task(plugin.close(drain=True))
            self._leaving[plugin].add_done_callback(lambda _, plugin=plugin: self._leaving.pop(plugin))  # type: ignore[misc]
        return set(former)

    def _plugin(self, config: ProviderConfig) -> Plugin:
        return Plugin(
            config,
            self._plugin_dir,
            quarters=self._quarters,
            emit=self._emit,
            announce=self._announce,
            limits=self._limits,
            random=self._random,
        )


def _is_same(one: ProviderConfig, other: ProviderConfig) -> bool:
    """Whether the plugin would be told the same; for how long the agent keeps its secrets is none of its business."""
    return one._replace(cache_ttl=0) == other._replace(cache_ttl=0)


async def _get_part(
    plugin: Plugin, requests: Sequence[Request], deadline: float
) -> Sequence[SecretData | ProviderError]:
    """As many secrets as one message may ask for."""
    try:
        if len(requests) == 1:
            return [await _get(plugin, requests[0], deadline)]
        try:
            found = await _get_batch(plugin, requests, deadline)
        except ProviderError as error:
            if error.code != PLUGIN_OVERSIZED:
                return [ProviderError(error.code, error.message, retry_after=error.retry_after) for _ in requests]
            found = [error for _ in requests]  # together they are too much for one message: one by one
        return [
            await _get(plugin, request, deadline)
            if isinstance(one, ProviderError) and one.code == PLUGIN_OVERSIZED
            else one
            for request, one in zip(requests, found, strict=True)
        ]
    except Exception as defect:  # noqa: BLE001  # one defect must not fail the other parts
        _LOG.error("provider %s: a defect while asking it: %s", plugin.config.name, where(defect))
        return [ProviderError(INTERNAL, f"a defect of the agent: {type(defect).__name__}") for _ in requests]


async def _get(plugin: Plugin, request: Request, deadline: float) -> SecretData | ProviderError:
    began = time.monotonic()
    try:
        data = SecretData.from_result(await plugin.request("get", _params(request), deadline))
    except MessageError as error:
        return plugin.bad(error, began)
    except ProviderError as error:
        return error
    plugin.good()
    return data


async def _get_batch(
    plugin: Plugin, requests: Sequence[Request], deadline: float
) -> Sequence[SecretData | ProviderError]:
    """One `get_many`; ProviderError when it failed as a whole."""
    began = time.monotonic()
    result = await plugin.request("get_many", {"requests": [_params(request) for request in requests]}, deadline)
    results = result.get("results") if isinstance(result, dict) else None
    if not isinstance(results, list) or len(results) != len(requests):
        raise plugin.bad(MessageError("the result of `get_many` has not one element for each request"), began)
    found: list[SecretData | ProviderError] = []
    for element in results:
        try:
            found.append(_element(plugin, element))
        except MessageError as error:
            found.append(plugin.bad(error, began))
    if not any(isinstance(one, ProviderError) and one.code == PLUGIN_GARBAGE for one in found):
        plugin.good()
    return found


def _element(plugin: Plugin, element: object) -> SecretData | ProviderError:
    """One element of `results`; MessageError."""
    if not isinstance(element, dict) or ("secret" in element) == ("error" in element):
        raise MessageError("an element of `results` has not exactly one of `secret` and `error`")
    return plugin.refusal(element["error"]) if "error" in element else SecretData.from_result(element["secret"])


def _params(request: Request) -> dict[str, str]:
    path, version = request
    return {"path": path} if version is None else {"path": path, "version": version}


def _refusal(provider: str, request: Request) -> ProviderError | None:
    """Why a plugin is not asked for this, if it is not."""
    for what, text in zip(("path", "version"), request, strict=True):
        fault = None if text is None else path_fault(text)
        if fault is not None:
            message = f"{provider}: {ascii(text)[1:-1][:_SHOWN]} is not a valid {what}: {fault}"
            return ProviderError(INVALID_REQUEST, message)
    return None


def _unknown(provider: str) -> ProviderError:
    return ProviderError(UNKNOWN_PROVIDER, f"this agent has no provider {provider[:100]!r}")
