"""The environment of a plugin: what its SDK's credential chain needs, what `env:` names, and nothing else."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dso.paths import PRIVATE_VARIABLES
from dso.protocol.redaction import Redactor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from dso.config.model import ProviderConfig

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

# For every plugin: where programs, home and temporary files are, how to speak, and the way to the network.
_FOR_ALL = (
    *("PATH", "HOME", "LANG", "LC_ALL", "TZ", "TMPDIR"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
    *("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy"),
)

# By type, names and beginnings of names (`AWS_*`). HashiCorp's client would take VAULT_ADDR and VAULT_TOKEN in place
# of what dso.yaml leaves out, and Huawei Cloud's SDK HUAWEICLOUD_SDK_*, so they get none: their settings are dso.yaml's
# alone.
_BY_TYPE: dict[str, tuple[str, ...]] = {
    "aws": ("AWS_*",),
    "azure": (
        "AZURE_*",
        "IDENTITY_ENDPOINT",
        "IDENTITY_HEADER",
        "IDENTITY_SERVER_THUMBPRINT",
        "IMDS_ENDPOINT",
        "MSI_*",
    ),
}


def plugin_environment(
    provider_type: str, names: Iterable[str] = (), source: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The whole environment for a plugin.

    Args:
        provider_type: `type` in dso.yaml.
        names: what `env:` names; of those, what is not set is left out.
        source: the agent's own environment by default.
    """
    wanted = (*_FOR_ALL, *_BY_TYPE.get(provider_type, ()), *names)
    exact = frozenset(wanted)
    beginnings = tuple(name[:-1] for name in _BY_TYPE.get(provider_type, ()) if name.endswith("*"))
    environment = {
        name: value
        for name, value in (os.environ if source is None else source).items()
        if (name in exact or (beginnings and name.startswith(beginnings))) and name not in PRIVATE_VARIABLES
    }
    environment.setdefault("PATH", _DEFAULT_PATH)
    return environment


def redactor_of(provider: ProviderConfig) -> Redactor:
    """What masks all credentials that a provider has: in its settings, and in the environment of its plugin."""
    return Redactor(provider.settings.reveal(), plugin_environment(provider.type, provider.env))
