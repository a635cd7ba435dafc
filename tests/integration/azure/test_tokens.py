"""What becomes of Azure's token: how often one is asked for, when it is replaced, and where it must not show."""

from __future__ import annotations

import base64
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.azure_entra import Federation
from tests.servers.azure_tokens import Jwt, SigningKey
from tests.support.azure import LOGIN, METADATA, VALUE, AzureCloud, fault, provider, read
from tests.support.azure_identity import PASSWORD, SUBJECT, Identity, certificate_auth, kubernetes, with_auth
from tests.support.clock import ShiftedClock
from tests.support.http_proxy import Reply
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from pathlib import Path

NAME = "token-secret"


@pytest.mark.parametrize("variant", ["source", "frozen"])
def test_fifty_requests_need_one_challenge_and_one_token(azure: AzureCloud, variant: str):
    with Plugin(plugin_argv("dso-provider-azure", variant), azure.environment()) as plugin:
        plugin.initialize(azure.settings(), timeout=20)
        for _ in range(50):
            assert isinstance(plugin.get(NAME), SecretData)
        assert len(azure.reads()) == 50
        assert len(azure.requests("vault ")) - len(azure.reads()) == 1
        assert azure.logins() == 1
        together = [plugin.send("get", {"path": NAME}) for _ in range(50)]
        assert all(isinstance(plugin.secret(number), SecretData) for number in together)
        assert len(azure.requests("vault ")) == 101
        assert azure.logins() == 1


@pytest.mark.parametrize("variant", ["source", "frozen"])
def test_fifty_first_requests_at_the_same_time_share_one_token(azure: AzureCloud, variant: str):
    with Plugin(plugin_argv("dso-provider-azure", variant), azure.environment()) as plugin:
        plugin.initialize(azure.settings(), timeout=20)
        together = [plugin.send("get", {"path": NAME}) for _ in range(50)]
        assert all(isinstance(plugin.secret(number), SecretData) for number in together)
    assert azure.logins() == 1
    assert len(azure.reads()) == 50


def test_fifty_requests_share_a_login_that_fails(azure: AzureCloud):
    config = azure.settings(auth={**azure.settings()["auth"], "client_secret": "Q~wrong"})
    azure.server.delay = 0.3
    try:
        with provider(config, azure.environment()) as opened, ThreadPoolExecutor(50) as threads:
            errors = list(threads.map(lambda _number: fault(lambda: opened.get(NAME, None)), range(50)))
    finally:
        azure.server.delay = 0
    assert {error.code for error in errors} == {UNAUTHENTICATED}
    assert azure.logins() < 5


def test_token_is_replaced_before_it_ends(azure: AzureCloud):
    azure.entra.lifetime = 200  # seconds: less than what a token has to last for a request
    with provider(azure.settings(), azure.environment()) as opened:
        for _ in range(3):
            assert read(opened, NAME) == VALUE.encode()
    assert azure.logins() == 3


def test_token_that_is_good_is_used_while_no_other_is_to_be_had(azure: AzureCloud):
    azure.entra.lifetime = 200
    with provider(azure.settings(), azure.environment()) as opened:
        assert read(opened, NAME) == VALUE.encode()
        azure.fail(Reply(503, b""), at=LOGIN)
        assert read(opened, NAME) == VALUE.encode()


@pytest.mark.parametrize("variant", ["source", "frozen"])
def test_token_that_has_ended_is_replaced(azure: AzureCloud, tmp_path: Path, variant: str):
    """The plugin's clock jumps beyond the token's end, as it does when a machine wakes up."""
    clock = ShiftedClock(tmp_path)
    with Plugin(plugin_argv("dso-provider-azure", variant), {**azure.environment(), **clock.env}) as plugin:
        plugin.initialize(azure.settings(), timeout=20)
        for logins in (1, 2):
            for _ in range(2):
                found = plugin.get(NAME)
                assert isinstance(found, SecretData), found
            assert azure.logins() == logins
            clock.jump(wall=4000)


def test_token_that_the_vault_does_not_accept_any_more_is_replaced_within_the_request(azure: AzureCloud):
    with provider(azure.settings(), azure.environment()) as opened:
        assert read(opened, NAME) == VALUE.encode()
        azure.vault.revoke_tokens()
        assert read(opened, NAME) == VALUE.encode()
    assert azure.logins() == 2


def test_fifty_whose_token_is_not_accepted_any_more_share_a_new_one(azure: AzureCloud):
    with provider(azure.settings(), azure.environment()) as opened, ThreadPoolExecutor(50) as threads:
        assert read(opened, NAME) == VALUE.encode()
        azure.vault.revoke_tokens()
        azure.clear()
        assert list(threads.map(lambda _number: read(opened, NAME), range(50))) == [VALUE.encode()] * 50
    assert azure.logins() == 1


def test_vault_that_accepts_no_token_is_asked_a_few_times_only(azure: AzureCloud):
    unauthorized = Reply(401, b'{"error":{"code":"Unauthorized","message":"AKV10032: Invalid issuer."}}')
    challenge = f'Bearer authorization="{azure.entra.authority}", resource="{azure.cloud.resource}"'
    azure.fail(unauthorized._replace(headers={"WWW-Authenticate": challenge}))
    with provider(azure.settings(), azure.environment()) as opened:
        assert fault(lambda: opened.get(NAME, None)).code == UNAUTHENTICATED
    assert azure.logins() <= 2
    assert len(azure.reads()) <= 6


def test_further_claims_are_asked_for_when_the_vault_wants_them(azure: AzureCloud):
    """Continuous Access Evaluation: the token is good, but the vault wants one that was checked anew."""
    wanted = b'{"access_token":{"nbf":{"essential":true,"value":"%d"}}}' % time.time()
    with provider(azure.settings(), azure.environment()) as opened:
        assert read(opened, NAME) == VALUE.encode()
        azure.vault.claims = base64.b64encode(wanted).decode()
        assert read(opened, NAME) == VALUE.encode()
    assert azure.logins() == 2
    asked = Jwt.parse(azure.entra.issued[-1]).claims["xms_claims"]
    assert '"nbf"' in asked


# What must stay secret


def test_no_credential_and_no_token_is_in_anything_a_plugin_says(azure: AzureCloud, tmp_path: Path):
    """Right and wrong credentials of every kind: in the log, in errors, in the command line."""
    identity, federation = Identity.new(), Federation("https://oidc.cluster.example", SUBJECT, SigningKey())
    certified, workload = azure.reader(), azure.reader()
    certified.certificates.append(identity.certificate)
    workload.federations.append(federation)
    (tmp_path / "pem").write_bytes(identity.pem(PASSWORD))
    good, bad = federation.token(), federation.token(sub="other")
    (tmp_path / "good").write_text(good)
    (tmp_path / "bad").write_text(bad)
    azure.metadata.system = azure.reader()
    azure.put("token-canary", "canary-value-30c5")
    wrong = "Q~wrong-client-secret-8d2e"
    secrets = [azure.client_secret, wrong, good, bad, PASSWORD, azure.metadata.header, "canary-value-30c5"]
    runs: list[tuple[dict[str, Any], dict[str, str]]] = [
        (azure.settings(), {}),
        (azure.settings(auth={**azure.settings()["auth"], "client_secret": wrong}), {}),
        (certificate_auth(azure, certified, tmp_path / "pem", PASSWORD), {}),
        (certificate_auth(azure, azure.reader(), tmp_path / "pem", PASSWORD), {}),
        (with_auth(azure, "workload_identity"), kubernetes(azure, workload, tmp_path / "good")),
        (with_auth(azure, "workload_identity"), kubernetes(azure, workload, tmp_path / "bad")),
        (with_auth(azure, "managed_identity"), azure.app_service()),
        (with_auth(azure, "managed_identity", client_id="x"), azure.app_service()),
    ]
    shown = b""
    delivered = 0
    for config, environment in runs:
        with Plugin(plugin_argv("dso-provider-azure", "source"), {**azure.environment(), **environment}) as plugin:
            plugin.initialize(config)
            answers = [plugin.get("token-canary"), plugin.get("token-absent")]
            delivered += isinstance(answers[0], SecretData)
            shown += b"".join(one.message.encode() for one in answers if isinstance(one, ProviderError))
            with open(f"/proc/{plugin.process.pid}/cmdline", "rb") as cmdline:
                shown += cmdline.read()
            plugin.call("shutdown")
            plugin.process.wait(60)
            shown += plugin.stderr
    assert delivered == 4
    assert azure.entra.issued
    assertions = [seen.body.decode().partition("client_assertion=")[2] for seen in azure.server.seen]
    tokens = [*azure.entra.issued, *(each.partition("&")[0] for each in assertions if each)]
    parts = [part for token in tokens for part in token.split(".") if len(part) > 40]
    assert [each for each in [*secrets, *parts] if each.encode() in shown] == []


def test_metadata_service_that_fails_is_unavailable_and_tried_again(azure: AzureCloud):
    azure.metadata.system = azure.reader()
    config = with_auth(azure, "managed_identity")
    with provider(config, {**azure.environment(), **azure.app_service()}, timeout=10) as opened:
        azure.fail(Reply(500, b"{}"), at=METADATA)
        error = fault(lambda: opened.get(NAME, None))
        assert error.code in (UNAVAILABLE, UNAUTHENTICATED)
        azure.recover()
        assert read(opened, NAME) == VALUE.encode()
