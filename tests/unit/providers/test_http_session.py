"""The session that SDKs send with: trust, proxies, limits, and nothing of the user's files."""

from __future__ import annotations

import os
import shutil
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from requests.exceptions import InvalidProxyURL, ReadTimeout, SSLError, Timeout

from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError
from dso.providers.deadline import Deadline, within
from dso.providers.http_faults import Target, connection_fault
from dso.providers.http_session import OversizedError, ProviderSession
from dso.version import VERSION
from tests.support.certificates import Certificates
from tests.support.http_proxy import HttpProxy, Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OK = Reply(200, b"ok")
TARGET = Target("p: it", "`address:`")


@pytest.fixture
def certificates(tmp_path: Path) -> Certificates:
    return Certificates(str(tmp_path / "tls"))


@pytest.fixture
def server(certificates: Certificates) -> Iterator[HttpProxy]:
    with HttpProxy("", tls=certificates.public_context()) as server:
        server.reply = lambda _seen: OK
        yield server


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR", "http_proxy", "https_proxy", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)


def session(ca_cert: str | None = None, timeout: float = 10) -> ProviderSession:
    return ProviderSession("p", ca_cert, timeout)


def test_what_is_named_is_trusted_and_nothing_else(server: HttpProxy, certificates: Certificates) -> None:
    with session(certificates.path("ca.pem")) as trusting, session() as wary:
        assert trusting.get(server.address).content == b"ok"
        for verify in (True, False, certificates.path("ca.pem")):
            with pytest.raises(SSLError) as caught:
                wary.get(server.address, verify=verify)
        fault = connection_fault(TARGET, caught.value, 10)
        assert fault is not None
        assert "not trusted" in fault.message
    assert len(server.seen) == 1


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"])
def test_the_environment_may_name_whom_to_trust(
    server: HttpProxy, certificates: Certificates, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, certificates.path("ca.pem"))
    with session() as opened:
        assert opened.get(server.address).ok


def test_a_file_that_is_replaced_counts_from_the_next_failure_on(
    server: HttpProxy, certificates: Certificates, tmp_path: Path
) -> None:
    Certificates(str(tmp_path / "other"))
    file = tmp_path / "ca.pem"
    shutil.copy(tmp_path / "other" / "ca.pem", file)
    with session(str(file)) as opened:
        with pytest.raises(SSLError):
            opened.get(server.address)
        file.write_text("half a cert")
        with pytest.raises(SSLError):
            opened.get(server.address)
        shutil.copy(certificates.path("ca.pem"), tmp_path / "new")
        os.replace(tmp_path / "new", file)
        assert opened.get(server.address).ok


def test_a_file_that_is_none_is_a_fault_of_the_settings(tmp_path: Path) -> None:
    for content in (None, "", "text"):
        if content is not None:
            (tmp_path / "ca.pem").write_text(content)
        with pytest.raises(ProviderError) as caught:
            session(str(tmp_path / "ca.pem"))
        assert (caught.value.code, "tls.ca_cert" in caught.value.message) == ("invalid_config", True)


def test_nothing_of_the_users_files_is_sent_and_no_cookie_kept(
    server: HttpProxy, certificates: Certificates, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login user password canary\n")
    (tmp_path / ".netrc").chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    server.reply = lambda _seen: Reply(200, b"ok", {"Set-Cookie": "a=b; Path=/"})
    with session(certificates.path("ca.pem")) as opened:
        for _ in range(2):
            opened.get(server.address, headers={"Authorization": "Bearer own"})
    for seen in server.seen:
        assert seen.headers["authorization"] == "Bearer own"
        assert "cookie" not in seen.headers
        assert seen.headers["user-agent"] == f"dso/{VERSION}"


def test_a_redirection_is_an_answer(server: HttpProxy, certificates: Certificates) -> None:
    server.reply = lambda _seen: Reply(302, b"", {"Location": f"{server.address}/other"})
    with session(certificates.path("ca.pem")) as opened:
        assert opened.get(server.address, allow_redirects=True).status_code == 302
    assert len(server.seen) == 1


def test_a_redirection_that_is_too_long_is_not_read_to_its_end(server: HttpProxy, certificates: Certificates) -> None:
    """To find out where it leads, requests would read all of it first."""
    server.reply = lambda _seen: Reply(302, b"x" * (MAX_MESSAGE_BYTES + 1), {"Location": "https://other.example.com"})
    with session(certificates.path("ca.pem")) as opened, pytest.raises(OversizedError):
        opened.get(server.address)


def test_a_proxy_that_cannot_be_used_is_a_fault_of_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for proxy, words in (("socks5://u:canary@p", "(socks5)"), ("http://u:canary@[p:1", "(its address is malformed)")):
        monkeypatch.setenv("https_proxy", proxy)
        with session() as opened, pytest.raises(InvalidProxyURL) as caught:
            opened.get("https://x.example.com")
        fault = connection_fault(TARGET, caught.value, 10)
        assert fault is not None
        assert fault.code == "invalid_config"
        assert words in fault.message
        assert "canary" not in fault.message


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_connection_that_was_closed_meanwhile_costs_one_more_try(
    server: HttpProxy, certificates: Certificates, method: str
) -> None:
    answers = [OK, Reply(None), OK, Reply(None), Reply(None)]

    def reply(_seen: Seen) -> Reply:
        return answers.pop(0)

    server.reply = reply
    with session(certificates.path("ca.pem")) as opened:
        assert opened.request(method, server.address, data="x").ok
        assert opened.request(method, server.address, data="x").ok
        with pytest.raises(OSError) as caught:
            opened.request(method, server.address, data="x")
    fault = connection_fault(TARGET, caught.value, 10)
    assert fault is not None
    assert "closed the connection" in fault.message
    assert {seen.body for seen in server.seen} == {b"x"}


def test_an_answer_that_is_too_long_is_not_read_to_its_end(server: HttpProxy, certificates: Certificates) -> None:
    server.reply = lambda _seen: Reply(200, b"x" * (MAX_MESSAGE_BYTES + 1))
    with session(certificates.path("ca.pem")) as opened, pytest.raises(OversizedError):
        opened.get(server.address)


def test_a_request_ends_with_the_deadline_of_its_thread(server: HttpProxy, certificates: Certificates) -> None:
    held = threading.Event()
    server.reply = lambda _seen: OK if held.wait(60) else Reply(500)
    try:
        with session(certificates.path("ca.pem"), timeout=600) as opened:
            with within(Deadline(1)), pytest.raises(Timeout) as caught:
                opened.get(server.address, timeout=600)
            fault = connection_fault(TARGET, caught.value, 1)
            assert fault is not None
            assert "within 1 s" in fault.message
    finally:
        held.set()


def test_with_no_time_left_nothing_is_sent(server: HttpProxy, certificates: Certificates) -> None:
    with session(certificates.path("ca.pem")) as opened, within(Deadline(0)), pytest.raises(ReadTimeout):
        opened.get(server.address)
    assert server.seen == []


def test_many_threads_may_use_it_at_once(server: HttpProxy, certificates: Certificates) -> None:
    server.together = threading.Barrier(20)
    answers: list[bytes] = []
    with session(certificates.path("ca.pem")) as opened:
        threads = [
            threading.Thread(target=lambda: answers.append(opened.get(server.address).content)) for _ in range(20)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert answers == [b"ok"] * 20


@pytest.mark.parametrize("beginning", [b"", b"HTTP/1.1 200 OK\r\nX-Endless: ", b"HTTP/1.1 200 OK\r\n\r\n"])
def test_an_answer_that_trickles_ends_with_the_deadline_wherever_it_is(beginning: bytes) -> None:
    stop = threading.Event()

    def serve(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(beginning)
            while not stop.wait(0.05):
                connection.sendall(b"H")

    with socket.create_server(("127.0.0.1", 0)) as listener, session() as opened, ThreadPoolExecutor(2) as threads:
        threads.submit(serve, listener)
        host, port = listener.getsockname()
        asked = threads.submit(under_deadline, opened, f"http://{host}:{port}/")
        try:
            assert isinstance(asked.exception(30), Timeout)
        finally:
            stop.set()


def under_deadline(opened: ProviderSession, address: str) -> None:
    with within(Deadline(0.5)):
        opened.get(address)
