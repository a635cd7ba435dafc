"""The settings of a `type: azure` provider, checked."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from dso.config.model import Settings
from dso.providers.options import Options

if TYPE_CHECKING:
    from collections.abc import Mapping

PUBLIC_AUTHORITY = "https://login.microsoftonline.com"
_LAST_PORT = 65535
_TENANT = re.compile(r"[0-9A-Za-z.-]+")
_FEDERATED = {
    "tenant_id": "AZURE_TENANT_ID",
    "client_id": "AZURE_CLIENT_ID",
    "token_file": "AZURE_FEDERATED_TOKEN_FILE",
}


class _Method(NamedTuple):
    """The keys of a way to authenticate, besides `method`."""

    needed: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()


METHODS = {
    "default": _Method(),
    "client_secret": _Method(("tenant_id", "client_id", "client_secret")),
    "client_certificate": _Method(("tenant_id", "client_id", "certificate_path"), ("certificate_password",)),
    "managed_identity": _Method((), ("client_id",)),
    "workload_identity": _Method((), tuple(_FEDERATED)),
}


class Auth(NamedTuple):
    """How to authenticate; some of the parameters are credentials."""

    method: str
    parameters: Settings

    def get(self, key: str) -> str | None:
        """One of the parameters."""
        value: str | None = self.parameters.reveal().get(key)
        return value


class AzureConfig(NamedTuple):
    """The settings.

    `vault_url` is `https://HOST[:PORT]`, and so is `authority`: who issues tokens, None where dso.yaml names nobody.
    """

    name: str
    vault_url: str
    authority: str | None
    auth: Auth
    ca_cert: str | None

    @property
    def vault_host(self) -> str:
        """The vault's name in messages."""
        return urlsplit(self.vault_url).netloc

    @property
    def tenant(self) -> str | None:
        """The tenant that issues the tokens, None if that is not for us to know."""
        return self.auth.get("tenant_id")

    @classmethod
    def read(cls, name: str, settings: Mapping[str, Any]) -> AzureConfig:
        """Check settings; ProviderError `invalid_config` names the key at fault, never its value.

        What workload identity does not find there it takes from the environment.
        """
        options = Options(name, settings)
        tls = options.section("tls")
        config = cls(
            name=name,
            vault_url=_vault_url(options),
            authority=_authority(options),
            auth=_auth(options.section("auth")),
            ca_cert=tls.text("ca_cert"),
        )
        tls.finish()
        options.finish()
        return config


def _vault_url(options: Options) -> str:
    url = options.required("vault_url")
    host = _https_host(url)
    if host is None:
        raise options.error("vault_url", "is no address such as https://NAME.vault.azure.net")
    if urlsplit(url).path.strip("/"):
        raise options.error("vault_url", "has a path; it is the vault's address, such as https://NAME.vault.azure.net")
    if ".managedhsm." in host.lower():
        raise options.error("vault_url", "is a managed HSM's, which holds keys and no secrets")
    return f"https://{host.lower()}"


def _authority(options: Options) -> str | None:
    text = options.text("authority")
    if text is None:
        return None
    host = _https_host(text if "://" in text else f"https://{text}")
    if host is None or urlsplit(text if "://" in text else f"https://{text}").path.strip("/"):
        raise options.error(
            "authority", "is neither a host such as login.chinacloudapi.cn nor an https:// address of one"
        )
    return f"https://{host.lower()}"


def _https_host(url: str) -> str | None:
    """The host of an https URL, with its port if it has one; None if it is something else."""
    try:
        parts = urlsplit(url)
        port_is_good = parts.port is None or 0 < parts.port <= _LAST_PORT
    except ValueError:
        return None
    plain = url.isascii() and url.isprintable() and not set(url) & set(" \\?#@")
    return parts.netloc if plain and parts.scheme == "https" and parts.hostname and port_is_good else None


def _auth(options: Options) -> Auth:
    method = options.choice("method", tuple(METHODS), "default")
    needed, optional = METHODS[method]
    given = {key: options.required(key) for key in needed}
    given |= {key: text for key in optional if (text := options.text(key)) is not None}
    options.finish()
    if method == "workload_identity":
        for key, variable in _FEDERATED.items():
            given.setdefault(key, os.environ.get(variable, ""))
            if not given[key]:
                raise options.error(key, f"is missing, and {variable} is not set")
    if not _TENANT.fullmatch(given.get("tenant_id", "-")):
        raise options.error("tenant_id", "is neither the id of a tenant nor one of its domains")
    if not given.get("client_id", "-").isprintable():
        raise options.error("client_id", "has a character that no id has")
    return Auth(method, Settings(given))
