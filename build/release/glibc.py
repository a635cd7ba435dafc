"""What a frozen binary wants of the machine it runs on: the newest symbol version of glibc, and libraries.

Every object counts: the boot loader, and each shared library and extension module in the archive behind it.
"""

from __future__ import annotations

import re
import subprocess
from tempfile import NamedTemporaryFile
from typing import TYPE_CHECKING, NamedTuple

from PyInstaller.archive.readers import CArchiveReader

if TYPE_CHECKING:
    from collections.abc import Iterator

Version = tuple[int, ...]

_ELF = b"\x7fELF"
_NO_FILES = "zMmso"  # types of entries that are Python code or options

# What glibc consists of, and what glibc's own package depends on everywhere.
ON_EVERY_MACHINE = frozenset(
    {
        *["libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1"],
        *["ld-linux-x86-64.so.2", "ld-linux-aarch64.so.1", "libgcc_s.so.1"],
    }
)


class Needs(NamedTuple):
    """Of one object: its newest GLIBC_ symbol version, and the libraries it is linked with."""

    name: str
    glibc: Version
    libraries: frozenset[str]


def needs_of(binary: str) -> list[Needs]:
    """One for each object in a frozen binary, the boot loader first."""
    return [_object_needs("boot loader", binary), *(_content_needs(name, content) for name, content in objects(binary))]


def objects(binary: str) -> Iterator[tuple[str, bytes]]:
    """The shared libraries and extension modules in a frozen binary, by their names there."""
    archive = CArchiveReader(binary)
    for name, entry in archive.toc.items():
        if entry[4] not in _NO_FILES:
            content = archive.extract(name)
            if content.startswith(_ELF):
                yield name, content


def missing_libraries(needs: list[Needs]) -> dict[str, frozenset[str]]:
    """Object to what it is linked with that is neither in the same binary nor on every machine."""
    there = ON_EVERY_MACHINE | {one.name.rpartition("/")[2] for one in needs}
    return {one.name: one.libraries - there for one in needs if one.libraries - there}


def _content_needs(name: str, content: bytes) -> Needs:
    with NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        return _object_needs(name, file.name)


def _object_needs(name: str, path: str) -> Needs:
    text = subprocess.run(["objdump", "-p", path], capture_output=True, check=True, text=True).stdout
    versions = [tuple(map(int, found.split("."))) for found in re.findall(r"\bGLIBC_([0-9.]+)", text)]
    return Needs(name, max(versions, default=()), frozenset(re.findall(r"^\s+NEEDED\s+(\S+)", text, re.MULTILINE)))
