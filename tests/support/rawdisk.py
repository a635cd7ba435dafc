"""A disk of its own with an Engine on it, to search raw: deleted files, journal and slack included."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

from tests.support.canary import BLOCK
from tests.support.engine import Engine
from tests.support.process import environment, run
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.support.canary import Canary

SIZE = 2 << 30  # sparse: only what is written takes room


class Disk:
    """An ext4 file system in a file under `directory`, mounted at `mount`, and a Docker Engine that
    keeps everything on it (`engine`); HOME and project directories can be put there too.

    Needs root, e2fsprogs and a loop device. Deleted blocks are neither trimmed nor overwritten, so
    `find` sees what was ever written, until another file takes the block.
    """

    engine: Engine

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file = os.path.join(directory, "disk.img")
        self._daemon: subprocess.Popen[bytes] | None = None
        self.mount = os.path.join(directory, "disk")
        self.tmp = os.path.join(self.mount, "tmp")

    def __enter__(self) -> Self:
        os.makedirs(self.mount)
        with open(self._file, "xb") as file:
            file.truncate(SIZE)
        run(["mkfs.ext4", "-q", "-E", "lazy_itable_init=1,lazy_journal_init=1,nodiscard", self._file])
        run(["mount", "-o", "loop,nodiscard", self._file, self.mount])
        try:
            os.mkdir(self.tmp, 0o1777)
            self._start_engine()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()

    def _start_engine(self) -> None:
        """A second dockerd beside the machine's, with nothing outside the disk.

        Its network name space is its own: in the common one it would take docker0 away from the other.
        """
        socket = f"unix://{self._directory}/engine.sock"
        places = [f"--data-root={self.mount}/docker", f"--exec-root={self.mount}/exec"]
        places += [f"--pidfile={self._directory}/engine.pid", f"--host={socket}"]
        network = ["--iptables=false", "--ip6tables=false", "--ip-masq=false"]
        with open(os.path.join(self._directory, "engine.log"), "wb") as log:
            self._daemon = subprocess.Popen(
                ["unshare", "--net", "dockerd", *places, *network, "--group=root"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(extra={"TMPDIR": self.tmp}),
            )
        env = environment(extra={"DOCKER_HOST": socket})
        wait_until(lambda: self._answers(env), "the Engine on its own disk answers")
        self.engine = Engine({"DOCKER_HOST": socket})

    def _answers(self, env: dict[str, str]) -> bool:
        if self._daemon and self._daemon.poll() is not None:
            with open(os.path.join(self._directory, "engine.log")) as log:
                raise AssertionError(f"dockerd ended: {log.read()[-2000:]}")
        return run(["docker", "version"], env=env, check=False).returncode == 0

    def _stop(self) -> None:
        if self._daemon:
            self._daemon.terminate()
            self._daemon.wait(60)
        run(["umount", self.mount], check=False)
        run(["umount", "-l", self.mount], check=False)
        os.unlink(self._file)

    def copy_image(self, source: Engine, *names: str) -> None:
        """Give this Engine images of another one."""
        self.engine.docker("load", input=source.docker("save", *names).stdout)

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
