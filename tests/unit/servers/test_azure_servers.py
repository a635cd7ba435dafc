"""The stand-ins for Azure let nobody in who would not get in there: what passes on them is worth something."""

from __future__ import annotations

import http.client
import json
import ssl
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from tests.servers.azure_entra import JWT_BEARER, Federation
from tests.servers.azure_metadata import IMDS_PATH
from tests.servers.azure_tokens import PUBLIC, SigningKey
from tests.support.azure import AzureCloud
from tests.support.http_proxy import Reply, Seen

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

SCOPE = f"{PUBLIC.resource}/.default"


@pytest.fixture(scope="module")
def azure() -> Iterator[AzureCloud]:
    with AzureCloud() as found:
        found.put("name", "value")
        yield found


def ask(azure: AzureCloud, host: str, path: str, form: Mapping[str, str] | None = None, token: str = "") -> Reply:
    """A request over the real way: proxy, TLS, host name."""
    context = ssl.create_default_context(cafile=azure.ca_cert)
    proxy, _, port = azure.proxy.address.removeprefix("http://").partition(":")
    connection = http.client.HTTPSConnection(proxy, int(port), context=context, timeout=30)
    connection.set_tunnel(host, 443)
    try:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        connection.request("POST" if form else "GET", path, urlencode(form) if form else None, headers)
        answer = connection.getresponse()
        return Reply(answer.status, answer.read(), dict(answer.getheaders()))
    finally:
        connection.close()


def read(azure: AzureCloud, token: str, path: str = "/secrets/name?api-version=7.4") -> Reply:
    return ask(azure, azure.vault.url.removeprefix("https://"), path, token=token)


def code(reply: Reply) -> str:
    error = json.loads(reply.body)["error"]
    return str(error.get("innererror", error)["code"])


def test_vault_challenges_whoever_has_no_token(azure: AzureCloud):
    reply = read(azure, "")
    assert (reply.status, code(reply)) == (401, "Unauthorized")
    challenge = f'Bearer authorization="{azure.entra.authority}", resource="https://vault.azure.net"'
    assert reply.headers["WWW-Authenticate"] == challenge


def test_vault_takes_the_token_of_a_reader(azure: AzureCloud):
    reply = read(azure, azure.entra.token(azure.application, PUBLIC.resource))
    assert (reply.status, json.loads(reply.body)["value"]) == (200, "value")


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"aud": "https://management.azure.com"}, "AKV10022"),
        ({"iss": "https://sts.windows.net/other/"}, "AKV10032"),
        ({"tid": str(uuid.uuid4())}, "AKV10032"),
        ({"exp": int(time.time()) - 1}, "TokenExpired"),
        ({"nbf": int(time.time()) + 3600}, "TokenExpired"),
    ],
)
def test_vault_takes_no_token_that_is_not_for_it_or_not_for_now(azure: AzureCloud, claims: dict[str, Any], words: str):
    reply = read(azure, azure.entra.token(azure.application, PUBLIC.resource, **claims))
    assert reply.status == 401
    assert words in json.loads(reply.body)["error"]["message"]
    assert b"value" not in reply.body


def test_vault_takes_no_token_that_entra_has_not_signed(azure: AzureCloud):
    good = azure.entra.token(azure.application, PUBLIC.resource)
    header, claims, signature = good.split(".")
    other = azure.entra.token(azure.entra.register(), PUBLIC.resource).split(".")[1]
    forged = SigningKey().sign({"aud": PUBLIC.resource, "iss": azure.entra.issuer, "tid": azure.entra.tenant})
    for token in (f"{header}.{other}.{signature}", f"{header}.{claims}.", f"{header}.{claims}", forged, "x", good[:-3]):
        assert read(azure, token).status == 401


def test_vault_lets_only_readers_read(azure: AzureCloud):
    token = azure.entra.token(azure.entra.register(), PUBLIC.resource)
    for path in ("/secrets/name?api-version=7.4", "/secrets/absent?api-version=7.4"):
        reply = read(azure, token, path)
        assert (reply.status, code(reply)) == (403, "ForbiddenByRbac")


def test_vault_has_key_vaults_own_words_for_what_it_cannot_give(azure: AzureCloud):
    token = azure.entra.token(azure.application, PUBLIC.resource)
    azure.put("off", "value", enabled=False)
    for path, expected in {
        "/secrets/off?api-version=7.4": (403, "SecretDisabled"),
        "/secrets/absent?api-version=7.4": (404, "SecretNotFound"),
        f"/secrets/name/{'0' * 32}?api-version=7.4": (404, "SecretNotFound"),
        "/secrets/na_me?api-version=7.4": (400, "BadParameter"),
        "/secrets/name": (400, "BadParameter"),
    }.items():
        reply = read(azure, token, path)
        assert (reply.status, code(reply)) == expected, path


def login(azure: AzureCloud, **form: str) -> tuple[int | None, list[int]]:
    """The status, and Entra's numbers."""
    usual = {"grant_type": "client_credentials", "client_id": azure.application.client_id, "scope": SCOPE}
    path = f"/{azure.entra.tenant}/oauth2/v2.0/token"
    reply = ask(azure, PUBLIC.login, path, {**usual, **form})
    return reply.status, json.loads(reply.body).get("error_codes", [])


def test_entra_gives_a_token_for_the_right_secret_alone(azure: AzureCloud):
    secret = azure.client_secret
    assert login(azure, client_secret=secret) == (200, [])
    assert login(azure, client_secret=secret[:-1]) == (401, [7000215])
    assert login(azure) == (401, [7000216])
    assert login(azure, client_secret=secret, client_id=str(uuid.uuid4())) == (400, [700016])
    assert login(azure, client_secret=secret, scope="https://management.azure.com/.default") == (400, [500011])
    assert login(azure, client_secret=secret, scope=PUBLIC.resource) == (400, [1002012])
    assert login(azure, client_secret=secret, grant_type="password") == (400, [70003])


def test_entra_takes_no_assertion_that_it_cannot_verify(azure: AzureCloud):
    federation = Federation("https://issuer.example", "subject", SigningKey())
    azure.application.federations.append(federation)

    def assertion(text: str) -> tuple[int | None, list[int]]:
        return login(azure, client_assertion_type=JWT_BEARER, client_assertion=text)

    assert assertion(federation.token()) == (200, [])
    assert assertion(federation._replace(key=SigningKey()).token()) == (401, [5002738])
    assert assertion(federation.token(exp=int(time.time()) - 1)) == (401, [700024])
    assert assertion("x") == (400, [50027])
    own = {"iss": azure.application.client_id, "sub": azure.application.client_id, "jti": "1"}
    assert assertion(SigningKey().sign({**own, "exp": int(time.time()) + 60})) == (401, [700027])


@pytest.mark.parametrize("headers", [{}, {"metadata": "True"}, {"metadata": "true", "x-forwarded-for": "10.0.0.1"}])
def test_metadata_service_wants_its_header_and_no_proxy(azure: AzureCloud, headers: dict[str, str]):
    azure.metadata.system = azure.application
    path = f"{IMDS_PATH}?api-version=2018-02-01&resource={PUBLIC.resource}"
    assert azure.metadata.answer(Seen("GET", path, {"metadata": "true"}, b"")).status == 200
    assert azure.metadata.answer(Seen("GET", path, headers, b"")).status == 400
