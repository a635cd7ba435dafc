"""Unmistakable secret values, and the search for them everywhere plaintext must not be.

A secret may be in RAM while a stack runs (tmpfs, the memory of processes) and in the vault, encrypted;
it may not be in any file of a disk-backed file system. `assert_absent` reads them all: the Engine's data
root (containers' config.v2.json, containerd's meta.db, layers, volumes), the directories where programs
leave things behind, HOME, the project directory, and what Docker tells about the project.

What the sweep leaves out, and why:
- file systems in RAM and views of the kernel (RAM_FILE_SYSTEMS): plaintext may live in RAM;
- overlay mounts: their upper directories lie in the data root and are read there;
- contents of files whose inode has not changed since the canary was made: they cannot hold it;
- blocks of deleted files, and swap: `tests.support.rawdisk` searches those.
"""

from __future__ import annotations

import base64
import errno
import json
import os
import random
import stat
import string
import time
import urllib.parse
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from io import FileIO

    from tests.support.engine import Engine
    from tests.support.home import DsoHome
    from tests.support.project import Project

_IN_RAM = "tmpfs ramfs devtmpfs hugetlbfs"
_KERNEL = "proc sysfs cgroup cgroup2 devpts mqueue nsfs bpf configfs debugfs efivarfs fusectl pstore securityfs tracefs"
RAM_FILE_SYSTEMS = frozenset(f"{_IN_RAM} {_KERNEL}".split())
SKIPPED_FILE_SYSTEMS = RAM_FILE_SYSTEMS | {"overlay"}

# Where programs leave things behind. /run is a disk on machines without an init system.
COMMON_PLACES = ("/tmp", "/var/tmp", "/run", "/var/log", "/var/lib/containerd")

CLOCK_MARGIN_NS = 1_000_000_000  # inode times are coarser than time_ns()
BLOCK = 4 << 20
_random = random.SystemRandom()


class Canary:
    """A secret value that nothing else on the machine contains.

    `value` is the secret to store. `token` is its unmistakable part, which is what is searched for; a
    value made with `around` may contain anything else before and after it.
    """

    def __init__(self, token: bytes, value: bytes | None = None, born_ns: int | None = None) -> None:
        self.token = token
        self.value = token if value is None else value
        self.born_ns = time.time_ns() if born_ns is None else born_ns
        self.spellings = _spellings(token)

    @classmethod
    def new(cls) -> Canary:
        """32 letters and digits: every quoting leaves them as they are."""
        return cls("".join(_random.choices(string.ascii_letters + string.digits, k=32)).encode())

    @classmethod
    def binary(cls) -> Canary:
        """48 bytes with NUL, newline, invalid UTF-8 and random ones."""
        return cls(b"\x00\xff\n\xfe$" + _random.randbytes(43))

    def around(self, before: bytes = b"", after: bytes = b"") -> Canary:
        """The same canary in a longer value."""
        return Canary(self.token, before + self.token + after, self.born_ns)

    @property
    def text(self) -> str:
        """The value as text."""
        return self.value.decode()

    def find(self, data: bytes) -> str | None:
        """The name of a spelling of the token that `data` contains, or None."""
        for name, needle in self.spellings.items():
            if needle in data:
                return name
        return None


def _spellings(token: bytes) -> dict[str, bytes]:
    """Name -> bytes: the ways in which tools write a value down, without duplicates."""
    every = [
        ("as it is", token),
        ("hex", token.hex().encode()),
        ("HEX", token.hex().upper().encode()),
        ("percent-encoded", urllib.parse.quote_from_bytes(token, safe="").encode()),
        ("JSON", json.dumps(token.decode("utf-8", "replace"))[1:-1].encode()),
    ]
    for offset in range(3):
        # what base64 of a longer text shows of the token: without the characters shared with its neighbours
        encoded = base64.b64encode(bytes(offset) + token)[(0, 2, 3)[offset] :]
        inner = encoded[: -4 if (offset + len(token)) % 3 else None]
        every += [(f"base64, offset {offset}", inner)]
        every += [(f"base64url, offset {offset}", inner.translate(bytes.maketrans(b"+/", b"-_")))]
    distinct: dict[bytes, str] = {}
    for name, needle in every:
        distinct.setdefault(needle, name)
    return {name: needle for needle, name in distinct.items()}


class Sweep(NamedTuple):
    """What a search looked at, and what it found (one line per place, never the value)."""

    files: int
    read: int
    hits: tuple[str, ...]


def sweep_files(canaries: Iterable[Canary], places: Iterable[str], *, allow: Iterable[str] = ()) -> Sweep:
    """Search files and file names under `places`; `allow` are paths a test knows to hold plaintext.

    A file that cannot be read is an error, one that vanished is not.
    """
    wanted = list(canaries)
    oldest = min(canary.born_ns for canary in wanted) - CLOCK_MARGIN_NS
    allowed = {os.path.realpath(path) for path in allow}
    files = read = 0
    hits = []
    for path, about in _walk(_distinct(places), allowed):
        files += 1
        hits += [f"the name of {path} ({how})" for canary in wanted if (how := canary.find(os.fsencode(path)))]
        if not stat.S_ISREG(about.st_mode) or about.st_ctime_ns < oldest:
            continue
        read += 1
        hits += [f"{path} ({how})" for how in _search_file(wanted, path)]
    return Sweep(files, read, tuple(hits))


def assert_absent(  # every kind of place has its own
    *canaries: Canary,
    engine: Engine,
    project: Project | None = None,
    home: DsoHome | None = None,
    outputs: Mapping[str, bytes] | None = None,
    places: Iterable[str] = (),
    allow: Iterable[str] = (),
) -> Sweep:
    """Fail, naming the places, when a canary is anywhere it must not be.

    `outputs` are further texts by name, such as what commands printed. Returns what was searched.
    """
    assert canaries, "no canary to look for"
    homes = [each for each in (home, project.home if project else None) if each]
    roots = [engine.root, *COMMON_PLACES, *places, *(each.path for each in homes)]
    roots += [project.directory] if project else []
    texts = dict(outputs or {})
    for name in project.names if project else []:
        texts[f"docker inspect of project {name}"] = engine.inspect(name)
        texts[f"docker logs of project {name}"] = engine.logs(name)
    hits = [f"{name} ({how})" for name, text in texts.items() for each in canaries if (how := each.find(text))]
    hits += processes_with(*canaries)
    swept = sweep_files(canaries, roots, allow=allow)
    hits += swept.hits
    assert not hits, "a secret's plaintext is in " + "; ".join(hits)
    return swept


def processes_with(*canaries: Canary) -> list[str]:
    """Processes whose command line or environment, which other programs of the user can read, has a canary.

    A container's own environment is not counted: `dso://` puts it there.
    """
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            if _namespace(pid) != _namespace("self"):
                continue
            seen = {name: _read(f"/proc/{pid}/{name}") for name in ("cmdline", "environ")}
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended, or belongs to somebody else
        command = seen["cmdline"].split(b"\0")[0].decode("utf-8", "replace")
        found += [
            f"{name} of process {pid} ({command})"
            for name, data in seen.items()
            for each in canaries
            if each.find(data)
        ]
    return found


def _namespace(pid: str) -> str:
    return os.readlink(f"/proc/{pid}/ns/pid")


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _distinct(places: Iterable[str]) -> list[str]:
    """Real paths of those places that exist, without those inside another one."""
    real = sorted({os.path.realpath(place) for place in places if os.path.lexists(place)})
    return [path for path in real if not any(path != outer and path.startswith(outer + "/") for outer in real)]


def _walk(places: Iterable[str], allowed: set[str]) -> Iterator[tuple[str, os.stat_result]]:
    """Everything under the places (links not followed) that does not lie on a skipped file system."""
    mounts = _Mounts()
    waiting = list(places)
    while waiting:
        path = waiting.pop()
        try:
            about = os.lstat(path)
            if path in allowed or mounts.skipped(about.st_dev):
                continue
            yield path, about
            if stat.S_ISDIR(about.st_mode):
                waiting += [os.path.join(path, name) for name in os.listdir(path)]
        except FileNotFoundError:
            continue


class _Mounts:
    """Which device numbers belong to file systems that are skipped; looked up again for each new one."""

    def __init__(self) -> None:
        self._skipped: dict[int, bool] = {}

    def skipped(self, device: int) -> bool:
        if device not in self._skipped:
            number = f"{os.major(device)}:{os.minor(device)}"
            with open("/proc/self/mountinfo") as lines:
                types = {fields[2]: line.split(" - ")[1].split()[0] for line in lines if (fields := line.split())}
            # an unknown device (a btrfs subvolume has one of its own) is searched
            self._skipped[device] = types.get(number) in SKIPPED_FILE_SYSTEMS
        return self._skipped[device]


def _skip_hole(file: FileIO) -> bool:
    """Go on where the file has data again; whether it has. Some tests make files of 40 GiB that are one hole."""
    try:
        file.seek(file.tell(), os.SEEK_DATA)
    except OSError as error:
        return error.errno != errno.ENXIO  # else a file system that knows no holes
    return True


def _search_file(canaries: Iterable[Canary], path: str) -> list[str]:
    """Names of the spellings found in a file."""
    needles = [(name, needle) for canary in canaries for name, needle in canary.spellings.items()]
    overlap = max(len(needle) for _, needle in needles) - 1
    found: dict[str, None] = {}
    try:
        with open(path, "rb", buffering=0) as file:
            tail = b""
            while _skip_hole(file) and (block := file.read(BLOCK)):
                data = tail + block
                found.update((name, None) for name, needle in needles if needle in data)
                tail = data[-overlap:]
    except FileNotFoundError:
        pass
    return list(found)
