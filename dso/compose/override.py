"""The override file: only what DSO changes in the stack, for Compose to merge in."""

from __future__ import annotations

from typing import NamedTuple

from dso import paths
from dso.compose.model import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any


class ServiceOverride(NamedTuple):
    """What one service gets.

    `environment` has the final values; `labels` plain text; `volume` is the volume's name, or None
    when the service has no files; `targets` maps each granted file's path in the container to its
    path in the volume; `whole_volume` tells whether the volume is mounted at /run/secrets/dso too;
    `kept` holds the grants that stay, for each kind whose list is replaced.
    """

    service: str
    environment: Mapping[str, str]
    labels: Mapping[str, str]
    volume: str | None
    targets: Mapping[str, str]
    whole_volume: bool
    kept: Mapping[str, Sequence[Mapping[str, Any]]]


def build_override(services: Sequence[ServiceOverride]) -> bytes:
    """The override as YAML.

    Top-level secrets and configs stay defined: services that this command does not touch may be
    granted them too, and Compose looks at a definition only for a grant.

    Source: Compose's "Merge Compose files" (`!override`: 2.24) and the Compose specification's long
    volume syntax (`subpath`: Compose 2.24, Engine 26).
    """
    lines = ["services:"]
    for service in services:
        lines.append(f"  {quote(service.service)}:")
        lines += _mapping("environment", service.environment)
        lines += _mapping("labels", service.labels)
        for kind, grants in service.kept.items():
            lines.append(f"    {kind}: !override {_flow(list(grants))}")
        if service.volume:
            lines.append("    volumes:")
            lines += _mounts(service)
    volumes = [service.volume for service in services if service.volume]
    if volumes:
        lines.append("volumes:")
        lines += [f"  {quote(volume)}: {_flow({'external': True, 'name': volume})}" for volume in volumes]
    return ("\n".join(lines) + "\n").encode()


def _mapping(key: str, values: Mapping[str, str]) -> list[str]:
    if not values:
        return []
    return [f"    {key}:", *(f"      {quote(name)}: {quote(escape(value))}" for name, value in values.items())]


def _mounts(service: ServiceOverride) -> list[str]:
    mounts: list[dict[str, Any]] = []
    base = {"type": "volume", "source": service.volume, "read_only": True}
    if service.whole_volume:
        mounts.append({**base, "target": paths.CONTAINER_SECRETS_DIR, "volume": {"nocopy": True}})
    for target, name in service.targets.items():
        mounts.append({**base, "target": escape(target), "volume": {"nocopy": True, "subpath": name}})
    return [f"      - {_flow(mount)}" for mount in mounts]


def _flow(value: Any) -> str:
    """A value in YAML's flow style. Texts are the model's own, in which `$` is still doubled."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{quote(key)}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(_flow(inner) for inner in value) + "]"
    if isinstance(value, str):
        return quote(value)
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    return str(value)


_NAMED_ESCAPES = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}


def quote(text: str) -> str:
    """A YAML double-quoted scalar in printable ASCII that reads back as exactly `text`.

    JSON will not do: YAML readers know no surrogate pairs and refuse or fold some raw characters
    (YAML 1.2.2, sections 5.1 and 5.7).
    """
    if text.isascii() and text.isprintable():
        return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(character: str) -> str:
    if character in _NAMED_ESCAPES:
        return _NAMED_ESCAPES[character]
    code = ord(character)
    if 0x20 <= code < 0x7F:  # noqa: PLR2004  # printable ASCII
        return character
    if code <= 0xFF:  # noqa: PLR2004
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"  # noqa: PLR2004
