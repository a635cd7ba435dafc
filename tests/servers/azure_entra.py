"""A stand-in for Microsoft Entra: one tenant, its applications and its managed identities.

What is here, and where Microsoft describes it (learn.microsoft.com, or the recorded traffic of the SDKs' own
tests in Azure/azure-sdk-for-js, sdk/keyvault/*/recordings):

- `GET /common/discovery/instance` and `GET /TENANT/v2.0/.well-known/openid-configuration`, with the fields MSAL
  uses: the recorded traffic. A tenant that does not exist: 400, AADSTS90002.
- `POST /TENANT/oauth2/v2.0/token` with `client_credentials`: "Microsoft identity platform and the OAuth 2.0 client
  credentials flow" (entra/identity-platform/v2-oauth2-client-creds-grant-flow): by secret, by an assertion signed
  with a certificate, by a federated credential.
- The assertion (PS256 with `x5t#S256` or RS256 with `x5t`; `aud` is the token endpoint, `iss` and `sub` are the
  application, `exp`, `nbf`, `jti`): "Microsoft identity platform application authentication certificate
  credentials" (entra/identity-platform/certificate-credentials). The signature is verified with the certificate
  that the thumbprint names.
- The federated credential (issuer, subject, audience api://AzureADTokenExchange; its signature is verified with the
  issuer's key): "Workload identity federation" (entra/workload-id/workload-identity-federation).
- Errors, `error`, `error_description`, `error_codes`, `trace_id`, `correlation_id`, `error_uri`: "Microsoft Entra
  authentication and authorization error codes" (entra/identity-platform/reference-error-codes).
- The token, of version 1.0 (`aud`, `iss`, `appid`, `oid`, `tid`): "Azure Key Vault REST API Error Codes"
  (azure/key-vault/general/rest-error-codes) shows one.
- `claims` that a resource asked for (Continuous Access Evaluation) are repeated in `xms_claims` for the tests to
  see: "Claims challenges, claims requests and client capabilities" (entra/identity-platform/claims-challenge).
"""

from __future__ import annotations

import json
import time
import uuid
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from tests.servers.azure_tokens import Jwt, SigningKey, TokenError, encode
from tests.support.http_proxy import Reply

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

    from tests.servers.azure_tokens import Cloud
    from tests.support.http_proxy import Seen

EXCHANGE = "api://AzureADTokenExchange"
JWT_BEARER = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


class Federation(NamedTuple):
    """A federated credential: whose tokens an application may present instead of a secret."""

    issuer: str
    subject: str
    key: SigningKey
    audience: str = EXCHANGE

    def token(self, **claims: Any) -> str:
        """What the other identity provider gives its workload; `claims` replace the right ones."""
        now = int(time.time())
        usual = {"iss": self.issuer, "sub": self.subject, "aud": [self.audience], "iat": now, "nbf": now}
        return self.key.sign({**usual, "exp": now + 3600, **claims})


class Application(NamedTuple):
    """An application registered in the tenant, or a managed identity, which has no credentials."""

    client_id: str
    object_id: str
    secrets: list[str]
    certificates: list[Certificate]
    federations: list[Federation]

    @classmethod
    def new(cls) -> Application:
        """One without credentials."""
        return cls(str(uuid.uuid4()), str(uuid.uuid4()), [], [], [])


class EntraError(Exception):
    """Entra refuses; `number` is that of AADSTS."""

    def __init__(self, status: int, error: str, number: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.error = error
        self.number = number
        self.message = message

    def reply(self) -> Reply:
        """As it goes over the wire."""
        trace, correlation = uuid.uuid4(), uuid.uuid4()
        stamp = time.strftime("%Y-%m-%d %H:%M:%SZ", time.gmtime())
        text = f"AADSTS{self.number}: {self.message} Trace ID: {trace} Correlation ID: {correlation} Timestamp: {stamp}"
        body = {
            "error": self.error,
            "error_description": text,
            "error_codes": [self.number],
            "timestamp": stamp,
            "trace_id": str(trace),
            "correlation_id": str(correlation),
            "error_uri": f"https://login.microsoftonline.com/error?code={self.number}",
        }
        return answer(body, self.status)


class Entra:
    """One tenant.

    Attributes:
        tenant: its id.
        domains: names that stand for it as well.
        applications: by client id.
        lifetime: of the tokens it issues, in seconds.
        issued: all of them.
        key: what it signs them with.
    """

    def __init__(self, cloud: Cloud) -> None:
        self.cloud = cloud
        self.tenant = str(uuid.uuid4())
        self.domains: list[str] = []
        self.applications: dict[str, Application] = {}
        self.lifetime = 3600
        self.issued: list[str] = []
        self.key = SigningKey()
        self.issuer = f"https://{cloud.issuer}/{self.tenant}/"
        self.authority = f"https://{cloud.login}/{self.tenant}"

    def register(self) -> Application:
        """One more application, or managed identity."""
        application = Application.new()
        self.applications[application.client_id] = application
        return application

    def token(self, application: Application, audience: str, **claims: Any) -> str:
        """An access token."""
        now = int(time.time())
        usual = {
            "aud": audience,
            "iss": self.issuer,
            "iat": now,
            "nbf": now,
            "exp": now + self.lifetime,
            "appid": application.client_id,
            "oid": application.object_id,
            "sub": application.object_id,
            "tid": self.tenant,
            "uti": str(uuid.uuid4()),
            "ver": "1.0",
        }
        self.issued.append(self.key.sign({**usual, **claims}))
        return self.issued[-1]

    def answer(self, seen: Seen) -> Reply:
        """What Entra says to a request."""
        url = urlsplit(seen.path)
        if url.path == "/common/discovery/instance":
            return self._instances(seen.headers["host"])
        tenant, _, rest = url.path.removeprefix("/").partition("/")
        try:
            self._check_tenant(tenant)
            if rest == "v2.0/.well-known/openid-configuration":
                return self._configuration(seen.headers["host"])
            if rest == "oauth2/v2.0/token" and seen.method == "POST":
                return self._give_token(seen.headers["host"], dict(parse_qsl(seen.body.decode())))
        except EntraError as error:
            return error.reply()
        return Reply(404, b"")

    def _check_tenant(self, tenant: str) -> None:
        if tenant not in (self.tenant, *self.domains):
            message = (
                f"Tenant '{tenant}' not found. Check to make sure you have the correct tenant ID and are signing into "
                "the correct cloud. Check with your subscription administrator, this may happen if there are no active "
                "subscriptions for the tenant."
            )
            raise EntraError(400, "invalid_request", 90002, message)

    def _instances(self, host: str) -> Reply:
        where = f"https://{host}/{self.tenant}/v2.0/.well-known/openid-configuration"
        known = {"preferred_network": host, "preferred_cache": host, "aliases": [host]}
        return answer({"tenant_discovery_endpoint": where, "api-version": "1.1", "metadata": [known]})

    def _configuration(self, host: str) -> Reply:
        here = f"https://{host}/{self.tenant}"
        return answer(
            {
                "token_endpoint": f"{here}/oauth2/v2.0/token",
                "token_endpoint_auth_methods_supported": ["client_secret_post", "private_key_jwt"],
                "jwks_uri": f"{here}/discovery/v2.0/keys",
                "issuer": f"{here}/v2.0",
                "authorization_endpoint": f"{here}/oauth2/v2.0/authorize",
                "device_authorization_endpoint": f"{here}/oauth2/v2.0/devicecode",
            }
        )

    def _give_token(self, host: str, form: dict[str, str]) -> Reply:
        if form.get("grant_type") != "client_credentials":
            raise EntraError(400, "unsupported_grant_type", 70003, "The app requested an unsupported grant type.")
        application = self.applications.get(form.get("client_id", ""))
        if application is None:
            message = (
                f"Application with identifier '{form.get('client_id')}' was not found in the directory 'Tests'. This "
                "can happen if the application has not been installed by the administrator of the tenant or consented "
                "to by any user in the tenant. You may have sent your authentication request to the wrong tenant."
            )
            raise EntraError(400, "unauthorized_client", 700016, message)
        _authenticate(application, form, f"https://{host}/{self.tenant}/oauth2/v2.0/token")
        scope = form.get("scope", "")
        if not scope.endswith("/.default"):
            raise EntraError(400, "invalid_scope", 1002012, f"The provided value for scope {scope} is not valid.")
        audience = scope.removesuffix("/.default")
        if audience != self.cloud.resource:
            message = f"The resource principal named {audience} was not found in the tenant named Tests."
            raise EntraError(400, "invalid_resource", 500011, message)
        token = self.token(application, audience, **({"xms_claims": form["claims"]} if "claims" in form else {}))
        lasts = {"expires_in": self.lifetime, "ext_expires_in": self.lifetime}
        return answer({"token_type": "Bearer", **lasts, "access_token": token})


def answer(body: Any, status: int = 200, **headers: str) -> Reply:
    """An answer in JSON."""
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json; charset=utf-8", **headers})


def _authenticate(application: Application, form: dict[str, str], endpoint: str) -> None:
    """EntraError unless the form proves to come from this application."""
    if "client_secret" in form:
        if form["client_secret"] not in application.secrets:
            message = (
                "Invalid client secret provided. Ensure the secret being sent in the request is the client secret "
                f"value, not the client secret ID, for a secret added to app '{application.client_id}'."
            )
            raise EntraError(401, "invalid_client", 7000215, message)
    elif form.get("client_assertion_type") == JWT_BEARER:
        try:
            assertion = Jwt.parse(form.get("client_assertion", ""))
        except TokenError:
            message = "Client assertion is malformed and cannot be read."
            raise EntraError(400, "invalid_request", 50027, message) from None
        if assertion.claims.get("iss") == application.client_id:
            _check_certificate(application, assertion, endpoint)
        else:
            _check_federation(application, assertion)
    else:
        message = (
            "'client_assertion', 'client_secret' or 'request' is required for the 'client_credentials' grant type."
        )
        raise EntraError(401, "invalid_client", 7000216, message)


def _check_certificate(application: Application, assertion: Jwt, endpoint: str) -> None:
    """An assertion that the application has signed itself."""
    header, claims = assertion.header, assertion.claims
    known = {}
    for certificate in application.certificates:
        known["x5t#S256", encode(certificate.fingerprint(hashes.SHA256()))] = certificate, "PS256"
        known["x5t", encode(certificate.fingerprint(hashes.SHA1()))] = certificate, "RS256"
    # MSAL leaves the padding on, and Entra does not mind.
    told = [(name, str(header.get(name, "")).rstrip("=")) for name in ("x5t#S256", "x5t")]
    named = next((known[each] for each in told if each in known), None)
    reason = "The key was not found."
    if named is not None:
        certificate, algorithm = named
        key = certificate.public_key()
        assert isinstance(key, RSAPublicKey)
        try:
            assertion.verify(key, algorithm)
        except TokenError:
            reason = "The key was found, but use of the key to verify the signature failed."
        else:
            reason = ""
    if reason:
        message = (
            "The certificate with identifier used to sign the client assertion is not registered on application. "
            f"[Reason - {reason}, Please visit the Azure Portal, Graph Explorer or directly use MS Graph to see "
            f"configured keys for app Id '{application.client_id}'.]"
        )
        raise EntraError(401, "invalid_client", 700027, message)
    if claims.get("sub") != application.client_id or claims.get("aud") != endpoint or not claims.get("jti"):
        message = "Client assertion audience claim does not match Realm issuer."
        raise EntraError(401, "invalid_client", 700023, message)
    _check_time(assertion)


def _check_federation(application: Application, assertion: Jwt) -> None:
    """A token of another identity provider that the application trusts."""
    claims = assertion.claims
    audience = claims.get("aud")
    audiences = audience if isinstance(audience, list) else [audience]
    trusted = [each for each in application.federations if each.issuer == claims.get("iss")]
    if not trusted:
        message = f"No matching federated identity record found for presented assertion issuer '{claims.get('iss')}'."
        raise EntraError(401, "invalid_client", 700211, message)
    trusted = [each for each in trusted if each.subject == claims.get("sub")]
    if not trusted:
        message = f"No matching federated identity record found for presented assertion subject '{claims.get('sub')}'."
        raise EntraError(401, "invalid_client", 700213, message)
    trusted = [each for each in trusted if each.audience in audiences]
    if not trusted:
        message = f"No matching federated identity record found for presented assertion audience '{audience}'."
        raise EntraError(401, "invalid_client", 700212, message)
    try:
        assertion.verify(trusted[0].key.public, "RS256")
    except TokenError:
        message = "Signature validation failed for the client assertion."
        raise EntraError(401, "invalid_client", 5002738, message) from None
    _check_time(assertion)


def _check_time(assertion: Jwt) -> None:
    if not assertion.is_valid_now:
        message = "Client assertion is not within its valid time range."
        raise EntraError(401, "invalid_client", 700024, message)
