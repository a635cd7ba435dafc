"""As much of JSON Schema as docs/agent-api.openapi.yaml uses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_KNOWN = {
    "type",
    "const",
    "enum",
    "required",
    "properties",
    "additionalProperties",
    "items",
    "minimum",
    "contentEncoding",
}
_TYPES: dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


class Schemas:
    """The named schemas of a page, and what of a value is not as one of them says."""

    def __init__(self, named: Mapping[str, Any]) -> None:
        self._named = named

    def faults(self, value: Any, schema: Mapping[str, Any], place: str = "") -> list[str]:
        """What is wrong with a value, each with its place."""
        if "$ref" in schema:
            return self.faults(value, self._named[schema["$ref"].rpartition("/")[2]], place)
        assert schema.keys() <= _KNOWN, f"{place}: the check knows nothing of {schema.keys() - _KNOWN}"
        wrong = _own_faults(value, schema)
        if wrong:
            return [f"{place}: {wrong}"]
        if isinstance(value, dict):
            return [f"{place}: no {name}" for name in schema.get("required", ()) if name not in value] + [
                fault for name, member in value.items() for fault in self._member(name, member, schema, place)
            ]
        members = enumerate(value) if isinstance(value, list) and "items" in schema else ()
        return [fault for at, member in members for fault in self.faults(member, schema["items"], f"{place}[{at}]")]

    def _member(self, name: str, member: Any, schema: Mapping[str, Any], place: str) -> list[str]:
        known, more = schema.get("properties", {}), schema.get("additionalProperties", True)
        if name in known:
            return self.faults(member, known[name], f"{place}.{name}")
        if more is False:
            return [f"{place}: {name} is not on the page"]
        return self.faults(member, more, f"{place}.{name}") if isinstance(more, dict) else []


def _own_faults(value: Any, schema: Mapping[str, Any]) -> str:
    allowed = schema.get("type", [])
    names = allowed if isinstance(allowed, list) else [allowed]
    if names and not any(
        isinstance(value, _TYPES[name]) and isinstance(value, bool) == (name == "boolean") for name in names
    ):
        return f"{value!r} is no {' or '.join(names)}"
    if "const" in schema and value != schema["const"]:
        return f"{value!r} is not {schema['const']!r}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{value!r} is none of {schema['enum']}"
    return ""
