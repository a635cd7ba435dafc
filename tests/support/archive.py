"""What is in a frozen binary."""

from __future__ import annotations

from typing import NamedTuple

from PyInstaller.archive.readers import CArchiveReader


class Contents(NamedTuple):
    """A binary's archive.

    `modules`: the Python modules, which the interpreter imports as its frozen ones. `scripts`: what runs, one
    launcher. `files`: all that is read or loaded by its name (`ahead/`, `answer/`, `data/`, `extension/`, `library/`).
    `others`: what our boot loader does not know, and PyInstaller's would unpack or decompress.
    """

    modules: set[str]
    scripts: list[str]
    files: set[str]
    others: set[str]

    @property
    def importable(self) -> set[str]:
        """Every module that can be imported, but for the interpreter's own."""
        return self.modules | self.named("extension/")

    def named(self, prefix: str) -> set[str]:
        """The files whose names begin so, without that beginning."""
        return {name.removeprefix(prefix) for name in self.files if name.startswith(prefix)}


def contents_of(binary: str) -> Contents:
    """Read a binary's table of contents."""
    by_kind: dict[str, list[str]] = {}
    for name, (_, stored, full, compressed, kind) in CArchiveReader(binary).toc.items():
        by_kind.setdefault("compressed" if compressed or stored != full else kind, []).append(name)
    return Contents(
        modules={*by_kind.pop("m", []), *by_kind.pop("M", [])},
        scripts=by_kind.pop("s", []),
        files=set(by_kind.pop("a", [])),
        others={name for names in by_kind.values() for name in names},
    )
