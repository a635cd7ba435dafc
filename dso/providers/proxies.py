"""Which proxy the environment has for an address."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

if TYPE_CHECKING:
    from collections.abc import MutableMapping


# Where AWS tells a machine (EC2), a task (ECS) and a pod (EKS) about itself.
_METADATA = ("169.254.169.254", "169.254.170.2", "169.254.170.23", "[fd00:ec2::254]", "[fd00:ec2::23]")


class UnsupportedProxyError(Exception):
    """The environment names a proxy that we cannot use."""

    def __init__(self, fault: str) -> None:
        text = f"the environment names a proxy that cannot be used ({fault})"
        super().__init__(f"{text}: check HTTP_PROXY and HTTPS_PROXY, which take http://HOST:PORT")


def proxy_for(address: str) -> str | None:
    """The URL of the proxy on the way to an address, None if there is none.

    As with Go's programs none leads to this machine, nor to a link-local address, which is where clouds have the
    service that tells a machine about itself: a proxy would ask for its own.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    if is_machines_own(address) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is not None and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy is not None:
        _refuse_unfit(proxy)
    return proxy


def spare_metadata(environment: MutableMapping[str, str]) -> None:
    """Keep a library that asks the environment for proxies from asking one for AWS metadata, with credentials in it.

    Both spellings are set, for a program that finds `no_proxy` does not look for `NO_PROXY`.
    """
    spared = environment.get("no_proxy", environment.get("NO_PROXY", ""))
    if spared.strip() != "*":
        environment["no_proxy"] = environment["NO_PROXY"] = ",".join([*filter(None, [spared]), *_METADATA])


def _refuse_unfit(proxy: str) -> None:
    """UnsupportedProxyError, which does not repeat the address: a password may stand in it."""
    scheme = proxy.partition(":")[0].lower()
    if scheme not in ("http", "https"):
        raise UnsupportedProxyError(scheme)
    try:
        parts = urlsplit(proxy)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole:
        raise UnsupportedProxyError("its address is malformed")


def is_machines_own(address: str) -> bool:
    """Whether an address leads to this machine, or to the service that tells it about itself."""
    return is_loopback(address) or _is_link_local(urlsplit(address).hostname or "")


def is_loopback(address: str) -> bool:
    """Whether an address leads to this machine."""
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_link_local(host: str) -> bool:
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False
