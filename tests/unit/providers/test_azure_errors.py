"""What Azure answers, or does not, in the words of the provider protocol."""

from __future__ import annotations

import datetime as dt
import json
import ssl
from typing import Any

import pytest
from azure.core.exceptions import ClientAuthenticationError, HttpResponseError, ServiceRequestError
from requests.exceptions import ConnectionError as NoConnectionError
from requests.exceptions import ReadTimeout

from dso.config.model import Settings
from dso.protocol import codes
from dso.protocol.provider import MAX_RETRY_AFTER, ProviderError
from dso.providers import azure_auth_errors, azure_errors
from dso.providers.azure_config import Auth, AzureConfig
from dso.providers.azure_errors import BlockedError, TokenRefusedError
from dso.providers.azure_names import Wanted
from dso.providers.azure_transport import Attempt, Exchange

VAULT, LOGIN, IMDS = "x.vault.azure.net", "login.microsoftonline.com", "169.254.169.254"
CANARY = "canary-of-azures-own-words"
DB = Wanted("db-pass", None, "db_pass (db-pass in Key Vault)", is_renamed=True)


def config(method: str = "client_secret", **parameters: str) -> AzureConfig:
    given = {"tenant_id": "t", "client_id": "c", "client_secret": CANARY} if method == "client_secret" else {}
    return AzureConfig("azure-main", f"https://{VAULT}", None, Auth(method, Settings({**given, **parameters})), None)


def attempt(*exchanges: Exchange) -> Attempt:
    found = Attempt()
    found.exchanges += exchanges
    return found


def assert_told(error: ProviderError, code: str, *words: str) -> None:
    assert error.code == code, error.message
    assert [word for word in ("azure-main", *words) if word not in error.message] == [], error.message
    assert CANARY not in error.message
    assert error.message.isprintable()


# Key Vault


class Answer:
    """As far as the SDK's exceptions look at one."""

    request: Any = None
    reason = "reason"
    headers: dict[str, str] = {}  # noqa: RUF012

    def __init__(self, status: int, body: str) -> None:
        self.status_code = status
        self.body = body

    def text(self) -> str:
        return self.body


def refused(status: int, *code: str, message: str = CANARY, body: str | None = None) -> ProviderError:
    """Key Vault's answer: `code` is the outer one and the inner ones."""
    document: dict[str, Any] = {}
    for one in reversed(code):
        document = {"code": one, **({"innererror": document} if document else {})}
    document["message"] = message
    answer = Answer(status, json.dumps({"error": document}) if body is None else body)
    error = HttpResponseError(message=CANARY, response=answer)
    seen = attempt(Exchange(VAULT, secure=True, status=status))
    return azure_errors.vault_fault(config(), DB, error, seen, 10)


@pytest.mark.parametrize(
    ("status", "answered", "code", "words"),
    [
        (404, ["SecretNotFound"], codes.NOT_FOUND, ["db_pass", "db-pass", "recover"]),
        (403, ["Forbidden", "SecretDisabled"], codes.NOT_FOUND, ["db_pass", "disabled"]),
        (403, ["Forbidden", "ForbiddenByRbac"], codes.PERMISSION_DENIED, ["db_pass", "Key Vault Secrets User"]),
        (403, ["Forbidden", "ForbiddenByPolicy"], codes.PERMISSION_DENIED, ["db_pass", "access policy"]),
        (403, ["Forbidden", "AccessDenied"], codes.PERMISSION_DENIED, ["db_pass", "access policy"]),
        (403, ["Forbidden", "ForbiddenByFirewall"], codes.PERMISSION_DENIED, ["db_pass", "firewall"]),
        (403, ["Forbidden", "ForbiddenByConnection"], codes.PERMISSION_DENIED, ["db_pass", "private endpoint"]),
        (403, ["Forbidden", "SomethingNew"], codes.PERMISSION_DENIED, ["db_pass", "SomethingNew"]),
        (400, ["BadParameter"], codes.INVALID_REQUEST, ["db_pass", "BadParameter"]),
        (401, ["Unauthorized"], codes.UNAUTHENTICATED, ["db_pass", "clock"]),
        (429, ["Throttled"], codes.THROTTLED, ["db_pass", "429"]),
        (500, ["InternalError"], codes.UNAVAILABLE, ["db_pass", "500"]),
        (503, [], codes.UNAVAILABLE, ["db_pass", "503"]),
    ],
)
def test_what_key_vault_refuses(status: int, answered: list[str], code: str, words: list[str]) -> None:
    assert_told(refused(status, *answered), code, *words)


def test_a_token_of_another_tenant_and_one_of_another_cloud_are_told_apart() -> None:
    assert_told(refused(401, "Unauthorized", message="AKV10032: Invalid issuer."), codes.UNAUTHENTICATED, "tenant_id")
    assert_told(refused(401, "Unauthorized", message="AKV10022: Invalid audience."), codes.UNAUTHENTICATED, "cloud")


def test_those_that_have_consequences_can_be_told_by_their_class() -> None:
    assert isinstance(refused(401, "Unauthorized"), TokenRefusedError)
    assert isinstance(refused(403, "Forbidden", "ForbiddenByFirewall"), BlockedError)
    assert not isinstance(refused(403, "Forbidden", "ForbiddenByRbac"), BlockedError)


@pytest.mark.parametrize("body", ["", "<html>", "[]", "{}", '{"error": 5}', '{"error": {"code": "a b"}}', "[" * 10_000])
@pytest.mark.parametrize("status", [302, 403, 404])
def test_an_answer_without_key_vaults_form_is_none_of_key_vault(status: int, body: str) -> None:
    assert_told(refused(status, body=body), codes.INVALID_CONFIG, "no Key Vault", "vault_url")


@pytest.mark.parametrize(("told", "kept"), [(None, azure_auth_errors.RETRY_AFTER), (7.0, 7.0), (9e8, MAX_RETRY_AFTER)])
def test_throttling_tells_how_long_to_wait(told: float | None, kept: float) -> None:
    seen = attempt(Exchange(VAULT, secure=True, status=429, retry_after=told))
    error = azure_errors.vault_fault(config(), DB, RuntimeError(CANARY), seen, 10)
    assert_told(error, codes.THROTTLED, "db_pass")
    assert error.retry_after == kept


def test_a_challenge_that_is_not_the_vaults_is_a_fault_of_its_address() -> None:
    seen = attempt(Exchange(VAULT, secure=True, status=401))
    assert_told(azure_errors.vault_fault(config(), DB, ValueError(CANARY), seen, 10), codes.INVALID_CONFIG, "vault_url")


def test_states_in_which_a_secret_is_not_handed_out_differ() -> None:
    when = dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC)
    expired, not_yet = azure_errors.expired(config(), DB, when), azure_errors.not_yet(config(), DB, when)
    assert_told(expired, codes.NOT_FOUND, "db_pass", "has expired (2026-01-02 03:04 UTC)")
    assert_told(not_yet, codes.NOT_FOUND, "db_pass", "not valid before 2026-01-02 03:04 UTC")


# Reaching it


def not_verified(number: int) -> ServiceRequestError:
    cause = ssl.SSLCertVerificationError(1, CANARY)
    cause.verify_code, cause.verify_message = number, "reason"
    return ServiceRequestError(CANARY, error=NoConnectionError(cause))


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (not_verified(20), codes.INVALID_CONFIG, ["not trusted (reason)", "ca_cert"]),
        (not_verified(62), codes.INVALID_CONFIG, ["does not fit (reason)", "`vault_url:`"]),
        (not_verified(10), codes.UNAVAILABLE, ["clock"]),
        (
            ServiceRequestError(CANARY, error=NoConnectionError(ConnectionRefusedError())),
            codes.UNAVAILABLE,
            ["refuses"],
        ),
        (ServiceRequestError(CANARY, error=ReadTimeout(CANARY)), codes.UNAVAILABLE, ["within 10 s", "`timeout:`"]),
        (ServiceRequestError(CANARY, error=NoConnectionError(CANARY)), codes.UNAVAILABLE, ["closed the connection"]),
    ],
)
def test_what_keeps_from_reaching_it(error: Exception, code: str, words: list[str]) -> None:
    assert_told(azure_errors.vault_fault(config(), DB, error, attempt(), 10), code, "db_pass", VAULT, *words)


# The token


def no_token(
    *exchanges: Exchange, of: AzureConfig | None = None, error: BaseException | None = None, has_worked: bool = False
) -> ProviderError:
    failed = error or ClientAuthenticationError(CANARY)
    return azure_auth_errors.credential_fault(of or config(), failed, attempt(*exchanges), 10, has_worked=has_worked)


def login(status: int, *numbers: int, reason: str = "", **more: Any) -> Exchange:
    return Exchange(LOGIN, secure=True, status=status, reason=reason, codes=numbers, **more)


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (7000215, ["auth.client_secret", "not its id"]),
        (7000222, ["expired", "auth.client_secret"]),
        (700016, ["auth.client_id", "auth.tenant_id"]),
        (90002, ["no such tenant", "`authority:`"]),
        (700027, ["certificate"]),
        (700024, ["expired"]),
        (700213, ["federated"]),
        (1234567, ["error?code=1234567"]),
    ],
)
def test_what_entra_refuses_is_told_by_its_number(number: int, words: list[str]) -> None:
    error = no_token(login(401, number, reason="invalid_client"))
    assert_told(error, codes.UNAUTHENTICATED, LOGIN, f"AADSTS{number}", *words)


def test_what_comes_from_the_environment_is_named_by_its_variable() -> None:
    error = no_token(login(401, 7000215), of=config("default"))
    assert_told(error, codes.UNAUTHENTICATED, "AZURE_CLIENT_SECRET")
    assert "auth.client_secret" not in error.message


def test_a_cloud_that_does_not_know_the_vault_is_a_fault_of_the_settings() -> None:
    assert_told(no_token(login(400, 500011)), codes.INVALID_CONFIG, "`authority:`", "same cloud")


def test_entra_that_is_busy_or_broken_is_no_fault_of_the_credentials() -> None:
    busy = no_token(login(429, retry_after=9.0))
    assert_told(busy, codes.THROTTLED, LOGIN)
    assert busy.retry_after == 9
    assert_told(no_token(login(503)), codes.UNAVAILABLE, LOGIN)
    unreachable = Exchange(LOGIN, secure=True, error=NoConnectionError(ConnectionRefusedError()))
    assert_told(no_token(unreachable), codes.UNAVAILABLE, LOGIN, "`authority:`")


def test_the_last_failure_counts_and_not_what_came_after_it() -> None:
    error = no_token(login(200), login(503), login(401, 7000215), login(200))
    assert_told(error, codes.UNAUTHENTICATED, "7000215")


def test_what_is_no_entra_is_a_fault_of_the_settings() -> None:
    for status in (200, 302, 404):
        assert_told(no_token(login(status)), codes.INVALID_CONFIG, "no Microsoft Entra ID", "`authority:`")


def imds(status: int = 0, error: BaseException | None = None) -> Exchange:
    return Exchange(IMDS, secure=False, error=error, status=status)


def test_a_machine_without_a_managed_identity_is_told_from_one_whose_service_fails() -> None:
    of = config("managed_identity")
    for exchange in (imds(error=ServiceRequestError(CANARY)), imds(404), imds(403)):
        assert_told(no_token(exchange, of=of), codes.UNAUTHENTICATED, IMDS, "no managed identity", "auth.method")
        assert_told(no_token(exchange, of=of, has_worked=True), codes.UNAVAILABLE, IMDS)
    assert_told(no_token(imds(500), of=of), codes.UNAVAILABLE, IMDS, "500")
    assert_told(no_token(imds(429), of=of), codes.THROTTLED, IMDS)
    assert_told(no_token(imds(400), of=of), codes.UNAUTHENTICATED, "system-assigned")
    chosen = config("managed_identity", client_id="c")
    assert_told(no_token(imds(400), of=chosen, has_worked=True), codes.UNAUTHENTICATED, "auth.client_id")


def test_a_chain_that_finds_nothing_says_where_it_has_looked() -> None:
    error = no_token(imds(error=ServiceRequestError(CANARY)), of=config("default"))
    assert_told(error, codes.UNAUTHENTICATED, "AZURE_*", "workload identity", "managed identity", "az login")


def test_a_plugin_without_a_home_says_that_a_login_of_az_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DSO_PLUGIN_USER", "dso-azure")
    error = no_token(imds(error=ServiceRequestError(CANARY)), of=config("default"))
    assert_told(error, codes.UNAUTHENTICATED, "managed identity", "a login of `az` does not count here", "dso-azure")


def test_a_federated_token_that_is_not_there_yet_may_come() -> None:
    of = config("workload_identity", tenant_id="t", client_id="c", token_file="/nowhere/token")
    missing = FileNotFoundError(2, "No such file")
    assert_told(no_token(of=of, error=missing), codes.UNAVAILABLE, "/nowhere/token", "no such file")
    assert_told(no_token(of=of, error=PermissionError(13, "Denied")), codes.UNAUTHENTICATED, "/nowhere/token", "Denied")


@pytest.mark.parametrize("tenant", ["11111111-2222-3333-4444-555555555555", "a\x1b[31m", "x" * 1000])
def test_the_vaults_tenant_is_named_unless_it_is_none(tenant: str) -> None:
    error = azure_auth_errors.foreign_tenant(config(), tenant)
    assert_told(error, codes.UNAUTHENTICATED, "auth.tenant_id", VAULT)
    assert (tenant in error.message) == tenant.startswith("1")
