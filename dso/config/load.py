"""Reading a dso.yaml: text, tree, values, and at last the model; see docs/dso-yaml.md.

Every fault of a file is in one ConfigError, each with its line; none quotes the value of a variable or of
a provider's setting.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from dso.config.document import DocumentError, Mapping, Scalar, parse_document
from dso.config.faults import Unfit, error_of
from dso.config.model import (
    DEFAULT_CACHE_TTL,
    DEFAULT_TIMEOUT,
    AccessRule,
    AgentConfig,
    CloudConfig,
    Inject,
    ProviderConfig,
    SecretConfig,
    Settings,
    Targets,
)
from dso.config.provider_schema import COMMON
from dso.config.reading import Opaque, Place, Reader, Values
from dso.config.schema import AGENT, FILE
from dso.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping as MappingType
    from typing import Any

    from dso.config.document import Node
    from dso.config.faults import Fault

MAX_BYTES = 1024 * 1024
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_EXTENSION_PREFIX = "x-"  # top-level keys for anchors, as in Compose files


def load_config(path: str, *, environment: MappingType[str, str], text: str | None = None) -> CloudConfig:
    """A configuration as the agent uses it: whole, checked, variables expanded.

    Args:
        path: the file; also what errors call it.
        environment: where variables are looked up.
        text: what the file holds, when it has been read already.

    Raises:
        ConfigError: the file cannot be read, or is not as it should be.
    """
    return _load(path, environment, text, project=False)


def load_project(path: str, *, environment: MappingType[str, str], text: str | None = None) -> CloudConfig:
    """A project's dso.yaml, as the command line reads it.

    The grammar is the same, but variables in `providers:` and `access:` are not looked up (they are the
    agent's, credentials among them): providers have a name and a type, empty settings and default times,
    and there are no access rules (None). Secrets may refer to providers that only the agent's own
    configuration has. Arguments and errors are those of `load_config`.
    """
    return _load(path, environment, text, project=True)


class Wishes(NamedTuple):
    """What a project's dso.yaml takes besides names of secrets: the agent's socket, and variables, by their names."""

    socket: str | None
    variables: tuple[str, ...]

    def __bool__(self) -> bool:
        """Whether it takes anything."""
        return bool(self.socket or self.variables)


def load_wishes(path: str, *, environment: MappingType[str, str], text: str | None = None) -> Wishes:
    """What a project's dso.yaml would take; for that it is read, and nothing that it says is used.

    What is wrong with the file is for `load_project` and `load_socket` to say.

    Raises:
        ConfigError: it cannot be read.
    """
    if text is None:
        text = read_text(path)
    seen = _Seen(environment)
    socket = None
    for look in (load_project, load_socket):
        try:
            found = look(path, environment=seen, text=text)
        except ConfigError:
            found = None
        socket = found if isinstance(found, str) else None
    return Wishes(socket, tuple(sorted(seen.names)))


class _Seen(dict[str, str]):
    """An environment that remembers which variables were looked up."""

    __slots__ = ("names",)

    def __init__(self, environment: MappingType[str, str]) -> None:
        super().__init__(environment)
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)


def read_text(path: str) -> str:
    """What a configuration holds, to be given to the functions above: then all of them see the same.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8.
    """
    return _decoded(path, _read(path))


def load_socket(path: str, *, environment: MappingType[str, str], text: str | None = None) -> str | None:
    """`agent.socket` of a configuration, or None; nothing else in it is looked at, nor are other variables.

    Raises:
        ConfigError: the file cannot be read, is no YAML, or its `agent.socket` is faulty.
    """
    faults: list[Fault] = []
    root, _ = _document(path, text)
    agent = root.get("agent") if isinstance(root, Mapping) else None
    if not isinstance(agent, Mapping):
        return None
    socket = next(((key, value) for key, value in agent.entries if key.text == "socket"), None)
    if socket is None:
        return None
    place = Place("agent.socket", socket[0].line)
    reader = Reader(environment, faults)
    try:
        found: str = AGENT.keys["socket"].kind.read(socket[1], place, reader)
    except Unfit as unfit:
        reader.fault(place, unfit.message, unfit.hint)
        raise error_of(path, faults) from None
    return found


def _load(path: str, environment: MappingType[str, str], text: str | None, *, project: bool) -> CloudConfig:
    root, faults = _document(path, text)
    reader = Reader(environment, faults, project=project)
    values = Values(Place("", root.line))
    try:
        values = FILE.read(_without_extensions(root), Place("", root.line), reader)
    except Unfit as unfit:
        reader.fault(Place("", root.line), unfit.message, unfit.hint)
    except Opaque:  # cannot happen at the top; a fault was noted where it did
        pass
    if faults:
        raise error_of(path, faults)
    return _config(path, values, project=project)


def _document(path: str, text: str | None) -> tuple[Node, list[Fault]]:
    try:
        root, faults = parse_document(read_text(path) if text is None else text)
    except DocumentError as error:
        raise error_of(path, [error.fault]) from None
    if root is None or (isinstance(root, Scalar) and root.is_null):
        raise ConfigError(f"{path} is empty", hint="it begins with `version: 1`; docs/dso-yaml.md has examples")
    return root, faults


def _read(path: str) -> bytes:
    try:
        # Without O_NONBLOCK a pipe that nobody writes to would hang here; `-c <(...)` is read as a file is.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        try:
            os.set_blocking(descriptor, True)
            return _read_all(path, descriptor)
        finally:
            os.close(descriptor)
    except FileNotFoundError:
        raise ConfigError(f"there is no {path}", hint="create it; docs/dso-yaml.md has examples") from None
    except IsADirectoryError:
        raise ConfigError(f"{path} is a directory", hint="name the file in it") from None
    except PermissionError:
        raise ConfigError(f"this user may not read {path}", hint=f"see its permissions: ls -l {path}") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "no such name"
        raise ConfigError(f"{path} cannot be read: {reason}", hint="check its name and the disk it is on") from None


def _read_all(path: str, descriptor: int) -> bytes:
    pieces = []
    size = 0
    while piece := os.read(descriptor, MAX_BYTES + 1):
        pieces.append(piece)
        size += len(piece)
        if size > MAX_BYTES:
            raise ConfigError(f"{path} is larger than {MAX_BYTES // 1024} KiB", hint="is it the right file?")
    return b"".join(pieces)


def _decoded(path: str, content: bytes) -> str:
    try:
        return content.removeprefix(_BYTE_ORDER_MARK).decode()  # utf-8-sig is a codec that the binary does not have
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}, line {line}: is not UTF-8", hint="save the file as UTF-8") from None


def _without_extensions(root: Node) -> Node:
    """The root without `x-...`, which is there for anchors only."""
    if isinstance(root, Mapping):
        root.entries = [entry for entry in root.entries if not entry[0].text.startswith(_EXTENSION_PREFIX)]
    return root


def _config(path: str, values: Values, *, project: bool) -> CloudConfig:
    providers = (values.get("providers") or {}).items()
    secrets = [_secret(one) for one in values.get("secrets") or []]
    access = None if project or "access" not in values else [_rule(one) for one in values["access"]]
    return CloudConfig(
        path,
        {name: _provider(name, one, project=project) for name, one in providers},
        {secret.name: secret for secret in secrets},
        access,
        AgentConfig(**values.get("agent", {})),
    )


def _provider(name: str, values: Values, *, project: bool) -> ProviderConfig:
    if project:
        return ProviderConfig(name, values["type"], Settings({}))
    settings = {key: _plain(value) for key, value in values.items() if key not in COMMON}
    timeout, cache_ttl = values.get("timeout", DEFAULT_TIMEOUT), values.get("cache_ttl", DEFAULT_CACHE_TTL)
    return ProviderConfig(name, values["type"], Settings(settings), timeout, cache_ttl, tuple(values.get("env", ())))


def _plain(value: Any) -> Any:
    """A value as JSON has it: sections become ordinary dictionaries."""
    if isinstance(value, dict):
        return {key: _plain(one) for key, one in value.items()}
    return [_plain(one) for one in value] if isinstance(value, list) else value


def _secret(values: Values) -> SecretConfig:
    inject, targets = values.get("inject", {}), values.get("targets", {})
    return SecretConfig(
        values["name"],
        values["provider"],
        values.get("path", values["name"]),
        values.get("version"),
        Inject(
            inject.get("type", "env"),
            inject.get("path"),
            inject.get("uid"),
            inject.get("gid"),
            inject.get("mode", 0o444),
        ),
        tuple(values.get("mappings", {}).items()),
        Targets(tuple(targets.get("services", ())), tuple(targets.get("labels", {}).items())),
    )


def _rule(values: Values) -> AccessRule:
    users, groups = list(values.get("users", ())), list(values.get("groups", ()))
    users += [values["user"]] if "user" in values else []
    groups += [values["group"]] if "group" in values else []
    return AccessRule(tuple(users), tuple(groups), tuple(values["secrets"]))
