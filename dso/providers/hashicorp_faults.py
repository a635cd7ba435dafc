"""What goes wrong with a HashiCorp Vault, as errors of the provider protocol: what happened, and what to do.

Nothing that Vault says itself is repeated: an answer may hold anything.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING

from urllib3 import exceptions

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST, THROTTLED, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import MAX_RETRY_AFTER, ProviderError
from dso.providers.trust import is_out_of_date, is_untrusted, tls_error

if TYPE_CHECKING:
    from dso.providers.hashicorp_config import HashicorpConfig
    from dso.providers.hashicorp_http import Answer

# HTTP statuses that mean something of their own here; see the API's page "HTTP status codes".
BAD_REQUEST = 400
FORBIDDEN = 403
NOT_FOUND_STATUS = 404
NOT_ALLOWED = 405
BEHIND = 412  # a performance standby has not heard yet of what we refer to
TOO_MANY = 429
DISASTER_SECONDARY = 472
PERFORMANCE_STANDBY = 473
SERVER_ERROR = 500
UNINITIALIZED = 501
SEALED = 503
_BUSY = {307, BEHIND, TOO_MANY, DISASTER_SECONDARY, PERFORMANCE_STANDBY}  # besides server errors


def status_fault(config: HashicorpConfig, answer: Answer, what: str) -> ProviderError:
    """The error for an answer that is neither a success, nor a refusal, nor "not there".

    Args:
        config: of the provider.
        answer: what came.
        what: what was asked for ("prod/db", "the login").
    """
    if answer.status >= SERVER_ERROR or answer.status in (
        TOO_MANY,
        BEHIND,
        DISASTER_SECONDARY,
        PERFORMANCE_STANDBY,
        307,
    ):
        return _busy_fault(config, answer, what)
    if answer.status == BAD_REQUEST and b"HTTP request to an HTTPS server" in answer.body:
        return ProviderError(INVALID_CONFIG, f"{config.label} speaks HTTPS; `address` begins with http:")
    if answer.json() is None:
        message = f"what answers at {config.address} (status {answer.status}) is no HashiCorp Vault"
        return ProviderError(INVALID_CONFIG, f"{message}; check `address` of provider {config.name}")
    if answer.status == NOT_ALLOWED:
        message = f"{what}: nothing can be read there from {config.label}; check that `mount` is a KV secrets engine"
        return ProviderError(INVALID_CONFIG, message)
    return ProviderError(
        INVALID_REQUEST, f"{what}: {config.label} does not accept the request (status {answer.status})"
    )


def _busy_fault(config: HashicorpConfig, answer: Answer, what: str) -> ProviderError:
    """The error for an answer that may be another one later."""
    label, status = config.label, answer.status
    if status == TOO_MANY:
        message = f"{what}: {label} limits its requests (429); ask less often, or raise its rate limit quota"
        return ProviderError(THROTTLED, message, retry_after=_retry_after(answer))
    if status == SEALED and "sealed" in answer.errors():
        return ProviderError(UNAVAILABLE, sealed_message(config))
    if status == UNINITIALIZED or "not initialized" in answer.errors():
        return ProviderError(UNAVAILABLE, f"{label} at {config.address} is not initialized; run: vault operator init")
    if status < SERVER_ERROR:
        message = f"{what}: the node of {label} at {config.address} does not serve it now (status {status})"
        return ProviderError(UNAVAILABLE, f"{message}; `address` had better be that of the active node")
    message = f"{what}: {label} at {config.address} answers with status {status}; see its log"
    return ProviderError(UNAVAILABLE, message, retry_after=_retry_after(answer))


def sealed_message(config: HashicorpConfig) -> str:
    """What to tell of a sealed server."""
    return f"{config.label} at {config.address} is sealed; unseal it: vault operator unseal"


def timeout_fault(config: HashicorpConfig, seconds: float) -> ProviderError:
    """The deadline is over."""
    message = f"{config.label} at {config.address} did not answer within {seconds:.3g} s"
    return ProviderError(UNAVAILABLE, f"{message}; see whether it is overloaded, or raise `timeout`")


def connection_fault(config: HashicorpConfig, error: exceptions.HTTPError, seconds: float) -> ProviderError:
    """No answer came."""
    where = f"{config.label} at {config.address}"
    refused = isinstance(error, exceptions.NewConnectionError) and isinstance(error.__cause__, ConnectionRefusedError)
    cause = error.original_error if isinstance(error, exceptions.ProxyError) else error
    nested = tls_error(cause)
    if nested is not None:
        return _tls_fault(config, nested)
    if isinstance(error, exceptions.ProxyError):
        fault = "cannot be reached through the environment's proxy; check HTTP_PROXY, HTTPS_PROXY and NO_PROXY"
    elif isinstance(error, exceptions.NameResolutionError):
        fault = "cannot be reached, its name has no address; check `address` and the name server"
    elif isinstance(error, exceptions.NewConnectionError):
        fault = f"{'refuses the connection' if refused else 'cannot be reached'}; check `address`, and that it runs"
    elif isinstance(error, exceptions.TimeoutError):
        return timeout_fault(config, seconds)
    else:
        fault = f"closed the connection without an answer; see its log{_client_certificate_hint(config)}"
    return ProviderError(UNAVAILABLE, f"{where} {fault}")


def _tls_fault(config: HashicorpConfig, cause: ssl.SSLError) -> ProviderError:
    where = f"{config.label} at {config.address}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        if is_out_of_date(cause):
            message = f"{where}: its certificate is not valid at this time ({cause.verify_message})"
            return ProviderError(UNAVAILABLE, f"{message}; renew it, or set the clock")
        if is_untrusted(cause):
            message = f"{where}: its certificate is not trusted ({cause.verify_message}); give its CA as tls.ca_cert"
        else:
            message = f"{where}: its certificate does not fit ({cause.verify_message})"
            message += "; use its name in `address`, or set tls.server_name"
        return ProviderError(INVALID_CONFIG, message)
    reason = cause.reason or ""
    if reason == "WRONG_VERSION_NUMBER":
        return ProviderError(INVALID_CONFIG, f"{where} does not speak TLS; `address` may have to begin with http:")
    if "ALERT" in reason and config.tls.client_cert is not None:
        return ProviderError(INVALID_CONFIG, f"{where} does not accept the certificate of tls.client_cert ({reason})")
    if "CERTIFICATE_REQUIRED" in reason or "HANDSHAKE_FAILURE" in reason:
        message = f"{where} wants a client certificate; set tls.client_cert and tls.client_key"
        return ProviderError(INVALID_CONFIG, message)
    message = f"{where}: no TLS connection ({reason or 'it was cut off'}); see its log"
    return ProviderError(UNAVAILABLE, message + _client_certificate_hint(config))


def _client_certificate_hint(config: HashicorpConfig) -> str:
    """In TLS 1.3 a server that misses one cuts the connection, and the alert that says so may be lost with it."""
    if config.tls.client_cert is not None or not config.address.startswith("https:"):
        return ""
    return ", it may want a client certificate (tls.client_cert)"


def _retry_after(answer: Answer) -> float | None:
    text = answer.headers.get("Retry-After") or ""
    if not (text.isascii() and text.isdigit()):
        return None
    return min(float(text[:9]), MAX_RETRY_AFTER)


def login_fault(config: HashicorpConfig, answer: Answer) -> ProviderError:
    """A login that was not granted."""
    auth = config.auth
    where = f"auth/{auth.mount}"
    if answer.status in (BAD_REQUEST, FORBIDDEN) and answer.json() is not None:
        message = f"{config.label} refuses the login by {auth.method}"
        message += f"; check the credentials under `auth`, and that the method is enabled at {where}"
        return ProviderError(UNAUTHENTICATED, message)
    if answer.status == NOT_FOUND_STATUS and answer.json() is not None:
        return ProviderError(INVALID_CONFIG, f"{config.label} has no auth method at {where}; check auth.mount")
    return status_fault(config, answer, "the login")
