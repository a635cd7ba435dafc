"""Clients of the agent, many at once: each a connection of its own that asks again as soon as it has its answer.

One process plays all of them. Processes of their own would fight with the agent for the processors, and what a client
does with its answer is not the agent's doing: here a request is bytes that were prepared, and of an answer only the
status and the length are looked at.
"""

from __future__ import annotations

import os
import select
import socket
import time
from array import array
from multiprocessing import get_context
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.measure import CommandFailedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection as Pipe

_END = b"\r\n\r\n"
_HEAD = 1024  # bytes, more than any head of the agent's


class Served(NamedTuple):
    """What clients at once got.

    Attributes:
        seconds: for how long they asked.
        wall: of each answer, from the request's first byte to the answer's last, in ms.
        errors: requests that were refused, or whose connection ended.
        own: processor time that playing the clients took for each answer, in ms.
    """

    seconds: float
    wall: array[float]
    errors: int
    own: float

    @property
    def rate(self) -> float:
        """Answers a second."""
        return len(self.wall) / self.seconds


def serve(
    path: str, requests: Sequence[bytes], clients: int, seconds: float, *, meanwhile: Callable[[], object] | None = None
) -> Served:
    """Have so many clients ask the agent at `path` for so long, each another of the requests in turn.

    `meanwhile` is called twice a second.
    """
    context = get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    player = context.Process(target=_play, args=(path, requests, clients, seconds, theirs))
    player.start()
    theirs.close()
    while not ours.poll(0.5):
        if meanwhile is not None:
            meanwhile()
    try:
        wall, errors, own = ours.recv()
    except EOFError:
        raise CommandFailedError("the program that plays the clients failed") from None
    player.join()
    if not wall:
        raise CommandFailedError(f"not one of {clients} clients got an answer from the agent")
    return Served(seconds, wall, errors, own * 1e3 / len(wall))


def _play(path: str, requests: Sequence[bytes], clients: int, seconds: float, result: Pipe) -> None:
    crowd = _Crowd(path, requests, clients)
    before = sum(os.times()[:2])
    crowd.run(seconds)
    result.send((crowd.wall, crowd.errors, sum(os.times()[:2]) - before))
    os._exit(0)


class Client:
    """One client: when its request began, how much of the answer has come, and of how much once that is known."""

    __slots__ = ("begun", "got", "head", "number", "size", "socket")

    def __init__(self, number: int) -> None:
        self.number = number  # of its next request
        self.begun = self.got = self.size = 0
        self.head = b""
        self.socket = socket.socket(socket.AF_UNIX)

    def begins(self) -> None:
        """Its next request goes out."""
        self.number += 1
        self.head, self.got, self.size = b"", 0, 0
        self.begun = time.perf_counter_ns()

    def takes(self, piece: memoryview) -> bool:
        """A piece of the answer has come; whether it was the last one.

        Raises:
            CommandFailedError: the answer is no success, or does not end where its head says.
        """
        self.got += len(piece)
        if not self.size:
            self.head += piece[:_HEAD]
            ends = self.head.find(_END)
            if ends >= 0:
                self.size = ends + len(_END) + _length(self.head[:ends])
        if not piece or self.got > self.size > 0:
            raise CommandFailedError("an answer does not end where its head says")
        return self.got == self.size


class _Crowd:
    def __init__(self, path: str, requests: Sequence[bytes], clients: int) -> None:
        self._path = path
        self._requests = requests
        self._poll = select.epoll()
        self._buffer = bytearray(1 << 20)
        self.wall = array("d")
        self.errors = 0
        self._clients: dict[int, Client] = {}
        for number in range(clients):
            self._connect(number * len(requests) // clients)

    def _connect(self, number: int) -> None:
        client = Client(number)
        client.socket.connect(self._path)
        self._clients[client.socket.fileno()] = client
        self._poll.register(client.socket, select.EPOLLIN)

    def run(self, seconds: float) -> None:
        """Ask, until the time is over; what is under way then does not count."""
        until = time.monotonic() + seconds
        for client in list(self._clients.values()):
            self._ask(client)
        while time.monotonic() < until:
            for descriptor, _ in self._poll.poll(0.1):
                self._receive(self._clients[descriptor])

    def _ask(self, client: Client) -> None:
        words = self._requests[client.number % len(self._requests)]
        client.begins()
        client.socket.sendall(words)

    def _receive(self, client: Client) -> None:
        """What has come of an answer; with the last of it the next request goes out."""
        try:
            piece = client.socket.recv_into(self._buffer)
            if client.takes(memoryview(self._buffer)[:piece]):
                self.wall.append((time.perf_counter_ns() - client.begun) / 1e6)
                self._ask(client)
        except (OSError, CommandFailedError, ValueError):
            self._replace(client)

    def _replace(self, client: Client) -> None:
        """Begin anew with a connection of its own."""
        self.errors += 1
        del self._clients[client.socket.fileno()]
        client.socket.close()
        self._connect(client.number)
        self._ask(list(self._clients.values())[-1])


def _length(head: bytes) -> int:
    """The length of the body that follows a head; CommandFailedError for what is no success."""
    if not head.startswith(b"HTTP/1.1 200 "):
        raise CommandFailedError(f"the agent answered {head[:200]!r}")
    return int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
