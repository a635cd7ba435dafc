"""Azure Key Vault: its secrets, and what belongs to its certificates as a secret.

A path is a secret's name, in which `_` and `/` stand for hyphens (`azure_names`). A version is its id: 32 hexadecimal
digits.
"""

from __future__ import annotations

import binascii
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Self

from azure.core.settings import settings as sdk_settings
from azure.keyvault.secrets import SecretClient

from dso.protocol.codes import INVALID_REQUEST, NOT_FOUND, PERMISSION_DENIED
from dso.protocol.provider import ProviderError, SecretData
from dso.providers.azure_config import AzureConfig
from dso.providers.azure_credentials import Credentials
from dso.providers.azure_errors import (
    BlockedError,
    TokenRefusedError,
    disabled,
    expired,
    incomplete,
    is_whole,
    not_yet,
    of_secret,
    vault_fault,
)
from dso.providers.azure_names import Names, Wanted
from dso.providers.azure_transport import Transport, recording
from dso.providers.deadline import Deadline, within
from dso.providers.http_faults import Target, late_fault
from dso.providers.http_session import ProviderSession
from dso.secret import SecretValue
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from azure.keyvault.secrets import KeyVaultSecret, SecretProperties

    from dso.providers.provider import Request

ANSWER_WITHIN = 0.95  # of the time limit: the agent's own clock started before ours
SEND_WITHIN = 0.92  # of it: who sends knows best what did not answer, and tells it before
CONNECTIONS = 64  # requests under way
ABSENT = "dso-check-this-secret-does-not-exist"
_PKCS12 = "application/x-pkcs12"
_DER_SEQUENCE = b"\x30"  # how PKCS#12 begins
_log = logging.getLogger("dso.azure")


class AzureProvider:
    """See `dso.providers.provider.Provider`.

    The SDK has no time limit for a request as a whole, which may begin with requests for a token; so requests run in
    threads of their own, which know their deadline (`deadline.within`), and whoever waits for one gives up in time
    even where something does not ask for it, such as a name server.
    """

    type: ClassVar[str] = "azure"
    batch: ClassVar[int] = 0  # Key Vault reads one secret at a time

    def __init__(self, config: AzureConfig, timeout: float) -> None:
        _silence_sdk()
        self._config = config
        self._timeout = timeout
        self._names = Names(config.name)
        self._session = ProviderSession(config.name, config.ca_cert, timeout)
        self._transport = Transport(self._session, timeout)
        self._credentials = Credentials(config, self._transport, timeout)
        self._credentials.prepare()
        self._requests = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="azure")

    @classmethod
    def open(cls, name: str, config: Mapping[str, Any], timeout: float) -> Self:
        """Check the settings and the certificate files."""
        return cls(AzureConfig.read(name, config), timeout)

    def get(self, path: str, version: str | None) -> SecretData:
        """Read one secret."""
        found = self._in_time(self._names.wanted(path, version))
        self._names.was_read(path)
        return found

    def get_many(self, requests: Sequence[Request]) -> list[SecretData | ProviderError]:  # noqa: ARG002
        """The agent does not call it: `batch` is 0."""
        raise ProviderError(INVALID_REQUEST, f"provider {self._config.name} reads one secret at a time")

    def check(self) -> None:
        """Ask for a secret that does not exist: whatever Key Vault says to that, it has accepted the token."""
        try:
            self._in_time(Wanted(ABSENT, None, ""))
        except ProviderError as error:
            if error.code not in (NOT_FOUND, PERMISSION_DENIED) or isinstance(error, BlockedError):
                raise

    def close(self) -> None:
        """Nothing is kept at Azure for us."""
        self._requests.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def _in_time(self, wanted: Wanted) -> SecretData:
        deadline = Deadline(self._timeout * ANSWER_WITHIN)
        future = self._requests.submit(self._get, wanted, deadline.at_most(self._timeout * SEND_WITHIN))
        try:
            return future.result(deadline.left())
        except LateError:
            future.cancel()
            target = Target(f"{self._config.name}: Key Vault {self._config.vault_host}", "`vault_url:`")
            late = self._credentials.late_login() or late_fault(target, self._timeout)
            raise of_secret(late, wanted) from None

    def _get(self, wanted: Wanted, deadline: Deadline) -> SecretData:
        began = time.monotonic()
        with within(deadline):
            try:
                return self._ask(wanted)
            except TokenRefusedError:
                if not self._credentials.refuse(began):
                    raise
            return self._ask(wanted)

    def _ask(self, wanted: Wanted) -> SecretData:
        """One request to Key Vault, and what the SDK makes of it; ProviderError."""
        with recording() as attempt:
            try:
                secret = self._client().get_secret(wanted.name, wanted.version)
            except ProviderError as error:
                failure = of_secret(error, wanted)
            except Exception as error:  # noqa: BLE001  # the SDK lets out those of its formats and libraries as well
                failure = vault_fault(self._config, wanted, error, attempt, self._timeout)
            else:
                if is_whole(secret):
                    return self._secret(secret, wanted)
                failure = incomplete(self._config, wanted)
        raise failure

    def _client(self) -> SecretClient:
        """For one request: it keeps its token where another thread may take it away. It takes 0.1 ms to make."""
        return SecretClient(
            self._config.vault_url,
            self._credentials,
            transport=self._transport,
            user_agent=f"dso/{VERSION}",
            permit_redirects=False,
            retry_connect=1,
        )

    def _secret(self, secret: KeyVaultSecret, wanted: Wanted) -> SecretData:
        """What may be handed out of an answer: Key Vault gives out what has expired as well."""
        properties = secret.properties
        now = datetime.now(UTC)
        if not properties.enabled:
            raise disabled(self._config, wanted)
        if properties.expires_on is not None and properties.expires_on <= now:
            raise expired(self._config, wanted, properties.expires_on)
        if properties.not_before is not None and properties.not_before > now:
            raise not_yet(self._config, wanted, properties.not_before)
        created = properties.created_on
        return SecretData(
            SecretValue(self._content(secret.value or "", properties, wanted)),
            version=properties.version or "",
            created_at=created.timestamp() if created is not None else None,
            name=wanted.name if wanted.is_renamed else "",
        )

    def _content(self, value: str, properties: SecretProperties, wanted: Wanted) -> bytes:
        """The secret's bytes: Key Vault holds texts only, and has a certificate's PKCS#12 file in base64."""
        kind = (properties.content_type or "").partition(";")[0].strip().lower()
        if kind == _PKCS12:
            try:
                decoded = binascii.a2b_base64(value, strict_mode=True)
            except (binascii.Error, ValueError):
                decoded = b""
            if decoded.startswith(_DER_SEQUENCE):
                _log.debug("%s: %s is a PKCS#12 file, which Key Vault has in base64", self._config.name, wanted)
                return decoded
        return value.encode("utf-8", "surrogatepass")


def _silence_sdk() -> None:
    """The SDK's loggers quote answers and exceptions; what there is to say of a failure our own error says."""
    for name in ("azure", "msal", "urllib3"):
        logging.getLogger(name).setLevel(logging.CRITICAL + 1)
    sdk_settings.tracing_enabled = False
