"""Sections of dso.yaml: keys that the program knows, each with what it takes."""

from __future__ import annotations

from typing import NamedTuple

from dso.config.document import Mapping, Scalar
from dso.config.faults import Unfit, did_you_mean
from dso.config.kinds import Choice, Kind, fault_line
from dso.config.reading import Opaque, Place, Reader, Values

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as MappingType
    from typing import Any

    from dso.config.document import Node


class AgentsOwn(Kind):
    """What only the agent needs to know: a reading for the command line leaves values with variables out."""

    __slots__ = ("_kind",)

    def __init__(self, kind: Kind) -> None:
        self._kind = kind

    def read(self, node: Node, place: Place, reader: Reader) -> Any:  # noqa: D102
        reader.opaque = reader.project
        try:
            return self._kind.read(node, place, reader)
        finally:
            reader.opaque = False

    def sections(self) -> MappingType[str, Section]:  # noqa: D102
        return self._kind.sections()


class Key(NamedTuple):
    """A key of a section. `example` is what a hint suggests where it is missing."""

    kind: Kind
    required: bool = False
    example: str = "..."
    null: bool = False  # no value is the same as no key


class Section(Kind):
    """Keys that the program knows.

    `check` looks at the values together. `rest` reads keys that are not listed, where there may be any.
    `elsewhere` tells what a key that is unknown here belongs to.
    """

    __slots__ = ("_check", "_elsewhere", "_rest", "_what", "keys")

    def __init__(
        self,
        what: str,
        keys: MappingType[str, Key],
        *,
        check: Callable[[Values, Reader], None] | None = None,
        rest: Kind | None = None,
        elsewhere: MappingType[str, str] | None = None,
    ) -> None:
        self.keys = keys
        self._what = what
        self._check = check
        self._rest = rest
        self._elsewhere = elsewhere or {}

    def read(self, node: Node, place: Place, reader: Reader) -> Values:  # noqa: D102
        if not isinstance(node, Mapping):
            raise Unfit("must be a mapping", f"its keys are {', '.join(self.keys)}")
        values = Values(place)
        for key, value in node.entries:
            self._read_key(key, value, place, reader, values)
        missing = [name for name, key in self.keys.items() if key.required and name not in values.lines]
        for name in missing:
            reader.fault(place, f"{self._what} has no `{name}`", f"add `{name}: {self.keys[name].example}`")
        if self._check is not None:
            self._check(values, reader)
        return values

    def _read_key(self, key: Scalar, value: Node, place: Place, reader: Reader, values: Values) -> None:
        name = key.text
        at = place.key(name, key.line)
        known = self.keys.get(name)
        if known is None and self._rest is None:
            self._unknown(key, value, place, reader)
            return
        kind = known.kind if known is not None else self._rest
        if kind is None or (known is not None and known.null and isinstance(value, Scalar) and value.is_null):
            return
        values.nodes[name], values.lines[name] = value, key.line
        try:
            values[name] = kind.read(value, at, reader)
        except Unfit as unfit:
            reader.fault(at, unfit.message, unfit.hint, line=fault_line(key, value))
        except Opaque:
            pass

    def _unknown(self, key: Scalar, value: Node, place: Place, reader: Reader) -> None:
        name = key.text
        if reader.private and isinstance(value, Scalar) and value.is_null:
            # `{method: token, hvs.CAES...}`: what looks like a key may be a credential.
            reader.fault(place, "has something that is no `key: value`", "check it for a missing colon", line=key.line)
            return
        near = did_you_mean(name, list(self.keys))
        if name in self._elsewhere:
            hint = f"it belongs to {self._elsewhere[name]}"
        else:
            hint = "" if near else f"{self._what} has {', '.join(self.keys)}"
        reader.fault(place.key(name, key.line), f"unknown key{near}", hint)

    def sections(self) -> MappingType[str, Section]:  # noqa: D102
        return {"": self}


class Variants(Kind):
    """A section whose key `by` says which further keys it has, such as `auth` with its `method`."""

    __slots__ = ("_by", "_default", "_what", "variants")

    def __init__(
        self,
        what: str,
        by: str,
        variants: MappingType[str, MappingType[str, Key]],
        *,
        default: str | None = None,
        check: Callable[[Values, Reader], None] | None = None,
    ) -> None:
        self._what = what
        self._by = by
        self._default = default
        chooser = {by: Key(Choice(*variants))}
        owners: dict[str, str] = {}
        for name, keys in variants.items():
            for key in keys:
                owners[key] = f"{owners[key]} and {name}" if key in owners else f"`{by}: {name}`"
        self.variants = {
            name: Section(f"`{by}: {name}`", {**chooser, **keys}, check=check, elsewhere=owners)
            for name, keys in variants.items()
        }

    def read(self, node: Node, place: Place, reader: Reader) -> Values:  # noqa: D102
        names = ", ".join(self.variants)
        if not isinstance(node, Mapping):
            raise Unfit("must be a mapping", f"write {{{self._by}: ...}} with one of {names}")
        key, chosen = next(((key, value) for key, value in node.entries if key.text == self._by), (None, None))
        if key is None or chosen is None:
            if self._default is None:
                raise Unfit(f"{self._what} has no `{self._by}`", f"it is one of {names}")
            return self.variants[self._default].read(node, place, reader)
        at = place.key(self._by, key.line)
        try:
            name = reader.written(chosen)
        except Unfit as unfit:
            reader.fault(at, unfit.message, f"it is one of {names}")
            raise Opaque from None
        if name not in self.variants:
            reader.fault(at, f"{reader.quoted(chosen)} is not one of {names}{did_you_mean(name, list(self.variants))}")
            raise Opaque
        return self.variants[name].read(node, place, reader)

    def sections(self) -> MappingType[str, Section]:  # noqa: D102
        return self.variants
