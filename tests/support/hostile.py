"""What a hostile member of group dso does to an agent: each a function that attacks until its process is ended.

`begun` is called when the attack is as bad as it gets, or has begun where it goes on for ever.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import select
import socket
from typing import TYPE_CHECKING

from dso.protocol.agent import MAX_REQUEST_BYTES
from dso.protocol.fields import MAX_VALUES

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Begun = Callable[[], None]

BATCH = [f"dso://fake/shop/secret-{number:03d}" for number in range(50)]  # what honest users ask for
LARGE = [f"dso://fake/large/{number}" for number in range(21)]  # of 3 MiB each, so that they fill the agent's cache
NUMBERS = {  # secrets that take long to parse, and two that would take very long; the cache has room for LARGE and them
    f"numbers/{number}": {"text": '{"a":[' + "1," * (60_000 if number < 2 else MAX_VALUES - 10) + "1]}"}
    for number in range(40)
}
WHOLE_NUMBERS = [f"dso://fake/{path}#value" for path in NUMBERS]
PIPELINED = b"GET /healthz HTTP/1.1\r\n\r\n"


def request(method: str, target: str, body: bytes = b"", *, length: int | None = None) -> bytes:
    """A request as it goes over the line; `length` is what its head says, where that is not so."""
    size = len(body) if length is None else length
    return f"{method} {target} HTTP/1.1\r\nHost: dso\r\nContent-Length: {size}\r\n\r\n".encode() + body


def resolve(references: Sequence[str]) -> bytes:
    """A request for values."""
    return request("POST", "/v1/resolve", json.dumps({"values": list(references)}).encode())


def many(prefix: str, count: int = 10_000) -> list[str]:
    """So many references."""
    return [f"{prefix}{number:05d}" for number in range(count)]


def connected(path: str) -> socket.socket:
    """A connection, which is waited for like anybody's."""
    one = socket.socket(socket.AF_UNIX)
    one.connect(path)
    return one


def hold(path: str, words: bytes, count: int, begun: Begun) -> None:
    """Open connections, say something on each, and read nothing."""
    kept = []
    for _ in range(count):
        one = connected(path)
        kept.append(one)
        one.setblocking(False)
        with contextlib.suppress(OSError):
            for start in range(0, len(words), 65536):
                one.send(words[start : start + 65536])
                select.select([], [one], [], 0.05)
    begun()
    select.select([], [], [])


def unread(path: str, large: Sequence[str], begun: Begun) -> None:
    """Ask for the largest answers there are on five connections, and read nothing of them."""
    hold(path, resolve(large), 5, begun)


def half_bodies(path: str, begun: Begun) -> None:
    """Send all but the end of the largest bodies."""
    hold(path, request("POST", "/v1/resolve", b" " * (MAX_REQUEST_BYTES - 1), length=MAX_REQUEST_BYTES), 200, begun)


def half_heads(path: str, begun: Begun) -> None:
    """Send heads without end."""
    fields = b"".join(b"A%d: %s\r\n" % (number, b"x" * 8000) for number in range(120))
    hold(path, b"GET /healthz HTTP/1.1\r\n" + fields, 200, begun)


def silent(path: str, begun: Begun) -> None:
    """Open more connections than there may be."""
    hold(path, b"", 1100, begun)


def streams(path: str, begun: Begun) -> None:
    """Watch events on more connections than one may, and read nothing."""
    hold(path, request("GET", "/v1/events"), 200, begun)


def again(path: str, words: bytes, clients: int, begun: Begun) -> None:
    """Ask on so many connections, each again as soon as it has got anything; anew when the agent hangs up."""
    poll = select.epoll()
    open_ones: dict[int, socket.socket] = {}

    def replace(old: int | None = None) -> None:
        if old is not None:
            open_ones.pop(old).close()
        one = connected(path)
        one.setblocking(False)
        open_ones[one.fileno()] = one
        poll.register(one, select.EPOLLIN)
        with contextlib.suppress(OSError):
            one.send(words)

    for _ in range(clients):
        replace()
    begun()
    while True:
        for descriptor, _ in poll.poll():
            one = open_ones[descriptor]
            try:
                said = one.recv(1 << 20)
                if not said:
                    raise ConnectionError
                while len(said) == 1 << 20:
                    said = one.recv(1 << 20)
                one.send(words)
            except BlockingIOError:
                continue
            except OSError:
                replace(descriptor)


def pipelined(path: str, begun: Begun) -> None:
    """Send requests ahead without end."""
    again(path, PIPELINED * 2000, 64, begun)


def come_and_go(path: str, begun: Begun) -> None:
    """Connect and go away, all the time."""
    begun()
    while True:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as one:
            one.connect(path)
            one.send(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")


def new_fields(path: str, begun: Begun) -> None:
    """Ask for fields that nobody has asked for, by turns of more secrets than stay parsed."""
    begun()
    with connected(path) as one:
        for turn in itertools.count():
            one.sendall(resolve([f"dso://fake/{name}#no{turn}" for name in NUMBERS]))
            said = b""
            while not said.endswith(b"]}\n"):
                more = one.recv(1 << 20)
                if not more:
                    raise ConnectionError("the agent has hung up")
                said += more


# By what they are called in tests and in the benchmark.
ATTACKS: dict[str, Callable[[str, Begun], None]] = {
    "large answers that are not read": lambda path, begun: unread(path, LARGE, begun),
    "many large answers that are not read": lambda path, begun: hold(path, resolve(LARGE), 60, begun),
    "one small answer after another that is not read": lambda path, begun: hold(path, resolve(BATCH) * 40, 200, begun),
    "bodies that do not end": half_bodies,
    "heads that do not end": half_heads,
    "connections that say nothing": silent,
    "streams that are not read": streams,
    "requests sent ahead": pipelined,
    "connections that come and go": come_and_go,
    "ten thousand warm references": lambda path, begun: again(path, resolve(many("dso://fake/w/")), 20, begun),
    "ten thousand long names": lambda path, begun: again(
        path, resolve([f"dso://fake/{number:04d}" + "x" * 480 for number in range(2000)]), 20, begun
    ),
    "fields of large secrets": new_fields,
    "the log": lambda path, begun: again(path, request("GET", "/v1/logs"), 40, begun),
    "the list of secrets": lambda path, begun: again(path, request("GET", "/v1/secrets"), 40, begun),
    "reloading": lambda path, begun: again(path, request("POST", "/v1/reload"), 20, begun),
}
