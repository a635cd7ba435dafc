"""The API of a HashiCorp Vault by its client library hvac, which knows the paths, the parameters and the bodies.

Its requests go over our own connections (`hashicorp_http`), by an adapter, which is how hvac is given other ones: those
it has itself know no time limit for a whole answer, are not documented to be for many threads, and read numbers as
floating point; the exceptions it has for an answer's status quote the answer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from hvac import Client
from hvac.adapters import Adapter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dso.providers.deadline import Deadline
    from dso.providers.hashicorp_config import HashicorpConfig
    from dso.providers.hashicorp_http import Answer, Transport


def connect(
    config: HashicorpConfig, transport: Transport, deadline: Deadline, token: str = "", *, in_namespace: bool = True
) -> Any:
    """An `hvac.Client` for one operation of one thread; its methods return an `Answer` or raise ProviderError.

    hvac keeps the token in the client, so no two threads and no two tokens may share one. It takes 0.1 ms to make.
    """
    return Client(
        url=config.address,
        token=token,  # were it None, hvac would look for one in the environment and in the home directory
        namespace=config.namespace if in_namespace else None,
        adapter=_PooledAdapter,
        transport=transport,
        deadline=deadline,
    )


class _PooledAdapter(Adapter):  # type: ignore[misc]  # hvac has no types
    """hvac's requests over a `Transport`, within a deadline."""

    def __init__(self, *, transport: Transport, deadline: Deadline, **settings: Any) -> None:
        super().__init__(**settings)
        self._transport = transport
        self._deadline = deadline

    def get_login_token(self, response: Answer) -> Any:
        """The token in the answer to a login."""
        return response.member("auth", "client_token")

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        raise_exception: bool = True,  # noqa: ARG002, FBT001, FBT002  # hvac's signature
        *,
        params: Mapping[str, Any] | None = None,
        json: Mapping[str, Any] | None = None,
        wrap_ttl: str | None = None,
    ) -> Answer:
        """The answer, whatever its status: what that means depends on what was asked for.

        Raises:
            ProviderError: there is no answer within the deadline.
        """
        told = {"X-Vault-Request": "true", **(headers or {})}
        given = {"Token": self.token, "Namespace": self.namespace, "Wrap-TTL": wrap_ttl}
        told |= {f"X-Vault-{name}": value for name, value in given.items() if value}
        path = url.removeprefix("/v1/") + (f"?{urlencode(params)}" if params else "")
        return self._transport.request(method.upper(), path, self._deadline, headers=told, body=json)
