"""Stand-ins for the services that give tokens to managed identities.

- The Instance Metadata Service of a virtual machine, `GET /metadata/identity/oauth2/token` on 169.254.169.254, which
  wants `Metadata: true` and no X-Forwarded-For, and names an identity by `client_id`; errors 400 `invalid_request`
  "Identity not found": "How to use managed identities for Azure resources on an Azure VM to acquire an access token"
  (entra/identity/managed-identities-azure-resources/how-to-use-vm-token), "Azure Instance Metadata Service"
  (azure/virtual-machines/instance-metadata-service).
- That of App Service, `GET $IDENTITY_ENDPOINT` with `X-IDENTITY-HEADER`, `expires_on` only; errors as
  `statusCode` and `message`: "How to use managed identities for App Service and Azure Functions"
  (azure/app-service/overview-managed-identity, REST endpoint reference).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

from tests.servers.azure_entra import answer
from tests.support.http_proxy import Reply

if TYPE_CHECKING:
    from tests.servers.azure_entra import Application, Entra
    from tests.support.http_proxy import Seen

IMDS_PATH = "/metadata/identity/oauth2/token"
APP_SERVICE_PATH = "/msi/token"


class Metadata:
    """What a machine knows of its identities.

    Attributes:
        system: the identity the machine has of its own, None if it has none.
        users: those assigned to it.
        header: IDENTITY_HEADER of App Service.
    """

    def __init__(self, entra: Entra, header: str) -> None:
        self.system: Application | None = None
        self.users: list[Application] = []
        self.header = header
        self._entra = entra

    def answer(self, seen: Seen) -> Reply:
        """What either service says to a request."""
        url = urlsplit(seen.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        if url.path == IMDS_PATH:
            return self._imds(seen, query)
        if url.path == APP_SERVICE_PATH:
            return self._app_service(seen, query)
        return Reply(404, b"")

    def _identity(self, query: dict[str, str]) -> Application | None:
        wanted = query.get("client_id")
        if wanted is None:
            return self.system or (self.users[0] if len(self.users) == 1 else None)
        return next((each for each in self.users if each.client_id == wanted), None)

    def _imds(self, seen: Seen, query: dict[str, str]) -> Reply:
        if seen.headers.get("metadata") != "true" or "x-forwarded-for" in seen.headers:
            return _refuse("invalid_request", "Required metadata header not specified")
        if query.get("api-version", "") < "2018-02-01" or "resource" not in query:
            return _refuse("invalid_request", "Required query variable 'resource' is missing")
        identity = self._identity(query)
        if identity is None:
            return _refuse("invalid_request", "Identity not found")
        if query["resource"].removesuffix("/") != self._entra.cloud.resource:
            message = f"AADSTS500011: The resource principal named {query['resource']} was not found in the tenant."
            return _refuse("invalid_resource", message)
        now = int(time.time())
        return answer(
            {
                "access_token": self._entra.token(identity, query["resource"]),
                "refresh_token": "",
                "client_id": identity.client_id,
                "expires_in": str(self._entra.lifetime),
                "expires_on": str(now + self._entra.lifetime),
                "not_before": str(now),
                "resource": query["resource"],
                "token_type": "Bearer",
            }
        )

    def _app_service(self, seen: Seen, query: dict[str, str]) -> Reply:
        if seen.headers.get("x-identity-header") != self.header:
            return answer({"statusCode": 401, "message": "Unauthorized."}, 401)
        identity = self._identity(query)
        if query.get("api-version") != "2019-08-01" or identity is None or "resource" not in query:
            return answer({"statusCode": 400, "message": "No User Assigned or Delegated Managed Identity found."}, 400)
        return answer(
            {
                "access_token": self._entra.token(identity, query["resource"]),
                "expires_on": str(int(time.time()) + self._entra.lifetime),
                "resource": query["resource"],
                "token_type": "Bearer",
                "client_id": identity.client_id,
            }
        )


def _refuse(error: str, message: str) -> Reply:
    return answer({"error": error, "error_description": message}, 400)
