"""What can be wrong with Key Vault, Entra and the way to them: each fault has its code and says what to do."""

from __future__ import annotations

import base64
import json
import logging
import traceback
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    NOT_FOUND,
    PERMISSION_DENIED,
    THROTTLED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError
from tests.servers.azure_entra import EntraError, answer
from tests.servers.azure_vault import VaultError, throttled
from tests.support.azure import LOGIN, METADATA, VALUE, AzureCloud, assert_fault, fault, provider, read
from tests.support.http_proxy import Reply
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.providers.azure import AzureProvider
    from tests.support.http_proxy import Seen

NAME = "fault-secret"


@pytest.fixture
def opened(azure: AzureCloud) -> Iterator[AzureProvider]:
    with provider(azure.settings(), azure.environment()) as found:
        yield found


def no_pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Let retries follow each other at once; the seconds that they would have waited."""
    slept: list[float] = []
    monkeypatch.setattr("time.sleep", slept.append)
    return slept


# What Key Vault says


def test_missing_secret(azure: AzureCloud, opened: AzureProvider):
    error = fault(lambda: opened.get("absent", None))
    assert error.code == NOT_FOUND
    assert [word for word in ("absent", azure.vault.name, "check") if word not in error.message] == []
    opened.check()


def test_no_permission_says_which_role_is_missing(azure: AzureCloud, opened: AzureProvider):
    azure.vault.readers.remove(azure.application.object_id)
    error = fault(lambda: opened.get(NAME, None))
    assert error.code == PERMISSION_DENIED
    assert [word for word in (NAME, azure.vault.name, "Key Vault Secrets User") if word not in error.message] == []


def test_permission_that_is_given_later_counts(azure: AzureCloud, opened: AzureProvider):
    azure.vault.readers.remove(azure.application.object_id)
    assert fault(lambda: opened.get(NAME, None)).code == PERMISSION_DENIED
    azure.vault.readers.add(azure.application.object_id)
    assert read(opened, NAME) == VALUE.encode()
    assert azure.logins() == 1, "another token would not have helped"


@pytest.mark.parametrize("inner", ["ForbiddenByPolicy", "AccessDenied"])
def test_no_access_policy_says_what_it_has_to_allow(azure: AzureCloud, opened: AzureProvider, inner: str):
    refusal = azure.vault.forbidden_by_policy(azure.application)
    refusal.inner = inner
    azure.fail(refusal)
    error = fault(lambda: opened.get(NAME, None))
    assert error.code == PERMISSION_DENIED
    assert [word for word in (NAME, "access policy", "get") if word not in error.message] == [], error.message


def test_firewall_of_the_vault(azure: AzureCloud):
    azure.fail(azure.vault.forbidden_by_firewall(azure.application))
    assert_fault(azure, NAME, PERMISSION_DENIED, azure.vault.name, "firewall")


@pytest.mark.parametrize("inner", ["", "SomethingNew"])
def test_refusal_of_another_kind_is_a_lack_of_permission(azure: AzureCloud, opened: AzureProvider, inner: str):
    azure.fail(VaultError(403, "Forbidden", "because", inner))
    error = fault(lambda: opened.get(NAME, None))
    assert error.code == PERMISSION_DENIED
    assert NAME in error.message


def test_request_that_key_vault_finds_faulty(azure: AzureCloud, opened: AzureProvider):
    azure.fail(VaultError(400, "BadParameter", "The request URI contains an invalid name: x"))
    error = fault(lambda: opened.get(NAME, None))
    assert (error.code, NAME in error.message) == (INVALID_REQUEST, True)


# Too many requests


def test_throttled_for_a_moment_waits_as_long_as_it_was_asked_to(
    azure: AzureCloud, opened: AzureProvider, monkeypatch: pytest.MonkeyPatch
):
    """Seconds are counted in what the SDK sleeps: no clock is asked."""
    slept = no_pauses(monkeypatch)
    azure.fail(throttled(3), times=2)
    assert read(opened, NAME) == VALUE.encode()
    assert slept == [3, 3]
    assert len(azure.reads()) == 3


def test_retry_after_beyond_the_time_limit_is_passed_on_and_not_waited_for(azure: AzureCloud, opened: AzureProvider):
    azure.fail(throttled(120))
    error = fault(lambda: opened.get(NAME, None))
    assert (error.code, error.retry_after) == (THROTTLED, 120)
    assert [word for word in (NAME, azure.vault.name, "429") if word not in error.message] == []
    assert len(azure.reads()) == 1


def test_throttled_without_a_time_says_one_all_the_same(
    azure: AzureCloud, opened: AzureProvider, monkeypatch: pytest.MonkeyPatch
):
    no_pauses(monkeypatch)
    azure.fail(throttled(None))
    error = fault(lambda: opened.get(NAME, None))
    assert error.code == THROTTLED
    assert error.retry_after is not None
    assert error.retry_after > 0
    assert len(azure.reads()) < 10


@pytest.mark.parametrize("header", ["soon", "-1", "1e9", "9" * 400, ""])
def test_retry_after_that_is_no_number_does_no_harm(
    azure: AzureCloud, opened: AzureProvider, monkeypatch: pytest.MonkeyPatch, header: str
):
    no_pauses(monkeypatch)
    reply = throttled(None).reply()
    azure.fail(reply._replace(headers={**reply.headers, "Retry-After": header}))
    assert fault(lambda: opened.get(NAME, None)).code == THROTTLED


def test_throttled_login(azure: AzureCloud):
    azure.fail(Reply(429, b"{}", {"Retry-After": "120"}), at=LOGIN)
    error = assert_fault(azure, NAME, THROTTLED, "login.microsoftonline.com")
    assert error.retry_after == 120
    assert azure.logins() == 0, "not even its configuration could be read"


def test_throttling_of_one_does_not_hold_up_others(azure: AzureCloud, opened: AzureProvider):
    azure.put("fault-other", "y")
    read(opened, NAME)
    azure.fail(throttled(120), times=1)
    with ThreadPoolExecutor(2) as threads:
        found = [threads.submit(lambda name=name: outcome(opened, name)) for name in (NAME, "fault-other")]  # type: ignore[misc]
        assert [each.result() for each in found] in ([THROTTLED, "y"], [VALUE, THROTTLED])


def outcome(opened: AzureProvider, name: str) -> str:
    try:
        return read(opened, name).decode()
    except ProviderError as error:
        return error.code


# Servers that fail, or are something else


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_vault_that_fails_for_a_moment_is_asked_again(
    azure: AzureCloud, opened: AzureProvider, status: int, monkeypatch: pytest.MonkeyPatch
):
    no_pauses(monkeypatch)
    azure.fail(Reply(status, b"{}", {"Retry-After": "0"}), times=2)
    assert read(opened, NAME) == VALUE.encode()
    assert len(azure.reads()) == 3


@pytest.mark.parametrize("status", [500, 503])
def test_vault_that_goes_on_failing_is_unavailable(azure: AzureCloud, status: int, monkeypatch: pytest.MonkeyPatch):
    no_pauses(monkeypatch)
    azure.fail(Reply(status, b"<html>VALUE</html>", {"Retry-After": "0"}))
    error = assert_fault(azure, NAME, UNAVAILABLE, azure.vault.name, str(status))
    assert "VALUE" not in error.message
    assert len(azure.reads()) <= 10, "two requests with their retries"


@pytest.mark.parametrize("status", [500, 503])
def test_entra_that_fails_is_unavailable(azure: AzureCloud, status: int, monkeypatch: pytest.MonkeyPatch):
    no_pauses(monkeypatch)
    azure.fail(Reply(status, b"", {"Retry-After": "0"}), at=LOGIN)
    assert_fault(azure, NAME, UNAVAILABLE, "login.microsoftonline.com", str(status))


@pytest.mark.parametrize(
    "body",
    [
        *[b"", b"{", b"null", b"[]", b'"x"', b"{}", b"<html>hello</html>", b"\xff\xfe", b'{"value":1}'],
        *[b'{"value":"x"}', b'{"value":null,"id":"https://x/secrets/a/b"}', b'{"id":"https://x"}', b"[" * 100_000],
    ],
    ids=lambda body: repr(body[:30]),
)
def test_answer_that_is_no_secret(azure: AzureCloud, opened: AzureProvider, body: bytes):
    azure.fail(Reply(200, body, {"Content-Type": "application/json"}))
    error = fault(lambda: opened.get(NAME, None))
    assert error.code in (INVALID_CONFIG, UNAVAILABLE)
    assert NAME in error.message
    assert "vault_url" in error.message
    assert "Traceback" not in error.message


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b"<html>", b"\xff", b'{"access_token":5}', b"null"])
def test_token_endpoint_that_answers_something_else(azure: AzureCloud, body: bytes):
    def reply(seen: Seen) -> Reply:
        if seen.path.endswith("/oauth2/v2.0/token"):
            return Reply(200, body, {"Content-Type": "application/json"})
        return azure.answer(seen)

    azure.server.reply = reply
    try:
        with provider(azure.settings(), azure.environment()) as opened:
            error = fault(lambda: opened.get(NAME, None))
    finally:
        azure.server.reply = azure.answer
    assert error.code in (INVALID_CONFIG, UNAUTHENTICATED, UNAVAILABLE)
    assert "login.microsoftonline.com" in error.message, error.message


def test_answer_that_is_too_long_is_refused_before_it_is_all_read(azure: AzureCloud, opened: AzureProvider):
    azure.fail(Reply(200, b" " * (MAX_MESSAGE_BYTES + 1), {"Content-Type": "application/json"}))
    error = fault(lambda: opened.get(NAME, None))
    assert error.code == INVALID_REQUEST
    assert error.oversized


def test_connection_that_breaks_off_is_tried_again(azure: AzureCloud, opened: AzureProvider):
    read(opened, NAME)
    azure.fail(Reply(None), times=1)
    assert read(opened, NAME) == VALUE.encode()


def test_connections_that_always_break_off_are_unavailable(azure: AzureCloud):
    azure.fail(Reply(None))
    assert_fault(azure, NAME, UNAVAILABLE, azure.vault.name)


def test_vault_that_asks_for_a_token_of_another_service_gets_none(azure: AzureCloud):
    with AzureCloud() as other:
        other.vault.resource = "https://evil.example"
        assert_fault(other, NAME, INVALID_CONFIG, "vault_url")
        assert other.logins() == 0
        assert other.reads() == []


def test_vault_that_sends_clients_to_another_issuer_gets_no_credential(azure: AzureCloud):
    """Who answers for the vault must not be able to choose where a client secret is sent."""
    with AzureCloud() as other:
        other.vault.authorization = f"https://evil.example/{other.entra.tenant}"
        other.put(NAME, "x")
        with provider(other.settings(), other.environment()) as opened:
            assert read(opened, NAME) == b"x"
        assert set(other.proxy.hosts()) == {"login.microsoftonline.com", other.vault.url.removeprefix("https://")}


def test_redirection_is_not_followed(azure: AzureCloud):
    azure.fail(Reply(302, b"", {"Location": "https://evil.example/"}))
    with provider(azure.settings(), azure.environment()) as opened:
        error = fault(lambda: opened.get(NAME, None))
    assert error.code in (INVALID_CONFIG, UNAVAILABLE)
    assert "evil.example" not in azure.proxy.hosts()


# Well again


def test_all_is_well_again_after_each_fault(azure: AzureCloud, opened: AzureProvider, monkeypatch: pytest.MonkeyPatch):
    """One provider, one fault after the other."""
    no_pauses(monkeypatch)
    zero = {"Retry-After": "0"}
    faults: list[tuple[str, Reply]] = [
        ("vault", Reply(500, b"", zero)),
        ("vault", throttled(120).reply()),
        ("vault", Reply(None)),
        ("vault", Reply(200, b"{")),
        ("vault", VaultError(401, "Unauthorized", "AKV10000").reply()),
        ("login", Reply(503, b"", zero)),
        ("login", EntraError(401, "invalid_client", 7000222, "expired").reply()),
        ("login", Reply(None)),
    ]
    azure.entra.lifetime = 20  # seconds: each request needs a new token
    try:
        for at, reply in faults:
            azure.fail(reply, at=at)
            fault(lambda: opened.get(NAME, None))
            azure.recover()
            assert read(opened, NAME) == VALUE.encode()
        azure.proxy.cut(*azure.proxy.patterns())
        assert fault(lambda: opened.get(NAME, None)).code == UNAVAILABLE
        azure.proxy.mend()
        assert read(opened, NAME) == VALUE.encode()
    finally:
        azure.entra.lifetime = 3600


def test_frozen_plugin_tells_the_main_faults_apart(azure: AzureCloud):
    no_trust = {key: value for key, value in azure.settings().items() if key != "tls"}
    wrong = azure.settings(auth={**azure.settings()["auth"], "client_secret": "Q~wrong-77c1"})
    cases: list[tuple[dict[str, Any], Reply | None, str]] = [
        (azure.settings(), throttled(120).reply(), THROTTLED),
        (azure.settings(), azure.vault.forbidden_by_policy(azure.application).reply(), PERMISSION_DENIED),
        (azure.settings(), Reply(500, b"", {"Retry-After": "0"}), UNAVAILABLE),
        (azure.settings(vault_url="https://127.0.0.1:9"), None, UNAVAILABLE),
        (wrong, None, UNAUTHENTICATED),
        (no_trust, None, INVALID_CONFIG),
    ]
    for config, reply, code in cases:
        with Plugin(plugin_argv("dso-provider-azure", "frozen"), azure.environment()) as plugin:
            plugin.initialize(config)
            if reply is not None:
                azure.fail(reply)
            found = plugin.get(NAME)
            azure.recover()
            assert isinstance(found, ProviderError)
            assert found.code == code, found.message
            assert NAME in found.message or code in (UNAUTHENTICATED, INVALID_CONFIG)
            assert [word for word in (azure.client_secret, "Q~wrong-77c1", VALUE) if word in found.message] == []


# What must stay secret


def test_no_fault_shows_a_value_or_a_credential(
    azure: AzureCloud, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    """Answers, headers and prose that quote a value, a token and the client secret, whatever they come with."""
    no_pauses(monkeypatch)
    canary = "canary-prose-2b9c"
    quoting = {"code": "Forbidden", "message": f"{canary} {azure.client_secret}", "innererror": {"code": canary}}
    oauth = {
        "error": canary,
        "error_description": f"AADSTS50000: {canary} {azure.client_secret}",
        "error_codes": [canary],
    }
    bodies = [json.dumps({"error": quoting}).encode(), json.dumps(oauth).encode(), canary.encode()]
    bodies += [json.dumps({"value": canary, "attributes": {"enabled": canary}}).encode()]
    shown = []
    caplog.set_level(logging.DEBUG)
    for at in ("vault", LOGIN):
        for status in (200, 400, 401, 403, 404, 409, 429, 500):
            for body in bodies:
                headers = {"Content-Type": "application/json", "Retry-After": "0", "X-Quoted": canary}
                headers["WWW-Authenticate"] = f'Bearer authorization="https://{canary}/", resource="{canary}"'
                azure.fail(Reply(status, body, headers), at=at)
                with provider(azure.settings(), azure.environment(), timeout=3) as opened:
                    error = fault(lambda opened=opened: opened.get(NAME, None))  # type: ignore[misc]
                azure.recover()
                shown += [error.message, *traceback.format_exception(error)]
    told = "\n".join([*shown, caplog.text])
    tokens = [part for token in azure.entra.issued for part in token.split(".") if len(part) > 40]
    assert tokens
    spelled = base64.b64encode(azure.client_secret.encode()).decode()
    found = [word for word in (canary, azure.client_secret, spelled, VALUE, *tokens) if word in told]
    assert found == []


def test_metadata_fault_shows_nothing_of_the_answer(azure: AzureCloud):
    canary = "canary-metadata-91ab"
    config = azure.settings(auth={"method": "managed_identity"})
    for status in (200, 400, 401, 404, 500):
        azure.fail(answer({"error": canary, "error_description": canary, "message": canary}, status), at=METADATA)
        with provider(config, {**azure.environment(), **azure.app_service()}, timeout=3) as opened:
            error = fault(lambda opened=opened: opened.get(NAME, None))  # type: ignore[misc]
        azure.recover()
        assert canary not in error.message
        assert azure.metadata.header not in error.message
