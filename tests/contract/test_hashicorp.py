"""`dso-provider-vault` keeps the contract, with a real HashiCorp Vault."""

from __future__ import annotations

import re
from urllib.parse import quote

import pytest

from tests.contract.backend import Backend
from tests.contract.provider_contract import OwnPlugin
from tests.support.hashicorp import HashicorpServer, settings


class Hashicorp(Backend):
    """Vault's KV engine of version 2, read by a token that may read and nothing else."""

    type = "vault"
    kinds = ("fields",)
    largest = 512 * 1024  # Vault's own limit for a value is near 1 MiB with the storage that most have
    env = {}  # noqa: RUF012
    odd_names = (
        "/with space",
        "/100% sure",
        "/what?version=1",
        "/a#b",
        "/a;b",
        "/\u00fcml\u00e4ut",
        "/a+b&c=d",
        "/..a/b..",
    )

    def __init__(self, server: HashicorpServer) -> None:
        self._server = server
        token = server.token(server.policy("contract", "secret/data/*"), ttl="1h")
        revoked = server.token("contract", ttl="1h")
        server.revoke(revoked)
        role = server.approle("contract", "contract")
        wrong_secret = "5f0ce0c5-1f4b-4c8e-9a57-0123456789ab"
        approle = {"method": "approle", "role_id": role.role_id, "secret_id": wrong_secret}
        self.config = settings(server.http, token)
        self.unreachable = settings("http://127.0.0.1:9", token)
        self.bad_credentials = [
            settings(server.http, "hvs.nobody-knows-this-token"),
            settings(server.http, revoked),
            {"address": server.http, "auth": approle},
        ]
        self.credentials = [token, revoked, "hvs.nobody-knows-this-token", wrong_secret]

    def put(self, path: str, content: bytes, kind: str) -> str:
        assert kind == "fields"
        return str(self._server.put(quote(path), content))

    def kept(self, path: str, content: bytes, kind: str) -> bytes:
        """KV 2 keeps numbers as floating point: what Vault itself shows of the secret counts."""
        shown = self._server.raw("GET", f"secret/data/{quote(path)}").decode()
        found = re.search(r'"data":\{"data":(\{.*\}),"metadata":', shown)
        assert found, kind
        return found[1].encode()


@pytest.fixture(scope="module")
def backend(hashicorp: HashicorpServer) -> Backend:
    return Hashicorp(hashicorp)


class TestHashicorp(OwnPlugin):
    program = "dso-provider-vault"
