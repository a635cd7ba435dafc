"""How Azure's SDK sends: over our session, within the time that is left, and with a record of what came.

The SDK's exceptions tell the cause of a failure in prose at best, and a chain of credentials swallows it. So whoever
wants to know looks at the record.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from azure.core.pipeline.transport import RequestsTransport

from dso.providers.deadline import current
from dso.providers.proxies import is_machines_own
from dso.system.json_fast import loads

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.providers.http_session import ProviderSession

_OAUTH_ERROR = re.compile(r"[a-z_]{1,60}")
_ENTRA_CODE = re.compile(r"AADSTS(\d{4,9})")
_LONGEST_TEXT = 20_000
_METADATA_CONNECT = 2.0  # seconds: where there is a service of the machine's own, it is near
_MAX_CODE = 10**9


class Exchange(NamedTuple):
    """A request, and what came of it.

    Attributes:
        host: that was asked, with its port.
        secure: whether by https.
        error: why there is no answer, if so.
        status: of the answer.
        reason: the answer's `error`, a word of OAuth's such as `invalid_client`.
        codes: the numbers of Entra ID's errors (`AADSTS7000215`) in it.
        retry_after: seconds that the answer asks to wait.
    """

    host: str
    secure: bool
    error: BaseException | None = None
    status: int = 0
    reason: str = ""
    codes: tuple[int, ...] = ()
    retry_after: float | None = None


class Attempt:
    """What a thread has sent, and what came of it."""

    def __init__(self) -> None:
        self.exchanges: list[Exchange] = []


class NoTimeError(Exception):
    """A pause before another try would outlast the deadline."""


_LOCAL = threading.local()


@contextmanager
def recording() -> Iterator[Attempt]:
    """Write down what this thread sends; what is inside another recording is written down there too."""
    former: Attempt | None = getattr(_LOCAL, "attempt", None)
    _LOCAL.attempt = found = Attempt()
    try:
        yield found
    finally:
        _LOCAL.attempt = former
        if former is not None:
            former.exchanges.extend(found.exchanges)


class Transport(RequestsTransport):  # type: ignore[misc]  # its base is untyped
    """For all clients and credentials of a provider; they do not close it."""

    def __init__(self, session: ProviderSession, timeout: float) -> None:
        super().__init__(session=session, session_owner=False, connection_timeout=timeout, read_timeout=timeout)

    def send(self, request: Any, **settings: Any) -> Any:
        """See the base class."""
        parts = urlsplit(request.url)
        host, secure = parts.netloc, parts.scheme == "https"
        if is_machines_own(request.url):
            wanted = settings.get("connection_timeout", self.connection_config.timeout)
            settings["connection_timeout"] = min(wanted, _METADATA_CONNECT)
        try:
            response = super().send(request, **settings)
        except AzureError as error:
            _record(Exchange(host, secure, error))
            raise
        _record(_answered(host, response, secure=secure))
        return response

    def sleep(self, duration: float) -> None:
        """Wait, as policies for retries ask; NoTimeError if the time left is shorter."""
        deadline = current()
        if deadline is not None and duration >= deadline.left():
            raise NoTimeError
        super().sleep(duration)


def _record(exchange: Exchange) -> None:
    found: Attempt | None = getattr(_LOCAL, "attempt", None)
    if found is not None:
        found.exchanges.append(exchange)


def _answered(host: str, response: Any, *, secure: bool) -> Exchange:
    reason, codes = _oauth_error(response) if response.status_code >= 400 else ("", ())  # noqa: PLR2004
    return Exchange(
        host, secure, status=response.status_code, reason=reason, codes=codes, retry_after=retry_after(response)
    )


def _oauth_error(response: Any) -> tuple[str, tuple[int, ...]]:
    """What the token endpoint says is wrong: known words and numbers of it, never its prose."""
    try:
        parsed = loads(response.content.decode()[:_LONGEST_TEXT])
    except (ValueError, RecursionError):
        return "", ()
    if not isinstance(parsed, dict):
        return "", ()
    reason = str(parsed.get("error"))
    codes = [int(code) for code in _ENTRA_CODE.findall(str(parsed.get("error_description")))]
    listed = parsed.get("error_codes")
    codes += [code for code in listed if type(code) is int] if isinstance(listed, list) else []
    found = tuple(dict.fromkeys(code for code in codes if 0 < code < _MAX_CODE))
    return reason if _OAUTH_ERROR.fullmatch(reason) else "", found


def retry_after(response: Any) -> float | None:
    """The seconds of a Retry-After header."""
    text = str(response.headers.get("Retry-After") or "")
    return float(text[:9]) if text.isascii() and text.isdigit() else None
