"""Why a request over a `ProviderSession` got no answer, as errors of the provider protocol."""

from __future__ import annotations

import re
import ssl
from typing import NamedTuple

from requests.exceptions import ConnectTimeout, InvalidProxyURL, ProxyError, ReadTimeout
from urllib3 import exceptions as urllib3_errors

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST, UNAVAILABLE
from dso.protocol.provider import ProviderError
from dso.providers.http_session import OversizedError, is_hang_up
from dso.providers.trust import causes, is_out_of_date, is_untrusted, tls_error

_PROXY_WANTS_LOGIN = "407"
_VARIABLES = "HTTPS_PROXY and NO_PROXY"
_URLLIB3_TIMEOUTS = (urllib3_errors.ConnectTimeoutError, urllib3_errors.ReadTimeoutError)


class Target(NamedTuple):
    """What was to be reached, for messages.

    `label` begins with the provider: "azure-main: Key Vault x.vault.azure.net"; `setting` is where its address stands:
    "`vault_url:`".
    """

    label: str
    setting: str


def connection_fault(target: Target, error: BaseException, seconds: float) -> ProviderError | None:
    """The error for a request without an answer, None if that was not what happened.

    Args:
        target: what was asked.
        error: whatever an SDK has made of the exception.
        seconds: how long a request may take, for the message.
    """
    found = list(causes(error))
    tls = tls_error(error)
    if tls is not None:
        return _tls_fault(target, tls)
    if any(isinstance(one, OversizedError) for one in found):
        return ProviderError(INVALID_REQUEST, f"{target.label} answers with more than a secret can be", oversized=True)
    unsupported = next((one for one in found if isinstance(one, InvalidProxyURL)), None)
    if unsupported is not None:
        return ProviderError(INVALID_CONFIG, f"{target.label}: {unsupported}")
    fault = _unreachable(target, found, seconds)
    return ProviderError(UNAVAILABLE, f"{target.label} {fault}") if fault is not None else None


def late_fault(target: Target, seconds: float) -> ProviderError:
    """The time limit is over."""
    return ProviderError(UNAVAILABLE, f"{target.label} {_late(seconds)}")


def _late(seconds: float) -> str:
    return f"did not answer within {seconds:.3g} s; `timeout:` in dso.yaml allows for more"


def _unreachable(target: Target, found: list[BaseException], seconds: float) -> str | None:
    def has(*kinds: type[BaseException]) -> bool:
        return any(isinstance(one, kinds) for one in found)

    fault = None
    if is_hang_up(found[0]):
        fault = "closed the connection without a whole answer"
    elif has(ProxyError, urllib3_errors.ProxyError):
        fault = _proxy_fault(found)
    elif has(urllib3_errors.NameResolutionError):
        fault = f"cannot be reached, its name has no address: check {target.setting} and the name server"
    elif has(ConnectionRefusedError):
        fault = f"refuses the connection: check {target.setting}, and that it can be reached from this machine"
    elif has(urllib3_errors.NewConnectionError):
        fault = f"cannot be reached: check {target.setting}, the network and {_VARIABLES}"
    elif has(ConnectTimeout, ReadTimeout, TimeoutError, *_URLLIB3_TIMEOUTS):
        fault = _late(seconds)
    elif has(urllib3_errors.HTTPError, OSError):
        fault = "closed the connection without a whole answer"
    return fault


def _proxy_fault(found: list[BaseException]) -> str:
    """A refusal to lead there reads `Tunnel connection failed: 403 Forbidden`."""
    statuses = (re.match(r"Tunnel connection failed: (\d{3})", str(one)) for one in found if isinstance(one, OSError))
    status = next((match[1] for match in statuses if match), None)
    if status == _PROXY_WANTS_LOGIN:
        return "cannot be reached: the environment's proxy wants a user and password (HTTPS_PROXY=http://USER:PASSWORD@...)"
    if status is not None:
        return (
            f"cannot be reached: the environment's proxy refuses to connect to it (status {status}): check {_VARIABLES}"
        )
    return f"cannot be reached through the environment's proxy: check {_VARIABLES}"


def _tls_fault(target: Target, cause: ssl.SSLError) -> ProviderError:
    if isinstance(cause, ssl.SSLCertVerificationError):
        reason = cause.verify_message
        if is_out_of_date(cause):
            text = f"its certificate is not valid at this time ({reason}): check this machine's clock"
            return ProviderError(UNAVAILABLE, f"{target.label}: {text}")
        if is_untrusted(cause):
            text = f"its certificate is not trusted ({reason}); for a private one, or a proxy that looks into TLS, set"
            return ProviderError(INVALID_CONFIG, f"{target.label}: {text} `tls: {{ca_cert: FILE}}`")
        text = f"its certificate does not fit ({reason}): check {target.setting}"
        return ProviderError(INVALID_CONFIG, f"{target.label}: {text}")
    if cause.reason == "WRONG_VERSION_NUMBER":
        return ProviderError(INVALID_CONFIG, f"{target.label} does not speak TLS: check {target.setting}")
    return ProviderError(UNAVAILABLE, f"{target.label}: no TLS connection ({cause.reason or 'it was cut off'})")
