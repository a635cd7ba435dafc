"""The settings of `type: azure`."""

from __future__ import annotations

from typing import Any

import pytest

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import ProviderError
from dso.providers.azure_config import METHODS, AzureConfig

URL = "https://x.vault.azure.net"
SECRET = "canary-client-secret"
LOGIN = {"method": "client_secret", "tenant_id": "t-1", "client_id": "c-1", "client_secret": SECRET}
VARIABLES = ("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE")


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def read(**settings: Any) -> AzureConfig:
    return AzureConfig.read("azure-main", {"vault_url": URL, **settings})


def fault(**settings: Any) -> str:
    with pytest.raises(ProviderError) as caught:
        read(**settings)
    assert caught.value.code == INVALID_CONFIG
    assert caught.value.message.startswith("provider azure-main: `")
    return caught.value.message


def test_a_vault_is_enough() -> None:
    config = read()
    assert config == AzureConfig("azure-main", URL, None, config.auth, None)
    assert config.auth.method == "default"
    assert config.tenant is None


@pytest.mark.parametrize("url", [URL, f"{URL}/", "https://X.Vault.Azure.net", f"{URL}//"])
def test_a_vaults_address_has_one_form(url: str) -> None:
    assert read(vault_url=url).vault_url == URL


def test_a_port_is_kept() -> None:
    config = read(vault_url="https://localhost:8443/")
    assert (config.vault_url, config.vault_host) == ("https://localhost:8443", "localhost:8443")


@pytest.mark.parametrize(
    "url",
    ["x", "http://x.vault.azure.net", f"{URL}/secrets/a", "https://", "https://u:p@x", "https://x:0", "https://x?a"],
)
def test_other_addresses_are_refused(url: str) -> None:
    assert "`vault_url`" in fault(vault_url=url)
    assert "u:p" not in fault(vault_url=url)


def test_a_managed_hsm_is_no_vault() -> None:
    assert "no secrets" in fault(vault_url="https://x.managedhsm.azure.net")


@pytest.mark.parametrize(
    "authority", ["login.chinacloudapi.cn", "https://login.chinacloudapi.cn", "https://login.chinacloudapi.cn/"]
)
def test_an_authority_is_a_host_or_its_address(authority: str) -> None:
    assert read(authority=authority).authority == "https://login.chinacloudapi.cn"


@pytest.mark.parametrize(
    "authority", ["http://login.example.com", "login.example.com/tenant", "a b", "u@h", "https://"]
)
def test_another_authority_is_refused(authority: str) -> None:
    assert "`authority`" in fault(authority=authority)


NEEDED = [(method, key) for method, (needed, _) in METHODS.items() for key in needed]


@pytest.mark.parametrize(("method", "key"), NEEDED)
def test_every_method_says_what_it_lacks(method: str, key: str) -> None:
    auth = {"method": method, **dict.fromkeys(METHODS[method].needed, "x"), key: None}
    assert f"`auth.{key}` is missing" in fault(auth=auth)


@pytest.mark.parametrize("method", METHODS)
def test_no_method_takes_the_keys_of_another(method: str) -> None:
    known = METHODS[method].needed + METHODS[method].optional
    foreign = next(key for key in ("client_secret", "certificate_path") if key not in known)
    auth = {"method": method, **dict.fromkeys(known, "x"), foreign: SECRET}
    message = fault(auth=auth)
    assert f"`auth.{foreign}`" in message
    assert SECRET not in message


def test_an_unknown_method_is_refused_with_the_known_ones() -> None:
    message = fault(auth={"method": "password"})
    assert all(method in message for method in METHODS)


def test_settings_nobody_knows_are_refused() -> None:
    assert "`colour`" in fault(colour="blue")
    assert "`tls.client_cert`" in fault(tls={"client_cert": "/x"})


@pytest.mark.parametrize("tenant", ["a/b", "a b", "é", "https://x"])
def test_a_tenant_has_the_characters_of_one(tenant: str) -> None:
    assert "`auth.tenant_id`" in fault(auth={**LOGIN, "tenant_id": tenant})


def test_workload_identity_takes_from_the_environment_what_is_not_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.setenv(name, f"/of/{name}" if name.endswith("FILE") else "of-environment")
    auth = read(auth={"method": "workload_identity", "client_id": "own"}).auth
    found = {key: auth.get(key) for key in ("tenant_id", "client_id", "token_file")}
    assert found == {
        "tenant_id": "of-environment",
        "client_id": "own",
        "token_file": "/of/AZURE_FEDERATED_TOKEN_FILE",
    }


@pytest.mark.parametrize("missing", VARIABLES)
def test_workload_identity_says_what_is_nowhere(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    for name in set(VARIABLES) - {missing}:
        monkeypatch.setenv(name, "there")
    message = fault(auth={"method": "workload_identity"})
    assert f"{missing} is not set" in message
    assert "`auth." in message


def test_no_form_of_the_settings_shows_a_credential() -> None:
    config = read(auth=LOGIN)
    assert SECRET not in f"{config!r} {config} {config.auth!r} {config._asdict()}"
    assert config.auth.get("client_secret") == SECRET
