"""A backend for each type of provider, with the same secrets in it, as far away as a measurement wants it."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support import aws, hashicorp
from tests.support.azure import AzureCloud
from tests.support.connect_proxy import ConnectProxy
from tests.support.far_away import FarAway
from tests.support.huawei import HuaweiCloud

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import AbstractContextManager

VALUE = "as-long-as-most-tokens-are-today-40-char"
SECRETS = tuple(f"bench-secret-{number:02d}" for number in range(50))


class Backend(NamedTuple):
    """How a plugin reaches it, and the HTTP requests that came since `forget`; None where nobody counts them."""

    config: Mapping[str, Any]
    environment: Mapping[str, str] = {}
    requests: Callable[[], int] | None = None
    forget: Callable[[], object] = lambda: None


def opened(kind: str, delay: float = 0) -> AbstractContextManager[Backend]:
    """The backend for providers of this type; each request to it takes `delay` seconds longer."""
    return _OPENERS[kind](delay)


@contextmanager
def _vault(delay: float) -> Iterator[Backend]:
    with hashicorp.HashicorpServer() as server, FarAway(_port(server.http), delay) as proxy:
        for name in SECRETS:
            server.put(name, {"value": VALUE})
        yield Backend(hashicorp.settings(f"http://127.0.0.1:{proxy.port}", server.root_token))


@contextmanager
def _aws(delay: float) -> Iterator[Backend]:
    with aws.Moto() as moto, FarAway(_port(moto.endpoint), delay) as proxy:
        for name in SECRETS:
            moto.put(name, VALUE)
        config = {**aws.settings(moto), "endpoint_url": f"http://127.0.0.1:{proxy.port}"}
        yield Backend(config, {}, lambda: len(moto.calls()), moto.reset)


@contextmanager
def _behind_proxy(delay: float, cloud_class: type[AzureCloud | HuaweiCloud]) -> Iterator[Backend]:
    with _FarProxy(delay) as proxy, cloud_class(proxy=proxy) as cloud:
        for name in SECRETS:
            cloud.put(name, VALUE)
        yield Backend(cloud.settings(), cloud.environment(), lambda: len(cloud.requests()), cloud.clear)


_OPENERS: Mapping[str, Callable[[float], AbstractContextManager[Backend]]] = {
    "vault": _vault,
    "aws": _aws,
    "azure": partial(_behind_proxy, cloud_class=AzureCloud),
    "huawei": partial(_behind_proxy, cloud_class=HuaweiCloud),
}


class _FarProxy(ConnectProxy):
    """Leads to its servers over a long way: TLS takes its time too, as it does through a proxy nearby."""

    def __init__(self, delay: float) -> None:
        super().__init__()
        self._delay = delay
        self._far = ExitStack()
        self._ports: dict[int, int] = {}

    def __exit__(self, *exception: object) -> None:
        super().__exit__(*exception)
        self._far.close()

    def add(self, pattern: str, address: tuple[str, int]) -> None:
        """One more route, over the long way."""
        host, port = address
        if port not in self._ports:
            self._ports[port] = self._far.enter_context(FarAway(port, self._delay)).port
        super().add(pattern, (host, self._ports[port]))


def _port(address: str) -> int:
    return int(address.rpartition(":")[2])
