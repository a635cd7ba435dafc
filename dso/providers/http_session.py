"""A `requests.Session` for SDKs that send with one: DSO's trust, proxies, limits, and nothing of the user's files.

It stands in for the session that an SDK would make itself. That one takes its authorities from a file of certifi's,
which in a frozen program lies in a temporary directory (docs/decisions/0010), reads ~/.netrc, keeps cookies, and has no
limit for a whole answer.
"""

from __future__ import annotations

import threading
from http.client import RemoteDisconnected
from http.cookiejar import DefaultCookiePolicy
from typing import TYPE_CHECKING, Any

from requests import PreparedRequest, Session
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, ConnectionError, InvalidProxyURL, ReadTimeout, SSLError  # noqa: A004
from urllib3.exceptions import HTTPError, ProtocolError, ReadTimeoutError
from urllib3.util import Timeout

from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError
from dso.providers.deadline import Deadline, current, within
from dso.providers.http_timely import make_timely
from dso.providers.proxies import UnsupportedProxyError, proxy_for
from dso.providers.trust import authorities, causes, signatures, verifying_context
from dso.version import VERSION

if TYPE_CHECKING:
    from requests import Response
    from urllib3 import BaseHTTPResponse, HTTPConnectionPool

POOL_SIZE = 64  # connections kept open to a host: as many as there are requests at a time
_HOSTS = 8  # whose connections are kept
_CHUNK = 65536


class OversizedError(ConnectionError):
    """An answer is too long to be passed on."""


class ProviderSession(Session):
    """Safe to use from many threads.

    - TLS certificates are always verified, against `trust.authorities`, whatever a caller says; files that were
      replaced count from the next failure of TLS on.
    - Proxies are the environment's (`proxies.proxy_for`).
    - A request ends with the deadline of the thread's work (`deadline.within`), or after `timeout` seconds; the time
      limits that the caller gives count if they are shorter.
    - Redirections are not followed, cookies not kept, ~/.netrc not read.
    - A connection that the other side had closed while it was idle costs another try. So whatever is sent must do no
      harm when it arrives twice, as reading and logging in.
    """

    def __init__(self, provider: str, ca_cert: str | None, timeout: float) -> None:
        """ProviderError `invalid_config` if the CA file cannot be used."""
        super().__init__()
        self.trust_env = False
        self.headers["User-Agent"] = f"dso/{VERSION}"
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._timeout = timeout
        adapter = _Adapter(provider, ca_cert)
        for scheme in ("https://", "http://"):
            self.mount(scheme, adapter)

    def send(self, request: PreparedRequest, **settings: Any) -> Response:
        """Send it; what of `settings` the class settles itself is passed over. The answer is there as a whole."""
        deadline = current() or Deadline(self._timeout)
        if deadline.is_over():
            raise ReadTimeout("no time is left", request=request)
        settings |= {"stream": True, "verify": True, "cert": None, "allow_redirects": False}
        settings["timeout"] = _limited(settings.get("timeout"), deadline)
        settings["proxies"] = _proxies(request.url or "")
        with within(deadline):
            response = super().send(request, **settings)
            try:
                response._content = _body(response.raw, deadline, request)  # noqa: SLF001  # as its own `content` does
                response._content_consumed = True  # noqa: SLF001
            except BaseException:
                response.close()
                raise
        response.raw.release_conn()
        return response

    def get_redirect_target(self, resp: Response) -> None:
        """Nowhere. To tell where it would lead to, requests reads the whole answer, without any limit."""


class _Adapter(HTTPAdapter):
    """Connections with one TLS context for all of them."""

    def __init__(self, provider: str, ca_cert: str | None) -> None:
        self._provider = provider
        self._ca_cert = ca_cert
        self._renewing = threading.Lock()
        self._files = signatures([authorities(ca_cert)])
        self._context = verifying_context(provider, ca_cert)
        super().__init__(_HOSTS, POOL_SIZE)

    def init_poolmanager(self, connections: int, maxsize: int, block: bool = False, **settings: Any) -> None:  # noqa: FBT001, FBT002
        """With our context."""
        super().init_poolmanager(connections, maxsize, block, ssl_context=self._context, **settings)
        make_timely(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **settings: Any) -> Any:
        """With our context, for what is behind the proxy and for the proxy itself."""
        context = self._context
        manager = super().proxy_manager_for(proxy, ssl_context=context, proxy_ssl_context=context, **settings)
        make_timely(manager)
        return manager

    def cert_verify(self, conn: HTTPConnectionPool, url: str, verify: object, cert: object) -> None:
        """The context has everything; requests would name a file of certifi's."""

    def send(self, request: PreparedRequest, *arguments: Any, **settings: Any) -> Response:
        """Once more if the connection was closed before it was used, or CA files have changed."""
        context = self._context
        try:
            return super().send(request, *arguments, **settings)
        except SSLError:
            if not self._renew(context):
                raise
        except ConnectionError as error:
            if not is_hang_up(error):
                raise
        return super().send(request, *arguments, **settings)

    def _renew(self, used: object) -> bool:
        """After TLS failed: whether another try may succeed."""
        with self._renewing:
            if self._context is not used:
                return True
            files = signatures([authorities(self._ca_cert)])
            if files == self._files:
                return False
            try:
                self._context = verifying_context(self._provider, self._ca_cert)
            except ProviderError:
                return False  # somebody is writing it
            self._files = files
            self.proxy_manager = {}
            self.init_poolmanager(_HOSTS, POOL_SIZE)
            return True


def is_hang_up(error: BaseException) -> bool:
    """Whether the other side closed a connection instead of answering.

    Where a proxy is on the way, urllib3 calls that a fault of the proxy's (`ProxyError`), even of a tunnel that stands.
    """
    return any(isinstance(one, RemoteDisconnected | ConnectionResetError | BrokenPipeError) for one in causes(error))


def _limited(wanted: Any, deadline: Deadline) -> Timeout:
    """What a caller of requests gives as `timeout`, within the deadline."""
    connect, read = wanted if isinstance(wanted, tuple) else (wanted, wanted)
    left = deadline.left()
    return Timeout(
        total=left,
        connect=left if connect is None else min(connect, left),
        read=left if read is None else min(read, left),
    )


def _proxies(url: str) -> dict[str, str]:
    try:
        proxy = proxy_for(url)
    except UnsupportedProxyError as error:
        raise InvalidProxyURL(str(error)) from None
    return {"all": proxy} if proxy else {}


def _body(raw: BaseHTTPResponse, deadline: Deadline, request: PreparedRequest) -> bytes:
    """The whole body, unless it is too much or comes too slowly."""
    body = bytearray()
    try:
        while chunk := raw.read1(_CHUNK, decode_content=True):
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                raise OversizedError(request=request)
            if deadline.is_over():
                raise ReadTimeout("the answer comes too slowly", request=request)
    except ReadTimeoutError as error:
        raise ReadTimeout(error, request=request) from None
    except ProtocolError as error:
        raise ChunkedEncodingError(error, request=request) from None
    except (HTTPError, OSError) as error:
        if isinstance(error, ConnectionError | ReadTimeout):
            raise
        raise ConnectionError(error, request=request) from None
    return bytes(body)
