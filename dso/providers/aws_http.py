"""Answers to botocore are limited in size, and end with the deadline of the thread's work.

Its own time limits are for connecting and for each read, and it reads a body whole, however long it
is. It makes its sessions in several places (for the service, STS, SSO, the metadata of a machine) and
takes none of ours in most of them. So the classes that all of them use are changed, for this process.
"""

from __future__ import annotations

from typing import Any, NoReturn

from botocore.awsrequest import (
    AWSHTTPConnection,
    AWSHTTPConnectionPool,
    AWSHTTPSConnection,
    AWSHTTPSConnectionPool,
    AWSResponse,
)
from urllib3.exceptions import ReadTimeoutError

from dso.protocol.provider import MAX_MESSAGE_BYTES
from dso.providers.http_timely import TimelyResponse

_CHUNK = 64 * 1024


class OversizedError(Exception):
    """An answer is too long to be passed on."""


class _HttpConnection(AWSHTTPConnection):  # type: ignore[misc]  # botocore has no types
    response_class = TimelyResponse


class _HttpsConnection(AWSHTTPSConnection):  # type: ignore[misc]
    response_class = TimelyResponse


def limit_answers() -> None:
    """Have botocore's connections be these, and its bodies limited."""
    AWSHTTPConnectionPool.ConnectionCls = _HttpConnection
    AWSHTTPSConnectionPool.ConnectionCls = _HttpsConnection
    AWSResponse.content = property(_content)


def _content(response: Any) -> bytes:
    """As botocore's own `content`: the whole body, which is kept; OversizedError, or urllib3's errors."""
    if response._content is None:  # noqa: SLF001
        body = bytearray()
        while chunk := _read(response.raw):
            body += chunk
            if len(body) > MAX_MESSAGE_BYTES:
                _refuse(response.raw)
        response._content = bytes(body)  # noqa: SLF001
    return response._content  # type: ignore[no-any-return]  # noqa: SLF001


def _read(raw: Any) -> bytes:
    try:
        return raw.read1(_CHUNK)  # type: ignore[no-any-return]
    except TimeoutError as error:
        raise ReadTimeoutError(raw.connection, "", "the answer comes too slowly") from error


def _refuse(raw: Any) -> NoReturn:
    raw.close()  # what is still to come is not read
    raise OversizedError
