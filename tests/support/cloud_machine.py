"""A machine of a cloud's: a network of its own in which the cloud and its metadata service can be reached.

with CloudMachine(lambda proxy: HuaweiCloud(proxy=proxy)) as machine:
    machine.cloud, machine.service                      # the stand-ins
    machine.inside("dso-provider-huawei", {...})        # a plugin that runs there
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Generic, Protocol, Self, TypeVar

from tests.support.connect_proxy import ConnectProxy
from tests.support.http_proxy import HttpProxy
from tests.support.network import OwnNetwork
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from tests.support.http_proxy import Reply, Seen

ADDRESS = "169.254.169.254"


class Cloud(Protocol):
    """What stands in for a cloud."""

    def answer(self, seen: Seen, /) -> Reply:
        """To whatever a client asks, of its metadata service too."""

    def environment(self) -> dict[str, str]:
        """The variables that lead a client there."""


C = TypeVar("C", bound=Cloud)


class CloudMachine(Generic[C]):
    """Use it in a `with`.

    Attributes:
        cloud: what `make` gave for the proxy that leads to it.
        service: the metadata service, at its real address.
    """

    cloud: C
    service: HttpProxy

    def __init__(self, make: Callable[[ConnectProxy], AbstractContextManager[C]]) -> None:
        self._make = make
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._network = stack.enter_context(OwnNetwork(ADDRESS))
            proxy = stack.enter_context(ConnectProxy(listener=self._network.listen("127.0.0.1")))
            self.cloud = stack.enter_context(self._make(proxy))
            self.service = HttpProxy("", listener=self._network.listen(ADDRESS, 80))
            self.service.reply = self.cloud.answer
            stack.enter_context(self.service)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def inside(self, program: str, environment: Mapping[str, str] | None = None, *, variant: str = "source") -> Plugin:
        """A plugin that runs there."""
        argv = self._network.inside(plugin_argv(program, variant))
        return Plugin(argv, {**self.cloud.environment(), **(environment or {})})
