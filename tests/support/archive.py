"""What is in a frozen binary."""

from __future__ import annotations

from typing import NamedTuple

from PyInstaller.archive.readers import CArchiveReader


class Contents(NamedTuple):
    """A binary's archive.

    `unpacked`: files the boot loader writes to a temporary directory on each start. `early`: what
    it runs before PyInstaller's bootstrap scripts, in order. `scripts`: what it runs after.
    `lazy`: files kept until `dso.entry.lazy` wants them. `modules`: the Python modules.
    """

    unpacked: set[str]
    early: list[str]
    scripts: list[str]
    lazy: set[str]
    modules: set[str]

    @property
    def importable(self) -> set[str]:
        """Every module that can be imported, but for the interpreter's own."""
        extensions = {name.removeprefix("extension/") for name in self.lazy if name.startswith("extension/")}
        return self.modules | extensions | set(self.early)


def contents_of(binary: str) -> Contents:
    """Read a binary's tables of contents."""
    archive = CArchiveReader(binary)
    by_type: dict[str, list[str]] = {}
    for name, entry in archive.toc.items():
        by_type.setdefault(entry[4], []).append(name)
    return Contents(
        unpacked={name for kind in "bxZnd" for name in by_type.get(kind, [])},
        early=by_type["m"],
        scripts=by_type["s"],
        lazy=set(by_type["a"]),
        modules=set(archive.open_embedded_archive("PYZ.pyz").toc),
    )
