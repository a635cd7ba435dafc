r"""`.env` files, read exactly as Compose v2 reads them, and written so that it reads the same back.

The grammar was found by trying Compose 2.26, and the tests compare against the real one:

- `NAME=value`, `NAME: value`, `export NAME=value`; a name has letters, digits and `_ . - [ ]`. The last of
  several lines with one name counts. `NAME` alone on a line takes the variable from the environment.
- `#` begins a comment at the start of a line, and after a space in a value without quotes.
- A value without quotes ends with its line; white space around it goes away, variables are expanded.
- In single quotes everything is literal, line breaks too; only `\'` stands for a quote.
- In double quotes a backslash begins an escape (`\n \r \t \a \b \f \v \\ \" \$`, and `\0` with three octal
  digits; before anything else it stays); line breaks are kept, variables are expanded.
- After a closing quote the next entry may follow on the same line. A byte order mark is skipped.

`dso.config.interpolation` says how variables are expanded. There is no deliberate difference; two
oddities that are kept: a bare word as the last line, without a line end, is the value of the variable
with the empty name; and a name may hold tabs.
"""

from __future__ import annotations

from dso.config.interpolation import ExpressionError, expand, has_expression
from dso.errors import EnvFileError

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_SPACE = "\t\v\f\r \x85\xa0"  # white space within a line
_ANY_SPACE = _SPACE + "\n\u1680" + "".join(map(chr, range(0x2000, 0x200B))) + "\u2028\u2029\u202f\u205f\u3000"
_EXPORT = "export"
_EXPORT_END = frozenset("\t\n\f\r ")
_NAME_PUNCTUATION = frozenset("_.-[]")
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", '"': '"', "\\": "\\"}
_OCTAL = frozenset("01234567")
_DIGITS = frozenset("0123456789")
MAX_BYTES = 4 * 1024 * 1024  # of a file
MAX_EXPANDED = 16 * 1024 * 1024  # characters that variables may stand for in it: A=$B$B, B=$C$C... doubles at each line
_OCTAL_DIGITS = 3
_OCTAL_LIMIT = 0o400

_UNQUOTED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_./:@%+,=^~-")
_NAME_HINT = "a name has letters, digits and _ . - [ ]; a value with quotes or line breaks stands in quotes as a whole"


class Entry:
    """One entry of a file: its name, the line it begins on (from 1), and its value in two readings.

    `literal` is the value with quotes and escapes resolved and dollar signs as written; None for a name
    without a value, to be taken from the environment. `template` is what Compose expands; None where it
    expands nothing (single quotes).
    """

    __slots__ = ("line", "literal", "name", "template")

    def __init__(self, name: str, line: int, literal: str | None, template: str | None) -> None:
        self.name = name
        self.line = line
        self.literal = literal
        self.template = template

    @property
    def has_expression(self) -> bool:
        """Whether expanding variables could give something else than the literal value."""
        if self.template is None or not has_expression(self.template):
            return False
        return expands_names(self.template) or self.template.replace("$$", "$") != self.literal


def expands_names(template: str) -> bool:
    """Whether a template has a `$NAME` or `${`, `$$` aside."""
    return has_expression(template.replace("$$", ""))


def parse(text: str, *, lookup: Callable[[str], str | None] | None = None, source: str = ".env") -> dict[str, str]:
    """The variables of a `.env` file, in the order in which they first appear.

    Args:
        text: what the file holds. Bytes that are not UTF-8 should be decoded with `surrogateescape`.
        lookup: a variable's value in the environment, or None. It goes before the file's own earlier
            entries. Without a lookup nothing is expanded: dollar signs stay, names without a value are
            left out.
        source: what errors call the file.

    Raises:
        EnvFileError: a syntax error, a malformed expression, or a required variable that is not set; with
            the line, and never with anything of a value.
    """
    return resolve(entries(text, source=source), lookup=lookup, source=source)


def read(path: str, *, lookup: Callable[[str], str | None] | None = None) -> dict[str, str]:
    """The variables of the file at `path`; as `parse`.

    Raises:
        EnvFileError: as `parse`.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as stream:
        content = stream.read()
    return parse(decode(content), lookup=lookup, source=path)


def decode(content: bytes) -> str:
    """A file's bytes as text; what is not UTF-8 becomes surrogates, as in `os.environ`."""
    return content.decode("utf-8", "surrogateescape")


def resolve(
    found: Iterable[Entry],
    *,
    lookup: Callable[[str], str | None] | None = None,
    source: str = ".env",
    unset: list[Entry] | None = None,
) -> dict[str, str]:
    """The variables that entries give; as `parse`.

    `unset` receives every entry with a variable that is not set and that nothing stands in for.
    """
    values: dict[str, str] = {}
    expanded = 0

    def counted(value: str | None) -> str | None:
        nonlocal expanded
        expanded += len(value or "")
        if expanded > MAX_EXPANDED:
            raise ExpressionError(
                "makes the variables of this file stand for too much text", hint="write out what they stand for"
            )
        return value

    for entry in found:
        if entry.literal is None:
            inherited = lookup(entry.name) if lookup is not None else None
            if inherited is not None:
                values[entry.name] = inherited
        elif entry.template is None or lookup is None:
            values[entry.name] = entry.literal
        else:
            values[entry.name] = _expanded(entry, values, lookup, counted, source, unset)
    return values


def _expanded(
    entry: Entry,
    earlier: dict[str, str],
    lookup: Callable[[str], str | None],
    counted: Callable[[str | None], str | None],
    source: str,
    unset: list[Entry] | None,
) -> str:
    def value_of(name: str) -> str | None:
        value = lookup(name)
        return counted(earlier.get(name) if value is None else value)

    def not_set(_name: str) -> None:
        if unset is not None and entry not in unset:
            unset.append(entry)

    try:
        return expand(entry.template or "", value_of, not_set)
    except ExpressionError as error:
        raise EnvFileError(
            f"{source}, line {entry.line}: the value of {shown(entry.name)} {error.fault}", hint=error.hint
        ) from None


def shown(name: str) -> str:
    """A name for a message: as it is when it is plain, else quoted with what cannot be printed escaped."""
    return name if _UNQUOTED.issuperset(name) and name else repr(name)


def entries(text: str, *, source: str = ".env") -> list[Entry]:
    """The entries of a file, in order, duplicates included.

    Raises:
        EnvFileError: a syntax error, with its line.
    """
    return _Scanner(text, source).entries()


class _Scanner:
    """Reads a file's text from `at` on; `line` is the line of `counted`, the last place that was asked for."""

    __slots__ = ("at", "counted", "line", "source", "text")

    def __init__(self, text: str, source: str) -> None:
        self.text = text
        self.source = source
        self.at = 1 if text.startswith("\ufeff") else 0
        self.line = 1
        self.counted = 0

    def entries(self) -> list[Entry]:
        found = []
        while self._to_next_entry():
            found.append(self._entry())
        return found

    def _to_next_entry(self) -> bool:
        """Skip white space and comments; False at the end of the text."""
        text = self.text
        while self.at < len(text):
            if text[self.at] in _ANY_SPACE:
                self.at += 1
            elif text[self.at] == "#":
                end = text.find("\n", self.at)
                self.at = end if end >= 0 else len(text)
            else:
                return True
        return False

    def _entry(self) -> Entry:
        line = self._line_of(self.at)
        text = self.text
        after_export = self.at + len(_EXPORT)
        if text.startswith(_EXPORT, self.at) and text[after_export : after_export + 1] in _EXPORT_END:
            self.at = after_export
            self._skip(_SPACE)
            if self.at == len(text):
                raise self._error(line, "there is no name after `export`")
        name, inherited = self._name()
        if " " in name:
            raise self._error(line, "there is a space in a name")
        self._skip(_SPACE)
        if inherited:
            return Entry(name, line, None, None)
        quote = text[self.at : self.at + 1]
        if quote in ("'", '"'):
            return self._quoted(name, line, quote)
        return self._unquoted(name, line)

    def _name(self) -> tuple[str, bool]:
        """The name that begins here, and whether it ends with the line instead of `=` or `:`."""
        text = self.text
        for index in range(self.at, len(text)):
            character = text[index]
            if character in "=:\n":
                name = text[self.at : index].rstrip(_ANY_SPACE)
                self.at = index + 1
                return name, character == "\n"
            plain = character.isalpha() or character.isnumeric() or character in _NAME_PUNCTUATION
            if not plain and character not in _SPACE:
                column = index - text.rfind("\n", 0, index)
                raise self._error(
                    self._line_of(index), f"a name was expected, and column {column} cannot be part of one"
                )
        return "", False  # the end of the text: it is then the value of the empty name

    def _unquoted(self, name: str, line: int) -> Entry:
        end = self.text.find("\n", self.at)
        value = self.text[self.at : end if end >= 0 else len(self.text)]
        self.at = end + 1 if end >= 0 else len(self.text)
        value = value.partition(" #")[0].rstrip(_ANY_SPACE)
        return Entry(name, line, value, value)

    def _quoted(self, name: str, line: int, quote: str) -> Entry:
        """The value in quotes that begins here, up to the first quote with no backslash of its own before it."""
        text = self.text
        start = index = self.at + 1
        pieces = []
        while True:
            end = text.find(quote, index)
            if end < 0:
                raise self._error(
                    line,
                    f"the value of {shown(name)} has no closing {quote}",
                    hint=f"close the quote; a {quote} inside the value is written \\{quote}",
                )
            before = text[index:end]
            if (len(before) - len(before.rstrip("\\"))) % 2 == 0:
                break
            pieces.append(text[start : end - 1])
            start, index = end, end + 1
        pieces.append(text[start:end])
        self.at = end + 1
        value = "".join(pieces)
        if quote == "'":
            return Entry(name, line, value, None)
        return Entry(name, line, _unescape(value, "$"), _unescape(value, "$$"))

    def _skip(self, characters: str) -> None:
        while self.at < len(self.text) and self.text[self.at] in characters:
            self.at += 1

    def _line_of(self, index: int) -> int:
        self.line += self.text.count("\n", self.counted, index)
        self.counted = index
        return self.line

    def _error(self, line: int, fault: str, hint: str = _NAME_HINT) -> EnvFileError:
        return EnvFileError(f"{self.source}, line {line}: {fault}", hint=hint)


def _unescape(text: str, dollar: str) -> str:
    """What a text in double quotes stands for, its quotes resolved; an escaped dollar sign becomes `dollar`."""
    pieces = []
    done = 0
    while (at := text.find("\\", done)) >= 0:
        pieces.append(text[done:at])
        following = text[at + 1 : at + 2]
        done = at + 2
        if following == "$":
            pieces.append(dollar)
        elif following == "0":
            end = done
            while end < len(text) and end < done + _OCTAL_DIGITS and text[end] in _DIGITS:
                end += 1
            pieces.append(_octal(text[done:end]))
            done = end
        else:
            pieces.append(_ESCAPES.get(following, "\\" + following))
    pieces.append(text[done:])
    return "".join(pieces)


def _octal(digits: str) -> str:
    r"""What `\0DIGITS` stands for: a character, or, when it is none, the same without the 0."""
    if len(digits) == _OCTAL_DIGITS and _OCTAL.issuperset(digits) and int(digits, 8) < _OCTAL_LIMIT:
        return chr(int(digits, 8))
    return "\\" + digits


def quote(value: str) -> str:
    r"""A value as it is written after `NAME=`, so that Compose reads exactly it.

    Without quotes where that is safe, else in single quotes (which a POSIX shell reads alike), else in
    double quotes. Any text can be written but a NUL character and surrogates (bytes that are not UTF-8).
    """
    if value and _UNQUOTED.issuperset(value):
        return value
    if "'" not in value and "\r" not in value and not value.endswith("\\"):
        return f"'{value}'"
    escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("$", "\\$").replace("\r", "\\r")
    return f'"{escaped}"'
