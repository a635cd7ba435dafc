"""Answers that go on, read as their bytes come: the same lines however the bytes are cut."""

from __future__ import annotations

import itertools
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.system.http import MAX_HEAD, LineStream, Reader, WireError

CHUNKED = {"transfer-encoding": "chunked"}


def chunk(data: bytes) -> bytes:
    return b"%x;name=value\r\n%b\r\n" % (len(data), data)


def lines_of(pieces: list[bytes], headers: dict[str, str]) -> tuple[list[bytes], bool]:
    """The lines, and whether the answer has come to its end."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = LineStream(ours, headers, bytearray())
        assert stream.fileno() == ours.fileno()
        found = list(stream.lines())
        for piece in filter(None, pieces):
            theirs.sendall(piece)
            assert stream.receive()
            found += stream.lines()
        theirs.close()
        assert not stream.receive()
        return found + stream.lines(), stream.is_over


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(place % (len(data) + 1) for place in cuts)})
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(st.lists(st.binary(max_size=12), max_size=6), st.lists(st.integers(0, 500), max_size=8), st.booleans())
def test_chunks_cut_anywhere_give_the_same_lines(chunks: list[bytes], cuts: list[int], ends: bool) -> None:
    chunks = [data for data in chunks if data]  # an empty one ends the answer
    wire = b"".join(map(chunk, chunks)) + (b"0\r\n\r\n" if ends else b"")
    found, is_over = lines_of(cut(wire, cuts), CHUNKED)
    assert found == b"".join(chunks).split(b"\n")[:-1]
    assert is_over is ends


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=5))
def test_without_chunks_the_bytes_are_the_answer(data: bytes, cuts: list[int]) -> None:
    assert lines_of(cut(data, cuts), {}) == (data.split(b"\n")[:-1], False)


def test_what_came_behind_the_headers_is_not_lost() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk(b"a\nb"))
        reader = Reader(ours)
        _, headers = reader.read_head()
        stream = reader.stream(headers)
        assert stream.lines() == [b"a"]
        theirs.sendall(chunk(b"\n"))
        assert stream.receive()
        assert stream.lines() == [b"b"]


@pytest.mark.parametrize(
    "wire", [b"zz\r\n", b"-1\r\n", b"fffffffffff\r\n", chunk(b"x" * (MAX_HEAD + 1)), b"1" * (MAX_HEAD + 1)]
)
def test_what_is_no_chunk_or_no_line_is_an_error(wire: bytes) -> None:
    with pytest.raises(WireError):
        lines_of([wire], CHUNKED)
