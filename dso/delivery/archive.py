"""Tar archives in memory: POSIX.1-2001 pax interchange format.

Not tarfile, which imports shutil and costs 10 ms; what is needed are regular files and directories.
Secrets pass through here: nothing is written anywhere.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Iterator

BLOCK = 512
_NAME, _SIZE, _TYPE, _CHECKSUM = slice(0, 100), slice(124, 136), 156, slice(148, 156)
_MAX_NAME = 100
_MAX_OCTAL = 0o7777777  # seven digits
_REGULAR = (b"0", b"\0")


class Archive:
    """A tar archive being built."""

    def __init__(self, mtime: int) -> None:
        self._parts: list[bytes] = []
        self._mtime = mtime

    def add_file(self, name: str, content: bytes, *, uid: int = 0, gid: int = 0, mode: int = 0o444) -> None:
        """Add a regular file. name is relative, with "/" between directories."""
        self._add(name, b"0", content, uid, gid, mode)

    def add_directory(self, name: str, mode: int = 0o755) -> None:
        """Add a directory that root owns."""
        self._add(name + "/", b"5", b"", 0, 0, mode)

    def finish(self) -> bytes:
        """The archive's bytes."""
        return b"".join(self._parts) + bytes(2 * BLOCK)

    def _add(self, name: str, kind: bytes, content: bytes, uid: int, gid: int, mode: int) -> None:
        records = {}
        if len(name) > _MAX_NAME or not name.isascii():
            records["path"] = name
        for field, number in (("uid", uid), ("gid", gid)):
            if number > _MAX_OCTAL:
                records[field] = str(number)
        if records:
            pax = b"".join(_pax_record(key, value) for key, value in records.items())
            self._append(_header("pax-header", b"x", len(pax), 0, 0, 0o444, self._mtime), pax)
        short = name.encode("ascii", "replace")[:_MAX_NAME].decode()
        self._append(
            _header(short, kind, len(content), min(uid, _MAX_OCTAL), min(gid, _MAX_OCTAL), mode, self._mtime), content
        )

    def _append(self, header: bytes, content: bytes) -> None:
        self._parts += (header, content, bytes(-len(content) % BLOCK))


def _header(name: str, kind: bytes, size: int, uid: int, gid: int, mode: int, mtime: int) -> bytes:
    header = bytearray(BLOCK)
    header[_NAME] = name.encode().ljust(100, b"\0")
    header[100:124] = b"%07o\0%07o\0%07o\0" % (mode, uid, gid)
    header[124:148] = b"%011o\0%011o\0" % (size, mtime)
    header[_CHECKSUM] = b" " * 8
    header[_TYPE : _TYPE + 1] = kind
    header[257:265] = b"ustar\x0000"
    header[_CHECKSUM] = b"%06o\0 " % sum(header)
    return bytes(header)


def _pax_record(key: str, value: str) -> bytes:
    """`LENGTH key=value` and a newline, where LENGTH counts its own digits too."""
    rest = f" {key}={value}\n".encode()
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def read_files(archive: bytes) -> Iterator[tuple[str, bytes]]:
    """The regular files of an archive: (name, content). Names over 100 bytes come shortened.

    Raises:
        ValueError: it is no tar archive, or it is cut off.
    """
    position = 0
    while position + BLOCK <= len(archive):
        header = archive[position : position + BLOCK]
        position += BLOCK
        if not any(header):
            return
        size = int(header[_SIZE].strip(b"\0 ") or b"0", 8)
        if position + size > len(archive):
            raise ValueError("the archive is cut off")
        if header[_TYPE : _TYPE + 1] in _REGULAR:
            yield header[_NAME].rstrip(b"\0").decode("utf-8", "replace"), archive[position : position + size]
        position += size + -size % BLOCK
