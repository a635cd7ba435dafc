"""HTTP to a HashiCorp Vault: one pool of connections for many threads, and failures as `ProviderError`.

What is sent is hvac's business (`hashicorp_client`). Answers stay as they were written (numbers keep their digits), and
threads share one pool, which urllib3 is documented to allow.
"""

from __future__ import annotations

import ssl
import threading
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urljoin, urlsplit

import urllib3
from urllib3.exceptions import HTTPError, InsecureRequestWarning
from urllib3.util import Timeout, make_headers, parse_url

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST
from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError
from dso.providers.deadline import within
from dso.providers.hashicorp_faults import connection_fault, timeout_fault
from dso.providers.http_timely import make_timely
from dso.providers.proxies import UnsupportedProxyError, proxy_for
from dso.providers.trust import certificate_file_fault, signatures, verifying_context
from dso.system.json_fast import dumps, loads_literal
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from dso.providers.deadline import Deadline
    from dso.providers.hashicorp_config import HashicorpConfig, Tls

POOL_SIZE = 64  # connections kept open: as many as there are requests at a time
_CHUNK = 65536
_REDIRECT = 307  # a standby node's: the active one is there


class Answer(NamedTuple):
    """An HTTP answer. Its body may hold a secret: it belongs into no message."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> dict[str, Any] | None:
        """The body as a JSON object whose numbers are `json_fast.Number`, or None."""
        try:
            parsed = loads_literal(self.body.decode())
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, dict) else None

    def member(self, *names: str) -> Any:
        """What stands under these names, each in the former's object, or None."""
        found: Any = self.json()
        for name in names:
            found = found.get(name) if isinstance(found, dict) else None
        return found

    def errors(self) -> str:
        """What Vault says went wrong: to look for known words in, not to show."""
        errors = self.member("errors")
        return " ".join(map(str, errors)) if isinstance(errors, list) else ""


class Transport:
    """Sends requests; safe to use from many threads."""

    def __init__(self, config: HashicorpConfig) -> None:
        """ProviderError `invalid_config` if a certificate file cannot be used."""
        self._config = config
        self._lock = threading.Lock()
        self._files = _signatures(config.tls)
        self._pool = self._make_pool()

    def request(
        self,
        method: str,
        path: str,
        deadline: Deadline,
        *,
        headers: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One request to `/v1/PATH`, and where a standby node points to the active one, another one there.

        ProviderError if there is no answer, whatever its status, within the deadline.
        """
        headers = {"User-Agent": f"dso/{VERSION}", **headers}
        content = None if body is None else dumps(body).encode()
        url = f"{self._config.address}/v1/{path}"
        answer = self._send(method, url, headers, content, deadline)
        if answer.status == _REDIRECT:
            active = _redirected(url, answer.headers.get("Location"))
            if active is not None:
                answer = self._send(method, active, headers, content, deadline)
        return answer

    def close(self) -> None:
        """Close the idle connections."""
        self._pool.clear()

    def _send(
        self, method: str, url: str, headers: Mapping[str, str], content: bytes | None, deadline: Deadline
    ) -> Answer:
        """A connection that the other side had closed while it was idle costs another try, if that can do no harm."""
        tries = 0
        while True:
            pool = self._pool
            try:
                with within(deadline):
                    return self._exchange(pool, method, url, headers, content, deadline)
            except HTTPError as error:
                tries += 1
                again = method == "GET" and tries == 1 and isinstance(error, urllib3.exceptions.ProtocolError)
                if deadline.is_over():
                    raise timeout_fault(self._config, deadline.seconds) from None
                if not again and not (isinstance(error, urllib3.exceptions.SSLError) and self._renew_pool(pool)):
                    raise connection_fault(self._config, error, deadline.seconds) from None

    def _exchange(
        self,
        pool: urllib3.PoolManager,
        method: str,
        url: str,
        headers: Mapping[str, str],
        content: bytes | None,
        deadline: Deadline,
    ) -> Answer:
        timeout = Timeout(total=deadline.left())
        response = pool.request(
            method, url, headers=headers, body=content, timeout=timeout,
            retries=False, redirect=False, preload_content=False,
        )  # fmt: skip
        try:
            body = self._body(response, deadline)
        except BaseException:
            response.close()
            raise
        response.release_conn()
        return Answer(response.status, response.headers, body)

    def _body(self, response: urllib3.BaseHTTPResponse, deadline: Deadline) -> bytes:
        """The whole body, unless it is too much or comes too slowly."""
        body = bytearray()
        while chunk := response.read1(_CHUNK):
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                raise _oversized(self._config)
            if deadline.is_over():
                raise timeout_fault(self._config, deadline.seconds)
        return bytes(body)

    def _renew_pool(self, used: urllib3.PoolManager) -> bool:
        """After TLS failed: whether certificate files had changed, and another try with them may succeed."""
        with self._lock:
            if self._pool is not used:
                return True
            signatures = _signatures(self._config.tls)
            if signatures == self._files:
                return False
            self._files = signatures
            self._pool = self._make_pool()
            return True

    def _make_pool(self) -> urllib3.PoolManager:
        config = self._config
        settings: dict[str, Any] = {"maxsize": POOL_SIZE, "num_pools": 4, "retries": False}
        if config.address.startswith("https:"):
            settings["ssl_context"] = _context(config)
            if config.tls.skip_verify:
                settings |= {"cert_reqs": "CERT_NONE", "assert_hostname": False}
                urllib3.disable_warnings(InsecureRequestWarning)  # one for each request; ours is given once
            elif config.tls.server_name is not None:
                settings["assert_hostname"] = config.tls.server_name
            if config.tls.server_name is not None:
                settings["server_hostname"] = config.tls.server_name
        proxy = _proxy(config)
        if proxy is None:
            pool = urllib3.PoolManager(**settings)
        else:
            credentials = parse_url(proxy).auth
            proxy_headers = make_headers(proxy_basic_auth=credentials) if credentials else None
            pool = urllib3.ProxyManager(proxy, proxy_headers=proxy_headers, **settings)
        make_timely(pool)
        return pool


def _redirected(url: str, location: str | None) -> str | None:
    """Where a standby node sends us: the same scheme or a safer one, or else nowhere."""
    if location is None:
        return None
    target = urljoin(url, location)
    scheme = urlsplit(target).scheme
    return target if scheme == "https" or scheme == urlsplit(url).scheme else None


def _oversized(config: HashicorpConfig) -> ProviderError:
    message = f"{config.label}: the answer exceeds {MAX_MESSAGE_BYTES} bytes; keep such data elsewhere"
    return ProviderError(INVALID_REQUEST, message, oversized=True)


def _proxy(config: HashicorpConfig) -> str | None:
    """The environment's proxy for the address, if any."""
    try:
        return proxy_for(config.address)
    except UnsupportedProxyError as error:
        raise ProviderError(INVALID_CONFIG, f"provider {config.name}: {error}") from None


def _signatures(tls: Tls) -> list[tuple[int, int, int] | None]:
    """What tells that a certificate file was replaced."""
    return signatures((tls.ca_cert, tls.client_cert, tls.client_key))


def _context(config: HashicorpConfig) -> ssl.SSLContext:
    tls = config.tls
    if tls.skip_verify:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    else:
        context = verifying_context(config.name, tls.ca_cert)
    if tls.client_cert is not None:
        try:
            context.load_cert_chain(tls.client_cert, tls.client_key, password=_no_passphrase)
        except (OSError, ValueError) as error:
            raise certificate_file_fault(config.name, "tls.client_cert", tls.client_cert, error) from None
    return context


def _no_passphrase() -> str:
    """For an encrypted key: without this OpenSSL would ask on the terminal."""
    raise ValueError("the key is encrypted")
