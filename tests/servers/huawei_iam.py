"""Who may do what in a small Huawei Cloud: access keys, security tokens, permissions, projects; and its API gateway.

- A request that is not signed by a key we know, or not well (tests/servers/huawei_signature.py): 401 `APIGW.0301`
  "Incorrect IAM authentication information: ..." with `error_code`, `error_msg` and `request_id`, as "Error Codes"
  and "Common Errors Related to IAM Authentication Information" of the API Request Signing Guide have it
  (devg-apisign/api-sign-errorcode, api-sign-faq-iam). The message for an unknown key quotes that key, as the real
  one does.
- A temporary key counts only with its `X-Security-Token`, which is signed like every header ("How Do I Use a Temporary
  AK/SK to Sign Requests?", devg-apisign/api-sign-securetoken), until it expires. How the gateway words the refusal of
  a security token is not documented; these are its words for tokens ("decrypt token fail", "token expires").
- Requests nobody has an API for: 404 `APIGW.0101`. Throttling: 429 `APIGW.0308` (same page; it knows no Retry-After).
- `GET /v3/projects?name=`, "Querying Project Information - KeystoneListProjects" (api-iam/iam_06_0001): projects of
  the account by that very name, needs `iam:projects:listProjects`; refused with 403 in Keystone's form.
- Permissions are the actions of "Permissions Policies and Supported Actions" (api-dew/dew_02_0308):
  `csms:secretVersion:get` and so on, and `kms:dek:decrypt`, which reading a value depends on.
"""

from __future__ import annotations

import hmac
import json
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, urlsplit

from tests.servers.huawei_signature import Message, SignatureError, authorization, verify
from tests.support.http_proxy import Reply

if TYPE_CHECKING:
    from collections.abc import Collection

    from tests.support.http_proxy import Seen

DECRYPT = "kms:dek:decrypt"
READ = ("csms:secretVersion:get", "csms:secretStage:get", DECRYPT)
LIST_PROJECTS = "iam:projects:listProjects"
_TOKEN = "x-security-token"  # the header


class Keys(NamedTuple):
    """What a client signs with; a security token comes with temporary keys only."""

    access: str
    secret: str
    token: str = ""

    def auth(self) -> dict[str, str]:
        """The `auth` of a provider."""
        found = {"method": "aksk", "access_key": self.access, "secret_key": self.secret}
        return {**found, "security_token": self.token} if self.token else found


class CloudError(Exception):
    """A service says no, with a code of its own or the gateway's."""

    def __init__(self, status: int, code: str, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.headers = headers

    def reply(self) -> Reply:
        """As it goes over the wire."""
        body: dict[str, Any] = {"error_code": self.code, "error_msg": self.message}
        request = secrets.token_hex(16)
        if self.code.startswith("APIGW."):
            body["request_id"] = request
        headers = {name.replace("_", "-"): value for name, value in self.headers.items()}
        return answer(body, self.status, **{"X-Request-Id": request, **headers})


class _User:
    """Somebody with keys. `until` is when they expire (never, if it is None)."""

    def __init__(self, keys: Keys, actions: Collection[str], until: float | None = None) -> None:
        self.keys = keys
        self.actions = frozenset(actions)
        self.until = until


class Iam:
    """An account with users and a project for each region.

    Attributes:
        projects: region -> id of its project.
        extra_projects: names of further projects, as pairs with their ids.
        clock_offset: seconds that our clock is ahead of everybody else's.
    """

    def __init__(self, regions: Collection[str]) -> None:
        self.domain = secrets.token_hex(16)
        self.projects = {region: secrets.token_hex(16) for region in regions}
        self.extra_projects: list[tuple[str, str]] = []
        self.clock_offset = 0.0
        self._users: dict[str, _User] = {}

    # What a test does to it

    def user(self, *actions: str) -> Keys:
        """A new user who may do these, and their permanent keys."""
        return self._add(_User(_new_keys(), actions))

    def temporary(self, *actions: str, seconds: float = 86400) -> Keys:
        """Temporary keys with a security token."""
        keys = _new_keys()._replace(token=secrets.token_urlsafe(300))
        return self._add(_User(keys, actions, time.time() + seconds))

    def expire(self, keys: Keys) -> None:
        """Let temporary keys have expired."""
        self._users[keys.access].until = 0.0

    def revoke(self, keys: Keys) -> None:
        """Forget that these keys ever existed."""
        del self._users[keys.access]

    def _add(self, user: _User) -> Keys:
        self._users[user.keys.access] = user
        return user.keys

    # What the gateway does

    def authenticate(self, seen: Seen) -> frozenset[str]:
        """What whoever signed this request may do; CloudError if it is nobody."""
        message = Message(seen.method, seen.path, seen.headers, seen.body)
        try:
            claimed = authorization(message)
            user = self._user_of(claimed.access_key)
            verify(message, claimed, user.keys.secret, time.time() + self.clock_offset)
            _check_token(seen.headers.get(_TOKEN), user, is_signed=_TOKEN in claimed.signed)
        except SignatureError as error:
            raise CloudError(401, "APIGW.0301", f"Incorrect IAM authentication information: {error}") from None
        return user.actions

    def _user_of(self, access_key: str) -> _User:
        if access_key not in self._users:
            raise SignatureError(f"Get secretKey failed,ak:{access_key},err:ak not exist")
        return self._users[access_key]

    def answer(self, seen: Seen) -> Reply:
        """The API of IAM, as far as it is here."""
        actions = self.authenticate(seen)
        path, query = urlsplit(seen.path).path, parse_qs(urlsplit(seen.path).query)
        if (seen.method, path.rstrip("/")) != ("GET", "/v3/projects"):
            raise no_such_api()
        if LIST_PROJECTS not in actions:
            text = "You are not authorized to perform the requested action: identity:list_projects"
            return answer({"error": {"code": 403, "message": text, "title": "Forbidden"}}, 403)
        wanted = query.get("name", [None])[0]
        everything = [*self.projects.items(), *self.extra_projects]
        found = [self._project(name, number) for name, number in everything if wanted in (None, name)]
        links = {"self": f"https://{seen.headers['host']}/v3/projects", "next": None, "previous": None}
        return answer({"links": links, "projects": found})

    def _project(self, name: str, number: str) -> dict[str, Any]:
        common = {"domain_id": self.domain, "parent_id": self.domain, "is_domain": False, "enabled": True}
        link = {"self": f"https://iam.myhuaweicloud.com/v3/projects/{number}"}
        return {**common, "name": name, "id": number, "description": "", "links": link}


def _check_token(token: str | None, user: _User, *, is_signed: bool) -> None:
    """SignatureError unless it is the user's own and still good."""
    if token is None and not user.keys.token:
        return
    if not is_signed or not hmac.compare_digest((token or "").encode(), user.keys.token.encode()):
        raise SignatureError("decrypt token fail")
    if user.until is not None and user.until < time.time():
        raise SignatureError("token expires")


def _new_keys() -> Keys:
    return Keys(secrets.token_hex(10).upper(), secrets.token_urlsafe(30))


def no_such_api() -> CloudError:
    """What the gateway says to requests that no service has an API for."""
    return CloudError(404, "APIGW.0101", "The API does not exist or has not been published in the environment")


def throttled(**headers: str) -> CloudError:
    """What the gateway says to too many requests."""
    text = "The throttling threshold has been reached: policy user over ratelimit,limit:20,time:1 second"
    return CloudError(429, "APIGW.0308", text, **headers)


def answer(body: object, status: int = 200, **headers: str) -> Reply:
    """JSON, as all services speak it."""
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})
