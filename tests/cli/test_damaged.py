"""A frozen binary that is not whole any more: an interrupted copy, a bad disk."""

from __future__ import annotations

import os
import random
import shutil
import struct
from typing import TYPE_CHECKING

import pytest

from tests.support.home import FROZEN
from tests.support.process import run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAGIC = b"MEI\014\013\012\013\016"
COOKIE = 88  # bytes
METADATA = "docker-cli-plugin-metadata"


class Damaged:
    """A copy, and where in it the parts of its archive are (build/bootloader/archive.c)."""

    def __init__(self, path: Path) -> None:
        shutil.copy(FROZEN, path)
        self.path = path
        content = path.read_bytes()
        self.cookie = content.rindex(MAGIC)
        length, table, self.table_length, _ = struct.unpack_from(">IIII", content, self.cookie + len(MAGIC))
        self.archive = self.cookie + COOKIE - length
        self.table: int = self.archive + table

    def cut(self, size: int) -> None:
        os.truncate(self.path, size)

    def write(self, offset: int, content: bytes) -> bytes:
        """Write there; what was there."""
        with self.path.open("r+b") as file:
            file.seek(offset)
            former = file.read(len(content))
            file.seek(offset)
            file.write(content)
        return former

    def number(self, offset: int, value: int) -> None:
        self.write(offset, struct.pack(">I", value))

    def read(self) -> bytes:
        return self.path.read_bytes()[self.table : self.table + self.table_length]


@pytest.fixture
def damaged(tmp_path: Path) -> Iterator[Damaged]:
    copy = Damaged(tmp_path / "docker-dso")
    yield copy
    copy.path.unlink()


HUGE = 0xFFFFFFFF
WAYS: dict[str, Callable[[Damaged], None]] = {
    "cut in the middle": lambda it: it.cut(it.table // 2),
    "cut before its table": lambda it: it.cut(it.table),
    "cut in its table": lambda it: it.cut(it.table + it.table_length // 2),
    "cut in its cookie": lambda it: it.cut(it.cookie + COOKIE - 1),
    "no cookie": lambda it: void(it.write(it.cookie, bytes(8))),
    "archive longer than the file": lambda it: it.number(it.cookie + 8, HUGE),
    "archive of nothing": lambda it: it.number(it.cookie + 8, 0),
    "table beyond the archive": lambda it: it.number(it.cookie + 12, HUGE),
    "table longer than the archive": lambda it: it.number(it.cookie + 16, HUGE),
    "entry of no length": lambda it: it.number(it.table, 0),
    "entry without a name": lambda it: it.number(it.table, 18),
    "entry longer than the table": lambda it: it.number(it.table, it.table_length + 1),
    "data beyond the archive": lambda it: it.number(it.table + 4, HUGE),
    "data longer than the archive": lambda it: it.number(it.table + 8, HUGE),
    "data reaching into the table": lambda it: it.number(it.table + 8, it.table - it.archive + 1),
    "name without an end": lambda it: void(it.write(last_byte_of_first_entry(it), b"x")),
    "compressed data": lambda it: void(it.write(it.table + 16, b"\1")),
    "table of nonsense": lambda it: void(it.write(it.table, b"\x5a" * it.table_length)),
}


def void(_: object) -> None:
    return


def last_byte_of_first_entry(it: Damaged) -> int:
    return it.table + int.from_bytes(it.read()[:4], "big") - 1


@pytest.mark.parametrize("way", WAYS)
def test_says_so_in_one_line(damaged: Damaged, way: str) -> None:
    WAYS[way](damaged)
    for word in ("version", METADATA):
        done = run([str(damaged.path), word], check=False)
        expected = f"Error: {damaged.path} is damaged: install DSO again\n"
        assert (done.returncode, done.out, done.err) == (70, "", expected)


def test_code_of_nonsense_is_an_error(damaged: Damaged) -> None:
    damaged.write(damaged.archive, bytes(damaged.table - damaged.archive))
    done = run([str(damaged.path), "version"], check=False)
    assert (done.returncode, done.out) == (70, "")
    assert f"Error: {damaged.path} cannot start: " in done.err


def test_no_byte_of_the_table_can_crash_it(damaged: Damaged) -> None:
    places = random.Random(damaged.table_length)
    for _ in range(100):
        offset = damaged.table + places.randrange(damaged.table_length)
        former = damaged.write(offset, bytes([places.randrange(256)]))
        assert run([str(damaged.path), METADATA], check=False).returncode in (0, 70), offset
        damaged.write(offset, former)
