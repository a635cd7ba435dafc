"""A YAML document as a tree in which everything has its line; no value is interpreted.

PyYAML reads the grammar only, by events: whether `yes` is a word or a truth is for the schema to say
(`dso.config.kinds`). What YAML allows and a configuration needs not is refused: several documents,
tags, keys that are no text, the same key twice, aliases that make a small file a huge tree. Anchors,
aliases and the merge key `<<` work as in a Compose file.

One thing goes beyond YAML: in `{token: ${VAULT_TOKEN}}` the braces of the expression belong to the value,
as everybody who writes it expects. YAML itself calls that an error in every case, so no valid file means
something else here.
"""

from __future__ import annotations

from dso.config.faults import Fault, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any, NoReturn

MAX_NODES = 50_000  # with every alias counted as what it stands for
MAX_DEPTH = 40
_MERGE_KEY = "<<"
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_UNPRINTABLE = "[^\t\n\r -~\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"  # no BOM, no surrogates


class DocumentError(Exception):
    """The text is no document this module reads: the one fault that ends the reading."""

    def __init__(self, line: int, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.fault = Fault(line, "", message, hint)


class Scalar:
    """A single value: its text with quotes and escapes resolved. `plain` tells that it had no quotes."""

    __slots__ = ("line", "plain", "text")
    height = 0
    size = 1

    def __init__(self, line: int, text: str, *, plain: bool) -> None:
        self.line = line
        self.text = text
        self.plain = plain

    @property
    def is_null(self) -> bool:
        """Whether it is no value at all: nothing after the colon, or the word null without quotes."""
        return self.plain and self.text in _NULLS


class Sequence:
    """A list."""

    __slots__ = ("height", "items", "line", "size")

    def __init__(self, line: int) -> None:
        self.line = line
        self.items: list[Node] = []
        self.height = 0
        self.size = 1


class Mapping:
    """Keys and values, in order; each key once, what `<<` brought in after the mapping's own."""

    __slots__ = ("entries", "height", "line", "size")

    def __init__(self, line: int) -> None:
        self.line = line
        self.entries: list[tuple[Scalar, Node]] = []
        self.height = 0
        self.size = 1

    def get(self, key: str) -> Node | None:
        """A key's value, or None."""
        return next((value for name, value in self.entries if name.text == key), None)


if TYPE_CHECKING:
    Node = Scalar | Sequence | Mapping


def parse_document(text: str) -> tuple[Node | None, list[Fault]]:
    """The document's tree, None for an empty one, and what is wrong with it that does not keep it from being read.

    Raises:
        DocumentError: it is no YAML, or a tree of unreasonable size.
    """
    import yaml

    _refuse_control_characters(text)
    fast = yaml.CSafeLoader if yaml.__with_libyaml__ else _expression_loader(yaml)
    try:
        return _built(_events(fast(text)))
    except yaml.YAMLError as error:
        if "${" not in text or not yaml.__with_libyaml__:
            _refuse(text, error)
    try:
        return _built(_events(_expression_loader(yaml)(text)))
    except yaml.YAMLError as error:
        _refuse(text, error)


def _events(loader: Any) -> Iterator[Any]:
    try:
        while loader.check_event():
            yield loader.get_event()
    except (ValueError, OverflowError):  # of int() and chr(), which PyYAML's scanner does not expect
        line = loader.get_mark().line + 1
        raise DocumentError(
            line, "has a number or an escape that stands for nothing", "write the character itself"
        ) from None
    finally:
        loader.dispose()


def _expression_loader(yaml: Any) -> Any:
    """PyYAML's own scanner, to which `${...}` within `{}` and `[]` is part of a value."""

    class Loader(yaml.SafeLoader):  # type: ignore[misc]
        def scan_plain(self) -> Any:
            token = super().scan_plain()
            pieces = [token.value]
            while length := self._expression_length():
                pieces.append(self.prefix(length))
                self.forward(length)
                self.allow_simple_key = False
                token.end_mark = self.get_mark()
                spaces = self.scan_plain_spaces(self.indent + 1, token.start_mark)
                if spaces is None or (spaces and self.peek() in "\0#,?[]{}:"):  # None: --- or ... begins the line
                    break
                pieces.extend(spaces)
                rest = super().scan_plain()
                if rest.value:
                    pieces.append(rest.value)
                    token.end_mark = rest.end_mark
            token.value = "".join(pieces)
            return token

        def _expression_length(self) -> int:
            """How long the `{...}` is that begins here, right after a `$`; 0 when none does."""
            if not self.flow_level or self.peek() != "{" or self.buffer[self.pointer - 1] != "$":
                return 0
            depth = length = 0
            while (character := self.peek(length)) not in "\0\n\r\x85\u2028\u2029":
                length += 1
                depth += (character == "{") - (character == "}")
                if not depth:
                    return length
            return 0

    return Loader


def _refuse_control_characters(text: str) -> None:
    import re

    found = re.search(_UNPRINTABLE, text)
    if found:
        line = text.count("\n", 0, found.start()) + 1
        raise DocumentError(
            line,
            f"has the character U+{ord(found.group()):04X}, which cannot stand in YAML",
            hint='a control character is written as an escape in double quotes: "\\x1b"',
        )


def _built(events: Iterable[Any]) -> tuple[Node | None, list[Fault]]:
    builder = _Builder()
    for event in events:
        builder.take(event)
    return builder.root, builder.faults


class _Builder:
    """Makes the tree from events. `open` holds the containers not yet closed, with the key that waits for a value."""

    __slots__ = ("_anchors", "_count", "_keys", "_open", "_opened_anchors", "faults", "root")

    def __init__(self) -> None:
        self.root: Node | None = None
        self.faults: list[Fault] = []
        self._open: list[Sequence | Mapping] = []
        self._keys: list[Scalar | None] = []
        self._opened_anchors: list[str | None] = []
        self._anchors: dict[str, Node] = {}
        self._count = 0

    def take(self, event: Any) -> None:
        line = event.start_mark.line + 1
        kind = type(event).__name__
        if getattr(event, "tag", None) is not None:
            self.faults.append(Fault(line, "", "has a tag (a word with !)", "a value that begins with ! needs quotes"))
        if kind == "ScalarEvent":
            if not event.value.isascii() and any("\ud800" <= character <= "\udfff" for character in event.value):
                raise DocumentError(line, "has an escape that stands for no character", "write the character itself")
            scalar = Scalar(line, event.value, plain=not event.style)
            self._count_in(scalar)
            self._attach(scalar, event.anchor)
        elif kind in ("MappingStartEvent", "SequenceStartEvent"):
            self._start(Mapping(line) if kind == "MappingStartEvent" else Sequence(line), event.anchor)
        elif kind in ("MappingEndEvent", "SequenceEndEvent"):
            self._end()
        elif kind == "AliasEvent":
            if event.anchor not in self._anchors:
                raise DocumentError(
                    line, "has an alias (a word with *) without its anchor", "a value that begins with * needs quotes"
                )
            self._count_in(self._anchors[event.anchor])
            self._attach(self._anchors[event.anchor], None)
        elif kind == "DocumentStartEvent" and self.root is not None:
            raise DocumentError(line, "has a second document after ---", "one file holds one document")

    def _start(self, node: Sequence | Mapping, anchor: str | None) -> None:
        self._count_in(node)
        self._open.append(node)
        self._keys.append(None)
        self._opened_anchors.append(anchor)

    def _end(self) -> None:
        node = self._open.pop()
        self._keys.pop()
        children: Iterable[Node]
        if isinstance(node, Sequence):
            children = node.items
        else:
            node.entries = self._unique(node)
            children = (one for pair in node.entries for one in pair)
        for child in children:
            node.size += child.size
            node.height = max(node.height, child.height + 1)
        self._attach(node, self._opened_anchors.pop())

    def _count_in(self, node: Node) -> None:
        self._count += node.size
        if self._count > MAX_NODES:
            raise DocumentError(node.line, f"has more than {MAX_NODES} values, aliases counted as what they stand for")
        if len(self._open) + node.height >= MAX_DEPTH:
            raise DocumentError(node.line, f"is nested more than {MAX_DEPTH} levels deep")

    def _attach(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        if not self._open:
            self.root = node
            return
        parent, key = self._open[-1], self._keys[-1]
        if isinstance(parent, Sequence):
            parent.items.append(node)
        elif key is not None:
            self._keys[-1] = None
            parent.entries.append((key, node))
        elif isinstance(node, Scalar):
            self._keys[-1] = node
        else:
            raise DocumentError(
                node.line,
                "has a key that is a list or has keys of its own",
                "a value with braces needs quotes; ${NAME} is for values, not for keys",
            )

    def _unique(self, node: Mapping) -> list[tuple[Scalar, Node]]:
        """A mapping's entries, each key once, those that `<<` brings in added."""
        first: dict[str, tuple[Scalar, Node]] = {}
        merged: list[Node] = []
        for key, value in node.entries:
            if key.plain and key.text == _MERGE_KEY:
                merged.extend(value.items if isinstance(value, Sequence) else [value])
            elif key.text in first:
                earlier = first[key.text][0].line
                message = f"the key {shown(key.text)} stands here a second time; the first is in line {earlier}"
                self.faults.append(Fault(key.line, "", message, "keep one of them"))
            else:
                first[key.text] = (key, value)
        for source in merged:
            if not isinstance(source, Mapping):
                self.faults.append(Fault(node.line, "", "<< merges something without keys", "write <<: *ANCHOR"))
                continue
            for key, value in source.entries:
                first.setdefault(key.text, (key, value))
        return list(first.values())


# What PyYAML and libyaml call a problem, what it means, and what to do. Their own words may quote the file.
_PROBLEMS = (
    (("tab",), "a tab where spaces belong", "indent with spaces"),
    (("mapping values are not allowed",), "a colon where no key can stand", "check the indentation; quote ': '"),
    (("sequence entries are not allowed",), "a list item where none can stand", "check the indentation"),
    (("cannot start any token",), "a value that begins with a special character", "put the value in quotes"),
    (("could not find expected ':'",), "a line that is no `key: value`", "check it for a missing colon or quote"),
    (("end of stream", "document separator", "document indicator"), "a quote that is not closed", "close it"),
    (("escape character", "hexdecimal"), "an unknown escape after a backslash", "in single quotes \\ is itself"),
    (("tag",), "a malformed tag (a word with !)", "a value that begins with ! needs quotes"),
    (("'}'", "']'"), "a {...} or [...] that is not closed, or lacks a comma", "values with , or } need quotes"),
    (("anchor", "alias", "alphabetic"), "a malformed & or *", "a value that begins with & or * needs quotes"),
    (
        ("block end", "expected key", "'-' indicator"),
        "a line that does not fit the ones above",
        "check the indentation",
    ),
    (("document start",), "something after the end of the document", "check the indentation of the first lines"),
    (("node content",), "no value where one belongs", "put a value with special characters in quotes"),
)


def _refuse(text: str, error: Any) -> NoReturn:
    problem = str(getattr(error, "problem", None) or "")
    begin, mark = getattr(error, "context_mark", None), getattr(error, "problem_mark", None)
    if mark is None or ("end of stream" in problem and begin is not None):
        mark = begin  # for a quote that is not closed, where it begins
    line = mark.line + 1 if mark is not None else 0
    if mark is not None and "token" in problem and _line_of(text, mark.line)[mark.column : mark.column + 1] == "\t":
        problem = "tab"
    for words, message, hint in _PROBLEMS:
        if any(word in problem for word in words):
            raise DocumentError(line, f"is not valid YAML: {message}", hint) from None
    raise DocumentError(line, "is not valid YAML", "check indentation, colons and quotes around here") from None


def _line_of(text: str, number: int) -> str:
    lines: Iterator[str] = iter(text.split("\n", number + 1))
    return next((line for index, line in enumerate(lines) if index == number), "")
