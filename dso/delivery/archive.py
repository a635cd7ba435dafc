"""Tar archives in memory: POSIX.1-2001 pax interchange format.

Not tarfile, which imports shutil and costs 10 ms; what is needed are files, directories and links.
Secrets pass through here: nothing is written anywhere.
"""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
_NAME, _SIZE, _TYPE, _LINK, _CHECKSUM = slice(0, 100), slice(124, 136), 156, slice(157, 257), slice(148, 156)
_MAX_NAME = 100
_MAX_OCTAL = 0o7777777  # seven digits
_REGULAR = (b"0", b"\0")


class _Entry(NamedTuple):
    name: str
    kind: bytes
    content: bytes = b""
    uid: int = 0
    gid: int = 0
    mode: int = 0o444
    link: str = ""


class Archive:
    """A tar archive being built; `mtime` is everything's time of change, in seconds since 1970."""

    def __init__(self, mtime: int) -> None:
        self._parts: list[bytes] = []
        self._mtime = mtime

    def add_file(self, name: str, content: bytes, *, uid: int = 0, gid: int = 0, mode: int = 0o444) -> None:
        """Add a regular file. name is relative, with "/" between directories."""
        self._add(_Entry(name, b"0", content, uid, gid, mode))

    def add_directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory that root owns."""
        self._add(_Entry(name + "/", b"5", mode=mode))

    def add_link(self, name: str, target: str, *, uid: int = 0, gid: int = 0, mode: int = 0o444) -> None:
        """Add a hard link to an earlier entry, whose owner and mode have to be repeated."""
        self._add(_Entry(name, b"1", b"", uid, gid, mode, target))

    def finish(self) -> bytes:
        """The archive's bytes."""
        return b"".join(self._parts) + bytes(2 * BLOCK)

    def _add(self, entry: _Entry) -> None:
        texts = {"path": entry.name, "linkpath": entry.link}
        numbers = {"uid": entry.uid, "gid": entry.gid}
        records = [_pax_record(key, text) for key, text in texts.items() if len(text) > _MAX_NAME or not text.isascii()]
        records += [_pax_record(key, str(number)) for key, number in numbers.items() if number > _MAX_OCTAL]
        if records:
            self._append(_Entry("pax-header", b"x", b"".join(records)))
        self._append(entry)

    def _append(self, entry: _Entry) -> None:
        self._parts += (_header(entry, self._mtime), entry.content, bytes(-len(entry.content) % BLOCK))


def _header(entry: _Entry, mtime: int) -> bytes:
    """The block before an entry's content; what does not fit is said in a pax header before."""
    header = bytearray(BLOCK)
    for field, text in ((_NAME, entry.name), (_LINK, entry.link)):
        header[field] = text.encode("ascii", "replace")[:_MAX_NAME].ljust(_MAX_NAME, b"\0")
    owner = (min(entry.uid, _MAX_OCTAL), min(entry.gid, _MAX_OCTAL))
    header[100:124] = b"%07o\0%07o\0%07o\0" % (entry.mode, *owner)
    header[124:148] = b"%011o\0%011o\0" % (len(entry.content), mtime)
    header[_CHECKSUM] = b" " * 8
    header[_TYPE : _TYPE + 1] = entry.kind
    header[257:265] = b"ustar\x0000"
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


def _pax_record(key: str, value: str) -> bytes:
    """`LENGTH key=value` and a newline, where LENGTH counts its own digits too."""
    rest = f" {key}={value}\n".encode("utf-8", "surrogateescape")
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def read_files(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The regular files of an archive: (name, content).

    Raises:
        ValueError: it is not a tar archive, or it is cut off.
    """
    position = 0
    long_name = b""
    while position + BLOCK <= len(archive):
        header = archive[position : position + BLOCK]
        position += BLOCK
        if not any(header):
            return
        size = _octal(header[_SIZE].strip(b"\0 "))
        content = archive[position : position + size]
        if len(content) < size:
            raise ValueError("the archive is cut off")
        position += size + -size % BLOCK
        kind = header[_TYPE : _TYPE + 1]
        if kind == b"x":
            long_name = _pax_path(content)
            continue
        if kind in _REGULAR:
            yield (long_name or header[_NAME].rstrip(b"\0")).decode("utf-8", "surrogateescape"), content
        long_name = b""


def _octal(digits: bytes) -> int:
    """A number of a header. int() alone takes signs and underscores too, and a negative size never ends."""
    if digits.strip(b"01234567"):
        raise ValueError("a size in the archive is not an octal number")
    return int(digits or b"0", 8)


def _pax_path(records: bytes) -> bytes:
    """The path among pax records; b"" if there is none."""
    while records:
        length, _, _ = records.partition(b" ")
        if not length.isdigit() or int(length) <= len(length):
            raise ValueError("a pax record has no length")
        record, records = records[len(length) + 1 : int(length)], records[int(length) :]
        if record.startswith(b"path="):
            return record[len(b"path=") : -1]
    return b""
