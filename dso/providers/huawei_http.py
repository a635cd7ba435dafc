"""How Huawei Cloud's SDK sends: over our session; what it is refused becomes a `RefusedError`."""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any

from dso.protocol.provider import MAX_RETRY_AFTER
from dso.providers.huawei_sdk import (
    CsmsClient,
    DefaultExceptionHandler,
    HttpClient,
    HttpConfig,
    ServiceResponseException,
)
from dso.version import VERSION

if TYPE_CHECKING:
    from dso.providers.http_session import ProviderSession
    from dso.providers.huawei_sdk import BasicCredentials

_CODE = re.compile(r"[A-Za-z]{2,20}\.[0-9]{1,12}")
_LONGEST_TEXT = 2000


class RefusedError(Exception):
    """Huawei Cloud answered with an error.

    Attributes:
        status: HTTP's.
        code: Huawei Cloud's, such as `CSMS.0106`; "" where there is none, as in what other servers answer.
        said: what it says of that, in lower case. It may quote a key or the request: to look for known words in, and
            not to show.
        retry_after: seconds that it asks to wait.
    """

    def __init__(self, status: int, code: str, said: str, retry_after: float | None = None) -> None:
        super().__init__(status, code)
        self.status = status
        self.code = code if _CODE.fullmatch(code) else ""
        self.said = said[:_LONGEST_TEXT].lower()
        self.retry_after = retry_after

    @property
    def reference(self) -> str:
        """What may be shown of it."""
        return self.code or f"status {self.status}"


class _Handler(DefaultExceptionHandler):  # type: ignore[misc]  # its base is untyped
    """Takes an answer apart as the SDK does, and keeps what the SDK's exceptions do not have."""

    def handle_exception(self, request: Any, response: Any) -> None:
        """RefusedError."""
        response.encoding = "utf-8"
        try:
            super().handle_exception(request, response)
        except ServiceResponseException as error:
            refused = RefusedError(
                response.status_code, str(error.error_code), str(error.error_msg), retry_after(response)
            )
        else:
            return
        raise refused


class Transport(HttpClient):  # type: ignore[misc]  # its base is untyped
    """The SDK's, over a session of ours. It tries nothing again by itself and writes no log.

    Raises RefusedError for an answer that is an error. Where there is none, the SDK's exceptions and requests' own
    come through: `http_faults.connection_fault` knows what is in them.
    """

    def __init__(self, session: ProviderSession, timeout: float) -> None:
        self._our_session = session
        logger = logging.getLogger("HuaweiCloud-SDK")
        logger.disabled = True
        config = HttpConfig(timeout=timeout, user_agent=f"dso/{VERSION}")
        super().__init__(config, None, _Handler(), logger)

    def _init_session(self) -> ProviderSession:
        return self._our_session

    def do_request_sync(self, request: Any) -> Any:
        """See the base class; JSON is in UTF-8, whatever the headers say or leave open."""
        response = super().do_request_sync(request)
        response.encoding = "utf-8"
        return response


def make_client(transport: Transport, endpoint: str, credentials: BasicCredentials) -> CsmsClient:
    """A client for one request, which costs next to nothing: other threads may use other credentials.

    The SDK's builder would make connections for each.
    """
    client = CsmsClient()
    client._logger.disabled = True  # noqa: SLF001  # it would write to stderr
    client._http_client = transport  # noqa: SLF001  # the SDK has no public way to share one
    return client.with_config(transport.config).with_credentials(credentials).with_endpoints([endpoint])


def retry_after(response: Any) -> float | None:
    """The seconds of a Retry-After header."""
    text = str(response.headers.get("Retry-After") or "")
    return min(float(text[:9]), MAX_RETRY_AFTER) if text.isascii() and text.isdigit() else None
