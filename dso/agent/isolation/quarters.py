"""Where a plugin lives: as which user it runs, what its environment and settings are, and the files it can read."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from typing import TYPE_CHECKING, Any

from dso.agent.isolation import files
from dso.agent.isolation.accounts import plugin_account
from dso.agent.isolation.copies import Copies, sweep
from dso.agent.orphans import Orphans
from dso.paths import SYSTEM_CREDENTIALS_DIR
from dso.protocol.codes import INVALID_CONFIG, PLUGIN_USER
from dso.protocol.provider import USER_VARIABLE, ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dso.agent.isolation.accounts import Account
    from dso.config.model import ProviderConfig

_LOG = logging.getLogger("dso.agent.isolation")
_NO_HOME = "/nonexistent"
LOOK_AGAIN = 10.0  # seconds after which files are looked at while nobody asks for a secret: a token may be renewed then


class Room:
    """One plugin's surroundings. This kind separates nothing: the plugin is the agent's user, and reads what it reads.

    Attributes:
        account: whom to run it as; None: the agent's own user.
        environment: the whole of its environment.
        settings: what it is told of dso.yaml.
        has_files: whether `refresh` has anything to do.
    """

    account: Account | None = None
    has_files = False

    def __init__(self, config: ProviderConfig, environment: Mapping[str, str]) -> None:
        self.environment = dict(environment)
        self.settings: dict[str, Any] = config.settings.reveal()

    async def prepare(self) -> None:
        """Make everything ready for a start; ProviderError if the plugin must not be started."""

    async def refresh(self, deadline: float) -> None:
        """Have the plugin see what its files hold now; gives up at the deadline, on time.monotonic()."""

    def original(self, text: str) -> str:
        """What the plugin wrote, with the names of files as they stand in dso.yaml."""
        return text

    async def close(self) -> None:
        """Leave nothing; the plugin has ended."""


class _OwnRoom(Room):
    """The surroundings of a plugin that has a user of its own."""

    def __init__(self, config: ProviderConfig, environment: Mapping[str, str], base: str) -> None:
        super().__init__(config, environment)
        self._config = config
        self._base = base
        self._given = dict(environment)
        self._copies: Copies | None = None
        self._faults: list[str] = []

    @property
    def has_files(self) -> bool:  # type: ignore[override]
        return self._copies is not None

    async def prepare(self) -> None:
        faults = await asyncio.to_thread(self._prepare)
        if faults:
            raise ProviderError(INVALID_CONFIG, f"a file cannot be handed to the plugin: {'; '.join(faults)}")

    def _prepare(self) -> list[str]:
        account = plugin_account(self._config.type)
        if self._copies is not None and account != self.account:
            self._copies.remove()
            self._copies = None
        self.account = account
        settings = self._config.settings.reveal()
        self.environment = {**self._given, "HOME": _NO_HOME, USER_VARIABLE: account.name}
        sources = files.sources(self._config.type, settings, self._given)
        if not sources:
            return []
        if self._copies is None:
            self._copies = Copies(self._base, self._config.name, sources, account)
        self.settings, self.environment = files.redirected(settings, self.environment, self._copies.places)
        try:
            return self._copies.make()
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise ProviderError(
                PLUGIN_USER, f"the plugin is not started: its files cannot be copied to {self._copies.directory}: {why}"
            ) from None

    async def refresh(self, deadline: float) -> None:
        if self._copies is None:
            return
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                faults = await asyncio.to_thread(self._copies.refresh)
        except TimeoutError:
            faults = ["a file system does not answer"]
        except OSError as error:
            faults = [error.strerror or type(error).__name__]
        if faults != self._faults:
            for fault in faults:
                _LOG.warning("%s: the plugin goes without a file: %s", self._config.name, fault)
        self._faults = faults

    def original(self, text: str) -> str:
        return text if self._copies is None else self._copies.original(text)

    async def close(self) -> None:
        if self._copies is not None:
            await asyncio.to_thread(self._copies.remove)


class Quarters:
    """The surroundings of all plugins of an agent."""

    def __init__(self, base: str | None, orphans: Orphans | None = None) -> None:
        """`base` is where copies of files go; None: plugins are not separated from the agent.

        `orphans` are what plugins leave behind; None: it is left to others, as are processes that are not plugins'.
        """
        self._base = base
        self.orphans = orphans

    @classmethod
    def of_this_process(cls) -> Quarters:
        """Root's agent separates its plugins, another user's cannot.

        Copies are not in the agent's runtime directory: plugins have to pass through what is above them, and nobody
        else may enter that one, since volumes are below it.
        """
        return cls(SYSTEM_CREDENTIALS_DIR if os.geteuid() == 0 else None, Orphans())

    @property
    def are_apart(self) -> bool:
        """Whether plugins have users of their own."""
        return self._base is not None

    def room(self, config: ProviderConfig, environment: Mapping[str, str]) -> Room:
        """The surroundings of one plugin; `environment` is what it would have as the agent's own user."""
        return Room(config, environment) if self._base is None else _OwnRoom(config, environment, self._base)

    async def tidy(self) -> None:
        """Before plugins are started: take away what an agent has left that was killed."""
        if self.orphans is not None:
            self.orphans.adopt()
        if self._base is not None:
            await asyncio.to_thread(sweep, self._base)

    async def close(self) -> None:
        """After the end of all plugins: leave none of their processes."""
        if self.orphans is not None:
            await self.orphans.end()


SHARED = Quarters(None)
