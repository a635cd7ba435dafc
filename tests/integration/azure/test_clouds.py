"""National clouds by `authority` and `vault_url`, and the default chain: whose tenant, and `az login`."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import SecretData
from tests.servers.azure_entra import Federation
from tests.servers.azure_tokens import CHINA, US_GOVERNMENT, Cloud, SigningKey
from tests.support.azure import AzureCloud, fault, provider, read
from tests.support.azure_identity import SUBJECT, kubernetes, with_auth
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

NAME = "cloud-secret"
DOMAIN = "tests.onmicrosoft.com"
OTHER_TENANT = "11111111-2222-3333-4444-555555555555"


@pytest.fixture
def azure() -> Iterator[AzureCloud]:
    with AzureCloud() as found:
        found.put(NAME, "x")
        yield found


def assert_reads(azure: AzureCloud, config: Mapping[str, Any], environment: Mapping[str, str]) -> None:
    with provider(config, {**azure.environment(), **environment}) as opened:
        opened.check()
        assert read(opened, NAME) == b"x"


def refused(azure: AzureCloud, environment: Mapping[str, str], timeout: float = 20) -> Any:
    """What the default chain says to somebody with these variables."""
    with provider(with_auth(azure, "default"), {**azure.environment(), **environment}, timeout=timeout) as opened:
        return fault(lambda: opened.get(NAME, None))


# National clouds


@pytest.mark.parametrize("cloud", [CHINA, US_GOVERNMENT], ids=["china", "us government"])
@pytest.mark.parametrize("spelling", ["{}", "https://{}", "https://{}/"])
def test_sovereign_cloud_is_asked_and_no_other(cloud: Cloud, spelling: str):
    with AzureCloud(cloud=cloud) as azure:
        azure.put(NAME, "x")
        assert_reads(azure, azure.settings(authority=spelling.format(cloud.login)), {})
        assert set(azure.proxy.hosts()) == {cloud.login, azure.vault.url.removeprefix("https://")}


def test_sovereign_cloud_by_the_environments_default(tmp_path: Path):
    """`authority` counts for identities found by the default chain too."""
    with AzureCloud(cloud=CHINA) as azure:
        azure.put(NAME, "x")
        federation = Federation("https://oidc.cluster.example", SUBJECT, SigningKey())
        azure.application.federations.append(federation)
        (tmp_path / "token").write_text(federation.token())
        variables = {**kubernetes(azure, azure.application, tmp_path / "token")}
        del variables["AZURE_AUTHORITY_HOST"]
        assert_reads(azure, with_auth(azure, "default"), variables)
        assert set(azure.proxy.hosts()) == {CHINA.login, azure.vault.url.removeprefix("https://")}


def test_frozen_plugin_in_a_sovereign_cloud():
    with AzureCloud(cloud=CHINA) as azure:
        azure.put(NAME, "x")
        with Plugin(plugin_argv("dso-provider-azure", "frozen"), azure.environment()) as plugin:
            plugin.initialize(azure.settings())
            found = plugin.get(NAME)
            assert isinstance(found, SecretData), found
        assert set(azure.proxy.hosts()) == {CHINA.login, azure.vault.url.removeprefix("https://")}


# The default chain: tenants


def variables(azure: AzureCloud, tenant: str) -> dict[str, str]:
    names = {"AZURE_CLIENT_ID": azure.application.client_id, "AZURE_CLIENT_SECRET": azure.client_secret}
    return {**names, "AZURE_TENANT_ID": tenant}


def test_tenant_of_the_environment_may_be_one_of_its_domains(azure: AzureCloud):
    azure.entra.domains.append(DOMAIN)
    assert_reads(azure, with_auth(azure, "default"), variables(azure, DOMAIN))


def test_vault_of_another_tenant_than_the_environments_is_named(azure: AzureCloud):
    azure.vault.authorization = f"https://{azure.cloud.login}/{OTHER_TENANT}"
    error = refused(azure, variables(azure, azure.entra.tenant))
    assert error.code == UNAUTHENTICATED
    assert [word for word in (OTHER_TENANT, "AZURE_TENANT_ID", "vault_url") if word not in error.message] == []
    assert azure.logins() == 0


# The default chain: Azure CLI


def cli(directory: Path, script: str) -> dict[str, str]:
    """Variables with which `az` is this script, and writes its arguments into a file `arguments`."""
    (directory / "az").write_text(f'#!/bin/sh\necho "$@" >> {directory}/arguments\n{script}\n')
    (directory / "az").chmod(0o700)
    return {"PATH": f"{directory}:{os.environ['PATH']}"}


def test_login_by_azure_cli_is_used_where_there_is_nothing_else(azure: AzureCloud, tmp_path: Path):
    token = azure.entra.token(azure.application, azure.cloud.resource)
    until = int(time.time()) + 3600
    (tmp_path / "out").write_text(json.dumps({"accessToken": token, "expires_on": until, "expiresOn": "2038-01-01"}))
    assert_reads(azure, with_auth(azure, "default"), cli(tmp_path, f"cat {tmp_path}/out"))
    (asked,) = (tmp_path / "arguments").read_text().splitlines()
    assert asked.startswith(f"account get-access-token --output json --resource {azure.cloud.resource}")
    assert azure.logins() == 0


@pytest.mark.parametrize(
    "script",
    [
        "echo \"ERROR: Please run 'az login' canary-cli-41\" >&2; exit 1",
        "echo 'ERROR: AADSTS700082: expired canary-cli-41' >&2; exit 1",
        "echo canary-cli-41",
        "exit 127",
    ],
)
def test_azure_cli_without_a_login_is_told_without_its_words(azure: AzureCloud, tmp_path: Path, script: str):
    error = refused(azure, cli(tmp_path, script))
    assert error.code == UNAUTHENTICATED
    assert "az login" in error.message
    assert "canary-cli-41" not in error.message


def test_azure_cli_that_hangs_is_not_taken_for_a_vault_that_does(azure: AzureCloud, tmp_path: Path):
    error = refused(azure, cli(tmp_path, "exec sleep 60"), timeout=1)
    assert error.code == UNAVAILABLE
    assert "auth.method: default" in error.message
