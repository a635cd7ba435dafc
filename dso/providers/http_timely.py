"""Connections on which an answer ends with the deadline of the thread's work, from its first byte on.

The time limits of sockets, and those of urllib3, begin anew with every byte: a status line or a header that trickles
would hold a thread, and the locks that it has, for as long as the other side likes.
"""

from __future__ import annotations

from http.client import HTTPResponse
from io import BufferedReader, RawIOBase
from typing import TYPE_CHECKING, Any

from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from dso.providers.deadline import current

if TYPE_CHECKING:
    import socket

    from urllib3 import PoolManager


class _TimelyStream(RawIOBase):
    """What comes from a socket; TimeoutError when the deadline is over."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__()
        self._socket = sock
        self._limit = sock.gettimeout()
        self._stream: Any = sock.makefile("rb", 0)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """See the base class."""
        deadline = current()
        if deadline is not None:
            if deadline.is_over():
                raise TimeoutError("the answer comes too slowly")
            left = deadline.left()
            self._socket.settimeout(left if self._limit is None else min(left, self._limit))
        count: int | None = self._stream.readinto(buffer)
        return count

    def close(self) -> None:
        """Let go of the socket, which is closed when nobody has it any more."""
        self._stream.close()
        super().close()


class TimelyResponse(HTTPResponse):
    """The `response_class` of a connection."""

    def __init__(self, sock: socket.socket, *arguments: Any, **options: Any) -> None:
        super().__init__(sock, *arguments, **options)
        self.fp.close()
        self.fp = BufferedReader(_TimelyStream(sock))


class _HttpConnection(HTTPConnection):
    response_class = TimelyResponse


class _HttpsConnection(HTTPSConnection):
    response_class = TimelyResponse


class _HttpPool(HTTPConnectionPool):
    ConnectionCls: Any = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls: Any = _HttpsConnection


def make_timely(manager: PoolManager) -> None:
    """Have a manager of connections make none but these."""
    manager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
