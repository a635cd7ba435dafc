"""The token of an Azure provider, among many threads and near its end. The SDK's credential is a stand-in."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from azure.core.credentials import AccessTokenInfo
from azure.core.exceptions import ClientAuthenticationError

from dso.config.model import Settings
from dso.protocol.codes import UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError
from dso.providers import azure_credentials
from dso.providers.azure_config import Auth, AzureConfig
from dso.providers.azure_credentials import RENEW_AHEAD, RENEW_SECONDS, STILL_GOOD, Credentials
from dso.providers.azure_transport import Exchange, _record
from dso.providers.deadline import Deadline, current, within

if TYPE_CHECKING:
    from collections.abc import Callable

SCOPE = "https://vault.azure.net/.default"
HANG = 60


class Entra:
    """Issues tokens that last for `lifetime` seconds; `refuses` is a status it answers instead."""

    def __init__(self) -> None:
        self.lifetime = 3600.0
        self.refuses = 0
        self.made = 0
        self.asked: list[dict[str, Any]] = []
        self.left: list[float] = []
        self.meanwhile: Callable[[], object] = lambda: None

    def make(self, _config: AzureConfig, _pipeline: dict[str, Any]) -> Entra:
        self.made += 1
        return self

    def get_token_info(self, *scopes: str, options: dict[str, Any]) -> AccessTokenInfo:
        assert scopes == (SCOPE,)
        deadline = current()
        self.left.append(deadline.left() if deadline is not None else -1)
        self.asked.append(options)
        number = len(self.asked)
        self.meanwhile()
        if self.refuses:
            _record(Exchange("login", secure=True, status=self.refuses, reason="invalid_client"))
            raise ClientAuthenticationError("canary")
        return AccessTokenInfo(f"token-{number}", int(time.time() + self.lifetime))


@pytest.fixture
def entra(monkeypatch: pytest.MonkeyPatch) -> Entra:
    found = Entra()
    monkeypatch.setitem(azure_credentials._MAKERS, "client_secret", found.make)
    return found


@pytest.fixture
def credentials(entra: Entra) -> Credentials:
    parameters = Settings({"tenant_id": "T-1", "client_id": "c", "client_secret": "s"})
    config = AzureConfig("azure-main", "https://x.vault.azure.net", None, Auth("client_secret", parameters), None)
    return Credentials(config, None, 10)  # type: ignore[arg-type]  # the stand-in sends nothing


def token(credentials: Credentials, **options: Any) -> str:
    return credentials.get_token_info(SCOPE, options=options).token


def test_a_token_is_kept_until_it_is_time_for_another(entra: Entra, credentials: Credentials) -> None:
    assert [token(credentials) for _ in range(3)] == ["token-1"] * 3
    assert credentials.get_token(SCOPE).token == "token-1"
    assert entra.made == 1


def test_the_vaults_tenant_is_not_asked_about_once_it_is_known_to_be_ours(
    entra: Entra, credentials: Credentials
) -> None:
    token(credentials, tenant_id="t-1", enable_cae=True)
    assert entra.asked == [{"enable_cae": True}]
    with pytest.raises(ProviderError, match="t-2"):
        token(credentials, tenant_id="t-2")


def test_claims_want_a_token_of_their_own(entra: Entra, credentials: Credentials) -> None:
    assert token(credentials) == "token-1"
    assert token(credentials, claims="{}") == "token-2"
    assert token(credentials) == "token-2"
    assert entra.asked == [{}, {"claims": "{}"}]


def test_many_that_need_one_share_the_request(entra: Entra, credentials: Credentials) -> None:
    together = threading.Barrier(20)

    def ask(_number: int) -> str:
        together.wait(HANG)
        return token(credentials)

    with ThreadPoolExecutor(20) as threads:
        assert set(threads.map(ask, range(20))) == {"token-1"}
    assert len(entra.asked) == 1


def test_nobody_waits_for_a_renewal_while_the_former_token_is_good(entra: Entra, credentials: Credentials) -> None:
    entra.lifetime = RENEW_AHEAD - 1
    assert token(credentials) == "token-1"
    asking, go_on = threading.Event(), threading.Event()

    def meanwhile() -> None:
        asking.set()
        go_on.wait(HANG)

    entra.meanwhile = meanwhile
    with ThreadPoolExecutor(1) as threads:
        renewal = threads.submit(token, credentials)
        assert asking.wait(HANG)
        assert token(credentials) == "token-1"
        go_on.set()
        assert renewal.result(HANG) == "token-2"


def test_a_renewal_that_fails_leaves_the_former_token_and_time_for_the_secret(
    entra: Entra, credentials: Credentials
) -> None:
    entra.lifetime = RENEW_AHEAD - 1
    assert token(credentials) == "token-1"
    entra.refuses = 503
    with within(Deadline(HANG)):
        assert [token(credentials) for _ in range(5)] == ["token-1"] * 5
    assert len(entra.asked) == 2, "once, and then not again for a while"
    assert entra.left[1] <= RENEW_SECONDS


def test_a_token_at_its_end_is_not_used(entra: Entra, credentials: Credentials) -> None:
    entra.lifetime = STILL_GOOD - 1
    assert token(credentials) == "token-1"
    entra.refuses = 503
    with pytest.raises(ProviderError) as caught:
        token(credentials)
    assert caught.value.code == UNAVAILABLE


def test_after_a_refusal_the_credential_is_made_anew_and_tried_once_more(
    entra: Entra, credentials: Credentials
) -> None:
    entra.lifetime = 0
    assert token(credentials) == "token-1"
    entra.refuses = 401
    with pytest.raises(ProviderError) as caught:
        token(credentials)
    assert caught.value.code == UNAUTHENTICATED
    assert (len(entra.asked), entra.made) == (3, 2)
    with pytest.raises(ProviderError):
        token(credentials)
    assert (len(entra.asked), entra.made) == (4, 3), "one that was made just now is not made again at once"


def test_a_token_that_the_vault_refuses_is_replaced_by_the_first_who_finds_out(
    entra: Entra, credentials: Credentials
) -> None:
    assert token(credentials) == "token-1"
    began = time.monotonic()
    assert credentials.refuse(began)
    assert token(credentials) == "token-2"
    assert credentials.refuse(began), "there is another one by now"
    assert token(credentials) == "token-2"
    assert len(entra.asked) == 2
