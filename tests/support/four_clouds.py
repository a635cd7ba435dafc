"""A backend of every type that DSO has a provider for, all under their production host names.

    with FourClouds() as clouds:
        clouds.put("aws", "shop-db", password="secret")
        agent = CloudAgent(..., env=clouds.environment())   # and `clouds.settings("aws")` in its dso.yaml
        with clouds.without("aws"):                         # its servers are gone: tunnels break, new ones get 502
            ...

Plugins reach them through one CONNECT proxy and trust them by a bundle of the tests' CAs, so addresses, host
names and certificates are checked as they are in production.
"""

from __future__ import annotations

import json
import tempfile
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from tests.support import aws, hashicorp
from tests.support.azure import AzureCloud
from tests.support.certificates import Certificates
from tests.support.connect_proxy import ConnectProxy
from tests.support.huawei import HuaweiCloud

if TYPE_CHECKING:
    from collections.abc import Iterator

Cloud = TypeVar("Cloud", AzureCloud, HuaweiCloud)

VAULT_HOST = "vault.example.com"
AZURE_VAULT = "shop-prod"
AWS_HOSTS = f"*.{aws.REGION}.amazonaws.com"
TYPES = ("vault", "aws", "azure", "huawei")


class FourClouds:
    """Use it in a `with`.

    Attributes:
        vault, moto, azure, huawei: the servers.
        proxy: in front of them all.
    """

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="dso-test-clouds-"))
            self.proxy = stack.enter_context(ConnectProxy())
            made = Certificates(f"{self._directory}/tls", [VAULT_HOST, AWS_HOSTS])
            self.vault = stack.enter_context(hashicorp.HashicorpServer(tls=made.directory))
            ca_cert = made.path("ca.pem")
            self.moto = stack.enter_context(
                aws.Moto(made.path("server-cert.pem"), made.path("server-key.pem"), ca_cert=ca_cert)
            )
            self._hosts: dict[str, list[str]] = {}
            self._lead("vault", VAULT_HOST, self.vault.https)
            self._lead("aws", AWS_HOSTS, self.moto.endpoint)
            self.azure = self._enter(stack, "azure", AzureCloud(proxy=self.proxy, vault=AZURE_VAULT))
            self.huawei = self._enter(stack, "huawei", HuaweiCloud(proxy=self.proxy))
            self.bundle = self._bundle(ca_cert, self.azure.ca_cert, self.huawei.ca_cert)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    def _lead(self, kind: str, pattern: str, address: str) -> None:
        there = urlsplit(address)
        assert there.hostname is not None
        assert there.port is not None
        self.proxy.add(pattern, (there.hostname, there.port))
        self._hosts[kind] = [pattern]

    def _enter(self, stack: ExitStack, kind: str, cloud: Cloud) -> Cloud:
        """One that adds its host names to the proxy itself."""
        before = set(self.proxy.patterns())
        entered = stack.enter_context(cloud)
        self._hosts[kind] = [pattern for pattern in self.proxy.patterns() if pattern not in before]
        assert self._hosts[kind], f"{kind} has nothing that could be cut"
        return entered

    def _bundle(self, *authorities: str) -> str:
        path = f"{self._directory}/bundle.pem"
        with open(path, "wb") as bundle:
            for authority in authorities:
                with open(authority, "rb") as file:
                    bundle.write(file.read())
        return path

    def put(self, kind: str, name: str, **fields: Any) -> None:
        """Store a secret with these fields, or a new version of it."""
        if kind == "vault":
            self.vault.put(name, fields)
        elif kind == "aws":
            self.moto.put(name, json.dumps(fields))
        elif kind == "azure":
            self.azure.put(name, json.dumps(fields))
        else:
            self.huawei.put(name, json.dumps(fields))

    def settings(self, kind: str) -> dict[str, Any]:
        """The `config` of a provider."""
        if kind == "vault":
            token = self.vault.token(self.vault.policy("all", "secret/data/*"))
            return hashicorp.settings(f"https://{VAULT_HOST}:8200", token)
        if kind == "aws":
            access_key, secret_key = aws.ADMIN
            return {"region": aws.REGION, "access_key_id": access_key, "secret_access_key": secret_key}
        return self.azure.settings() if kind == "azure" else self.huawei.settings()

    def environment(self) -> dict[str, str]:
        """What leads a plugin to them, in the agent's environment."""
        return {"HTTPS_PROXY": self.proxy.address, "REQUESTS_CA_BUNDLE": self.bundle, "AWS_CA_BUNDLE": self.bundle}

    @contextmanager
    def without(self, kind: str) -> Iterator[None]:
        """One type's servers are gone; afterwards they are there again."""
        self.proxy.cut(*self._hosts[kind])
        try:
            yield
        finally:
            self.proxy.mend()
