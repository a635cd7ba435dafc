"""The configured providers: one supervised plugin process each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dso.agent.cache import Emit
    from dso.config.model import ProviderConfig
    from dso.protocol.provider import ProviderError, SecretData


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


class Providers:
    """All providers of a configuration. No failure of one is felt by another, or ends the agent."""

    def __init__(
        self,
        configs: Mapping[str, ProviderConfig],
        plugin_dir: str,
        *,
        emit: Emit,
        announce: Callable[[str], None] | None = None,
    ) -> None:
        """`announce` is given `[DSO] Using VAULT provider plugin: PATH`; by default it goes to the log."""
        raise NotImplementedError

    async def start(self) -> None:
        """Start every plugin; does not wait for them."""
        raise NotImplementedError

    async def close(self) -> None:
        """Stop every plugin, however unwilling, within seconds."""
        raise NotImplementedError

    async def get_many(
        self, provider: str, requests: Sequence[tuple[str, str | None]]
    ) -> list[SecretData | ProviderError]:
        """What a provider has of (path, version) pairs, in their order; never raises ProviderError."""
        raise NotImplementedError

    async def check(self, provider: str) -> None:
        """Have a provider reach its backend; raises ProviderError."""
        raise NotImplementedError

    def states(self) -> list[ProviderState]:
        """How each is doing, in the order of the configuration."""
        raise NotImplementedError

    async def reconfigure(self, configs: Mapping[str, ProviderConfig]) -> set[str]:
        """Take over a new configuration; unchanged providers keep running.

        Returns the names of those that were removed or replaced: what the cache has of them is void.
        """
        raise NotImplementedError
