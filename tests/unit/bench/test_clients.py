"""What counts as an answer of the agent's while many clients are played."""

from __future__ import annotations

from array import array
from collections import Counter

import pytest

from tests.bench.agent_curves import references
from tests.bench.clients import Client, Served
from tests.bench.measure import CommandFailedError

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: x\r\ncontent-length: 5\r\n\r\n12345"


def takes(*pieces: bytes) -> list[bool]:
    client = Client(7)
    client.socket.close()
    client.begins()
    return [client.takes(memoryview(piece)) for piece in pieces]


@pytest.mark.parametrize("length", [1, 20, len(ANSWER) - 6, len(ANSWER) - 1, len(ANSWER)])
def test_an_answer_is_whole_with_its_last_byte(length: int):
    pieces = [ANSWER[at : at + length] for at in range(0, len(ANSWER), length)]
    assert takes(*pieces) == [False] * (len(pieces) - 1) + [True]


@pytest.mark.parametrize(
    "pieces",
    [
        (b"",),
        (ANSWER[:-1], b""),
        (ANSWER + b"6",),
        (ANSWER.replace(b"200 OK", b"503 Busy"),),
        (ANSWER.replace(b"5\r\n", b"x\r\n"),),
    ],
)
def test_what_is_no_whole_success_is_an_error(pieces: tuple[bytes, ...]):
    with pytest.raises((CommandFailedError, ValueError)):
        takes(*pieces)


def test_a_client_begins_each_answer_anew():
    client = Client(0)
    client.socket.close()
    for number in range(1, 3):
        client.begins()
        assert client.takes(memoryview(ANSWER))
        assert client.number == number


def test_the_rate_is_of_answers():
    assert Served(2.0, array("d", [1.0] * 10), 3, 0.0).rate == 5


@pytest.mark.parametrize("secrets", [10, 100, 1_000, 10_000])
def test_batches_have_all_secrets_and_no_reference_twice(secrets: int):
    batches = references(secrets)
    assert {len(batch) for batch in batches} == {50}
    asked = Counter(reference for batch in batches for reference in batch)
    assert set(asked.values()) == {1}
    assert len({reference.partition("#")[0] for reference in asked}) == secrets
