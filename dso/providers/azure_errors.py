"""Why Key Vault gives no secret, as errors of the provider protocol: what happened, and what to do.

Of Key Vault's own prose nothing is repeated but codes.
"""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from azure.core.exceptions import HttpResponseError

from dso.protocol.codes import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    NOT_FOUND,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from dso.protocol.provider import ProviderError
from dso.providers.azure_auth_errors import SERVER_ERROR, TOO_MANY, throttled
from dso.providers.http_faults import Target, connection_fault
from dso.system.json_fast import loads

if TYPE_CHECKING:
    from azure.keyvault.secrets import KeyVaultSecret

    from dso.providers.azure_config import AzureConfig
    from dso.providers.azure_names import Wanted
    from dso.providers.azure_transport import Attempt

_BAD_REQUEST = 400
_UNAUTHORIZED = 401
_FORBIDDEN = 403
_MISSING = 404
_WORD = re.compile(r"[A-Za-z0-9]{1,60}")
_VAULT_CODE = re.compile(r"AKV\d{5}")
_OTHER_ISSUER, _OTHER_AUDIENCE = "AKV10032", "AKV10022"


class Refusal(NamedTuple):
    """An answer of Key Vault's that brought no secret: its status, and its codes, the outermost first."""

    status: int
    codes: tuple[str, ...] = ()
    retry_after: float | None = None

    @property
    def is_key_vaults(self) -> bool:
        """Whether it has the form of Key Vault's answers."""
        return bool(self.codes)


def vault_fault(
    config: AzureConfig, wanted: Wanted, error: BaseException, attempt: Attempt, seconds: float
) -> ProviderError:
    """The error for a request that brought no secret.

    Args:
        config: of the provider.
        wanted: what was asked for.
        error: what the SDK raised.
        attempt: what was sent.
        seconds: how long a request may take, for messages.
    """
    answer = refusal(config, error, attempt)
    if answer is not None:
        return _refused(config, wanted, answer)
    if isinstance(error, ValueError) and _was_challenged(config, attempt):
        text = f"what answers at {config.vault_host} asks for a token of another service: it is no Key Vault, or"
        return ProviderError(INVALID_CONFIG, f"{config.name}: {text} another cloud's; check `vault_url:`")
    fault = connection_fault(Target(f"{config.name}: Key Vault {config.vault_host}", "`vault_url:`"), error, seconds)
    return of_secret(fault, wanted) if fault is not None else incomplete(config, wanted)


def refusal(config: AzureConfig, error: BaseException, attempt: Attempt) -> Refusal | None:
    """What Key Vault answered, None if it did not, or with what should have been a secret."""
    response = getattr(error, "response", None) if isinstance(error, HttpResponseError) else None
    last = next((one for one in reversed(attempt.exchanges) if one.host == config.vault_host), None)
    if response is not None and response.status_code >= 300:  # noqa: PLR2004
        return Refusal(response.status_code, _codes(response), last.retry_after if last is not None else None)
    if last is not None and (last.status == TOO_MANY or last.status >= SERVER_ERROR):
        return Refusal(last.status, (), last.retry_after)  # there was no time for another try
    return None


def of_secret(error: ProviderError, wanted: Wanted) -> ProviderError:
    """An error that is about more than a secret, with its name."""
    message = f"{error.message} ({wanted} was not read)" if wanted.shown else error.message
    return type(error)(error.code, message, retry_after=error.retry_after, oversized=error.oversized)


class BlockedError(ProviderError):
    """The vault lets nobody in from here, whoever asks for what."""


class TokenRefusedError(ProviderError):
    """The vault does not accept the token; another one may do."""


def unfit(config: AzureConfig, wanted: Wanted, fault: str, hint: str) -> ProviderError:
    """A secret is there and must not be handed out, in the state it is in."""
    return ProviderError(NOT_FOUND, f"{config.name}: {wanted} {fault} in Key Vault {config.vault_host}: {hint}")


def disabled(config: AzureConfig, wanted: Wanted) -> ProviderError:
    """Somebody has switched it off."""
    return unfit(config, wanted, "is disabled", "enable it, or refer to another version")


def expired(config: AzureConfig, wanted: Wanted, when: datetime) -> ProviderError:
    """Its expiration date is over."""
    return unfit(config, wanted, f"has expired ({_date(when)})", "store a new version, or move its expiration date")


def not_yet(config: AzureConfig, wanted: Wanted, when: datetime) -> ProviderError:
    """Its activation date is still to come."""
    return unfit(config, wanted, f"is not valid before {_date(when)}", "wait, or change its activation date")


def incomplete(config: AzureConfig, wanted: Wanted) -> ProviderError:
    """For an answer without a secret in it, which is none of Key Vault's."""
    text = f"what answers at {config.vault_host} for {wanted} is no Key Vault: check `vault_url:`, and HTTPS_PROXY"
    return ProviderError(INVALID_CONFIG, f"{config.name}: {text}")


def is_whole(secret: KeyVaultSecret) -> bool:
    """Whether all is there that decides about handing it out: the SDK lets through whatever comes."""
    properties = secret.properties
    if not isinstance(getattr(properties, "enabled", None), bool):  # AttributeError where attributes are no object
        return False
    dates = (properties.expires_on, properties.not_before, properties.created_on)
    has_dates = all(date is None or isinstance(date, datetime) for date in dates)
    return isinstance(secret.value, str) and bool(properties.version) and has_dates


def _date(when: datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")


def _was_challenged(config: AzureConfig, attempt: Attempt) -> bool:
    return any(one.host == config.vault_host and one.status == _UNAUTHORIZED for one in attempt.exchanges)


def _codes(response: object) -> tuple[str, ...]:
    """`error.code`, `error.innererror.code` and so on, and Key Vault's own number where its message begins with one."""
    try:
        document = loads(response.text())  # type: ignore[attr-defined]
    except (ValueError, RecursionError):
        return ()
    found: list[str] = []
    inner = document.get("error") if isinstance(document, dict) else None
    while isinstance(inner, dict) and len(found) < 5:  # noqa: PLR2004
        code = str(inner.get("code", ""))
        found += [code] if _WORD.fullmatch(code) else []
        found += _VAULT_CODE.findall(str(inner.get("message", ""))[:200])
        inner = inner.get("innererror")
    return tuple(found)


def _refused(config: AzureConfig, wanted: Wanted, answer: Refusal) -> ProviderError:
    label, status = f"{config.name}: Key Vault {config.vault_host}", answer.status
    if status == TOO_MANY:
        return of_secret(throttled(f"{label} limits the rate of requests (429)", answer.retry_after), wanted)
    if status >= SERVER_ERROR:
        fault = ProviderError(UNAVAILABLE, f"{label} fails (status {status})", retry_after=answer.retry_after)
        return of_secret(fault, wanted)
    if status == _UNAUTHORIZED:
        return of_secret(_unauthorized(config, answer), wanted)
    if not answer.is_key_vaults:
        return incomplete(config, wanted)
    if status == _MISSING:
        text = f"{wanted} does not exist in Key Vault {config.vault_host}: check its name and the version;"
        text += " if it was deleted, it can be recovered (az keyvault secret recover)"
        fault = ProviderError(NOT_FOUND, f"{config.name}: {text}")
    elif status == _FORBIDDEN:
        fault = _forbidden(config, wanted, answer)
    else:
        text = f"{label} refuses the request for {wanted} (status {status}{_said(answer)})"
        fault = ProviderError(INVALID_REQUEST, text)
    return fault


def _forbidden(config: AzureConfig, wanted: Wanted, answer: Refusal) -> ProviderError:
    label = f"{config.name}: Key Vault {config.vault_host}"
    if "SecretDisabled" in answer.codes:
        return disabled(config, wanted)
    if "ForbiddenByFirewall" in answer.codes:
        text = "lets nobody in from this machine's address (ForbiddenByFirewall): add it to the vault's firewall"
        return of_secret(BlockedError(PERMISSION_DENIED, f"{label} {text}"), wanted)
    if "ForbiddenByConnection" in answer.codes:
        text = "lets nobody in by this way (ForbiddenByConnection): use its private endpoint, or allow public access"
        return of_secret(BlockedError(PERMISSION_DENIED, f"{label} {text}"), wanted)
    if "ForbiddenByRbac" in answer.codes:
        text = (
            f"does not let the credentials read {wanted} (ForbiddenByRbac): give them the role Key Vault Secrets User"
        )
        text += " on it or on the vault, and some minutes to take effect"
    elif "ForbiddenByPolicy" in answer.codes or "AccessDenied" in answer.codes:
        text = f"does not let the credentials read {wanted} ({answer.codes[-1]}): give them `get` of secrets in an"
        text += " access policy"
    else:
        text = f"does not let the credentials read {wanted} (status 403{_said(answer)})"
    return ProviderError(PERMISSION_DENIED, f"{label} {text}")


def _unauthorized(config: AzureConfig, answer: Refusal) -> ProviderError:
    label = f"{config.name}: Key Vault {config.vault_host} does not accept the token"
    if _OTHER_ISSUER in answer.codes:
        text = f"({_OTHER_ISSUER}): it trusts another tenant; check auth.tenant_id and `authority:`"
    elif _OTHER_AUDIENCE in answer.codes:
        text = f"({_OTHER_AUDIENCE}): it is for another cloud; check `authority:`"
    elif not answer.is_key_vaults:
        text = "and says not which it wants: it may be no Key Vault; check `vault_url:`"
    else:
        text = f"(status 401{_said(answer)}): check the credentials, the tenant, and this machine's clock"
    return TokenRefusedError(UNAUTHENTICATED, f"{label} {text}")


def _said(answer: Refusal) -> str:
    return f", {answer.codes[-1]}" if answer.codes else ""
