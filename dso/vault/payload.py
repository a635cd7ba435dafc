"""What is encrypted: an index with one line for each secret, then the values. Specified in docs/vault-format.md.

The first line is `{"created":...,"mac_key":...,"slots":{...},"index":BYTES,"count":N}`. The index is
sorted by name and has lines like `["shop/api_key",[[3,1700000000,OFFSET,SIZE],[2,...]]]`, newest version
first. The values follow back to back.

A lookup searches the index for the secret's line and parses that alone, so that reading one secret
takes as long with ten thousand of them as with ten.
"""

from __future__ import annotations

from dso.errors import VaultDamagedError
from dso.system.json_fast import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class Version:
    """One version of a secret: `number` counts from 1, `updated_at` is in seconds since 1970, `content` the bytes."""

    __slots__ = ("content", "number", "updated_at")

    def __init__(self, number: int, updated_at: int, content: bytes | memoryview) -> None:
        self.number = number
        self.updated_at = updated_at
        self.content = content


class Payload:
    """A decrypted vault. `meta` is its first line; secrets are read on demand."""

    __slots__ = ("_data", "_index_end", "_index_start", "meta")

    def __init__(self, data: bytes) -> None:
        """Read the first line; raises VaultDamagedError if there is none."""
        end = data.find(b"\n")
        meta = _parse(data[: end + 1])
        if not isinstance(meta, dict) or not isinstance(meta.get("index"), int):
            raise _broken("the first line")
        self.meta: dict[str, object] = meta
        self._data = data
        self._index_start = end + 1
        self._index_end = end + 1 + int(meta["index"])

    def versions(self, name: str) -> list[Version] | None:
        """All versions kept of a secret, newest first, or None."""
        # The first line's newline makes the pattern fit the first secret too; the search stays within
        # the index, or a value could pass for an index line.
        start = self._data.find(b'\n["' + name.encode() + b'",', self._index_start - 1, self._index_end)
        if start < 0:
            return None
        end = self._data.find(b"\n", start + 1, self._index_end)
        return self._read_line(self._data[start + 1 : end])[1]

    def names(self) -> list[str]:
        """All names, sorted."""
        lines = self._data[self._index_start : self._index_end].decode("ascii").splitlines()
        return [line[2 : line.index('"', 2)] for line in lines]

    def entries(self) -> Iterator[tuple[str, list[Version]]]:
        """(name, versions) of all secrets, sorted by name; raises VaultDamagedError if one makes no sense."""
        for line in self._data[self._index_start : self._index_end].splitlines():
            yield self._read_line(line)

    def verify(self) -> tuple[int, int]:
        """(secrets, versions), after every one of them was read; raises VaultDamagedError if one makes no sense.

        Beyond what reading checks: names are sorted and unique, versions descend, and the values
        are as many and as long in all as they have to be.
        """
        secrets = versions_in_all = expected = 0
        before = ""
        for name, versions in self.entries():
            numbers = [version.number for version in versions]
            if name <= before or sorted(set(numbers), reverse=True) != numbers or numbers[-1] < 1:
                raise _broken(name)
            before = name
            secrets += 1
            versions_in_all += len(versions)
            expected += sum(len(version.content) for version in versions)
        if secrets != self.meta.get("count") or self._index_end + expected != len(self._data):
            raise _broken("the number or the size of its secrets")
        return secrets, versions_in_all

    def _read_line(self, line: bytes) -> tuple[str, list[Version]]:
        view = memoryview(self._data)
        try:
            name, listed = _fields(loads(line.decode("ascii")))
            versions = []
            for number, updated_at, offset, size in listed:
                start = self._index_end + offset
                content = view[start : start + size]
                if offset < 0 or len(content) != size or size < 1 or not isinstance(number + updated_at, int):
                    raise _broken(name)
                versions.append(Version(number, updated_at, content))
        except (TypeError, ValueError, OverflowError) as error:
            raise _broken("an index line") from error
        if not versions:
            raise _broken(name)
        return name, versions


def build_payload(meta: Mapping[str, object], secrets: Mapping[str, Sequence[Version]]) -> bytes:
    """The plaintext of a vault: `meta` (its "index" and "count" are set here) and the versions of each secret."""
    lines: list[bytes] = []
    contents: list[bytes | memoryview] = []
    offset = 0
    for name in sorted(secrets):
        listed = []
        for version in secrets[name]:
            size = len(version.content)
            listed.append((version.number, version.updated_at, offset, size))
            contents.append(version.content)
            offset += size
        lines.append(dumps((name, listed)).encode() + b"\n")
    index = b"".join(lines)
    first = dumps({**meta, "index": len(index), "count": len(lines)}).encode() + b"\n"
    return b"".join((first, index, *contents))


def _fields(line: object) -> tuple[str, list[tuple[int, int, int, int]]]:
    """An index line's two members; what is wrong with them shows when they are used."""
    if isinstance(line, list) and len(line) == 2 and isinstance(line[0], str):  # noqa: PLR2004  # name and versions
        return line[0], line[1]
    raise ValueError("not an index line")


def _parse(line: bytes) -> object:
    try:
        return loads(line.decode("ascii"))
    except ValueError as error:
        raise _broken("the first line") from error


def _broken(what: str) -> VaultDamagedError:
    """The content is authentic, so only a defective writer can be the cause."""
    return VaultDamagedError(
        f"the vault opens, but its content makes no sense ({what}): it was written by a defective program",
        hint="restore a backup with `docker dso vault restore FILE`",
    )
