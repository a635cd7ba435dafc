"""Secrets of a HashiCorp KV engine, version 1 and 2: where they are, what an answer says, why there is none."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST, NOT_FOUND, PERMISSION_DENIED, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from dso.secret import SecretValue
from dso.system.json_fast import dumps

if TYPE_CHECKING:
    from dso.providers.hashicorp_config import HashicorpConfig
    from dso.providers.hashicorp_http import Answer

_VERSIONED = 2
_LONGEST_VERSION = 9  # digits


class Wanted(NamedTuple):
    """What to read from the mount."""

    path: str
    version: int | None


def wanted(config: HashicorpConfig, path: str, version: str | None) -> Wanted:
    """What a path and a version mean; ProviderError `invalid_request` if there can be no such secret."""
    segments = path.strip("/").split("/")
    if any(segment in ("", ".", "..") for segment in segments) or not path.isprintable():
        message = (
            f"provider {config.name}: {path!r} is no path of a secret: segments with / between, none empty or `..`"
        )
        raise ProviderError(INVALID_REQUEST, message)
    name = "/".join(segments)
    if version is None:
        return Wanted(name, None)
    if config.kv_version != _VERSIONED:
        message = f"{path}: a KV engine of version 1, as provider {config.name} has it, keeps no versions"
        raise ProviderError(INVALID_REQUEST, f"{message}; leave out the version")
    if not version.isascii() or not version.isdigit() or len(version) > _LONGEST_VERSION or int(version) == 0:
        message = f"{path}: a version of provider {config.name} is a number from 1 on, not {version[:40]!r}"
        raise ProviderError(INVALID_REQUEST, message)
    return Wanted(name, int(version))


def ask(client: Any, config: HashicorpConfig, secret: Wanted) -> Answer:
    """Read a secret, by the way of the engine's version."""
    answer: Answer
    if config.kv_version == _VERSIONED:
        answer = client.secrets.kv.v2.read_secret_version(
            secret.path, version=secret.version, mount_point=config.mount, raise_on_deleted_version=True
        )
    else:
        answer = client.secrets.kv.v1.read_secret(secret.path, mount_point=config.mount)
    return answer


def plain_location(config: HashicorpConfig, path: str, *, versioned: bool) -> str:
    """The path as policies have it."""
    middle = "/data/" if versioned else "/"
    return f"{config.mount}{middle}{path.strip('/')}"


def read_secret(config: HashicorpConfig, path: str, answer: Answer) -> SecretData:
    """The secret in a successful answer; ProviderError if it is not what a KV engine answers."""
    data = answer.member("data")
    if config.kv_version != _VERSIONED:
        if not isinstance(data, dict):
            raise _strange(config, path)
        return SecretData(_content(data), is_fields=True)
    fields, metadata = (data.get("data"), data.get("metadata")) if isinstance(data, dict) else (None, None)
    if not isinstance(metadata, dict) or "version" not in metadata:
        message = f"{path}: mount {config.mount} of {config.label} is no KV engine of version 2"
        raise ProviderError(INVALID_CONFIG, f"{message}; set kv_version: 1, or mend `mount`")
    if not isinstance(fields, dict):
        raise missing(config, path, None, answer) or _strange(config, path)
    return SecretData(
        _content(fields),
        is_fields=True,
        version=str(metadata["version"]),
        created_at=_seconds_since_1970(metadata.get("created_time")),
    )


def missing(config: HashicorpConfig, path: str, version: str | None, answer: Answer) -> ProviderError | None:
    """Why a version is not there, if the answer tells: it was destroyed or deleted."""
    metadata = answer.member("data", "metadata")
    if not isinstance(metadata, dict):
        return None
    number = str(metadata.get("version"))
    number = number if number.isdigit() else version or "?"
    command = f"-mount={config.mount} -versions={number} {path}"
    if metadata.get("destroyed") is True:
        message = f"{path}: version {number} is destroyed in {config.label} and cannot be had again"
        return ProviderError(NOT_FOUND, f"{message}; store a new one, or refer to another version")
    if metadata.get("deletion_time"):
        message = f"{path}: version {number} is deleted in {config.label}"
        return ProviderError(NOT_FOUND, f"{message}; bring it back (vault kv undelete {command}) or store a new one")
    return None


def absent(config: HashicorpConfig, path: str, version: str | None) -> ProviderError:
    """There is nothing at a path."""
    if version is not None:
        message = f"{path}: {config.label} has no version {version} of it in mount {config.mount}"
        return ProviderError(NOT_FOUND, f"{message}; see: vault kv metadata get -mount={config.mount} {path}")
    first = path.strip("/").split("/")[0]
    message = f"{path}: {config.label} has no such secret in mount {config.mount}; see: vault kv list {config.mount}/"
    if first in ("data", config.mount.split("/", maxsplit=1)[0]) and "/" in path.strip("/"):
        message += f" (paths begin below the mount, without {first}/)"
    return ProviderError(NOT_FOUND, message)


def wrong_version(config: HashicorpConfig, actual: int) -> ProviderError:
    """The mount is a KV engine of the other version."""
    message = f"mount {config.mount} of {config.label} is a KV engine of version {actual}; set kv_version: {actual}"
    return ProviderError(INVALID_CONFIG, message)


def wrong_engine(config: HashicorpConfig) -> ProviderError:
    """The mount is something else."""
    return ProviderError(
        INVALID_CONFIG, f"mount {config.mount} of {config.label} is no KV secrets engine; mend `mount`"
    )


def no_mount(config: HashicorpConfig) -> ProviderError:
    """Nothing is mounted there."""
    message = f"{config.label} has nothing mounted at {config.mount}/; mend `mount`, or: vault secrets enable"
    return ProviderError(INVALID_CONFIG, f"{message} -path={config.mount} -version={config.kv_version} kv")


def no_access(config: HashicorpConfig) -> ProviderError:
    """Either there is no such mount, or nothing in it is ours to read; the server does not tell which."""
    message = f"the token of {config.label} may read nothing in mount {config.mount}, or there is no such mount"
    return ProviderError(PERMISSION_DENIED, f"{message}; check its policies, and `mount`")


def denied(config: HashicorpConfig, path: str, *, other_way: bool) -> ProviderError:
    """The token is good, and its policies do not let it read a secret.

    `other_way`: they would let it read what another version of the KV engine has there.
    """
    versioned = config.kv_version == _VERSIONED
    where = plain_location(config, path, versioned=versioned)
    message = f"{path}: {config.label} denies it; a policy of its token has to grant read on {where}"
    if other_way:
        granted = plain_location(config, path, versioned=not versioned)
        message += f" (one grants it on {granted}, which is what KV version {1 if versioned else 2} has)"
    return ProviderError(PERMISSION_DENIED, message)


def _strange(config: HashicorpConfig, path: str) -> ProviderError:
    return ProviderError(UNAVAILABLE, f"{path}: {config.label} gave an answer that holds no secret; see its log")


def _content(fields: dict[str, Any]) -> SecretValue:
    return SecretValue(dumps(fields).encode())


def _seconds_since_1970(text: object) -> float | None:
    try:
        moment = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
