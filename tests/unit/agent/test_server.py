"""HTTP on a real socket: limits, errors with codes, streams, the end."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent import server as serving
from dso.agent.access import Access, Accounts, Directory
from dso.agent.connections import BODY, Limits
from dso.agent.events import Events
from dso.agent.fairness.budgets import TRUSTED_POOL, Share
from dso.agent.logbook import Logbook
from dso.agent.metrics import Metrics
from dso.agent.server import Answer, RefusedError, Server
from dso.agent.sockets import bind
from dso.protocol.agent import MAX_REQUEST_BYTES
from dso.protocol.codes import NOT_FOUND, UNAVAILABLE
from dso.protocol.reading import MessageError
from tests.support.loop import in_loop, until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from dso.agent.server import Endpoint, Request

SHORT = 0.2


class Bench:
    """A server with a few endpoints on a socket in the current directory."""

    def __init__(self, limits: Limits) -> None:
        self.book = Logbook(stream=-1, level="debug")
        self.metrics = Metrics("1")
        self.open = asyncio.Event()
        self.started = 0
        self.ended = 0
        routes: dict[str, dict[str, Endpoint]] = {
            "/echo": {"POST": self.echo, "PUT": self.echo},
            "/query": {"GET": self.query},
            "/wait": {"GET": self.wait},
            "/large": {"GET": self.large},
            "/refuse": {"GET": self.refuse},
            "/defect": {"GET": self.defect},
            "/stream": {"GET": self.stream},
        }
        self.own_uid = os.geteuid()
        self.server = Server(
            routes,
            access=lambda: Access(None, own_uid=self.own_uid),
            accounts=Accounts(),
            group=None,
            book=self.book,
            events=Events(self.book),
            metrics=self.metrics,
            limits=limits,
        )
        self.listening = bind("a.sock", group=None)
        self.server.hub.listen(self.listening.listener)

    async def echo(self, request: Request) -> Answer:
        return Answer.of({"echo": await request.json()})

    async def query(self, request: Request) -> Answer:
        return Answer.of(request.query("a", "b"))

    async def wait(self, _request: Request) -> Answer:
        self.started += 1
        await self.open.wait()
        self.ended += 1
        return Answer.of({"waited": True})

    async def large(self, _request: Request) -> Answer:
        return Answer(bytes(32 * 1024 * 1024))

    async def refuse(self, _request: Request) -> Answer:
        raise RefusedError(NOT_FOUND, "no", "look elsewhere", reference="dso://x")

    async def defect(self, _request: Request) -> Answer:
        raise ValueError("hunter2")

    async def stream(self, _request: Request) -> Answer:
        return Answer(content_type="text/plain", pieces=self._pieces())

    async def _pieces(self) -> AsyncGenerator[str, None]:
        self.started += 1
        try:
            yield "first\n"
            await self.open.wait()
            yield "second\n"
        finally:
            self.ended += 1


@pytest.fixture(autouse=True)
def _directory(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@asynccontextmanager
async def serving_bench(**limits: float) -> AsyncIterator[Bench]:
    bench = Bench(Limits(**{"sweep": 0.05, **limits}))  # type: ignore[arg-type]
    try:
        yield bench
    finally:
        await bench.server.hub.close(5)


class Client:
    """Writes and reads bytes as they are."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, raw: bytes) -> None:
        self.writer.write(raw)

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        async with asyncio.timeout(30):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:-2])}
            body = await self.reader.readexactly(int(headers.get("content-length", "0")))
        return int(head[0].split()[1]), headers, body

    async def ask(self, method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
        length = f"Content-Length: {len(body)}\r\n" if body is not None else ""
        self.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{length}\r\n".encode() + (body or b""))
        status, _, content = await self.answer()
        return status, json.loads(content)

    async def rest(self) -> bytes:
        async with asyncio.timeout(30):
            try:
                return await self.reader.read()
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def client() -> AsyncIterator[Client]:
    reader, writer = await asyncio.open_unix_connection("a.sock", limit=1 << 20)
    try:
        yield Client(reader, writer)
    finally:
        writer.close()


async def ask(method: str, path: str, body: bytes | None = None) -> tuple[int, Any]:
    async with client() as one:
        return await one.ask(method, path, body)


def code(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1]["error"]["code"]


# Errors


@in_loop
async def test_every_error_has_a_code() -> None:
    async with serving_bench() as bench:
        assert await ask("GET", "/refuse") == (
            404,
            {"error": {"code": "not_found", "message": "no", "hint": "look elsewhere", "reference": "dso://x"}},
        )
        assert code(await ask("GET", "/nowhere")) == (404, "unsupported")
        assert code(await ask("DELETE", "/echo", b"{}")) == (405, "unsupported")
        assert "POST and PUT" in (await ask("GET", "/echo"))[1]["error"]["message"]
        for body in (b"", b"{", b"\xff", b"nan", b"[" * 100_000):
            assert code(await ask("POST", "/echo", body)) == (400, "invalid_request")
        for query in ("?c=1", "?a=1&a=2"):
            assert code(await ask("GET", f"/query{query}")) == (400, "invalid_request")
        assert await ask("GET", "/query?a=%2F&b=") == (200, {"a": "/", "b": ""})
        assert not [line for line in bench.book.recent() if line.level == "error"]


@in_loop
async def test_a_message_that_is_wrong_is_the_requests_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_bench() as bench:

        async def wrong(_request: Request) -> Answer:
            raise MessageError("`values` is no JSON array")

        monkeypatch.setitem(bench.server._routes["/echo"], "POST", wrong)
        assert await ask("POST", "/echo", b"{}") == (
            400,
            {"error": {"code": "invalid_request", "message": "`values` is no JSON array"}},
        )


@in_loop
async def test_a_defect_is_an_answer_too_and_shows_nothing() -> None:
    async with serving_bench() as bench, client() as one:
        assert code(await one.ask("GET", "/defect")) == (500, "internal")
        line = bench.book.recent(level="error")[-1].message
        assert "ValueError at test_server.py:" in line
        assert "hunter2" not in line
        assert (await one.ask("GET", "/query"))[0] == 200, "the connection goes on"


def test_the_status_of_what_a_provider_is_to_blame_for_is_502() -> None:
    assert RefusedError(UNAVAILABLE, "x").status == 502


@pytest.mark.parametrize(
    "raw",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nA: " + b"x" * 70_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"".join(b"A%d: x\r\n" % at for at in range(2000)) + b"\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx",
    ],
)
def test_what_is_no_http_is_told_so_and_hung_up_on(raw: bytes) -> None:
    @in_loop
    async def check() -> None:
        async with serving_bench(), client() as one:
            one.send(raw)
            status, _, body = await one.answer()
            assert (status, json.loads(body)["error"]["code"]) == (400, "invalid_request")
            assert await one.rest() == b""

    check()


# Bodies


@in_loop
async def test_a_body_of_the_limit_is_read_and_one_byte_more_is_refused() -> None:
    async with serving_bench():
        fits = b'"' + b"x" * (MAX_REQUEST_BYTES - 2) + b'"'
        assert (await ask("POST", "/echo", fits))[0] == 200
        assert code(await ask("POST", "/echo", fits + b" ")) == (413, "too_large")


@in_loop
async def test_a_body_in_chunks_has_the_same_limit() -> None:
    async with serving_bench(), client() as one:
        one.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        one.send(b"3\r\n[1,\r\n2\r\n2]\r\n0\r\n\r\n")
        assert json.loads((await one.answer())[2]) == {"echo": [1, 2]}
        one.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(17):
            one.send(b"10000\r\n" + b" " * 0x10000 + b"\r\n")
        status, headers, body = await one.answer()
        assert (status, json.loads(body)["error"]["code"]) == (413, "too_large")
        assert headers["connection"] == "close"


@in_loop
async def test_a_client_that_waits_for_permission_to_send_gets_it() -> None:
    async with serving_bench(), client() as one:
        one.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert (await one.answer())[0] == 100
        one.send(b"{}")
        assert json.loads((await one.answer())[2]) == {"echo": {}}


@in_loop
async def test_compressed_bodies_are_not_unpacked() -> None:
    async with serving_bench(), client() as one:
        one.send(
            b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
        )
        assert (await one.answer())[0] == 400


@in_loop
async def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dso.agent.web.exchange.BODY_TIMEOUT", SHORT)
    async with serving_bench(), client() as one:
        one.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
        status, headers, body = await one.answer()
        assert (status, json.loads(body)["error"]["code"]) == (408, "invalid_request")
        assert headers["connection"] == "close"


@in_loop
async def test_requests_sent_ahead_are_answered_in_order() -> None:
    async with serving_bench(), client() as one:
        one.send(b"".join(b"GET /query?a=%d HTTP/1.1\r\nHost: x\r\n\r\n" % at for at in range(50)))
        assert [json.loads((await one.answer())[2]) for _ in range(50)] == [{"a": str(at)} for at in range(50)]


# Connections


@in_loop
async def test_a_head_that_does_not_come_is_not_waited_for() -> None:
    async with serving_bench(head=SHORT) as bench, client() as slow, client() as silent:
        slow.send(b"GET /query HTTP/1.1\r\nHo")
        assert await slow.rest() == b""
        assert bench.metrics._counters["dso_agent_connections_closed_early_total", ("slow",)] == 1
        assert await silent.ask("GET", "/query") == (200, {}), "one that has sent nothing yet may take its time"


@in_loop
async def test_bytes_that_trickle_in_do_not_prolong_a_head() -> None:
    async with serving_bench(head=SHORT) as bench, client() as slow:
        for byte in b"GET /query HTTP/1.1\r\nHost: x\r\n" + b"A: x\r\n" * 100:
            slow.send(bytes([byte]))
            await asyncio.sleep(0.02)
            if not len(bench.server.hub):
                break
        assert bench.metrics._counters["dso_agent_connections_closed_early_total", ("slow",)] == 1


@in_loop
async def test_an_idle_connection_is_closed() -> None:
    async with serving_bench(idle=SHORT), client() as new, client() as used:
        assert (await used.ask("GET", "/query"))[0] == 200
        assert (await new.rest(), await used.rest()) == (b"", b"")


@in_loop
async def test_whoever_waits_for_an_answer_is_not_idle() -> None:
    async with serving_bench(idle=SHORT, head=SHORT) as bench, client() as one:
        asking = asyncio.ensure_future(one.ask("GET", "/wait"))
        await asyncio.sleep(3 * SHORT)
        bench.open.set()
        assert await asking == (200, {"waited": True})


@in_loop
async def test_a_client_that_has_said_all_it_has_to_say_gets_its_answer() -> None:
    async with serving_bench() as bench, client() as one:
        one.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: bench.started, "the request")
        one.writer.write_eof()
        await asyncio.sleep(0.05)
        bench.open.set()
        assert (await one.answer())[0] == 200
        assert await one.rest() == b""


@in_loop
async def test_a_client_that_breaks_off_in_a_body_is_let_go() -> None:
    async with serving_bench() as bench:
        async with client() as one:
            one.send(b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123")
            await until(lambda: len(bench.server.hub), "the connection")
            one.writer.write_eof()
            assert await one.rest() == b""
        await until(lambda: not len(bench.server.hub), "the end of the connection")
        assert not [line for line in bench.book.recent() if line.level == "error"]


@in_loop
async def test_what_somebody_asked_for_is_done_though_he_is_gone() -> None:
    async with serving_bench() as bench:
        async with client() as one:
            one.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: bench.started, "the request")
        bench.open.set()
        await until(lambda: bench.ended, "the end of the request")


@in_loop
async def test_a_full_house_asks_the_one_that_has_been_idle_longest_to_leave() -> None:
    async with serving_bench(connections=3) as bench, client() as first, client() as second, client() as third:
        for one in (first, second, third, first):
            assert (await one.ask("GET", "/query"))[0] == 200
        async with client() as fourth:
            assert (await fourth.ask("GET", "/query"))[0] == 200
            assert await second.rest() == b""
            assert (await first.ask("GET", "/query"))[0] == 200
            assert len(bench.server.hub) == 3


@in_loop
async def test_with_nobody_idle_the_next_is_told_to_come_back() -> None:
    """Waiting for one would keep everybody behind it waiting too, root included."""
    async with serving_bench(connections=2) as bench, client() as first, client() as second:
        busy = [asyncio.ensure_future(one.ask("GET", "/wait")) for one in (first, second)]
        await until(lambda: bench.started == 2, "two requests")
        async with client() as third:
            status, headers, body = await third.answer()
            assert (status, json.loads(body)["error"]["code"]) == (429, "busy")
            assert int(headers["retry-after"]) >= json.loads(body)["error"]["retry_after"] > 0
            assert await third.rest() == b""
        assert bench.metrics._counters["dso_agent_connections_closed_early_total", ("budget",)] == 1
        bench.open.set()
        assert [status for status, _ in await asyncio.gather(*busy)] == [200, 200]
        assert (await ask("GET", "/query"))[0] == 200, "an idle one makes room"


HALF = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{"


@in_loop
async def test_clients_whose_bodies_do_not_come_shut_nobody_out() -> None:
    """More of them than there may be connections, and each new one is as slow: whoever asks is answered."""
    async with serving_bench(connections=4, grace=SHORT) as bench, AsyncExitStack() as stack:
        slow = []
        for _ in range(12):
            slow.append(await stack.enter_async_context(client()))
            slow[-1].send(HALF)
            if len(slow) == 4:
                await until(lambda: [one.state for one in bench.server.hub._open] == [BODY] * 4, "four heads")
        for _ in range(3):
            while (await ask("GET", "/query"))[0] != 200:  # noqa: ASYNC110  # while all have only just begun
                await asyncio.sleep(SHORT / 4)
        assert len(bench.server.hub) <= 4
        assert b"200 OK" not in await slow[0].rest()
        assert bench.metrics._counters["dso_agent_connections_closed_early_total", ("room",)] >= 3


@in_loop
async def test_an_idle_connection_makes_room_before_one_whose_body_is_late() -> None:
    async with serving_bench(connections=2, grace=0.0) as bench, client() as slow, client() as idle:
        slow.send(HALF)
        await until(lambda: [one.state for one in bench.server.hub._open].count(BODY) == 1, "the request's head")
        assert (await idle.ask("GET", "/query"))[0] == 200
        assert (await ask("GET", "/query"))[0] == 200
        assert await idle.rest() == b""
        slow.send(b" " * 998 + b"}")
        assert (await slow.answer())[0] == 200


@in_loop
async def test_a_body_that_is_on_its_way_does_not_have_to_make_room() -> None:
    async with serving_bench(connections=1, grace=3600.0) as bench, client() as first:
        first.send(HALF)
        await until(lambda: [one.state for one in bench.server.hub._open] == [BODY], "the request's head")
        async with client() as late:
            assert (await late.answer())[0] == 429
        first.send(b" " * 998 + b"}")
        assert (await first.answer())[0] == 200


@in_loop
async def test_clients_that_come_together_are_let_in_together() -> None:
    """Else a crowd that is in already would be served again and again before the last of them is."""
    async with serving_bench() as bench:
        with ExitStack() as stack:
            for _ in range(100):
                one = stack.enter_context(socket.socket(socket.AF_UNIX))
                one.connect("a.sock")
            turns = 0
            while len(bench.server.hub) < 100:
                await asyncio.sleep(0)
                turns += 1
        assert turns <= 100 + 10, "one a round, in line with what those who are in ask for"


@in_loop
async def test_connections_that_come_and_go_leave_nothing_behind() -> None:
    async with serving_bench() as bench:
        before = len(os.listdir("/proc/self/fd"))
        for number in range(500):
            with socket.socket(socket.AF_UNIX) as one:
                one.setblocking(True)
                one.connect("a.sock")
                if number % 3 == 1:
                    one.send(b"GET /qu")
                if number % 3 == 2:
                    one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    one.send(b"GET /query HTTP/1.1\r\nHost: x\r\n\r\n")
            await asyncio.sleep(0)
        await until(lambda: not len(bench.server.hub), "the end of all connections")
        assert len(os.listdir("/proc/self/fd")) <= before + 1
        assert (await ask("GET", "/query"))[0] == 200


@in_loop
async def test_a_client_that_does_not_read_is_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serving, "WRITE_TIMEOUT", SHORT)
    async with serving_bench() as bench:
        with socket.socket(socket.AF_UNIX) as one:
            one.connect("a.sock")
            one.send(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
            await until(lambda: len(bench.server.hub), "the connection")
            await until(lambda: not len(bench.server.hub), "the end of the connection")
        assert bench.metrics._counters["dso_agent_connections_closed_early_total", ("unread",)] == 1


# Streams


@in_loop
async def test_a_stream_ends_with_its_reader() -> None:
    async with serving_bench() as bench:
        async with client() as one:
            one.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await one.reader.readuntil(b"first\n")
            assert bench.server._streams.used == {(TRUSTED_POOL, os.geteuid()): 1}
        await until(lambda: bench.ended, "the end of the stream")
        await until(lambda: not bench.server._streams.used, "an account without the stream")
        assert not [line for line in bench.book.recent() if line.level == "error"]


@in_loop
async def test_a_stream_ends_properly_with_the_agent() -> None:
    async with serving_bench() as bench, client() as one:
        one.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await one.reader.readuntil(b"first\n")
        await bench.server.hub.close(5)
        assert (await one.rest()).endswith(b"0\r\n\r\n")
        assert bench.ended == 1


@in_loop
async def test_too_many_streams_are_refused_and_cost_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(serving.STREAMS, TRUSTED_POOL, Share(1, 1))
    async with serving_bench() as bench, client() as first:
        first.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
        await first.reader.readuntil(b"first\n")
        assert code(await ask("GET", "/stream")) == (429, "busy")
        assert bench.started == 1
        bench.open.set()
        assert b"second\n" in await asyncio.wait_for(first.reader.readuntil(b"0\r\n\r\n"), 30)
        async with client() as next_one:
            next_one.send(b"GET /stream HTTP/1.1\r\nHost: x\r\n\r\n")
            await next_one.reader.readuntil(b"first\n")


# Who


@in_loop
async def test_a_user_outside_the_group_is_refused_and_logged(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving_bench() as bench, client() as one:
        bench.own_uid = 54321
        monkeypatch.setattr(Access, "is_trusted", lambda self, uid: uid == self._own_uid)
        assert code(await one.ask("GET", "/query")) == (403, "permission_denied")
        line = bench.book.recent(level="warning")[-1].message
        assert f"uid={os.geteuid()} pid={os.getpid()}" in line
        assert bench.metrics._counters["dso_agent_connections_refused_total", ()] == 1


@in_loop
async def test_a_user_database_that_hangs_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    released = asyncio.Event()

    class Hanging(Accounts):
        def look_up(self, peer: Any) -> Any:
            asyncio.run_coroutine_threadsafe(released.wait(), loop).result(30)
            return super().look_up(peer)

    loop = asyncio.get_running_loop()
    monkeypatch.setattr("dso.agent.web.members.LOOK_UP_TIMEOUT", SHORT)
    monkeypatch.setattr(Access, "is_trusted", lambda *_: False)
    async with serving_bench() as bench:
        bench.server._members._directory = Directory(Hanging())
        bench.server._members._group = os.getegid()
        try:
            assert (await ask("GET", "/query"))[0] == 200, "the kernel's word for its groups is enough"
        finally:
            released.set()
        assert "does not answer" in bench.book.recent(level="warning")[-1].message


# The end


@in_loop
async def test_at_the_end_answers_under_way_are_given_and_no_more_accepted() -> None:
    async with serving_bench() as bench, client() as one, client() as idle:
        asking = asyncio.ensure_future(one.ask("GET", "/wait"))
        await until(lambda: bench.started, "the request")
        closing = asyncio.ensure_future(bench.server.hub.close(10))
        assert await idle.rest() == b""
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_unix_connection("a.sock")
        bench.open.set()
        assert await asking == (200, {"waited": True})
        await closing
        assert await one.rest() == b""
        assert not bench.server.hub.is_accepting()


@in_loop
async def test_at_the_end_what_takes_too_long_is_given_up() -> None:
    async with serving_bench() as bench, client() as one:
        one.send(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n")
        await until(lambda: bench.started, "the request")
        await asyncio.wait_for(bench.server.hub.close(SHORT), 30)
        assert await one.rest() == b""
