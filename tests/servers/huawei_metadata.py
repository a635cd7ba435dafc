"""A stand-in for what an Elastic Cloud Server of Huawei Cloud can ask about itself, on 169.254.169.254.

- `GET /openstack/latest/securitykey`: temporary keys of the machine's agency, `credential` with `access`, `secret`,
  `securitytoken` and `expires_at` (UTC, such as 2020-01-08T02:56:19.587000Z). "Obtaining Metadata"
  (usermanual-ecs/ecs_03_0166), and for the fields "Obtaining a Temporary Access Key and SecurityToken Through a Token"
  (api-iam/iam_04_0002).
- `PUT /meta-data/latest/api/token` with `X-Metadata-Token-Ttl-Seconds` (1 to 360 minutes) and `X-Metadata-Token` on
  the requests after it: "Configuring Instance Metadata Options" (usermanual-ecs/ecs_03_2167). A machine may want them
  (`required`), take them (`optional`), or, as in most regions, not know them (404). X-Forwarded-For is refused.
- A machine without an agency answers 401 "Please configure Cloud Service Agency first": the SDK's MetadataAccessor.
  What it says to a missing or old token is not documented; 401 is what that accessor renews a token upon.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING

from tests.servers.huawei_iam import READ, answer
from tests.support.http_proxy import Reply

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.servers.huawei_iam import Iam, Keys
    from tests.support.http_proxy import Seen

ADDRESS = "169.254.169.254"
KEYS_PATH = "/openstack/latest/securitykey"
TOKEN_PATH = "/meta-data/latest/api/token"  # where it is
UNKNOWN, OPTIONAL, REQUIRED = "unknown", "optional", "required"
_TTL = range(60, 21601)


class Metadata:
    """The service of one machine.

    Attributes:
        actions: what the machine's agency may do; None if it has none.
        seconds: how long the keys it hands out are good for.
        issued: those keys.
        tokens: what the machine thinks of tokens.
    """

    def __init__(self, iam: Iam, actions: Collection[str] | None = READ) -> None:
        self.actions = actions
        self.seconds = 86400.0
        self.issued: list[Keys] = []
        self.tokens = UNKNOWN
        self._iam = iam
        self._known: set[str] = set()

    def forget_tokens(self) -> None:
        """Let all tokens be old."""
        self._known.clear()

    def answer(self, seen: Seen) -> Reply:
        """Whatever came."""
        if "x-forwarded-for" in seen.headers:
            return Reply(403, b"Forbidden")
        if (seen.method, seen.path) == ("PUT", TOKEN_PATH):
            return self._token(seen.headers.get("x-metadata-token-ttl-seconds", ""))
        if (seen.method, seen.path) != ("GET", KEYS_PATH):
            return Reply(404, b"Not Found")
        token = seen.headers.get("x-metadata-token")
        if self.tokens != UNKNOWN and token not in self._known and (token or self.tokens == REQUIRED):
            return Reply(401, b"Unauthorized")
        if self.actions is None:
            return Reply(401, b"Please configure Cloud Service Agency first")
        return self._keys(self.actions)

    def _token(self, ttl: str) -> Reply:
        if self.tokens == UNKNOWN:
            return Reply(404, b"Not Found")
        if not ttl.isdecimal() or int(ttl) not in _TTL:
            return Reply(400, b"Bad Request")
        token = secrets.token_urlsafe(30)
        self._known.add(token)
        return Reply(200, token.encode())

    def _keys(self, actions: Collection[str]) -> Reply:
        keys = self._iam.temporary(*actions, seconds=self.seconds)
        self.issued.append(keys)
        ends = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(time.time() + self.seconds))
        credential = {"access": keys.access, "secret": keys.secret, "securitytoken": keys.token, "expires_at": ends}
        return answer({"credential": credential})
