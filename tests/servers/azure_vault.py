"""A stand-in for one Azure Key Vault: the reading half of the data plane for secrets.

No emulator of Key Vault that checks tokens can be had where the tests run, so this one follows the documentation
(learn.microsoft.com) and what real vaults answered when the SDKs' own tests were recorded (Azure/azure-sdk-for-js,
sdk/keyvault/*/recordings):

- A request without a token, or with one it does not accept: 401, `WWW-Authenticate: Bearer authorization="...",
  resource="..."`, error `Unauthorized` and AKV10000, AKV10022 (audience), AKV10032 (issuer): "Authentication,
  requests and responses" (azure/key-vault/general/authentication-requests-and-responses) and the recordings. The
  token's signature, `aud`, `iss`, `tid`, `nbf` and `exp` are verified.
- `GET /secrets/NAME/[VERSION]?api-version=`, its answer, 404 `SecretNotFound`, 400 `BadParameter` for a name that is
  none: rest/api/keyvault/secrets/get-secret and the recordings. Names ignore case: "About keys, secrets, and
  certificates" (azure/key-vault/general/about-keys-secrets-certificates).
- `GET /deletedsecrets/NAME` with `recoveryId`, `deletedDate`, `scheduledPurgeDate`: get-deleted-secret. To other
  calls a deleted secret is one that is not there.
- A disabled version: 403 `Forbidden` with the inner error `SecretDisabled`. `nbf` and `exp` are information, and a
  secret outside of them is handed out all the same: "About Azure Key Vault secrets"
  (azure/key-vault/secrets/about-secrets), which also has the largest size, 25 KB. The inner error is spelled
  `innererror`: Azure/azure-sdk-for-java#17991.
- No permission: 403 `Forbidden` with the inner error `ForbiddenByRbac`, `ForbiddenByPolicy` or `ForbiddenByFirewall`,
  and messages that name the caller: "Azure RBAC for Key Vault" and rest-error-codes of azure/key-vault/general.
- Too many requests: 429 `Throttled` and `Retry-After`: azure/key-vault/general/overview-throttling.
"""

from __future__ import annotations

import base64
import json
import re
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers.azure_entra import answer
from tests.servers.azure_tokens import Jwt, TokenError

if TYPE_CHECKING:
    from tests.servers.azure_entra import Application, Entra
    from tests.support.http_proxy import Reply, Seen

LARGEST = 25 * 1024
_NAME = re.compile(r"[0-9a-zA-Z-]{1,127}")
_API_VERSION = re.compile(r"7\.\d|20\d\d-\d\d-\d\d")
_DAY = 86400
_LOCATION = "westeurope"


class Version(NamedTuple):
    """One version of a secret."""

    id: str
    value: str
    content_type: str | None
    attributes: dict[str, Any]


class Secret:
    """A secret: its versions, oldest first, and when it was deleted."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.versions: list[Version] = []
        self.deleted: float | None = None

    def find(self, version: str) -> Version | None:
        """That version, the newest if none is named."""
        return next((each for each in reversed(self.versions) if version in ("", each.id)), None)


class VaultError(Exception):
    """The vault refuses."""

    def __init__(self, status: int, code: str, message: str, inner: str = "", **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.inner = inner
        self.headers = headers

    def reply(self) -> Reply:
        """As it goes over the wire."""
        error: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.inner:
            error["innererror"] = {"code": self.inner}
        return answer({"error": error}, self.status, **self.headers)


class KeyVault:
    """One vault.

    Attributes:
        url: its address.
        readers: object ids of those who may read secrets.
        authorization, resource: what the challenge names, as a test wants it.
        claims: further claims that the next token has to be asked for (Continuous Access Evaluation), if any.
    """

    def __init__(self, name: str, entra: Entra) -> None:
        self.name = name
        self.url = f"https://{name}.{entra.cloud.vault}"
        self.readers: set[str] = set()
        self.authorization = entra.authority
        self.resource = entra.cloud.resource
        self.claims = ""
        self._entra = entra
        self._secrets: dict[str, Secret] = {}
        self._revoked: set[str] = set()
        self._seen: set[str] = set()

    # What a test does to it

    def put(self, name: str, value: str, content_type: str | None = None, **attributes: Any) -> str:
        """Store a secret, or a new version of it; the version. `attributes`: `enabled`, `nbf`, `exp`."""
        assert _NAME.fullmatch(name), f"Key Vault takes no such name: {name}"
        assert len(value.encode()) <= LARGEST, "Key Vault takes no more"
        secret = self._secrets.setdefault(name.lower(), Secret(name))
        assert secret.deleted is None, "409 Conflict: it is deleted, but recoverable"
        now = int(time.time())
        common = {"enabled": True, "created": now, "updated": now, "recoveryLevel": "Recoverable+Purgeable"}
        version = Version(uuid.uuid4().hex, value, content_type, {**common, "recoverableDays": 90, **attributes})
        secret.versions.append(version)
        return version.id

    def change(self, name: str, **attributes: Any) -> None:
        """Change attributes of the newest version; None removes one."""
        version = self._secrets[name.lower()].versions[-1]
        version.attributes.update(attributes)
        for gone in [key for key, value in version.attributes.items() if value is None]:
            del version.attributes[gone]

    def delete(self, name: str) -> None:
        """Delete a secret; it can be recovered."""
        self._secrets[name.lower()].deleted = time.time()

    def recover(self, name: str) -> None:
        """Take that back."""
        self._secrets[name.lower()].deleted = None

    def revoke_tokens(self) -> None:
        """Accept none of the tokens that were used so far any more."""
        self._revoked |= self._seen

    @property
    def _asked_for(self) -> set[str]:
        """Names of the claims that a token has to be asked for."""
        return set(json.loads(base64.b64decode(self.claims))["access_token"])

    # What it answers

    def answer(self, seen: Seen) -> Reply:
        """What it says to a request."""
        try:
            caller = self._authenticate(seen)
            return self._serve(seen, caller)
        except VaultError as error:
            return error.reply()

    def _challenge(self, message: str, *more: str) -> VaultError:
        parts = [f'authorization="{self.authorization}"', f'resource="{self.resource}"', *more]
        headers = {"WWW-Authenticate": f"Bearer {', '.join(parts)}"}
        return VaultError(401, "Unauthorized", message, **headers)

    def _authenticate(self, seen: Seen) -> dict[str, Any]:
        """The claims of the caller's token."""
        kind, _, token = seen.headers.get("authorization", "").partition(" ")
        if kind != "Bearer":
            raise self._challenge("AKV10000: Request is missing a Bearer or PoP token.")
        try:
            jwt = Jwt.parse(token)
            jwt.verify(self._entra.key.public, "RS256")
        except TokenError:
            raise self._challenge("[BearerReadAccessTokenFailed]: Error validating token: 'S2S12086'.") from None
        claims, expected = jwt.claims, self._entra.cloud.resource
        if claims["aud"].removesuffix("/") != expected:
            raise self._challenge(f"AKV10022: Invalid audience. Expected {expected}, found: {claims['aud']}.")
        if claims["iss"] != self._entra.issuer or claims["tid"] != self._entra.tenant:
            found = claims["iss"]
            raise self._challenge(f"AKV10032: Invalid issuer. Expected one of {self._entra.issuer}, found {found}.")
        self._seen.add(claims["uti"])
        if not jwt.is_valid_now or claims["uti"] in self._revoked:
            raise self._challenge("[TokenExpired]: Error validating token: 'S2S12086'.")
        if self.claims and not self._asked_for <= set(
            json.loads(claims.get("xms_claims", "{}")).get("access_token", {})
        ):
            raise self._challenge(
                "Continuous access evaluation", 'error="insufficient_claims"', f'claims="{self.claims}"'
            )
        return claims

    def _serve(self, seen: Seen, caller: dict[str, Any]) -> Reply:
        url = urlsplit(seen.path)
        if not _API_VERSION.fullmatch(parse_qs(url.query).get("api-version", [""])[0]):
            raise VaultError(400, "BadParameter", "The query string parameter api-version is missing or not supported.")
        collection, *rest = [unquote(part) for part in url.path.split("/") if part]
        if seen.method != "GET" or collection not in ("secrets", "deletedsecrets") or len(rest) not in (1, 2):
            raise VaultError(404, "NotFound", "The tests' vault has no such operation.")
        name, version = [*rest, ""][:2]
        if not _NAME.fullmatch(name):
            raise VaultError(400, "BadParameter", f"The request URI contains an invalid name: {name}")
        if caller["oid"] not in self.readers:
            raise self.forbidden_by_rbac(name, caller)
        return self._deleted(name) if collection == "deletedsecrets" else self._get(name, version)

    def _get(self, name: str, version: str) -> Reply:
        secret = self._secrets.get(name.lower())
        found = secret.find(version) if secret and secret.deleted is None else None
        if secret is None or found is None:
            raise self.not_found(f"{name}/{version}" if version else name)
        if not found.attributes["enabled"]:
            raise VaultError(403, "Forbidden", "Operation get is not allowed on a disabled secret.", "SecretDisabled")
        return answer({"value": found.value, **self._describe(secret, found)})

    def _deleted(self, name: str) -> Reply:
        secret = self._secrets.get(name.lower())
        if secret is None or secret.deleted is None:
            raise VaultError(404, "SecretNotFound", f"Deleted Secret not found: {name}")
        when = int(secret.deleted)
        dates = {"deletedDate": when, "scheduledPurgeDate": when + 90 * _DAY}
        where = {"recoveryId": f"{self.url}/deletedsecrets/{secret.name}"}
        return answer({**where, **dates, **self._describe(secret, secret.versions[-1])})

    def _describe(self, secret: Secret, version: Version) -> dict[str, Any]:
        kind = {} if version.content_type is None else {"contentType": version.content_type}
        return {**kind, "id": f"{self.url}/secrets/{secret.name}/{version.id}", "attributes": version.attributes}

    # Refusals, also for tests that want one without its cause

    def not_found(self, what: str) -> VaultError:
        """404 for a name, or `name/version`."""
        message = (
            f"A secret with (name/id) {what} was not found in this key vault. If you recently deleted this secret you "
            "may be able to recover it using the correct recovery command. For help resolving this issue, please see "
            "https://go.microsoft.com/fwlink/?linkid=2125182"
        )
        return VaultError(404, "SecretNotFound", message)

    def forbidden_by_rbac(self, name: str, caller: dict[str, Any]) -> VaultError:
        """403 for an identity without a role."""
        who = f"appid={caller['appid']};oid={caller['oid']};iss={caller['iss']}"
        vault = "/subscriptions/s/resourcegroups/g/providers/microsoft.keyvault/vaults"
        message = (
            "Caller is not authorized to perform action on resource.\r\nIf role assignments, deny assignments or role "
            f"definitions were changed recently, please observe propagation time.\r\nCaller: {who}\r\n"
            "Action: 'Microsoft.KeyVault/vaults/secrets/getSecret/action'\r\n"
            f"Resource: '{vault}/{self.name}/secrets/{name}'\r\nAssignment: (not found)\r\nDenyAssignmentId: null\r\n"
            f"DecisionReason: 'DeniedWithNoValidRBAC' \r\nVault: {self.name};location={_LOCATION}\r\n"
        )
        return VaultError(403, "Forbidden", message, "ForbiddenByRbac")

    def forbidden_by_policy(self, caller: Application) -> VaultError:
        """403 for an identity without an access policy."""
        who = f"appid={caller.client_id};oid={caller.object_id};iss={self._entra.issuer}"
        message = (
            f"The user, group or application '{who}' "
            f"does not have secrets get permission on key vault '{self.name};location={_LOCATION}'. For help resolving "
            "this issue, please see https://go.microsoft.com/fwlink/?linkid=2125287"
        )
        return VaultError(403, "Forbidden", message, "ForbiddenByPolicy")

    def forbidden_by_firewall(self, caller: Application) -> VaultError:
        """403 for an address that the vault's firewall does not let in."""
        message = (
            "Client address is not authorized and caller is not a trusted service.\r\nClient address: 203.0.113.7\r\n"
            f"Caller: appid={caller.client_id};oid={caller.object_id};iss={self._entra.issuer}\r\n"
            f"Vault: {self.name};location={_LOCATION}"
        )
        return VaultError(403, "Forbidden", message, "ForbiddenByFirewall")


def throttled(retry_after: int | None) -> VaultError:
    """429."""
    message = "Request was not processed because too many requests were received. Reason: VaultRequestTypeLimitReached"
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    return VaultError(429, "Throttled", message, **headers)
