"""`dso-provider-azure` keeps the contract, on a Key Vault and Entra under their production names (tests/servers)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.backend import Backend
from tests.contract.provider_contract import OwnPlugin
from tests.servers.azure_vault import LARGEST
from tests.support.azure import AzureCloud, key_vault_name

if TYPE_CHECKING:
    from collections.abc import Iterator


class Azure(Backend):
    """A vault that verifies tokens, and a tenant that issues them."""

    type = "azure"
    kinds = ("text",)
    largest = LARGEST
    odd_names = ("/a_b-c",)

    def __init__(self, azure: AzureCloud) -> None:
        self._azure = azure
        self.env = azure.environment()
        self.config = azure.settings()
        self.unreachable = azure.settings(vault_url="https://127.0.0.1:9")
        auth = self.config["auth"]
        wrong = [
            {"client_secret": "Q~wrong-client-secret-5d1c"},
            {"client_id": azure.entra.tenant},
            {"tenant_id": azure.application.client_id},
        ]
        self.bad_credentials = [azure.settings(auth={**auth, **each}) for each in wrong]
        self.credentials = [azure.client_secret, wrong[0]["client_secret"]]

    def put(self, path: str, content: bytes, kind: str) -> str:
        assert kind == "text"
        return self._azure.put(key_vault_name(path), content)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with AzureCloud() as azure:
        yield Azure(azure)


class TestAzure(OwnPlugin):
    program = "dso-provider-azure"
