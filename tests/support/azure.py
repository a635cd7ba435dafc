"""A small Azure for tests: Entra, a Key Vault and the metadata services, under their production host names.

with AzureCloud() as azure:
    version = azure.put("db-password", "secret")
    plugin = Plugin(argv, azure.environment())
    plugin.initialize(azure.settings())

The unmodified SDK reaches them through a CONNECT proxy (`tests.support.connect_proxy`) and trusts them because of
`tls.ca_cert`; what they do is said in tests/servers/azure_*.py.
"""

from __future__ import annotations

import os
import secrets
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self
from unittest.mock import patch
from urllib.parse import urlsplit

import pytest

from tests.servers.azure_entra import Entra
from tests.servers.azure_metadata import APP_SERVICE_PATH, Metadata
from tests.servers.azure_tokens import CLOUDS, PUBLIC
from tests.servers.azure_vault import KeyVault
from tests.support.certificates import Certificates
from tests.support.connect_proxy import ConnectProxy
from tests.support.http_proxy import HttpProxy
from tests.support.process import environment as process_environment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dso.protocol.provider import ProviderError
    from dso.providers.azure import AzureProvider
    from tests.servers.azure_entra import Application
    from tests.servers.azure_tokens import Cloud
    from tests.servers.azure_vault import VaultError
    from tests.support.http_proxy import Reply, Seen

VAULT, LOGIN, METADATA = "vault", "login", "metadata"
VALUE = "canary-value-7d1f"  # of a secret that no error may show


class AzureCloud:
    """Use it in a `with`.

    Attributes:
        entra, vault, metadata: the services (tests/servers/azure_*.py).
        application: what `settings` logs in as; it may read the vault.
        client_secret: the application's.
        server: Entra's and the vault's: `seen`, `delay`, `together`.
        proxy: in front of it.
        certificates, ca_cert: the certificate of both, good for any cloud's hosts, and the CA that issued it.
    """

    def __init__(self, *, cloud: Cloud = PUBLIC, proxy: ConnectProxy | None = None, vault: str = "") -> None:
        """`proxy`: one that is there already, for a client that uses other services through it too.

        `vault` is the vault's name, for clients in processes of their own.
        """
        self._stack = ExitStack()
        directory = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dso-test-azure-"))
        hosts = [host for each in CLOUDS for host in (each.login, f"*.{each.vault}")]
        self.certificates = Certificates(f"{directory}/tls", hosts)
        self.ca_cert = self.certificates.path("ca.pem")
        self.cloud = cloud
        self.entra = Entra(cloud)
        # The SDK remembers the challenges of a vault for as long as a process lives: no two may have the same name.
        self.vault = KeyVault(vault or f"dso-{secrets.token_hex(6)}", self.entra)
        self.application = self.reader()
        self.client_secret = self.add_secret(self.application)
        self.metadata = Metadata(self.entra, secrets.token_hex(16))
        self.server = HttpProxy("", tls=self.certificates.public_context())
        self.server.reply = self.answer
        self.proxy = proxy or ConnectProxy()
        self._own_proxy = proxy is None
        self._metadata_server = HttpProxy("")
        self._metadata_server.reply = self.answer
        self._faults: list[tuple[str, Reply, int]] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        here = urlsplit(self._stack.enter_context(self.server).address)
        assert here.hostname is not None
        assert here.port is not None
        for host in (self.cloud.login, urlsplit(self.vault.url).netloc):
            self.proxy.add(host, (here.hostname, here.port))
        self._stack.enter_context(self._metadata_server)
        if self._own_proxy:
            self._stack.enter_context(self.proxy)
        return self

    def __exit__(self, *_exception: object) -> None:
        self._stack.close()

    # Identities

    def reader(self) -> Application:
        """An application, or a managed identity, that may read the vault; it has no credentials yet."""
        application = self.entra.register()
        self.vault.readers.add(application.object_id)
        return application

    def add_secret(self, application: Application) -> str:
        """A client secret for it."""
        application.secrets.append(f"Q~{secrets.token_urlsafe(30)}")
        return application.secrets[-1]

    # Secrets

    def put(self, name: str, content: str | bytes, content_type: str | None = None, **attributes: Any) -> str:
        """Store a secret, or a new version of it; the version's id. `attributes`: `enabled`, `nbf`, `exp`."""
        text = content if isinstance(content, str) else content.decode()
        return self.vault.put(name, text, content_type, **attributes)

    # For the provider

    def settings(self, **more: Any) -> dict[str, Any]:
        """The `config` of a provider that logs in with the client secret."""
        auth = {
            "method": "client_secret",
            "tenant_id": self.entra.tenant,
            "client_id": self.application.client_id,
            "client_secret": self.client_secret,
        }
        authority = {} if self.cloud is PUBLIC else {"authority": self.cloud.login}
        return {"vault_url": self.vault.url, "auth": auth, "tls": {"ca_cert": self.ca_cert}, **authority, **more}

    def environment(self) -> dict[str, str]:
        """What makes a client find them."""
        return {"HTTPS_PROXY": self.proxy.address}

    def app_service(self) -> dict[str, str]:
        """What tells a client that it runs in App Service."""
        where = f"{self._metadata_server.address}{APP_SERVICE_PATH}"
        return {"IDENTITY_ENDPOINT": where, "IDENTITY_HEADER": self.metadata.header}

    # Faults, and what came

    def fail(self, reply: Reply | VaultError, *, times: int = 1000, at: str = VAULT) -> None:
        """Give this answer so often instead of the right one; `at` the vault, that is to requests with a token."""
        with self._lock:
            self._faults.append((at, reply if isinstance(reply, tuple) else reply.reply(), times))

    def recover(self) -> None:
        """Answer as usual again."""
        with self._lock:
            self._faults.clear()

    def requests(self, beginning: str = "") -> list[str]:
        """What came, such as `vault GET /secrets/db-password`; of it, what begins so."""
        seen = [*self.server.seen, *self._metadata_server.seen]
        told = [f"{self._where(each)} {each.method} {urlsplit(each.path).path.rstrip('/')}" for each in seen]
        return [each for each in told if each.startswith(beginning)]

    def reads(self) -> list[str]:
        """Requests for secrets that had a token, as `requests` has them."""
        with_token = [seen for seen in self.server.seen if "authorization" in seen.headers]
        return [f"{seen.method} {urlsplit(seen.path).path.rstrip('/')}" for seen in with_token]

    def logins(self) -> int:
        """How often Entra was asked for a token."""
        return len([each for each in self.requests("login POST ") if each.endswith("/oauth2/v2.0/token")])

    def clear(self) -> None:
        """Forget what came."""
        self.server.clear()
        self._metadata_server.clear()
        self.proxy.clear()

    def answer(self, seen: Seen) -> Reply:
        """What any of the services answers; for servers of a test's own too."""
        where = self._where(seen)
        with self._lock:
            for number, (at, reply, times) in enumerate(self._faults):
                if at == where and (at != VAULT or "authorization" in seen.headers):
                    self._faults[number : number + 1] = [(at, reply, times - 1)] if times > 1 else []
                    return reply
        services: dict[str, KeyVault | Entra | Metadata]
        services = {VAULT: self.vault, LOGIN: self.entra, METADATA: self.metadata}
        return services[where].answer(seen)

    def _where(self, seen: Seen) -> str:
        host = seen.headers.get("host", "").partition(":")[0]
        if host == self.cloud.login:
            return LOGIN
        return VAULT if host.endswith(f".{self.cloud.vault}") else METADATA


def key_vault_name(path: str) -> str:
    """Where a secret of this path is in Key Vault, whose names have no other characters."""
    return path.translate({ord(character): "-" for character in "_/."})


@contextmanager
def provider(
    config: Mapping[str, Any], environment: Mapping[str, str], *, timeout: float = 20
) -> Iterator[AzureProvider]:
    """The provider in this process, with these variables and few others, as a plugin has it."""
    from dso.providers.azure import AzureProvider

    with patch.dict(os.environ, process_environment("/nonexistent", environment), clear=True):
        opened = AzureProvider.open("tested", config, timeout)
        try:
            yield opened
        finally:
            opened.close()


def read(opened: AzureProvider, path: str, version: str | None = None) -> bytes:
    """A secret's content."""
    return opened.get(path, version).content.reveal()


def fault(call: Callable[[], object]) -> ProviderError:
    """The error that a call must end with."""
    from dso.protocol.provider import ProviderError

    with pytest.raises(ProviderError) as caught:
        call()
    assert "tested" in caught.value.message, "which provider?"
    return caught.value


def assert_fault(
    azure: AzureCloud,
    path: str,
    code: str,
    *words: str,
    config: Mapping[str, Any] | None = None,
    environment: Mapping[str, str] | None = None,
    timeout: float = 20,
) -> ProviderError:
    """Reading `path` and checking must both fail so; neither a credential nor the value `VALUE` may be told."""
    config = config or azure.settings()
    environment = azure.environment() if environment is None else environment
    with provider(config, environment, timeout=timeout) as opened:
        for call in (opened.check, lambda: opened.get(path, None)):
            error = fault(call)
            assert error.code == code, error.message
            assert [word for word in words if word not in error.message] == [], error.message
            assert [word for word in (azure.client_secret, VALUE) if word in error.message] == []
    return error
