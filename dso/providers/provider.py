"""What a provider is: the class behind a plugin, which speaks to one kind of backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dso.protocol.provider import ProviderError, SecretData


class Request(NamedTuple):
    """A secret to read: its path in the backend, and the version if one is pinned."""

    path: str
    version: str | None = None


class Provider(Protocol):
    """A backend, configured once and asked from many threads at the same time.

    Every method may raise `ProviderError`, whose message names the provider and the secret, says what
    to do, and holds neither a value nor a credential. Any other exception is a defect: it is answered
    as `unavailable`, with nothing of it shown but its class.

    Attributes:
        type: the `type:` of dso.yaml, and what follows `dso-provider-` in the plugin's name.
        batch: how many secrets one `get_many` may ask for; 0 when the backend has no call for many,
            and the agent is to send overlapping `get`s.
    """

    type: ClassVar[str]
    batch: ClassVar[int]

    @classmethod
    def open(cls, name: str, config: Mapping[str, Any], timeout: float) -> Self:
        """Make one from its settings in dso.yaml.

        Reaches nothing: settings that cannot work are `invalid_config`, all else shows when the first
        secret is asked for. So an agent comes up while its backend is down.

        Args:
            name: of the provider in dso.yaml, for messages.
            config: its settings, without those that are the agent's own (`type`, `cache_ttl`, `env`, `timeout`).
            timeout: the seconds that any one request may take in all, retries included.
        """
        ...

    def get(self, path: str, version: str | None) -> SecretData:
        """One secret; its current version unless one is given."""
        ...

    def get_many(self, requests: Sequence[Request]) -> list[SecretData | ProviderError]:
        """As many secrets with as few calls as can be; one result or error for each, in their order.

        Never called where `batch` is 0.
        """
        ...

    def check(self) -> None:
        """Reach the backend and prove the credentials; ProviderError tells what is wrong."""
        ...

    def close(self) -> None:
        """Give back what the backend keeps for us, such as a token; may be cut short."""
        ...
