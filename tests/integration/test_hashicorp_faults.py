"""What can be wrong with a HashiCorp Vault and the way to it: each fault has its code and says what to do."""

from __future__ import annotations

import functools
import itertools
import logging
import shutil
import socket
import ssl
import threading
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST, NOT_FOUND, THROTTLED, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError
from tests.support.certificates import Certificates
from tests.support.hashicorp import HashicorpServer, fault, provider, read, settings
from tests.support.http_proxy import HttpProxy, Reply, Seen
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from dso.providers.hashicorp import HashicorpProvider

VALUE = "canary-value-7d1f"
TOKEN = "hvs.canary-token-93ab"


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(str(tmp_path_factory.mktemp("tls") / "pki"))


@pytest.fixture(scope="module")
def server(certificates: Certificates) -> Iterator[HashicorpServer]:
    """One with TLS, which may be sealed."""
    with HashicorpServer(tls=certificates.directory) as found:
        found.put("db", {"v": "x"})
        yield found


@pytest.fixture
def proxy(server: HashicorpServer) -> Iterator[HttpProxy]:
    with HttpProxy(server.http) as found:
        yield found


@pytest.fixture
def opened(server: HashicorpServer, proxy: HttpProxy) -> Iterator[HashicorpProvider]:
    with provider(settings(proxy.address, server.root_token)) as found:
        yield found


def assert_fault(config: dict[str, Any], code: str, *words: str, timeout: float = 20) -> ProviderError:
    """Reading and checking must both fail so."""
    with provider(config, timeout=timeout) as opened:
        for call in (lambda: opened.get("db", None), opened.check):
            error = fault(call)
            assert error.code == code, error.message
            assert [word for word in words if word not in error.message] == [], error.message
    return error


# The server's state


def test_sealed_and_well_again_after_unsealing(server: HashicorpServer):
    with provider(settings(server.http, server.root_token)) as opened:
        assert read(opened, "db") == {"v": "x"}
        server.seal()
        try:
            for call in (lambda: opened.get("db", None), opened.check):
                error = fault(call)
                assert error.code == UNAVAILABLE
                assert "is sealed; unseal it: vault operator unseal" in error.message
        finally:
            server.unseal()
        assert read(opened, "db") == {"v": "x"}


def test_sealed_while_logging_in(server: HashicorpServer):
    role = server.approle("sealed", server.policy("sealed", "secret/data/*"))
    with provider({"address": server.http, "auth": {"method": "approle", **role._asdict()}}) as opened:
        server.seal()
        try:
            error = fault(lambda: opened.get("db", None))
        finally:
            server.unseal()
        assert (error.code, "is sealed" in error.message) == (UNAVAILABLE, True)
        assert read(opened, "db") == {"v": "x"}


def test_standby_node_leads_to_the_active_one_whichever_that_is():
    with HashicorpServer(standby=True) as pair:
        pair.put("db", {"v": "x"})
        role = pair.approle("standby", pair.policy("standby", "secret/data/*"))
        auth = {"method": "approle", **role._asdict()}
        with provider({"address": pair.standby, "auth": auth}) as one, provider(settings(pair.http, TOKEN)) as other:
            one.check()
            assert read(one, "db") == {"v": "x"}
            pair.seal()
            wait_until(lambda: _reads(one), "the standby node taking over")
            pair.unseal()
            assert fault(lambda: other.get("db", None)).code == UNAUTHENTICATED  # said by the other node


def _reads(opened: HashicorpProvider) -> bool:
    try:
        return bool(read(opened, "db"))
    except ProviderError as error:
        if error.code != UNAVAILABLE:
            raise
        return False


def test_token_is_not_sent_where_nobody_encrypts(server: HashicorpServer, certificates: Certificates):
    """A node reached by TLS that points to an address without it is not followed."""
    context = certificates.server_context()
    with HttpProxy(server.http) as target, HttpProxy(server.http, tls=context) as proxy:
        proxy.reply = lambda seen: Reply(307, headers={"Location": target.address + seen.path})
        config = settings(proxy.address, TOKEN, tls=tls(certificates, "ca_cert", "client_cert", "client_key"))
        assert_fault(config, UNAVAILABLE, "active node")
        assert target.seen == []


def test_redirects_that_lead_in_circles_are_followed_once(opened: HashicorpProvider, proxy: HttpProxy):
    proxy.reply = lambda seen: Reply(307, headers={"Location": proxy.address + seen.path})
    assert fault(lambda: opened.get("db", None)).code == UNAVAILABLE
    assert len(proxy.requests("GET /v1/secret/")) == 2


def test_rate_limit_is_throttled_with_its_time(server: HashicorpServer):
    server.limit(1)
    try:
        with provider(settings(server.http, server.root_token)) as opened:
            read(opened, "db")
            error = fault(lambda: opened.get("db", None))
    finally:
        server.call("DELETE", "sys/quotas/rate-limit/tests")
    assert error.code == THROTTLED
    assert error.retry_after is not None
    assert 0 < error.retry_after <= 60


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((status, UNAVAILABLE) for status in (412, 472, 473, 500, 501, 502, 503, 504)),
        *((status, INVALID_REQUEST) for status in (400, 418)),
        *((429, THROTTLED), (405, INVALID_CONFIG), (404, NOT_FOUND)),
    ],
)
def test_every_status_has_its_code_and_nothing_of_the_answer_is_repeated(
    opened: HashicorpProvider, proxy: HttpProxy, status: int, code: str
):
    body = b'{"errors":["%s"],"data":{"data":{"v":"%s"}}}' % (VALUE.encode(), VALUE.encode())
    proxy.reply = lambda seen: Reply(status, body) if seen.path.startswith("/v1/secret") else None
    error = fault(lambda: opened.get("db", None))
    assert error.code == code
    assert VALUE not in error.message
    assert error.message.startswith("db: ") or status == 501  # which concerns no single secret


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b"[]", b'"x"', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("status", [200, 403, 404])
def test_something_else_than_vault_is_told_so(opened: HashicorpProvider, proxy: HttpProxy, body: bytes, status: int):
    proxy.reply = lambda _seen: Reply(status, body)
    error = fault(lambda: opened.get("db", None))
    assert error.code in (INVALID_CONFIG, UNAUTHENTICATED)
    assert "hello" not in error.message


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"data":null}',
        b'{"data":[]}',
        b'{"data":{"data":"x","metadata":{"version":1}}}',
        b'{"data":{"data":null,"metadata":{"version":1}}}',
        b'{"data":{"data":{"v":"x"}}}',
        b'{"data":{"data":{"v":"x"},"metadata":{"version":NaN}}}',
    ],
)
def test_answer_that_holds_no_secret_is_an_error(opened: HashicorpProvider, proxy: HttpProxy, body: bytes):
    proxy.reply = lambda seen: Reply(200, body) if seen.path.startswith("/v1/secret") else None
    assert fault(lambda: opened.get("db", None)).code in (INVALID_CONFIG, UNAVAILABLE)


def test_answer_that_is_too_long_is_refused_and_not_read_to_its_end(opened: HashicorpProvider, proxy: HttpProxy):
    body = b'{"data":"' + b"x" * (2 * MAX_MESSAGE_BYTES)
    proxy.reply = lambda seen: Reply(200, body) if seen.path.startswith("/v1/secret") else None
    error = fault(lambda: opened.get("db", None))
    assert error.code == INVALID_REQUEST
    assert error.oversized
    assert str(MAX_MESSAGE_BYTES) in error.message


# The way to it


def test_nobody_listens():
    assert_fault(settings("http://127.0.0.1:9", TOKEN), UNAVAILABLE, "127.0.0.1:9", "refuses the connection", "address")


def test_name_without_an_address():
    assert_fault(settings("https://vault.invalid:8200", TOKEN), UNAVAILABLE, "vault.invalid", "name has no address")


def test_server_that_never_answers_is_given_up_in_time():
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        address = f"127.0.0.1:{listener.getsockname()[1]}"
        assert_fault(settings(f"http://{address}", TOKEN), UNAVAILABLE, "did not answer within", timeout=1)
        assert_fault(settings(f"https://{address}", TOKEN), UNAVAILABLE, "did not answer within", timeout=1)


@pytest.mark.parametrize(
    "beginning", [b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n", b"HTTP/1.1 200 OK\r\nX: ", b"H"]
)
def test_server_that_answers_a_byte_at_a_time_is_given_up_in_time(beginning: bytes):
    """Each byte comes in time, the whole never does: of the body, a header, the status line."""
    stop = threading.Event()

    def drip(listener: socket.socket) -> None:
        while not stop.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=drop, args=[connection], daemon=True).start()

    def drop(connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                connection.sendall(beginning)
                while not stop.wait(0.05):
                    connection.sendall(b"x")
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        threading.Thread(target=drip, args=[listener], daemon=True).start()
        try:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
            assert_fault(settings(address, TOKEN), UNAVAILABLE, "did not answer within", timeout=1)
        finally:
            stop.set()
            listener.shutdown(socket.SHUT_RDWR)


def test_connection_that_breaks_is_tried_once_more(opened: HashicorpProvider, proxy: HttpProxy):
    breaks = iter([Reply(None)])
    proxy.reply = lambda seen: next(breaks, None) if seen.path.startswith("/v1/secret") else None
    assert read(opened, "db") == {"v": "x"}
    proxy.reply = lambda _seen: Reply(None)
    error = fault(lambda: opened.get("db", None))
    assert error.code == UNAVAILABLE
    assert "closed the connection" in error.message


def test_fifty_reads_are_in_flight_together(opened: HashicorpProvider, proxy: HttpProxy):
    """None is answered before all have come."""
    read(opened, "db")
    proxy.clear()
    together = threading.Barrier(50, timeout=60)
    held_up: list[int] = []

    def hold_up(seen: Seen) -> None:
        if seen.path == "/v1/secret/data/db":  # not what is asked about the token meanwhile
            held_up.append(together.wait())

    proxy.reply = hold_up
    threads = [threading.Thread(target=read, args=[opened, "db"]) for _ in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    assert sorted(held_up) == list(range(50))
    assert len(proxy.requests("GET /v1/secret/data/db")) == 50


def test_connections_are_used_again(server: HashicorpServer):
    connections: list[object] = []
    with HttpProxy(server.http) as proxy:
        verify = proxy._server.verify_request
        proxy._server.verify_request = lambda *args: connections.append(args) or verify(*args)  # type: ignore[method-assign,func-returns-value]
        with provider(settings(proxy.address, server.root_token)) as opened:
            for _ in range(20):
                read(opened, "db")
    assert len(connections) <= 2  # one for the thread that renews


# TLS


def tls(certificates: Certificates, *keys: str) -> dict[str, Any]:
    files = {"ca_cert": "ca.pem", "client_cert": "cert.pem", "client_key": "key.pem"}
    return {key: certificates.path(files[key]) for key in keys}


def test_tls_with_its_own_ca(server: HashicorpServer, certificates: Certificates):
    with provider(settings(server.https, server.root_token, tls=tls(certificates, "ca_cert"))) as opened:
        opened.check()
        assert read(opened, "db") == {"v": "x"}


def test_certificate_of_an_unknown_ca_is_not_trusted(server: HashicorpServer):
    assert_fault(settings(server.https, TOKEN), INVALID_CONFIG, "not trusted", "tls.ca_cert")


def test_certificate_for_another_name_is_not_accepted(server: HashicorpServer, certificates: Certificates):
    address = server.https.replace("127.0.0.1", "localhost")
    config = settings(address, server.root_token, tls=tls(certificates, "ca_cert"))
    assert_fault(config, INVALID_CONFIG, "does not fit", "tls.server_name")
    config["tls"]["server_name"] = "127.0.0.1"
    with provider(config) as opened:
        assert read(opened, "db") == {"v": "x"}


def test_skip_verify_accepts_anything_and_says_so(server: HashicorpServer, caplog: pytest.LogCaptureFixture):
    with provider(settings(server.https, server.root_token, tls={"skip_verify": True})) as opened:
        assert read(opened, "db") == {"v": "x"}
    assert "tls.skip_verify is set" in caplog.text


def test_client_certificate_is_shown_where_one_is_wanted(server: HashicorpServer, certificates: Certificates):
    context = certificates.server_context()
    with HttpProxy(server.http, tls=context) as proxy:
        config = settings(proxy.address, server.root_token, tls=tls(certificates, "ca_cert"))
        with provider(config) as opened:
            # in TLS 1.3 the alert that says so may be lost when the connection is cut
            assert "tls.client_cert" in fault(lambda: opened.get("db", None)).message
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        assert_fault(config, INVALID_CONFIG, "wants a client certificate", "tls.client_cert")
        config["tls"] = tls(certificates, "ca_cert", "client_cert", "client_key")
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            context.maximum_version = version
            with provider(config) as opened:
                assert read(opened, "db") == {"v": "x"}


def test_client_certificate_of_another_ca_is_told_so(
    server: HashicorpServer, certificates: Certificates, tmp_path: Path
):
    other = Certificates(str(tmp_path / "other"))
    context = certificates.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with HttpProxy(server.http, tls=context) as proxy:
        files = {**tls(other, "client_cert", "client_key"), **tls(certificates, "ca_cert")}
        assert_fault(settings(proxy.address, TOKEN, tls=files), INVALID_CONFIG, "tls.client_cert")


def test_ca_that_is_replaced_is_taken_over_while_running(
    server: HashicorpServer, certificates: Certificates, tmp_path: Path
):
    ca = tmp_path / "ca.pem"
    shutil.copy(Certificates(str(tmp_path / "other")).path("ca.pem"), ca)
    with provider(settings(server.https, server.root_token, tls={"ca_cert": str(ca)})) as opened:
        assert fault(lambda: opened.get("db", None)).code == INVALID_CONFIG
        shutil.copy(certificates.path("ca.pem"), tmp_path / "new")
        (tmp_path / "new").rename(ca)
        assert read(opened, "db") == {"v": "x"}


def test_https_where_http_is_spoken_and_the_other_way_round(server: HashicorpServer):
    assert_fault(settings(server.http.replace("http", "https"), TOKEN), INVALID_CONFIG, "does not speak TLS")
    assert_fault(settings(server.https.replace("https", "http"), TOKEN), INVALID_CONFIG, "speaks HTTPS")


def test_ca_file_that_is_not_there_or_none_is_named(certificates: Certificates, tmp_path: Path):
    empty = tmp_path / "empty.pem"
    empty.write_text("nothing")
    for path, reason in ((str(tmp_path / "absent.pem"), "No such file"), (str(empty), "no certificate in PEM")):
        with pytest.raises(ProviderError) as caught, provider(settings("https://v", TOKEN, tls={"ca_cert": path})):
            pass
        assert caught.value.code == INVALID_CONFIG
        assert f"tls.ca_cert ({path}): {reason}" in caught.value.message


# The environment's proxy


def test_proxy_of_the_environment_is_used_but_not_for_this_machine(
    server: HashicorpServer, monkeypatch: pytest.MonkeyPatch
):
    with HttpProxy(server.http) as proxy:
        monkeypatch.setenv("http_proxy", proxy.address)
        with provider(settings("http://vault.invalid:8200", server.root_token)) as opened:
            assert read(opened, "db") == {"v": "x"}
        assert "GET /v1/secret/data/db" in proxy.requests()
        proxy.clear()
        with provider(settings(server.http, server.root_token)) as opened:
            assert read(opened, "db") == {"v": "x"}
        monkeypatch.setenv("no_proxy", "vault.invalid")
        assert_fault(settings("http://vault.invalid:8200", TOKEN), UNAVAILABLE, "name has no address")
        # the first provider may still be asking, in the background, how long its token lasts
        assert proxy.requests("GET /v1/secret/") == []


def test_proxy_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    assert_fault(settings("https://vault.invalid:8200", TOKEN), UNAVAILABLE, "proxy", "HTTPS_PROXY")


# Secrets stay secret


def test_no_value_and_no_credential_in_any_error_or_log(server: HashicorpServer, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    secret_id = "canary-secret-id-51c2"
    auths = [
        {"method": "token", "token": TOKEN},
        {"method": "approle", "role_id": "canary-role-51c2", "secret_id": secret_id},
        {"method": "userpass", "username": "u", "password": "canary-password-51c2"},
        {"method": "jwt", "jwt": "canary.jwt.51c2"},
    ]
    answers = [Reply(status, f'{{"errors":["{VALUE}"]}}'.encode()) for status in (200, 400, 403, 404, 500, 503)]
    answers += [Reply(None), Reply(200, f'{{"auth":{{"client_token":"{VALUE}"}}}}'.encode())]
    told = []
    with HttpProxy(server.http) as proxy:
        for auth, answer in itertools.product(auths, answers):
            proxy.reply = functools.partial(_always, answer)
            with provider({"address": proxy.address, "auth": auth}) as opened:
                for call in (functools.partial(opened.get, "db", None), opened.check):
                    try:
                        call()
                    except ProviderError as error:
                        told += ["".join(traceback.format_exception(error)), repr(error)]
                told += [repr(opened._config), repr(opened._tokens._lease)]
    said = caplog.text + "".join(told)
    assert len(told) > 60
    assert [word for word in (VALUE, "canary", TOKEN) if word in said] == []


def _always(answer: Reply, _seen: Seen) -> Reply:
    return answer
