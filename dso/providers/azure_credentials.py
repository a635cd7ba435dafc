"""The token of an Azure provider: who issues it, kept for all threads, and asked for anew when it is of no use."""

from __future__ import annotations

import logging
import os
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azure.core.exceptions import AzureError
from msal.authority import WELL_KNOWN_AUTHORITY_HOSTS

from dso.protocol.codes import INVALID_CONFIG, UNAUTHENTICATED
from dso.protocol.provider import USER_VARIABLE, ProviderError
from dso.providers.azure_auth_errors import cli_refused, credential_fault, foreign_tenant, late_login
from dso.providers.azure_identity import identity
from dso.providers.azure_transport import recording
from dso.providers.deadline import Deadline, current, within
from dso.providers.trust import signatures
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from azure.core.credentials import AccessToken, AccessTokenInfo

    from dso.providers.azure_config import AzureConfig
    from dso.providers.azure_transport import Attempt, Transport

RENEW_AHEAD = 300.0  # seconds before its end that a token is replaced, as Azure's SDK does
STILL_GOOD = 30.0  # seconds that a token has to last when no other is to be had
RENEW_SECONDS = 3.0  # at most, for a renewal while the former token is good: there is a secret to read after it
RENEW_AGAIN = 30.0  # seconds after a renewal that failed
_CLI_SECONDS = 10.0  # for `az`, at most
_TENANT_VARIABLE = "AZURE_TENANT_ID"
_AUTHORITY_VARIABLE = "AZURE_AUTHORITY_HOST"
_CHAIN_VARIABLE = "AZURE_TOKEN_CREDENTIALS"
_CLI_CHAINS = ("dev", "azureclicredential")
_log = logging.getLogger("dso.azure")


class Credentials:
    """A `TokenCredential` of Azure's SDK around the one that the settings name, for many threads.

    One token is asked for at a time; whoever needs it waits for that, and shares what it came to. While a token is
    renewed ahead of its end, nobody else waits. After a failure the credential is made anew, so that files and
    variables are read again: somebody may have renewed them.

    Its methods raise ProviderError.
    """

    def __init__(self, config: AzureConfig, transport: Transport, timeout: float) -> None:
        self._config = config
        self._transport = transport
        self._timeout = timeout
        self._turn = threading.Lock()
        self._credential: Any = None
        self._files: object = None
        self._tokens: dict[tuple[object, ...], AccessTokenInfo] = {}
        self._got_at = float("-inf")
        self._failed: tuple[float, ProviderError | None] = (float("-inf"), None)
        self._renew_at = float("-inf")
        self._has_worked = False

    def prepare(self) -> None:
        """ProviderError `invalid_config` if a certificate cannot be used, or a login of `az` is asked for in vain."""
        wanted = os.environ.get(_CHAIN_VARIABLE, "").lower()
        if _has_no_home() and self._config.auth.method == "default" and wanted in _CLI_CHAINS:
            raise cli_refused(self._config, _CHAIN_VARIABLE)
        if self._config.auth.method == "client_certificate":
            with self._turn:
                self._current()

    def get_token_info(self, *scopes: str, options: Any = None) -> AccessTokenInfo:
        """See `azure.core.credentials.SupportsTokenInfo`."""
        options = self._checked(dict(options or {}))
        key = (*scopes, options.get("tenant_id"), options.get("enable_cae"))
        arrived = time.monotonic()
        if not options.get("claims"):
            token = self._usable(key) or (self._good(key) if self._turn.locked() else None)
            if token is not None:
                return token
        with self._locked():
            if not options.get("claims") or self._got_at >= arrived:
                token = self._usable(key)
                if token is not None:
                    return token
            failed_at, failure = self._failed
            if failure is not None and failed_at >= arrived:
                raise ProviderError(failure.code, failure.message, retry_after=failure.retry_after)
            return self._get(scopes, options, key)

    def get_token(self, *scopes: str, **options: Any) -> AccessToken:
        """See `azure.core.credentials.TokenCredential`."""
        from azure.core.credentials import AccessToken

        token = self.get_token_info(*scopes, options=options)
        return AccessToken(token.token, token.expires_on)

    def refuse(self, since: float) -> bool:
        """After the vault has refused the token of an attempt that began then: whether another one is worth it.

        Of many that find out about the same token, the first one has it replaced.
        """
        with self._locked():
            if self._failed[0] >= since:
                return False  # there was no token: it is the login that was refused
            if self._got_at < since:
                self._tokens.clear()
                self._credential = None
            return True

    def late_login(self) -> ProviderError | None:
        """The error for a request whose time is over, if it is a token that it waits for."""
        if not self._turn.locked() or any(self._good(key) for key in list(self._tokens)):
            return None
        return late_login(self._config, self._timeout)

    def _checked(self, options: dict[str, Any]) -> dict[str, Any]:
        """Take the vault's tenant out of the question, once it is known to be ours.

        The SDK compares the two as texts, and a tenant may be given as one of its domains.
        """
        tenant, own = options.get("tenant_id"), self._config.tenant
        if tenant and own:
            if _is_foreign(str(tenant), own):
                raise foreign_tenant(self._config, str(tenant))
            del options["tenant_id"]
        elif "." in self._tenant_of_environment():
            options.pop("tenant_id", None)
        return options

    def _tenant_of_environment(self) -> str:
        """The tenant of the identities that the default chain finds in variables; other ones have no need of it."""
        return os.environ.get(_TENANT_VARIABLE, "") if self._config.auth.method == "default" else ""

    def _good(self, key: tuple[object, ...]) -> AccessTokenInfo | None:
        """A token that lasts for a while still, also if it is time for another one."""
        token = self._tokens.get(key)
        return token if token is not None and token.expires_on - time.time() > STILL_GOOD else None

    def _usable(self, key: tuple[object, ...]) -> AccessTokenInfo | None:
        """A token to use without asking for another one: that is not due, or was tried in vain a moment ago."""
        token = self._good(key)
        if token is None:
            return None
        due = min(token.expires_on - RENEW_AHEAD, token.refresh_on or token.expires_on)
        return token if time.time() < due or time.monotonic() < self._renew_at else None

    def _get(self, scopes: tuple[str, ...], options: dict[str, Any], key: tuple[object, ...]) -> AccessTokenInfo:
        """Ask for a token; twice if the credential was made some time ago, and what it was made of may be another."""
        former = None if options.get("claims") else self._good(key)
        left = current() or Deadline(self._timeout)
        is_new = self._credential is None
        try:
            with within(left if former is None else left.at_most(RENEW_SECONDS)):
                try:
                    return self._ask(scopes, options, key)
                except ProviderError as error:
                    if is_new or error.code != UNAUTHENTICATED:
                        raise
                return self._ask(scopes, options, key)
        except ProviderError as failure:
            if former is None:
                self._failed = time.monotonic(), failure
                raise
            self._renew_at = time.monotonic() + RENEW_AGAIN
            _log.warning("%s; the token that is there is used as long as it is good", failure.message)
            return former

    def _ask(self, scopes: tuple[str, ...], options: dict[str, Any], key: tuple[object, ...]) -> AccessTokenInfo:
        with recording() as attempt:
            try:
                token: AccessTokenInfo = self._current().get_token_info(*scopes, options=options)
            except Exception as error:  # noqa: BLE001  # the SDK lets out those of its files, formats and libraries
                failure = self._fault(error, attempt, options)
            else:
                self._tokens[key], self._got_at, self._has_worked = token, time.monotonic(), True
                return token
        self._credential = None
        raise failure

    def _fault(self, error: Exception, attempt: Attempt, options: dict[str, Any]) -> ProviderError:
        if isinstance(error, ProviderError):
            return error
        tenant, own = options.get("tenant_id"), self._tenant_of_environment()
        if tenant and own and _is_foreign(str(tenant), own) and not attempt.exchanges:
            return foreign_tenant(self._config, str(tenant))
        return credential_fault(self._config, error, attempt, self._timeout, has_worked=self._has_worked)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        deadline = current()
        if not self._turn.acquire(timeout=deadline.left() if deadline is not None else self._timeout):
            raise late_login(self._config, self._timeout)
        try:
            yield
        finally:
            self._turn.release()

    def _current(self) -> Any:
        """The SDK's credential, made again when its certificate was replaced."""
        files = signatures([self._config.auth.get("certificate_path")])
        if self._credential is None or files != self._files:
            self._files = files
            self._credential = _MAKERS[self._config.auth.method](self._config, self._pipeline())
        return self._credential

    def _pipeline(self) -> dict[str, Any]:
        return {"transport": self._transport, "user_agent": f"dso/{VERSION}", "retry_connect": 1, "retry_status": 3}


def _has_no_home() -> bool:
    """Whether this plugin has a user of its own, in whose home there is no login of `az`."""
    return bool(os.environ.get(USER_VARIABLE))


def _is_foreign(tenant: str, own: str) -> bool:
    """Whether a tenant's id is another one than that of the settings, which may have a domain instead."""
    return "." not in own and own.lower() != tenant.lower()


def _issuer(config: AzureConfig) -> dict[str, Any]:
    """Who issues tokens. The SDK has Microsoft vouch for a host that it does not know: not for dso.yaml's."""
    if config.authority is None:
        return {}
    known = urlsplit(config.authority).netloc in WELL_KNOWN_AUTHORITY_HOSTS
    return {"authority": config.authority} | ({} if known else {"disable_instance_discovery": True})


def _client_secret(config: AzureConfig, pipeline: dict[str, Any]) -> Any:
    given = config.auth.parameters.reveal()
    return identity.ClientSecretCredential(
        given["tenant_id"], given["client_id"], given["client_secret"], **_issuer(config), **pipeline
    )


def _client_certificate(config: AzureConfig, pipeline: dict[str, Any]) -> Any:
    given = config.auth.parameters.reveal()
    path = given["certificate_path"]
    try:
        return identity.CertificateCredential(
            given["tenant_id"],
            given["client_id"],
            path,
            password=given.get("certificate_password"),
            **_issuer(config),
            **pipeline,
        )
    except OSError as error:
        reason = error.strerror or "cannot be read"
    except (ValueError, TypeError):
        reason = "no RSA certificate with its key in PEM or PKCS#12, or `certificate_password` is not its password"
    message = f"provider {config.name}: auth.certificate_path ({path}): {reason}"
    raise ProviderError(INVALID_CONFIG, message)


def _managed_identity(config: AzureConfig, pipeline: dict[str, Any]) -> Any:
    return identity.ManagedIdentityCredential(client_id=config.auth.get("client_id"), **pipeline)


def _workload_identity(config: AzureConfig, pipeline: dict[str, Any]) -> Any:
    given = config.auth.parameters.reveal()
    return identity.WorkloadIdentityCredential(
        tenant_id=given["tenant_id"],
        client_id=given["client_id"],
        token_file_path=given["token_file"],
        **_issuer(config),
        **pipeline,
    )


def _default(config: AzureConfig, pipeline: dict[str, Any]) -> Any:
    """Variables, workload identity, managed identity, Azure CLI: what can work in a daemon, and asks nobody."""
    nobody_asked = ("shared_token_cache", "visual_studio_code", "powershell", "developer_cli", "interactive_browser")
    excluded = {f"exclude_{name}_credential": True for name in (*nobody_asked, "broker")}
    if _has_no_home():
        excluded["exclude_cli_credential"] = True
    with _authority_in_environment(config):
        try:
            return identity.DefaultAzureCredential(
                **excluded, **_issuer(config), **pipeline, process_timeout=_CLI_SECONDS
            )
        except (AzureError, ValueError, TypeError, OSError) as error:
            message = f"provider {config.name}: the AZURE_* variables of its environment cannot work"
            message += f" ({type(error).__name__}): check AZURE_CLIENT_CERTIFICATE_PATH and AZURE_TOKEN_CREDENTIALS"
            raise ProviderError(INVALID_CONFIG, message) from None


@contextmanager
def _authority_in_environment(config: AzureConfig) -> Iterator[None]:
    """DefaultAzureCredential keeps `authority` from the credential for workload identities, which reads a variable."""
    former = os.environ.get(_AUTHORITY_VARIABLE)
    if config.authority is not None:
        os.environ[_AUTHORITY_VARIABLE] = config.authority
    try:
        yield
    finally:
        if config.authority is not None:
            del os.environ[_AUTHORITY_VARIABLE]
            if former is not None:
                os.environ[_AUTHORITY_VARIABLE] = former


_MAKERS: dict[str, Callable[[AzureConfig, dict[str, Any]], Any]] = {
    "default": _default,
    "client_secret": _client_secret,
    "client_certificate": _client_certificate,
    "managed_identity": _managed_identity,
    "workload_identity": _workload_identity,
}
