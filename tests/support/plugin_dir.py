"""Plugins that are started for real, out of tests/support/bad_plugins, and providers that use them."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

from dso.agent.isolation.quarters import SHARED
from dso.agent.plugin import Limits
from dso.agent.providers import Providers
from dso.config.model import ProviderConfig, Settings
from dso.protocol.provider import ProviderError, SecretData
from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

SOURCES = os.path.join(ROOT, "tests", "support", "bad_plugins")
IMPATIENT = Limits(start=20, probe=0.5, backoff=0.02, longest_backoff=0.1)
TIMEOUT = 20.0  # for what is to succeed; a test of a timeout has a shorter one


class PluginDir:
    """A plugin directory."""

    def __init__(self, path: str) -> None:
        self.path = path
        os.makedirs(path, mode=0o755, exist_ok=True)
        shutil.copy(os.path.join(SOURCES, "rpc.py"), path)

    def install(self, plugin: str, provider_type: str | None = None) -> str:
        """Put one of tests/support/bad_plugins there; its type is its name with `-` for `_`."""
        path = f"{self.path}/dso-provider-{provider_type or plugin.replace('_', '-')}"
        with (
            open(os.path.join(SOURCES, f"{plugin}.py"), encoding="utf-8") as source,
            open(path, "w", encoding="utf-8") as file,
        ):
            source.readline()
            file.write(f"#!{sys.executable}\n{source.read()}")  # `env python3` may be a script with a mind of its own
        os.chmod(path, 0o755)
        return path

    def overwrite(self, provider_type: str, content: str) -> None:
        """Put something else into a plugin's file."""
        with open(f"{self.path}/dso-provider-{provider_type}", "w", encoding="utf-8") as file:
            file.write(content)

    def config(self, plugin: str, *, name: str = "", timeout: float = TIMEOUT, **settings: Any) -> ProviderConfig:
        """A provider with that plugin, which is installed."""
        self.install(plugin)
        provider_type = plugin.replace("_", "-")
        return ProviderConfig(name or provider_type, provider_type, Settings(settings), timeout)


class Events:
    """What was emitted."""

    def __init__(self) -> None:
        self.all: list[tuple[str, dict[str, Any]]] = []

    def __call__(self, event: str, /, **fields: Any) -> None:
        self.all.append((event, fields))

    def of(self, event: str) -> list[dict[str, Any]]:
        """The fields of the events of one kind."""
        return [fields for name, fields in self.all if name == event]

    def states(self, provider: str) -> list[str]:
        """The states a provider went through."""
        return [fields["state"] for fields in self.of("provider.state") if fields["provider"] == provider]


class Running:
    """Providers that were started, with what they told."""

    def __init__(self, providers: Providers, events: Events, announced: list[str]) -> None:
        self.providers = providers
        self.events = events
        self.announced = announced

    async def get(self, provider: str, path: str, version: str | None = None) -> SecretData | ProviderError:
        """One secret, or the error."""
        return (await self.providers.get_many(provider, [(path, version)]))[0]

    async def value(self, provider: str, path: str) -> bytes:
        """One secret's content; the error is raised."""
        found = await self.get(provider, path)
        if isinstance(found, ProviderError):
            raise found
        return found.content.reveal()

    async def error(self, provider: str, path: str) -> ProviderError:
        """The error of one secret, which there must be."""
        found = await self.get(provider, path)
        assert isinstance(found, ProviderError), found
        return found

    def pid(self, provider: str) -> int | None:
        """The number of a plugin's process."""
        return next(state.pid for state in self.providers.states() if state.name == provider)


@asynccontextmanager
async def running(directory: PluginDir, *configs: ProviderConfig, limits: Limits = IMPATIENT) -> AsyncIterator[Running]:
    """Providers that are started, and stopped at the end."""
    events = Events()
    announced: list[str] = []
    providers = Providers(
        {config.name: config for config in configs},
        directory.path,
        quarters=SHARED,
        emit=events,
        announce=announced.append,
        limits=limits,
        random=lambda: 0.0,
    )
    await providers.start()
    try:
        yield Running(providers, events, announced)
    finally:
        await providers.close()
