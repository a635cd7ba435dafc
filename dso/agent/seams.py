"""What the agent's parts are given by one another."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.protocol.provider import ProviderError, SecretData


class Emit(Protocol):
    """The agent's events: `emit("secret.changed", provider=..., path=...)`."""

    def __call__(self, event: str, /, **fields: Any) -> None:
        """Tell of one."""


class Fetch(Protocol):
    """Ask a provider for secrets, in one call: `Providers.get_many`."""

    async def __call__(
        self, provider: str, requests: Sequence[tuple[str, str | None]], /
    ) -> Sequence[SecretData | ProviderError]:
        """One answer for each (path, version), in their order."""
        ...


def boot_clock() -> float:
    """Seconds since boot, time asleep included; setting the clock does not change it."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)
