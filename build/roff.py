"""Texts as the source of man pages (man(7)): plain ones, and the Markdown that the pages in docs/ are written in.

Of Markdown it knows headings, paragraphs, lists, tables, blocks of code, `code`, **bold** and links; it raises
ValueError at what it does not know and would print as it stands.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# What troff would take for something else, or print as another character than it is.
_SPECIAL = {"\\": r"\(rs", "-": r"\-", "`": r"\(ga", "^": r"\(ha", "~": r"\(ti"}
_TOKEN = re.compile(r"`(?P<code>[^`]+)`|\*\*(?P<bold>[^*]+)\*\*|\[(?P<link>[^\]]+)\]\((?P<to>[^)\s]+)\)")
_FENCE = "```"


def escape(text: str) -> str:
    """Text as troff prints it unchanged."""
    return "".join(_SPECIAL.get(character, character) for character in text)


def code(text: str) -> str:
    """The same for what is typed: an apostrophe is one."""
    return escape(text).replace("'", r"\(aq")


def bold(text: str) -> str:
    """What is typed, in bold."""
    return rf"\fB{code(text)}\fR"


def line(text: str) -> str:
    """One line of source that is no request, whatever the text begins with."""
    return rf"\&{text}" if text.startswith((".", "'")) else text


def prose(text: str) -> str:
    """A paragraph on one line; `code`, **bold** and links are read."""
    parts, position = [], 0
    for found in _TOKEN.finditer(text):
        parts.append(escape(text[position : found.start()]))
        if found["code"] is not None:
            parts.append(bold(found["code"]))
        elif found["bold"] is not None:
            parts.append(rf"\fB{escape(found['bold'])}\fR")
        else:
            parts.append(_link(found["link"], found["to"]))
        position = found.end()
    parts.append(escape(text[position:]))
    return line("".join(parts))


def _link(text: str, target: str) -> str:
    """A link's text; the address too if it leads out of the documentation."""
    shown = prose(text)
    return f"{shown} <{escape(target)}>" if target.startswith("http") and target not in text else shown


def example(lines: Sequence[str]) -> list[str]:
    """Lines that are shown as they are."""
    return [".PP", ".RS 4", ".EX", *(line(code(each)) for each in lines), ".EE", ".RE"]


def item(term: str, text: str) -> list[str]:
    """An entry of a list; both are source already."""
    return [".TP", term, text]


def section(title: str) -> str:
    """The beginning of a section."""
    return f'.SH "{escape(title).upper()}"'


def subsection(title: str) -> str:
    """The beginning of a part of a section."""
    return f'.SS "{escape(title)}"'


def from_markdown(text: str) -> list[str]:
    """Source of a page's sections. A heading of the first level is left out: the page has a title of its own."""
    source: list[str] = []
    lines = iter(text.splitlines())
    for each in lines:
        if each.startswith(_FENCE):
            source += example(list(_until_fence(lines)))
        else:
            _Part(each, lines).write(source)
    return source


def _until_fence(lines: Iterator[str]) -> Iterator[str]:
    for each in lines:
        if each.startswith(_FENCE):
            return
        yield each
    raise ValueError("a block of code that does not end")


class _Part:
    """What begins in a line and goes on to an empty one."""

    def __init__(self, first: str, lines: Iterator[str]) -> None:
        self.lines = [first] if first.strip() else []
        for each in lines if self.lines else ():
            if not each.strip():
                break
            self.lines.append(each)

    def write(self, source: list[str]) -> None:
        if not self.lines:
            return
        first = self.lines[0]
        if first.startswith("#"):
            self._heading(source)
        elif first.startswith("|"):
            source += _table(self.lines)
        elif first.startswith("    "):
            source += example([each[4:] for each in self.lines])
        elif first.startswith("- "):
            source += _list(self.lines)
        elif first[0] in "<>*!" and not first.startswith("**"):
            raise ValueError(f"Markdown that is not known here: {first!r}")
        else:
            source += [".PP", prose(" ".join(each.strip() for each in self.lines))]

    def _heading(self, source: list[str]) -> None:
        level, _, title = self.lines[0].partition(" ")
        plain = title.replace("`", "")
        if level == "##":
            source.append(section(plain))
        elif level == "###":
            source.append(subsection(plain))
        elif len(level) > 3:  # noqa: PLR2004  # deeper than sections go
            source += [".PP", rf"\fB{escape(plain)}\fR"]


def _list(lines: Sequence[str]) -> list[str]:
    items: list[str] = []
    for each in lines:
        if each.startswith("- "):
            items.append(each[2:])
        else:
            items[-1] += " " + each.strip()
    return [source for each in items for source in (r".IP \(bu 2", prose(each))]


def _table(lines: Sequence[str]) -> list[str]:
    """Each row as an entry of a list: the first column is its term, the others follow with their headings."""
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", each.strip("|"))] for each in lines]
    headings, body = rows[0], rows[2:]
    source: list[str] = []
    for term, *cells in body:
        said = [
            f"{heading} {cell}" if heading.startswith("default") and cell not in ("required", "") else cell
            for heading, cell in zip(headings[1:], cells, strict=True)
        ]
        text = "; ".join(cell.replace("\\|", "|") for cell in said if cell)
        source += item(prose(term), prose(text) if text else r"\&")
    return source
