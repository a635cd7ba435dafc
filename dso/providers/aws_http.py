"""Limits for all that botocore asks over HTTP: how long an answer may be, and until when it has to be there.

botocore sends over sessions of its own making: one for each client (Secrets Manager, STS, SSO), others for the metadata
services of machines and containers. None of them limits an answer, and their time limits start again with every byte.
So the limits are put into the class of these sessions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.awsrequest import AWSHTTPConnection, AWSHTTPSConnection
from botocore.exceptions import BotoCoreError, ConnectionClosedError, ConnectionError, HTTPClientError  # noqa: A004
from botocore.httpsession import URLLib3Session
from botocore.retries.standard import RetryHandler
from urllib3.exceptions import HTTPError

from dso.protocol.provider import MAX_MESSAGE_BYTES
from dso.providers.deadline import Deadline, current, within
from dso.providers.http_timely import TimelyResponse

if TYPE_CHECKING:
    from botocore.awsrequest import AWSPreparedRequest, AWSResponse

_WITHOUT_DEADLINE = 60.0  # seconds, for threads that have none
_CHUNK = 65536
_botocores_send = URLLib3Session.send
_botocores_needs_retry = RetryHandler.needs_retry


class OversizedError(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """An answer is too long to be passed on. botocore does not try again after it."""

    fmt = "an answer is too long"


class OutOfTimeError(BotoCoreError):  # type: ignore[misc]  # botocore has no types
    """The deadline of the thread's work is over. botocore does not try again after it."""

    fmt = "no time is left"


def limit_botocore() -> None:
    """Have every session of botocore's in this process send within the deadline of the thread's work.

    An answer is there as a whole when `send` returns, and has no more than MAX_MESSAGE_BYTES; it is not unpacked, for
    botocore asks for none that is packed. Pauses before another try that would outlast the deadline are not made: what
    the last try gave is the result.
    """
    URLLib3Session.send = _send
    RetryHandler.needs_retry = _needs_retry
    for kind in (AWSHTTPConnection, AWSHTTPSConnection):
        kind.response_class = TimelyResponse


def _send(session: URLLib3Session, request: AWSPreparedRequest) -> AWSResponse:
    """Stands in for `URLLib3Session.send`; OversizedError, OutOfTimeError, and what that raises."""
    deadline = current() or Deadline(_WITHOUT_DEADLINE)
    if deadline.is_over():
        raise OutOfTimeError
    request.stream_output = True  # the body is left to us
    with within(deadline):
        try:
            response = _botocores_send(session, request)
            response._content = _body(response, request, deadline)  # noqa: SLF001  # as its own `content` does
        except (HTTPClientError, ConnectionError):
            if deadline.is_over():
                raise OutOfTimeError from None
            raise
    return response


def _body(response: AWSResponse, request: AWSPreparedRequest, deadline: Deadline) -> bytes:
    """The whole body; the connection is free for others then, or closed."""
    try:
        body = _limited(response.raw, deadline)
    except BaseException as error:
        response.raw.close()
        if isinstance(error, HTTPError | OSError):
            raise ConnectionClosedError(endpoint_url=request.url, error=error) from None
        raise
    response.raw.release_conn()
    return body


def _limited(raw: Any, deadline: Deadline) -> bytes:
    """The whole body, unless it is too much or comes too slowly."""
    body = bytearray()
    while chunk := raw.read1(_CHUNK, decode_content=False):
        body += chunk
        if len(body) > MAX_MESSAGE_BYTES:
            raise OversizedError
        if deadline.is_over():
            raise OutOfTimeError
    return bytes(body)


def _needs_retry(handler: RetryHandler, **event: Any) -> float | None:
    """Stands in for `RetryHandler.needs_retry`: the pause before another try, None for no other try."""
    pause: float | None = _botocores_needs_retry(handler, **event)
    deadline = current()
    return None if pause is not None and deadline is not None and pause >= deadline.left() else pause
