"""The way to Key Vault and Entra: time limits, wrong addresses, TLS and proxies; each fault says what to do."""

from __future__ import annotations

import shutil
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from dso.protocol.codes import INVALID_CONFIG, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError
from tests.servers.azure_tokens import CHINA
from tests.support.azure import VALUE, AzureCloud, assert_fault, fault, provider, read
from tests.support.certificates import Certificates
from tests.support.connect_proxy import ConnectProxy
from tests.support.http_proxy import HttpProxy, Reply

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

    from dso.providers.azure import AzureProvider
    from tests.support.http_proxy import Seen

NAME = "network-secret"


# Time


def test_slow_answer_ends_with_the_time_limit(azure: AzureCloud):
    azure.server.delay = 20.0
    assert_fault(azure, NAME, UNAVAILABLE, "`timeout:`", "within 1 s", timeout=1)


def test_answer_that_trickles_ends_with_the_time_limit(azure: AzureCloud):
    stop = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        context = azure.certificates.public_context()
        threading.Thread(target=trickle, args=(listener, context, stop), daemon=True).start()
        host = azure.vault.url.removeprefix("https://")
        entra = ("127.0.0.1", int(azure.server.address.rpartition(":")[2]))
        with ConnectProxy({host: listener.getsockname(), azure.cloud.login: entra}) as proxy:
            try:
                assert_fault(
                    azure, NAME, UNAVAILABLE, "timeout:", environment={"HTTPS_PROXY": proxy.address}, timeout=1
                )
            finally:
                stop.set()


BODY = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n"


def trickle(listener: socket.socket, context: ssl.SSLContext, stop: threading.Event, beginning: bytes = BODY) -> None:
    """An answer that comes a byte at a time and never ends."""
    while not stop.is_set():
        try:
            connection, _ = listener.accept()
            with context.wrap_socket(connection, server_side=True) as secure:
                secure.recv(65536)
                secure.sendall(beginning)
                while not stop.wait(0.1):
                    secure.sendall(b" ")
        except OSError:
            if listener.fileno() == -1:
                return


def test_slow_login_ends_with_the_time_limit(azure: AzureCloud):
    with provider(azure.settings(), azure.environment(), timeout=1) as opened:
        azure.server.reply = lambda seen: azure.answer(seen) if "vault" in seen.headers["host"] else late(seen)
        try:
            errors = [fault(lambda: opened.get(NAME, None)) for _ in range(2)]
        finally:
            azure.server.reply = azure.answer
    assert {error.code for error in errors} == {UNAVAILABLE}
    assert [error.message for error in errors if "login.microsoftonline.com did not answer" not in error.message] == []


def test_login_whose_headers_trickle_holds_up_nobody_after_it():
    """A byte now and then keeps a connection alive, and would keep whoever waits for a token."""
    stop = threading.Event()
    with AzureCloud() as azure, socket.create_server(("127.0.0.1", 0)) as listener:
        azure.put(NAME, VALUE)
        beginning = b"HTTP/1.1 200 OK\r\nX-Endless: "
        arguments = (listener, azure.certificates.public_context(), stop, beginning)
        threading.Thread(target=trickle, args=arguments, daemon=True).start()
        with provider(azure.settings(), azure.environment(), timeout=2) as opened:
            azure.proxy.add(azure.cloud.login, listener.getsockname())
            try:
                error = fault(lambda: opened.get(NAME, None))
                assert error.code == UNAVAILABLE
                assert azure.cloud.login in error.message
                azure.proxy.add(azure.cloud.login, ("127.0.0.1", int(azure.server.address.rpartition(":")[2])))
                deadline = time.monotonic() + 60
                while (found := outcome(opened)) != VALUE and time.monotonic() < deadline:
                    assert "did not answer" in found
                assert found == VALUE, "while the other connection still trickles"
            finally:
                stop.set()


def outcome(opened: AzureProvider) -> str:
    try:
        return read(opened, NAME).decode()
    except ProviderError as error:
        return error.message


def late(_seen: Seen) -> Reply:
    time.sleep(5)
    return Reply(None)


# The way there


def test_nobody_listens(azure: AzureCloud):
    config = azure.settings(vault_url="https://127.0.0.1:9")
    assert_fault(azure, NAME, UNAVAILABLE, "refuses the connection", "vault_url", config=config)


def test_name_without_an_address(azure: AzureCloud):
    config = azure.settings(vault_url="https://no-such-vault.vault.invalid")
    assert_fault(azure, NAME, UNAVAILABLE, "no-such-vault.vault.invalid", "vault_url", config=config, environment={})


def test_vault_that_the_proxy_does_not_find(azure: AzureCloud):
    config = azure.settings(vault_url="https://no-such-vault.vault.azure.net")
    assert_fault(azure, NAME, UNAVAILABLE, "no-such-vault.vault.azure.net", "proxy", "403", config=config)


def test_entra_that_cannot_be_reached_is_named():
    with AzureCloud() as azure:
        azure.proxy.add(azure.cloud.login, ("127.0.0.1", 9))
        assert_fault(azure, NAME, UNAVAILABLE, "login.microsoftonline.com", "proxy", "502")


@pytest.mark.parametrize(
    "url",
    [
        *[
            "http://x.vault.azure.net",
            "x.vault.azure.net",
            "https://",
            "https://x.vault.azure.net/secrets/a",
            "ftp://x",
        ],
        *["https://user@x.vault.azure.net", "https://x.vault.azure.net?a=b", "https://x.managedhsm.azure.net", "", " "],
    ],
)
def test_url_that_is_no_vaults_is_a_fault_of_the_settings(azure: AzureCloud, url: str):
    error = fault(lambda: provider(azure.settings(vault_url=url), {}).__enter__())
    assert error.code == INVALID_CONFIG
    assert "vault_url" in error.message


@pytest.mark.parametrize("url", ["HTTPS://{}", "https://{}/", "https://{}:443"])
def test_url_may_be_written_in_many_ways(azure: AzureCloud, url: str):
    with provider(
        azure.settings(vault_url=url.format(azure.vault.url.removeprefix("https://"))), azure.environment()
    ) as opened:
        assert read(opened, NAME) == VALUE.encode()


def test_url_of_another_web_server_says_that_it_is_no_vault(azure: AzureCloud):
    with HttpProxy("", tls=azure.certificates.public_context()) as server:
        server.reply = lambda _seen: Reply(200, b"<html>Welcome</html>", {"Content-Type": "text/html"})
        config = azure.settings(vault_url=server.address)
        assert_fault(azure, NAME, INVALID_CONFIG, "no Key Vault", "vault_url", config=config)
        server.reply = lambda _seen: Reply(404, b"<html>Not here</html>", {"Content-Type": "text/html"})
        assert_fault(azure, NAME, INVALID_CONFIG, "no Key Vault", "vault_url", config=config)


def test_vault_of_another_cloud_than_the_login():
    """The login in China does not know public Key Vaults, and no credential goes elsewhere."""
    with AzureCloud(cloud=CHINA) as china, AzureCloud() as public:
        host = public.vault.url.removeprefix("https://")
        server = HttpProxy("", tls=china.certificates.public_context())
        server.reply = public.answer
        with server:
            china.proxy.add(host, ("127.0.0.1", int(server.address.rpartition(":")[2])))
            error = assert_fault(
                china, NAME, UNAUTHENTICATED, "tenant", config=china.settings(vault_url=public.vault.url)
            )
        assert public.entra.tenant in error.message
        assert public.logins() == 0


# TLS


def test_certificate_that_is_not_trusted():
    with AzureCloud() as azure:
        config = {key: value for key, value in azure.settings().items() if key != "tls"}
        assert_fault(azure, NAME, INVALID_CONFIG, azure.vault.name, "not trusted", "ca_cert", config=config)
        assert azure.server.seen == []


def test_certificate_of_entra_that_is_not_trusted(azure: AzureCloud, tmp_path: Path):
    stranger = Certificates(str(tmp_path / "tls"), [azure.cloud.login])
    with HttpProxy("", tls=stranger.public_context()) as server, AzureCloud() as other:
        other.put(NAME, "x")
        other.proxy.add(other.cloud.login, ("127.0.0.1", int(server.address.rpartition(":")[2])))
        with provider(other.settings(), other.environment()) as opened:
            error = fault(lambda: opened.get(NAME, None))
        assert error.code == INVALID_CONFIG
        assert [word for word in ("login.microsoftonline.com", "not trusted") if word not in error.message] == []
        assert server.seen == []


def test_certificate_of_another_host(azure: AzureCloud, tmp_path: Path):
    config = azure.settings(vault_url="https://x.vault.example")
    with ConnectProxy({"*": ("127.0.0.1", int(azure.server.address.rpartition(":")[2]))}) as proxy:
        error = assert_fault(
            azure,
            NAME,
            INVALID_CONFIG,
            "x.vault.example",
            "does not fit",
            config=config,
            environment={"HTTPS_PROXY": proxy.address},
        )
    assert "vault_url" in error.message


def test_server_that_speaks_no_tls(azure: AzureCloud):
    with HttpProxy("") as plain:
        host, port = plain.address.removeprefix("http://").split(":")
        config = azure.settings(vault_url=f"https://{host}:{port}")
        assert_fault(azure, NAME, INVALID_CONFIG, "TLS", config=config)


def test_authorities_may_come_from_the_environment(azure: AzureCloud):
    config = {key: value for key, value in azure.settings().items() if key != "tls"}
    for variable in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):
        with provider(config, {**azure.environment(), variable: azure.ca_cert}) as opened:
            assert read(opened, NAME) == VALUE.encode()


def test_authorities_that_are_replaced_count_without_a_restart(azure: AzureCloud, tmp_path: Path):
    file = tmp_path / "ca.pem"
    Certificates(str(tmp_path / "other"))
    shutil.copy(tmp_path / "other" / "ca.pem", file)
    with provider(azure.settings(tls={"ca_cert": str(file)}), azure.environment()) as opened:
        assert fault(lambda: opened.get(NAME, None)).code == INVALID_CONFIG
        shutil.copy(azure.ca_cert, file)
        assert read(opened, NAME) == VALUE.encode()


def test_file_of_authorities_that_cannot_be_used(azure: AzureCloud, tmp_path: Path):
    for content in (None, b"", b"text"):
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        error = fault(lambda file=file: provider(azure.settings(tls={"ca_cert": str(file)}), {}).__enter__())  # type: ignore[misc]
        assert error.code == INVALID_CONFIG
        assert str(file) in error.message


# Proxies


def test_proxy_that_wants_a_password(azure: AzureCloud):
    azure.proxy.credentials = "user:proxy-password-6e0a"
    assert_fault(azure, NAME, UNAVAILABLE, "proxy", "HTTPS_PROXY=http://USER:PASSWORD@")
    host = azure.proxy.address.removeprefix("http://")
    wrong = {"HTTPS_PROXY": f"http://user:wrong-password-1d@{host}"}
    error = assert_fault(azure, NAME, UNAVAILABLE, "proxy", environment=wrong)
    assert "wrong-password-1d" not in error.message
    right = {"HTTPS_PROXY": f"http://user:proxy-password-6e0a@{host}"}
    with provider(azure.settings(), right) as opened:
        assert read(opened, NAME) == VALUE.encode()


def test_proxy_that_is_not_there(azure: AzureCloud):
    assert_fault(azure, NAME, UNAVAILABLE, "proxy", "HTTPS_PROXY", environment={"HTTPS_PROXY": "http://127.0.0.1:9"})


def test_proxy_of_a_kind_that_is_not_supported(azure: AzureCloud):
    assert_fault(azure, NAME, INVALID_CONFIG, "socks5", environment={"HTTPS_PROXY": "socks5://127.0.0.1:9"})


def test_hosts_that_need_no_proxy_are_asked_directly(azure: AzureCloud):
    config = azure.settings(vault_url="https://127.0.0.1:9")
    assert_fault(azure, NAME, UNAVAILABLE, "refuses the connection", config=config)
    assert azure.proxy.hosts() == []
    host = "no-such-vault.vault.invalid"
    environment = {**azure.environment(), "NO_PROXY": ".vault.invalid"}
    assert_fault(
        azure, NAME, UNAVAILABLE, host, config=azure.settings(vault_url=f"https://{host}"), environment=environment
    )
    assert azure.proxy.hosts() == []


def test_lower_case_variable_names_a_proxy_too(azure: AzureCloud):
    with provider(azure.settings(), {"https_proxy": azure.proxy.address}) as opened:
        assert read(opened, NAME) == VALUE.encode()
