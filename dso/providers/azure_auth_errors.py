"""Why there is no token, as errors of the provider protocol.

Judged by what was sent and came (`azure_transport.Exchange`). Of the prose of Entra ID and of the SDK nothing is
repeated: it may hold anything.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dso.protocol.codes import INVALID_CONFIG, THROTTLED, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import MAX_RETRY_AFTER, USER_VARIABLE, ProviderError
from dso.providers.azure_config import PUBLIC_AUTHORITY
from dso.providers.http_faults import Target, connection_fault, late_fault
from dso.providers.trust import causes

if TYPE_CHECKING:
    from dso.providers.azure_config import AzureConfig
    from dso.providers.azure_transport import Attempt, Exchange

TOO_MANY = 429
SERVER_ERROR = 500
RETRY_AFTER = 5.0  # seconds, where a refusal for too many requests does not say
_BAD_REQUEST = 400

_VARIABLES = {
    "tenant_id": "AZURE_TENANT_ID",
    "client_id": "AZURE_CLIENT_ID",
    "client_secret": "AZURE_CLIENT_SECRET",
    "certificate_path": "AZURE_CLIENT_CERTIFICATE_PATH",
    "token_file": "AZURE_FEDERATED_TOKEN_FILE",
}
_NO_TENANT = "there is no such tenant: check {tenant_id}, and `authority:` if it is one of a national cloud"
_NO_FEDERATION = (
    "no federated credential of the application fits the token of {token_file}: compare issuer, subject and"
)
_NO_FEDERATION += " audience"
_STALE_TOKEN = "the token of {token_file} has expired: whatever writes that file has to renew it"  # noqa: S105
_ENTRA = {
    7000215: "the client secret is wrong: check {client_secret}, which takes the secret's value and not its id",
    7000222: "the client secret has expired: add a new one to the application, and set {client_secret}",
    700016: "there is no application of this id in the tenant: check {client_id} and {tenant_id}",
    7000229: "the application has no service principal in the tenant: check {client_id} and {tenant_id}",
    7000112: "the application is disabled",
    90002: _NO_TENANT,
    900023: _NO_TENANT,
    700027: "the certificate is none of the application's, or has expired: upload that of {certificate_path} to it",
    700024: _STALE_TOKEN,
    500133: _STALE_TOKEN,
    70021: _NO_FEDERATION,
    700211: _NO_FEDERATION,
    700212: _NO_FEDERATION,
    700213: _NO_FEDERATION,
    53003: "a policy of conditional access forbids it",
}
_NO_SUCH_RESOURCE = 500011


def credential_fault(
    config: AzureConfig, error: BaseException, attempt: Attempt, seconds: float, *, has_worked: bool
) -> ProviderError:
    """The error for a token that was not to be had.

    Args:
        config: of the provider.
        error: what the SDK raised.
        attempt: what was sent for it.
        seconds: how long a request may take, for messages.
        has_worked: whether there was a token before: then a service that does not answer is one that has failed,
            and not one that this machine never had.
    """
    issuer = [one for one in attempt.exchanges if one.secure]
    if issuer:  # MSAL asks for more after it was refused, so the last exchange may be a good one
        failed = [one for one in issuer if one.error is not None or one.status >= _BAD_REQUEST]
        return _issuer_fault(config, (failed or issuer)[-1], seconds)
    if attempt.exchanges:
        return _metadata_fault(config, attempt.exchanges[-1], has_worked=has_worked)
    return _file_fault(config, error) or _nothing_found(config)


def cli_refused(config: AzureConfig, variable: str) -> ProviderError:
    """The settings want a login of `az`, which a plugin with a user of its own cannot have."""
    text = f"{variable} asks for a login of `az`, which cannot work here, {_no_home(os.environ.get(USER_VARIABLE, ''))}"
    ways = "client_secret, client_certificate, managed_identity or workload_identity"
    return ProviderError(INVALID_CONFIG, f"{config.name}: {text}; set `auth.method:` to {ways}")


def _no_home(user: str) -> str:
    return f"since root's agent runs the plugin as the user {user}, who has no home directory and no logins"


def foreign_tenant(config: AzureConfig, tenant: str) -> ProviderError:
    """The vault trusts tokens of another tenant than that of the settings."""
    shown = tenant if re.fullmatch(r"[0-9A-Za-z.-]{1,80}", tenant) else "another one"
    text = f"{config.vault_host} belongs to the tenant {shown}, and {_setting(config, 'tenant_id')} names another one"
    return ProviderError(UNAUTHENTICATED, f"{config.name}: {text}: check that and `vault_url:`")


def late_login(config: AzureConfig, seconds: float) -> ProviderError:
    """The time limit is over, and somebody still waits for a token."""
    if config.auth.method == "managed_identity":
        return late_fault(Target(f"{config.name}: the managed identity service of this machine", ""), seconds)
    if config.auth.method == "default":
        return late_fault(Target(f"{config.name}: whoever gives tokens by `auth.method: default`", ""), seconds)
    return late_fault(_issuer_target(config, None), seconds)


def throttled(text: str, seconds: float | None) -> ProviderError:
    """A refusal for too many requests."""
    return ProviderError(THROTTLED, text, retry_after=min(seconds or RETRY_AFTER, MAX_RETRY_AFTER))


def _issuer_target(config: AzureConfig, host: str | None) -> Target:
    host = host or urlsplit(config.authority or PUBLIC_AUTHORITY).netloc
    return Target(f"{config.name}: Microsoft Entra ID at {host}", "`authority:`")


def _issuer_fault(config: AzureConfig, exchange: Exchange, seconds: float) -> ProviderError:
    target = _issuer_target(config, exchange.host)
    label = target.label
    if exchange.error is not None:
        fault = connection_fault(target, exchange.error, seconds)
        return fault or ProviderError(UNAVAILABLE, f"{label} did not answer ({type(exchange.error).__name__})")
    if exchange.status == TOO_MANY:
        return throttled(f"{label} limits the rate of requests (429)", exchange.retry_after)
    if exchange.status >= SERVER_ERROR:
        return ProviderError(UNAVAILABLE, f"{label} fails (status {exchange.status})", retry_after=exchange.retry_after)
    if exchange.status >= _BAD_REQUEST and (exchange.codes or exchange.reason):
        return _refused(config, exchange, label)
    text = f"what answers at {exchange.host} (status {exchange.status}) is no Microsoft Entra ID"
    return ProviderError(INVALID_CONFIG, f"{config.name}: {text}: check `authority:`, and HTTPS_PROXY")


def _refused(config: AzureConfig, exchange: Exchange, label: str) -> ProviderError:
    known = next((code for code in exchange.codes if code in _ENTRA), None)
    if known is not None:
        text = _ENTRA[known].format_map({key: _setting(config, key) for key in _VARIABLES})
        return ProviderError(UNAUTHENTICATED, f"{label} refuses the credentials (AADSTS{known}): {text}")
    if _NO_SUCH_RESOURCE in exchange.codes:
        text = f"does not know Key Vault (AADSTS{_NO_SUCH_RESOURCE}): check that `authority:` and `vault_url:` belong"
        return ProviderError(INVALID_CONFIG, f"{label} {text} to the same cloud, and {_setting(config, 'tenant_id')}")
    if exchange.codes:
        reason = f"AADSTS{exchange.codes[0]}"
        hint = f"see {PUBLIC_AUTHORITY}/error?code={exchange.codes[0]}"
    else:
        reason, hint = exchange.reason, f"check {_what_to_check(config)}"
    return ProviderError(UNAUTHENTICATED, f"{label} refuses the credentials ({reason}): {hint}")


def _what_to_check(config: AzureConfig) -> str:
    keys = [key for key in _VARIABLES if config.auth.get(key)] or ["tenant_id", "client_id"]
    return ", ".join(_setting(config, key) for key in keys)


def _setting(config: AzureConfig, key: str) -> str:
    """What has to be looked at: the key in dso.yaml, or the variable."""
    return f"auth.{key}" if config.auth.get(key) else _VARIABLES[key]


def _metadata_fault(config: AzureConfig, exchange: Exchange, *, has_worked: bool) -> ProviderError:
    """The machine's own service for tokens, which belongs to a managed identity."""
    label = f"{config.name}: the managed identity service at {exchange.host}"
    if exchange.status == TOO_MANY:
        return throttled(f"{label} limits the rate of requests (429)", exchange.retry_after)
    if exchange.status >= SERVER_ERROR or (
        has_worked and (exchange.error is not None or exchange.status != _BAD_REQUEST)
    ):
        what = f"fails (status {exchange.status})" if exchange.error is None else "does not answer any more"
        return ProviderError(UNAVAILABLE, f"{label} {what}", retry_after=exchange.retry_after)
    if config.auth.method == "default":
        return _nothing_found(config)
    if exchange.status != _BAD_REQUEST:
        what = f"gives no token (status {exchange.status})" if exchange.error is None else "gives no answer"
        text = f"{what}: this machine has no managed identity. It takes one in Azure, or one that Azure Arc manages;"
        return ProviderError(UNAUTHENTICATED, f"{label} {text} elsewhere set another `auth.method:`")
    if config.auth.get("client_id"):
        text = "does not give out the identity of auth.client_id: assign that to this machine, and check the id"
    else:
        text = "knows none of this machine: switch on the system-assigned one, or name another by auth.client_id"
    return ProviderError(UNAUTHENTICATED, f"{label} {text} (status {exchange.status})")


def _file_fault(config: AzureConfig, error: BaseException) -> ProviderError | None:
    """The federated token cannot be read."""
    path = config.auth.get("token_file")
    failed = next((one for one in causes(error) if isinstance(one, OSError | UnicodeDecodeError)), None)
    if path is None or failed is None:
        return None
    where = f"{config.name}: {_setting(config, 'token_file')} ({path})"
    if isinstance(failed, FileNotFoundError):
        return ProviderError(UNAVAILABLE, f"{where}: there is no such file; whatever writes it has to come first")
    reason = failed.strerror if isinstance(failed, OSError) else "is no text"
    return ProviderError(UNAUTHENTICATED, f"{where}: {reason or 'cannot be read'}")


def _nothing_found(config: AzureConfig) -> ProviderError:
    if config.auth.method == "default":
        text = "no usable Azure credentials; they are looked for in AZURE_* variables of the agent, in the workload"
        text += " identity of a pod, and the managed identity of this machine"
        user = os.environ.get(USER_VARIABLE)
        text += (
            f"; a login of `az` does not count here, {_no_home(user)}"
            if user
            else ", and `az login` of the agent's user"
        )
    else:
        text = f"no token by {config.auth.method}; check {_what_to_check(config)}"
    return ProviderError(UNAUTHENTICATED, f"{config.name}: {text}")
