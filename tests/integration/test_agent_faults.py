"""Clients that are slow, rude or many do not harm the agent, nor those who behave."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import socket
import struct
import termios
import time
from typing import TYPE_CHECKING

import pytest

from dso.agent.connections import HEAD_TIMEOUT
from dso.agent.web.exchange import BODY_TIMEOUT
from tests.support.agent import Agent, ask
from tests.support.canary import Canary
from tests.support.memory import MIB, descriptors, resident, threads
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

SECRET = Canary.new()
HEAD = b"POST /v1/resolve HTTP/1.1\r\nHost: dso\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"


@pytest.fixture(scope="module")
def agent() -> Iterator[Agent]:
    with Agent() as running:
        running.write_secrets({"a": {"text": SECRET.text}})
        running.use_fake().start()
        yield running


@pytest.fixture(autouse=True)
def unharmed(agent: Agent) -> Iterator[None]:
    assert agent.value("dso://fake/a") == SECRET.text  # it is warm
    opened, since = descriptors(agent.pid), len(agent.log)
    yield
    assert agent.process.poll() is None, agent.log[-4000:]
    assert agent.value("dso://fake/a") == SECRET.text
    wait_until(lambda: descriptors(agent.pid) <= opened, f"the agent's closing of what was {opened} descriptors")
    said = agent.log[since:]
    assert "internal" not in said, said[-4000:]
    assert "Traceback" not in said, said[-4000:]
    assert not SECRET.find(agent.log.encode())


@contextlib.contextmanager
def connections(agent: Agent, count: int) -> Iterator[list[socket.socket]]:
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(agent.connect()) for _ in range(count)]


# Slow


@pytest.mark.parametrize("words", [b"", b"GET /healthz HT", HEAD[:-2], HEAD, HEAD + b'{"values":'])
def test_clients_that_stop_in_the_middle_hinder_nobody(agent: Agent, words: bytes) -> None:
    with connections(agent, 200) as slow:
        for connection in slow:
            connection.sendall(words)
        for _ in range(20):
            assert agent.request("GET", "/healthz").status == 200
        assert agent.value("dso://fake/a") == SECRET.text


def test_clients_that_send_a_byte_now_and_then_hinder_nobody(agent: Agent) -> None:
    with connections(agent, 100) as slow:
        for index in range(30):
            for connection in slow:
                connection.sendall(HEAD[index : index + 1])
            assert agent.request("GET", "/healthz").status == 200


def test_a_request_that_is_never_finished_is_hung_up_on() -> None:
    """Whoever forgets a connection in the middle, or holds it on purpose, does not keep it for good."""
    assert 0 < HEAD_TIMEOUT <= BODY_TIMEOUT <= 30
    hasty = "from dso.agent.web import exchange, limits; exchange.BODY_TIMEOUT = 2.0"
    hasty += "; limits.Limits.__init__.__kwdefaults__['head'] = 1.0"
    with Agent(before=hasty).use_fake() as agent, connections(agent.start(), 3) as unfinished:
        for connection, words in zip(unfinished, (b"GET /healthz HT", HEAD, HEAD + b'{"values":'), strict=True):
            connection.sendall(words)
        for connection in unfinished:
            connection.settimeout(120)
            while connection.recv(65536):
                pass  # an error perhaps, and then the end


def test_a_client_that_reads_nothing_hinders_nobody(agent: Agent) -> None:
    request = b"GET /metrics HTTP/1.1\r\nHost: dso\r\n\r\n"
    before = resident([agent.pid])
    with connections(agent, 20) as deaf:
        for connection in deaf:
            connection.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(5000):
                    connection.sendall(request)
            assert agent.request("GET", "/healthz").status == 200
        assert resident([agent.pid]) - before < 40 * MIB  # it stops reading where it cannot write


def test_a_deaf_reader_of_the_event_stream_loses_events_and_costs_nothing(agent: Agent) -> None:
    with connections(agent, 30) as deaf:
        for connection in deaf:
            connection.sendall(b"GET /v1/events HTTP/1.1\r\nHost: dso\r\n\r\n")
            assert b" 200 " in connection.recv(100)
        before = resident([agent.pid])
        for _ in range(30):
            agent.resolve(*[f"dso://fake/none-{time.monotonic_ns()}-{number}" for number in range(100)])
        assert agent.request("GET", "/healthz").status == 200
        assert resident([agent.pid]) - before < 40 * MIB


# Rude


@pytest.mark.parametrize("words", [b"", b"GET /heal", HEAD, HEAD + b"{"])
def test_half_closed_connections_end(agent: Agent, words: bytes) -> None:
    with connections(agent, 50) as half:
        for connection in half:
            connection.sendall(words)
            connection.shutdown(socket.SHUT_WR)
        for connection in half:
            connection.settimeout(30)
            while connection.recv(65536):
                pass


def test_a_half_closed_client_still_gets_its_answer(agent: Agent) -> None:
    with agent.connect() as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: dso\r\nConnection: close\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert b" 200 OK" in connection.recv(65536)


def test_ten_thousand_connections_opened_and_dropped(agent: Agent) -> None:
    def drop(count: int) -> None:
        for number in range(count):
            with agent.connect() as connection:
                if number % 3:
                    with contextlib.suppress(ConnectionError):  # it hangs up on one user's too many
                        connection.sendall(HEAD if number % 3 == 1 else b"GET /healthz HTTP/1.1\r\nHost: dso\r\n\r\n")

    drop(5000)  # to warm up
    wait_until(lambda: agent.request("GET", "/healthz").status == 200, "an answer")
    before, opened, running = resident([agent.pid]), descriptors(agent.pid), threads(agent.pid)
    drop(10_000)
    wait_until(lambda: descriptors(agent.pid) <= opened, "the end of all connections")
    assert resident([agent.pid]) - before < 4 * MIB
    assert threads(agent.pid) <= running + 1


def test_answers_nobody_waits_for_are_dropped(agent: Agent) -> None:
    """^C in `docker dso up`, many times, while a provider is slow."""
    body = b'{"values": ["dso://fake/a", "dso://fake/gone-%d"]}'
    for number in range(200):
        with agent.connect() as connection:
            text = body % number
            connection.sendall(HEAD.replace(b"1000", b"%d" % len(text)) + text)


def test_one_connection_serves_many_requests(agent: Agent) -> None:
    with agent.connect() as connection:
        for _ in range(500):
            assert ask(connection, "GET", "/healthz").status == 200


# More than it can take


def test_more_connections_than_descriptors_are_no_end(agent: Agent) -> None:
    """The agent has fewer descriptors than clients want: some wait, none is harmed, all is well afterwards."""
    with Agent(variant=agent.variant) as small:
        small.write_secrets({"a": {"text": SECRET.text}})
        small.use_fake()
        limited = small.command()
        small.command = lambda *args: ["sh", "-c", 'ulimit -n 64; exec "$@"', "sh", *limited, *args]  # type: ignore[method-assign]
        small.start()
        with contextlib.ExitStack() as stack:
            crowd = [stack.enter_context(small.connect()) for _ in range(100)]
            for connection in crowd:
                connection.settimeout(0.2)
                with contextlib.suppress(OSError):
                    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: dso\r\n\r\n")
            assert small.process.poll() is None, small.log
            spent = _processor_seconds(small.pid)
            select.select([], [], [], 1.0)
            assert _processor_seconds(small.pid) - spent < 0.9  # it does not spin
        wait_until(lambda: small.request("GET", "/healthz").status == 200, "an answer after the rush")
        assert small.value("dso://fake/a") == SECRET.text
        assert small.log.count("\n") < 500, small.log[-2000:]


def _processor_seconds(pid: int) -> float:
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        fields = stat.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


# In the middle of something


def _unread(connection: socket.socket) -> int:
    """How many bytes the other side of a Unix socket has not read yet."""
    return int(struct.unpack("i", fcntl.ioctl(connection, termios.TIOCOUTQ, bytes(4)))[0])


def test_sigterm_finishes_what_is_in_flight(agent: Agent) -> None:
    with Agent() as ending:
        ending.write_secrets({"a": {"text": SECRET.text}})
        ending.use_fake(delay=1).start()
        with ending.connect() as connection, ending.connect() as idle:
            text = b'{"values": ["dso://fake/a"]}'
            connection.sendall(HEAD.replace(b"1000", b"%d" % len(text)) + text)
            wait_until(lambda: not _unread(connection), "the request's way to the agent")
            ending.signal(signal.SIGTERM)
            said = b""
            while piece := connection.recv(65536):
                said += piece
            assert SECRET.token in said
            assert idle.recv(100) == b""
        assert ending.stop() == 0
        assert not os.path.exists(ending.socket)
