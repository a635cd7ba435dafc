"""A disk of its own with an Engine on it, to search raw: deleted files, journal and slack included."""

from __future__ import annotations

import os
import shutil
import tempfile
from typing import TYPE_CHECKING

from tests.support.canary import BLOCK
from tests.support.engine import Engine
from tests.support.private_engine import PrivateEngine
from tests.support.process import run

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.support.canary import Canary

SIZE = 2 << 30  # sparse: only what is written takes room


class Disk:
    """An ext4 file system in a file, and a Docker Engine that keeps everything on it.

    Needs root, e2fsprogs and a loop device. Deleted blocks are neither trimmed nor overwritten, so
    `find` sees what was ever written, until another file takes the block.

    Attributes:
        mount: where the file system is; HOME, projects and anything else can be put there too.
        tmp: a directory on it, for TMPDIR.
        private: the Engine, to load images; `engine` is the same, to ask.
    """

    engine: Engine

    def __init__(self) -> None:
        self._directory = tempfile.mkdtemp(prefix="dso-disk-", dir="/var/tmp")  # short: it holds sockets
        self._file = os.path.join(self._directory, "image")
        self.mount = os.path.join(self._directory, "fs")
        self.tmp = os.path.join(self.mount, "tmp")
        self.private = PrivateEngine(directory=os.path.join(self.mount, "engine"))

    def __enter__(self) -> Self:
        os.mkdir(self.mount)
        with open(self._file, "xb") as file:
            file.truncate(SIZE)
        run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", self._file])
        run(["mount", "-o", "loop,nodiscard", self._file, self.mount])
        try:
            for path in (self.tmp, os.path.join(self.mount, "engine")):
                os.mkdir(path)
            self.private.start()
            self.engine = Engine({"DOCKER_HOST": self.private.host})
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _remove(self) -> None:
        self.private.stop()
        run(["umount", "--recursive", self.mount])
        shutil.rmtree(self._directory)

    def find(self, *canaries: Canary) -> list[str]:
        """Spellings of the canaries anywhere on the disk, as "SPELLING at byte N" of the raw device."""
        run(["sync", "-f", self.mount])
        found = []
        overlap = max(len(needle) for canary in canaries for needle in canary.spellings.values()) - 1
        with open(self._file, "rb", buffering=0) as disk:
            end = start = 0
            while (start := _next_data(disk.fileno(), max(end - overlap, 0), end)) >= 0:
                disk.seek(start)
                data = disk.read(BLOCK)
                end = start + len(data)
                for canary in canaries:
                    for name, needle in canary.spellings.items():
                        if (at := data.find(needle)) >= 0:
                            found.append(f"{name} at byte {start + at}")
        return found


def _next_data(descriptor: int, wanted: int, end: int) -> int:
    """Where to read on: at `wanted`, or where the next data after the hole at `end` begins; -1 at the end."""
    try:
        after_hole = os.lseek(descriptor, end, os.SEEK_DATA)
    except OSError:  # ENXIO: only a hole, or nothing, from here on
        return -1
    return wanted if after_hole == end else after_hole
