"""HTTP as the Engine speaks it, whatever pieces it arrives in."""

from __future__ import annotations

import _socket
from typing import TYPE_CHECKING

import pytest

from dso.system.http import MAX_HEAD, Reader, Response, WireError, quote, send_request

if TYPE_CHECKING:
    from collections.abc import Iterable

LIMIT = 1 << 20


class Pieces:
    """A connection that delivers its bytes in given pieces."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self.pieces = [piece for piece in pieces if piece]

    def recv(self, _size: int) -> bytes:
        return self.pieces.pop(0) if self.pieces else b""


def reader(*pieces: bytes) -> Reader:
    return Reader(Pieces(pieces))  # type: ignore[arg-type]


def read(*pieces: bytes, method: str = "GET") -> Response:
    return reader(*pieces).read_response(method, LIMIT)


ANSWERS = {
    "length": (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", b"hello"),
    "chunked": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;ext=1\r\nlo\r\n0\r\n\r\n",
        b"hello",
    ),
    "trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX-Sum: 1\r\n\r\n",
        b"hello",
    ),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "continue": (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201 Created\r\ncontent-length: 1\r\n\r\nx", b"x"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_are_read_whatever_pieces_they_come_in(name: str) -> None:
    data, body = ANSWERS[name]
    for cut in range(len(data)):
        assert read(data[:cut], data[cut:]).body == body
    assert read(*(data[i : i + 1] for i in range(len(data)))).body == body


@pytest.mark.parametrize("name", ANSWERS)
def test_next_answer_starts_where_the_last_one_ended(name: str) -> None:
    data, body = ANSWERS[name]
    both = reader(data + data)
    assert [both.read_response("GET", LIMIT).body for _ in range(2)] == [body, body]


@pytest.mark.parametrize("name", [name for name in ANSWERS if name != "no content"])
def test_answer_that_is_cut_off_anywhere_is_an_error(name: str) -> None:
    data, _ = ANSWERS[name]
    for cut in range(len(data)):
        with pytest.raises(WireError) as caught:
            read(data[:cut])
        assert caught.value.early == (cut == 0)


def test_headers_are_found_in_any_case() -> None:
    response = read(b"HTTP/1.1 200 OK\r\nAPI-Version: 1.45\r\nContent-LENGTH: 0\r\n\r\n")
    assert response.headers["api-version"] == "1.45"
    assert not response.closes


def test_body_without_a_length_ends_with_the_connection() -> None:
    response = read(b"HTTP/1.1 200 OK\r\n\r\nab", b"cd")
    assert response.body == b"abcd"
    assert response.closes


def test_head_has_no_body() -> None:
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", method="HEAD").body == b""


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_an_error(data: bytes) -> None:
    with pytest.raises(WireError):
        read(data)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1),
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % (LIMIT + 1),
        b"HTTP/1.1 200 OK\r\n\r\n" + bytes(LIMIT + 1),
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * MAX_HEAD,
    ],
)
def test_larger_answers_than_allowed_are_refused(data: bytes) -> None:
    with pytest.raises(WireError, match="large"):
        read(data)


def test_request_is_framed_by_its_length() -> None:
    ours, theirs = _socket.socketpair()
    send_request(ours, "PUT", "/x?y=1", b"body", "application/x-tar")
    assert theirs.recv(1000) == (
        b"PUT /x?y=1 HTTP/1.1\r\nHost: docker\r\nUser-Agent: docker-dso\r\n"
        b"Content-Type: application/x-tar\r\nContent-Length: 4\r\n\r\nbody"
    )
    send_request(ours, "POST", "/x", None, "")
    assert theirs.recv(1000).endswith(b"Content-Length: 0\r\n\r\n")
    send_request(ours, "GET", "/x", None, "")
    assert b"Content-Length" not in theirs.recv(1000)
    ours.close()
    theirs.close()


def test_quote_leaves_nothing_that_could_end_a_request_line() -> None:
    from urllib.parse import quote as reference

    text = "".join(map(chr, range(256))) + "é€"
    assert quote(text) == reference(text, safe="")


LINES = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na\nbc\r\n3\r\n\n\nd\r\n0\r\n\r\n",
    "length": b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\na\nbc\n\nd",
    "until closed": b"HTTP/1.1 200 OK\r\n\r\na\nbc\n\nd",
}


@pytest.mark.parametrize("name", LINES)
def test_lines_are_read_whatever_pieces_they_come_in(name: str) -> None:
    data = LINES[name]
    for cut in range(len(data)):
        stream = reader(data[:cut], data[cut:])
        _, headers = stream.read_head()
        assert list(stream.read_lines(headers)) == [b"a", b"bc", b"", b"d"]


def test_line_without_an_end_is_refused() -> None:
    stream = reader(b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * (MAX_HEAD + 1))
    _, headers = stream.read_head()
    with pytest.raises(WireError, match="line"):
        list(stream.read_lines(headers))


def test_lines_before_a_broken_connection_are_still_yielded() -> None:
    stream = reader(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\na\n\r\n9\r\nb")
    _, headers = stream.read_head()
    lines = stream.read_lines(headers)
    assert next(lines) == b"a"
    with pytest.raises(WireError):
        next(lines)
