"""A stand-in for the Cloud Secret Management Service of Huawei Cloud: the reading half of its API.

Nobody else has written one, and Huawei Cloud itself is not within reach of the tests. It follows the API reference of
Data Encryption Workshop (support.huaweicloud.com/intl/en-us/api-dew), pages by name, and the models of the SDK:

- ShowSecretVersion, `GET /v1/{project_id}/secrets/{secret_name}/versions/{version_id}`: `version` with
  `version_metadata` and `secret_string`, or `secret_binary` in Base64; `latest` is the newest version; enabled secrets
  only. Needs `csms:secretVersion:get` and, as a dependency, decryption with the secret's KMS key (`kms:dek:decrypt`,
  in identity policies `kms:cmk:decryptDataKey`).
- ShowSecretStage, `.../secrets/{secret_name}/stages/{stage_name}`: `stage` with `version_id`.
- ShowSecret, ListSecrets, ListSecretVersions: metadata in pages (`limit`, 50 by default, `marker`, `page_info`).
- CreateSecret, CreateSecretVersion (`put` here): names `[a-zA-Z0-9_-]{1,64}`, and a period too according to "Creating a
  Secret" of the user guide; versions are v1, v2, ...; the newest gets SYSCURRENT, its predecessor SYSPREVIOUS. A value
  has up to 32 KB in the API's models and up to 64 KB in the user guide; 64 are taken here.
- "Error Code": 400 CSMS.0002 (a parameter), CSMS.0005 (no such resource: a version, a stage), CSMS.0103 (pending
  deletion), CSMS.0106 (no such secret), CSMS.0401 (the KMS key does not open the value), 403 CSMS.0109 (not enabled).
- Times are in milliseconds, as in all the examples; the text beside them says seconds.

What could not be found out:

- which of CSMS.0005, CSMS.0106 and the 404 that the pages list too a missing secret gets;
- the text of 403 CSMS.0302; it stands for "no permission" here;
- what a project of another region or account gets: 403 `APIGW.0310`, "The project is unavailable", here;
- whether a throttled answer has `Retry-After`: none has here unless a test wants one.
"""

from __future__ import annotations

import base64
import re
import secrets
import time
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qs, unquote, urlsplit

from tests.servers.huawei_iam import DECRYPT, CloudError, answer, no_such_api

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from tests.servers.huawei_iam import Iam
    from tests.support.http_proxy import Reply, Seen

LARGEST = 64 * 1024
ENABLED, DISABLED, PENDING_DELETE, FROZEN = "ENABLED", "DISABLED", "PENDING_DELETE", "FROZEN"
_NAME = re.compile(r"[a-zA-Z0-9_.-]{1,64}")
_VERSION = re.compile(r"v[0-9]{0,63}")
_NEWEST, _FORMER = "SYSCURRENT", "SYSPREVIOUS"
_PAGE, _LONGEST_PAGE = 50, 1000


class Version(NamedTuple):
    """One version of a secret. Exactly one of text and Base64 is there."""

    id: str
    created: int
    text: str | None
    encoded: str | None

    def metadata(self, secret: Secret) -> dict[str, Any]:
        """What the API tells of it besides its value."""
        stages = sorted(stage for stage, version in secret.stages.items() if version == self.id)
        common = {"create_time": self.created, "expire_time": None, "kms_key_id": secret.key}
        return {"id": self.id, **common, "secret_name": secret.name, "version_stages": stages}


class Secret:
    """A secret: its versions, oldest first, and which of them its stages are."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = secrets.token_hex(16)
        self.key = secrets.token_hex(16)
        self.state = ENABLED
        self.created = _now()
        self.versions: list[Version] = []
        self.stages: dict[str, str] = {}

    def find(self, version: str) -> Version | None:
        """A version by its id, or `latest`."""
        if version == "latest":
            return self.versions[-1]
        return next((each for each in self.versions if each.id == version), None)

    def described(self) -> dict[str, Any]:
        """Metadata."""
        common = {"id": self.id, "name": self.name, "state": self.state, "kms_key_id": self.key, "description": ""}
        times = {"create_time": self.created, "update_time": self.versions[-1].created}
        return {**common, **times, "scheduled_delete_time": None, "secret_type": "COMMON", "auto_rotation": False}


class _Call(NamedTuple):
    """A request; `item` is a version or a stage."""

    secret: str
    item: str
    query: Mapping[str, str]
    actions: Collection[str]


class Csms:
    """The service in one region."""

    def __init__(self, region: str, iam: Iam) -> None:
        self.region = region
        self._iam = iam
        self._secrets: dict[str, Secret] = {}

    # What a test does to it

    def put(self, name: str, content: str | bytes, *stages: str) -> str:
        """Store a secret, or a new version of it, with these stages besides SYSCURRENT; the version's id."""
        assert _NAME.fullmatch(name), f"CSMS takes no such name: {name}"
        text = content if isinstance(content, str) else None
        encoded = base64.b64encode(content).decode() if isinstance(content, bytes) else None
        assert len((text or encoded or "").encode()) <= LARGEST, "CSMS takes no more"
        secret = self._secrets.setdefault(name, Secret(name))
        version = Version(f"v{len(secret.versions) + 1}", _now(), text, encoded)
        if secret.versions:
            secret.stages[_FORMER] = secret.stages[_NEWEST]
        secret.versions.append(version)
        secret.stages.update(dict.fromkeys([_NEWEST, *stages], version.id))
        return version.id

    def set_state(self, name: str, state: str) -> None:
        """Enable or disable a secret, schedule its deletion, or freeze it."""
        self._secrets[name].state = state

    def remove(self, name: str) -> None:
        """Delete a secret at once."""
        del self._secrets[name]

    # What it answers

    def answer(self, seen: Seen) -> Reply:
        """CloudError if there is nothing to answer."""
        actions = self._iam.authenticate(seen)
        parts = urlsplit(seen.path)
        words = [unquote(word) for word in parts.path.strip("/").split("/")]
        kind = "/".join(word if number in (0, 2, 4) else "*" for number, word in enumerate(words))
        operations: dict[str, tuple[str, Callable[[_Call], Reply]]] = {
            "v1/*/secrets": ("csms:secret:list", self._list),
            "v1/*/secrets/*": ("csms:secret:get", self._show),
            "v1/*/secrets/*/versions": ("csms:secretVersion:list", self._list_versions),
            "v1/*/secrets/*/versions/*": ("csms:secretVersion:get", self._show_version),
            "v1/*/secrets/*/stages/*": ("csms:secretStage:get", self._show_stage),
        }
        if seen.method != "GET" or kind not in operations:
            raise no_such_api()
        if words[1] != self._iam.projects.get(self.region):
            raise CloudError(403, "APIGW.0310", "The project is unavailable")
        action, operation = operations[kind]
        if action not in actions:
            raise CloudError(403, "CSMS.0302", f"Policy doesn't allow {action} to be performed")
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        secret, _, item, *_rest = [*words[3:], "", "", ""]
        return operation(_Call(secret, item, query, actions))

    def _secret(self, name: str) -> Secret:
        if not _NAME.fullmatch(name):
            raise CloudError(400, "CSMS.0002", "The value of parameter secret_name is invalid.")
        if name not in self._secrets:
            raise CloudError(400, "CSMS.0106", "The secret name not found int the db.")
        return self._secrets[name]

    def _show_version(self, call: _Call) -> Reply:
        secret = self._secret(call.secret)
        if not _VERSION.fullmatch(call.item) and call.item != "latest":
            raise CloudError(400, "CSMS.0002", "The value of parameter version_id is invalid.")
        if secret.state == PENDING_DELETE:
            raise CloudError(400, "CSMS.0103", "The secret is in the scheduled deletion state.")
        if secret.state != ENABLED:
            raise CloudError(403, "CSMS.0109", "The secret state is not enabled.")
        version = secret.find(call.item)
        if version is None:
            raise CloudError(400, "CSMS.0005", "The resource does not exist.")
        if DECRYPT not in call.actions:
            raise CloudError(400, "CSMS.0401", "Can not get the protected secret value using the provided KMS key.")
        value = {"secret_string": version.text} if version.encoded is None else {"secret_binary": version.encoded}
        return answer({"version": {"version_metadata": version.metadata(secret), **value}})

    def _show_stage(self, call: _Call) -> Reply:
        secret = self._secret(call.secret)
        found = secret.find(secret.stages.get(call.item, ""))
        if found is None:
            raise CloudError(400, "CSMS.0005", "The resource does not exist.")
        stage = {"name": call.item, "secret_name": secret.name, "version_id": found.id, "update_time": found.created}
        return answer({"stage": stage})

    def _show(self, call: _Call) -> Reply:
        return answer({"secret": self._secret(call.secret).described()})

    def _list(self, call: _Call) -> Reply:
        """The marker is the first name of the page."""
        names = sorted(self._secrets)
        first = _marker(names, call.query)
        page, more = _page(names[first:], call.query)
        info = _page_info(page, names[first + len(page)] if more else None)
        return answer({"secrets": [self._secrets[name].described() for name in page], "page_info": info})

    def _list_versions(self, call: _Call) -> Reply:
        """The marker is the last version of the page before."""
        secret = self._secret(call.secret)
        versions = {version.id: version for version in reversed(secret.versions)}
        first = _marker(list(versions), call.query)
        page, more = _page(list(versions)[first + ("marker" in call.query) :], call.query)
        info = _page_info(page, page[-1] if more else None)
        return answer({"version_metadatas": [versions[each].metadata(secret) for each in page], "page_info": info})


def _marker(everything: list[str], query: Mapping[str, str]) -> int:
    """Where the marker is; CloudError if it is nowhere."""
    marker = query.get("marker")
    if marker is not None and marker not in everything:
        raise CloudError(400, "CSMS.0002", "The value of parameter marker is invalid.")
    return everything.index(marker) if marker else 0


def _page(left: list[str], query: Mapping[str, str]) -> tuple[list[str], bool]:
    """As many as were asked for, and whether there are more; CloudError."""
    limit = query.get("limit", str(_PAGE))
    if not limit.isdecimal() or not 0 < int(limit) <= _LONGEST_PAGE:
        raise CloudError(400, "CSMS.0002", "The value of parameter limit is invalid.")
    return left[: int(limit)], len(left) > int(limit)


def _page_info(page: list[str], following: str | None) -> dict[str, Any]:
    return {"next_marker": following, "previous_marker": page[0] if page else None, "current_count": len(page)}


def _now() -> int:
    return int(time.time() * 1000)
