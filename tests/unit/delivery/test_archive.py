"""Our tar archives against Python's tarfile."""

from __future__ import annotations

import io
import tarfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.delivery.archive import BLOCK, Archive, read_files

CHARACTERS = st.characters(exclude_categories=["Cs"], exclude_characters="\0/")
NAMES = st.text(CHARACTERS, min_size=1, max_size=150).filter(lambda name: name not in (".", ".."))
NUMBERS = st.integers(0, 2**32 - 1)


@given(NAMES, st.binary(max_size=2000), NUMBERS, NUMBERS, st.integers(0, 0o7777))
def test_every_name_content_owner_and_mode_survives(name: str, content: bytes, uid: int, gid: int, mode: int) -> None:
    archive = Archive(1_700_000_000)
    archive.add_file(name, content, uid=uid, gid=gid, mode=mode)
    with tarfile.open(fileobj=io.BytesIO(archive.finish())) as tar:
        (member,) = tar.getmembers()
        assert member.isreg()
        assert (member.name, member.uid, member.gid, member.mode) == (name, uid, gid, mode)
        assert member.mtime == 1_700_000_000
        stream = tar.extractfile(member)
        assert stream is not None
        assert stream.read() == content
    assert list(read_files(archive.finish())) == [(name, content)]


def test_entries_keep_their_order_and_repetitions() -> None:
    archive = Archive(0)
    archive.add_file("a", b"1")
    archive.add_directory("d/e")
    archive.add_file("d/e/f", b"2" * BLOCK)
    archive.add_file("a", b"3")
    data = archive.finish()
    assert len(data) % BLOCK == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        assert [(member.name, member.isdir(), member.mode) for member in tar] == [
            ("a", False, 0o444),
            ("d/e", True, 0o755),
            ("d/e/f", False, 0o444),
            ("a", False, 0o444),
        ]
    assert list(read_files(data)) == [("a", b"1"), ("d/e/f", b"2" * BLOCK), ("a", b"3")]


@given(NAMES, NAMES)
def test_links_name_their_target_and_repeat_its_owner(name: str, target: str) -> None:
    archive = Archive(0)
    archive.add_file(target, b"x", uid=5, gid=6, mode=0o400)
    archive.add_link(name, target, uid=5, gid=6, mode=0o400)
    with tarfile.open(fileobj=io.BytesIO(archive.finish())) as tar:
        file, link = tar.getmembers()
        assert link.islnk()
        assert (link.name, link.linkname, link.size) == (name, target, 0)
        assert (link.uid, link.gid, link.mode) == (file.uid, file.gid, file.mode) == (5, 6, 0o400)


@pytest.mark.parametrize("kind", [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT, tarfile.USTAR_FORMAT])
def test_files_of_archives_by_others_are_read(kind: int) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=kind) as tar:
        for name in ("first", "second"):
            member = tarfile.TarInfo(name)
            member.size = 3
            member.pax_headers = {"SCHILY.xattr.user.x": "y"}
            tar.addfile(member, io.BytesIO(b"abc"))
    assert list(read_files(buffer.getvalue())) == [("first", b"abc"), ("second", b"abc")]


def test_long_name_belongs_to_one_entry_only() -> None:
    archive = Archive(0)
    archive.add_directory("d" * 150)
    archive.add_file("short", b"1")
    archive.add_file("é" * 80, b"2")
    archive.add_link("l" * 150, "short")
    archive.add_file("last", b"3")
    assert list(read_files(archive.finish())) == [("short", b"1"), ("é" * 80, b"2"), ("last", b"3")]


def test_cut_off_archive_is_an_error() -> None:
    archive = Archive(0)
    archive.add_file("a", bytes(5000))
    with pytest.raises(ValueError, match="cut off"):
        list(read_files(archive.finish()[:2048]))


def test_what_is_no_archive_is_an_error() -> None:
    with pytest.raises(ValueError):
        list(read_files(b"x" * 1024))


@pytest.mark.parametrize("size", [b"-1000\0", b"0_10\0", b"+7\0", b"\x80" + bytes(11), b"8\0"])
def test_a_size_that_is_not_octal_ends_the_reading(size: bytes) -> None:
    archive = Archive(0)
    archive.add_file("a", bytes(5000))
    content = bytearray(archive.finish())
    content[124:136] = size.ljust(12, b"\0")
    with pytest.raises(ValueError, match="not an octal number"):
        list(read_files(bytes(content)))


@pytest.mark.parametrize("length", [b"0", b"-1", b"1", b""])
def test_a_pax_record_that_leads_nowhere_ends_the_reading(length: bytes) -> None:
    archive = Archive(0)
    archive.add_file("n" * 150, b"1")
    content = archive.finish()
    record = content[512:1024].rstrip(b"\0")
    hostile = length + b" " + record.partition(b" ")[2]
    changed = bytearray(content)
    changed[512:1024] = hostile.ljust(512, b"\0")
    with pytest.raises(ValueError, match="pax record"):
        list(read_files(bytes(changed)))
