"""What a key of dso.yaml can take: text, durations, lists, sections.

A kind reads a node into a value and raises Unfit for one that does not fit; those that hold others
note the faults of what they hold and go on, so that one reading finds them all. YAML's own idea of
types (`yes`, `0644`, `1:30`) has no say: every kind reads the text as it was written.
"""

from __future__ import annotations

from dso.config.document import Mapping, Scalar, Sequence
from dso.config.duration import FORMS, parse_duration
from dso.config.faults import Unfit, did_you_mean, shown
from dso.config.reading import Opaque, Place, Reader, Values, has_variables

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as MappingType
    from typing import Any

    from dso.config.document import Node
    from dso.config.sections import Section

_DIGITS = frozenset("0123456789")
_OCTAL = frozenset("01234567")
_MAX_MODE = 0o777
_MAX_INTEGER_DIGITS = 18
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Kind:
    """What a value must be."""

    __slots__ = ()

    def read(self, node: Node, place: Place, reader: Reader) -> Any:
        """The value; Unfit, Opaque."""
        raise NotImplementedError

    def sections(self) -> MappingType[str, Section]:
        """The sections this kind holds: those of its items, by what chooses between them ("" for an only one)."""
        return {}


class Text(Kind):
    """Text that passes a check; `what` completes "is no ..."."""

    __slots__ = ("_check", "_empty", "_hint", "_what")

    def __init__(
        self, what: str = "", check: Callable[[str], bool] | None = None, *, hint: str = "", empty: bool = False
    ) -> None:
        self._what = what
        self._check = check
        self._hint = hint
        self._empty = empty

    def read(self, node: Node, place: Place, reader: Reader) -> str:  # noqa: D102, ARG002
        text = reader.text(node, empty=self._empty)
        if self._check is not None and not self._check(text):
            raise Unfit(f"{reader.quoted(node)} is no {self._what}", self._hint)
        return text


class Choice(Kind):
    """One of several words."""

    __slots__ = ("_words",)

    def __init__(self, *words: str) -> None:
        self._words = words

    def read(self, node: Node, place: Place, reader: Reader) -> str:  # noqa: D102, ARG002
        text = reader.text(node)
        if text not in self._words:
            near = "" if reader.private or has_variables(reader.written(node)) else did_you_mean(text, self._words)
            raise Unfit(f"{reader.quoted(node)} is not one of {', '.join(self._words)}{near}")
        return text


class Truth(Kind):
    """`true` or `false`."""

    __slots__ = ()

    def read(self, node: Node, place: Place, reader: Reader) -> bool:  # noqa: D102, ARG002
        text = reader.text(node)
        if text not in _TRUTHS:
            raise Unfit(f"{reader.quoted(node)} is neither true nor false", "write true or false; yes and on are words")
        return _TRUTHS[text]


class Whole(Kind):
    """A whole number within bounds, in decimal digits."""

    __slots__ = ("_high", "_low")

    def __init__(self, low: int, high: int) -> None:
        self._low = low
        self._high = high

    def read(self, node: Node, place: Place, reader: Reader) -> int:  # noqa: D102, ARG002
        text = reader.text(node)
        plain = _DIGITS.issuperset(text) and len(text) <= _MAX_INTEGER_DIGITS and (text == "0" or text[0] != "0")
        if not plain or not self._low <= int(text) <= self._high:
            raise Unfit(f"{reader.quoted(node)} is no whole number from {self._low} to {self._high}")
        return int(text)


class Mode(Kind):
    """Permission bits, always octal: `0400`, `"0400"` or `0o400`."""

    __slots__ = ()

    def read(self, node: Node, place: Place, reader: Reader) -> int:  # noqa: D102, ARG002
        text = reader.text(node)
        digits = text[2:] if text.startswith("0o") else text[1:] if text.startswith("0") else ""
        if not digits or not _OCTAL.issuperset(digits) or len(digits) > len("0777") or int(digits, 8) > _MAX_MODE:
            raise Unfit(
                f"{reader.quoted(node)} is no mode", "write it in octal and with its leading 0: 0400 up to 0777"
            )
        return int(digits, 8)


class Duration(Kind):
    """A duration, as seconds."""

    __slots__ = ("_zero",)

    def __init__(self, *, zero: bool = False) -> None:
        self._zero = zero

    def read(self, node: Node, place: Place, reader: Reader) -> float:  # noqa: D102, ARG002
        text = reader.text(node)
        try:
            seconds = parse_duration(text)
        except ValueError as fault:
            hint = f"write {FORMS}"
            if not reader.private and _DIGITS.issuperset(text) and not has_variables(reader.written(node)):
                hint = f"write {shown(text)}s for seconds; the forms are {FORMS}"
            raise Unfit(f"{reader.quoted(node)} is no duration: {fault}", hint) from None
        if not seconds and not self._zero:
            raise Unfit("must be longer than 0", f"write {FORMS}")
        return seconds


class Anything(Kind):
    """Settings of a plugin this program does not know: text, whole numbers, truths, lists and mappings of them.

    Only words without quotes and variables are anything but text, and only where nobody could mean
    another thing: `true`, `false`, and digits without a leading 0. `1.10` stays the text it is.
    """

    __slots__ = ()

    def read(self, node: Node, place: Place, reader: Reader) -> Any:  # noqa: D102
        if isinstance(node, Sequence):
            return ListOf(self, "values", empty=True).read(node, place, reader)
        if isinstance(node, Mapping):
            return MapOf(self, "values", empty=True).read(node, place, reader)
        if node.is_null:
            return None
        text = reader.text(node, empty=True)
        return _typed(text) if node.plain and not has_variables(node.text) else text


class ListOf(Kind):
    """A list of values of one kind; faulty ones are left out."""

    __slots__ = ("_empty", "_example", "_kind")

    def __init__(self, kind: Kind, example: str, *, empty: bool = False) -> None:
        self._kind = kind
        self._example = example
        self._empty = empty

    def read(self, node: Node, place: Place, reader: Reader) -> list[Any]:  # noqa: D102
        if not isinstance(node, Sequence):
            raise Unfit("must be a list", f"write {self._example}")
        if not node.items and not self._empty:
            raise Unfit("is an empty list", f"write {self._example}, or remove the key")
        values = []
        for index, item in enumerate(node.items):
            at = place.item(index, item.line)
            try:
                values.append(self._kind.read(item, at, reader))
            except Unfit as unfit:
                reader.fault(at, unfit.message, unfit.hint)
            except Opaque:
                pass
        return values

    def sections(self) -> MappingType[str, Section]:  # noqa: D102
        return self._kind.sections()


class MapOf(Kind):
    """Names that the file chooses, with values of one kind."""

    __slots__ = ("_check", "_empty", "_example", "_hint", "_kind", "_what")

    def __init__(
        self,
        kind: Kind,
        example: str,
        *,
        what: str = "",
        check: Callable[[str], bool] | None = None,
        hint: str = "",
        empty: bool = False,
    ) -> None:
        self._kind = kind
        self._example = example
        self._what = what
        self._check = check
        self._hint = hint
        self._empty = empty

    def read(self, node: Node, place: Place, reader: Reader) -> Values:  # noqa: D102
        if not isinstance(node, Mapping):
            raise Unfit("must be a mapping", f"write {self._example}")
        if not node.entries and not self._empty:
            raise Unfit("has no entries", f"write {self._example}, or remove the key")
        values = Values(place)
        for key, value in node.entries:
            name = key.text
            at = place.key(name, key.line)
            values.nodes[name], values.lines[name] = value, key.line
            if self._check is not None and not self._check(name):
                reader.fault(at, f"{shown(name)} is no {self._what}", self._hint)
            try:
                values[name] = self._kind.read(value, at, reader)
            except Unfit as unfit:
                reader.fault(at, unfit.message, unfit.hint, line=fault_line(key, value))
            except Opaque:
                pass
        return values

    def sections(self) -> MappingType[str, Section]:  # noqa: D102
        return self._kind.sections()


def fault_line(key: Scalar, value: Node) -> int:
    """Where a value's fault is: in the value's own line if it is a single value, else in its key's."""
    return value.line if isinstance(value, Scalar) and value.text else key.line


def _typed(word: str) -> Any:
    digits = word[1:] if word[:1] == "-" else word
    if not digits or not _DIGITS.issuperset(digits) or len(digits) > _MAX_INTEGER_DIGITS:
        return _TRUTHS.get(word, word)
    return int(word) if digits[0] != "0" or word == "0" else word
