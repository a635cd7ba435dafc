"""Which files a provider reads: those that its settings name, and those that its SDK is told of by variables."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.config.provider_schema import TYPES, file_settings

if TYPE_CHECKING:
    from collections.abc import Mapping

# Variables that name a file, or a directory of files; of those that `environment.plugin_environment` lets through.
_FOR_ALL = ("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE")
_BY_TYPE: dict[str, tuple[str, ...]] = {
    "aws": (
        "AWS_CA_BUNDLE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    ),
    "azure": ("AZURE_FEDERATED_TOKEN_FILE", "AZURE_CLIENT_CERTIFICATE_PATH"),
}
# Where an SDK looks when the variable is not set, in the home directory of the agent's user.
_AT_HOME = {"aws": {"AWS_CONFIG_FILE": "~/.aws/config", "AWS_SHARED_CREDENTIALS_FILE": "~/.aws/credentials"}}
_CREDENTIALS = "/run/credentials/"  # systemd.exec(5), LoadCredential=
KUBERNETES_JWT = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # what `vault` reads without `jwt_file`


class Source(NamedTuple):
    """A file that a plugin is to have: its path, and what names it, a setting (`("tls", "ca_cert")`) or a variable."""

    path: str
    setting: tuple[str, ...] = ()
    variable: str = ""

    @property
    def label(self) -> str:
        """What messages call it."""
        return self.variable or ".".join(self.setting)


def sources(provider_type: str, settings: Mapping[str, Any], environment: Mapping[str, str]) -> list[Source]:
    """The files of a provider, whether they are there or not.

    Args:
        provider_type: `type` in dso.yaml.
        settings: as they stand in dso.yaml.
        environment: of the plugin.
    """
    named = file_settings(provider_type, settings) if provider_type in TYPES else _credentials(settings, ())
    found = [Source(path, setting=where) for where, path in named]
    auth = settings.get("auth")
    method = auth.get("method") if isinstance(auth, dict) and "jwt_file" not in auth else None
    if (provider_type, method) == ("vault", "kubernetes"):
        found.append(Source(KUBERNETES_JWT, setting=("auth", "jwt_file")))
    for name in (*_FOR_ALL, *_BY_TYPE.get(provider_type, ())):
        path = environment.get(name, "") or _at_home(provider_type, name, settings)
        if path:
            found.append(Source(os.path.abspath(os.path.expanduser(path)), variable=name))
    return found


def _credentials(settings: Mapping[str, Any], above: tuple[str, ...]) -> list[tuple[tuple[str, ...], str]]:
    """The settings of another type that name a credential of systemd's, which is the agent's alone to read."""
    found = []
    for name, value in settings.items():
        if isinstance(value, dict):
            found += _credentials(value, (*above, name))
        elif isinstance(value, str) and value.startswith(_CREDENTIALS):
            found.append(((*above, name), value))
    return found


def _at_home(provider_type: str, variable: str, settings: Mapping[str, Any]) -> str:
    if variable == "AWS_SHARED_CREDENTIALS_FILE" and "access_key_id" in settings:
        return ""  # dso.yaml has the credentials
    return _AT_HOME.get(provider_type, {}).get(variable, "")


def redirected(
    settings: Mapping[str, Any], environment: Mapping[str, str], places: Mapping[Source, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and variables that name other paths: `places` has them by source."""
    changed, variables = dict(settings), dict(environment)
    for source, path in places.items():
        if source.variable:
            variables[source.variable] = path
            continue
        inner = changed
        for name in source.setting[:-1]:
            inner[name] = dict(inner[name])
            inner = inner[name]
        inner[source.setting[-1]] = path
    return changed, variables
