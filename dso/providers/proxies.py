"""Which proxy the environment has for an address."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass


class UnsupportedProxyError(Exception):
    """The environment names a proxy of a kind that we cannot use; its text is the kind (`socks5`)."""


def proxy_for(address: str) -> str | None:
    """The URL of the proxy on the way to an address, None if there is none.

    As with Go's programs none leads to this machine, nor to a link-local address, which is where clouds have the
    service that tells a machine about itself: a proxy would ask for its own.
    """
    parts = urlsplit(address)
    host = parts.hostname or ""
    if is_loopback(address) or _is_link_local(host) or proxy_bypass(host):
        return None
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if proxy is not None and "://" not in proxy:
        proxy = f"http://{proxy}"
    if proxy is not None and not proxy.startswith(("http://", "https://")):
        raise UnsupportedProxyError(proxy.partition(":")[0])
    return proxy


def is_loopback(address: str) -> bool:
    """Whether an address leads to this machine."""
    host = urlsplit(address).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_link_local(host: str) -> bool:
    try:
        return ip_address(host).is_link_local
    except ValueError:
        return False
