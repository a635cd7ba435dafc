"""Extension modules straight out of the executable, when they are first imported.

A one-file boot loader unpacks every shared library into a temporary directory, runs the program
and deletes the directory, on each start: most of the start-up time of a binary that holds a 12 MB
library which many commands never use. So the spec stores extension modules as entries of a type
the boot loader leaves alone, named `extension/MODULE`, and the finder here copies the one that is
imported into anonymous memory. Nothing is left behind if the process is killed.

The libraries they need are stored beside them as `library/FILE`. The machine nearly always has
its own; if not, or if it forbids running code from anonymous memory, the files are unpacked into
the boot loader's directory after all.

`data/NAME` are files that a program reads itself (`Archive.read`): a daemon must not depend on a
directory in /tmp, which the machine may clear up after some days.

Imports only what the interpreter holds from the start (see `dso.entry.early`).
"""

import posix
import sys
from _frozen_importlib import ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

# The archive at the end of the executable, as PyInstaller/archive/writers.py writes it: entries,
# then their table, then a cookie. Integers are unsigned, 32 bits, big-endian.
_COOKIE_MAGIC = b"MEI\014\013\012\013\016"  # then: archive length, table offset, table length, and more
_COOKIE_LENGTH = 88
_COOKIE_SEARCH = 1 << 16  # what follows the cookie is the executable's section table
_ENTRY_HEADER = 18  # lengths of entry, offset, stored length, full length, compressed (1 byte), type (1 byte)
_LAZY_TYPE = b"a"

EXTENSION = "extension/"
LIBRARY = "library/"
DATA = "data/"


class Archive:
    """The entries of an executable that the boot loader leaves alone."""

    def __init__(self, executable: str) -> None:
        self._executable = executable
        self._entries: dict[str, tuple[int, int]] | None = None

    def entries(self) -> dict[str, tuple[int, int]]:
        """Name to (offset, length), read once; ImportError if the file is no executable of ours."""
        if self._entries is None:
            descriptor = posix.open(self._executable, posix.O_RDONLY | posix.O_CLOEXEC)
            try:
                self._entries = _read_table(descriptor)
            finally:
                posix.close(descriptor)
        return self._entries

    def copy(self, name: str, target: int) -> None:
        """Write the entry to a descriptor."""
        offset, left = self.entries()[name]
        source = posix.open(self._executable, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            while left:
                sent = posix.sendfile(target, source, offset, left)
                if not sent:
                    raise ImportError(f"{self._executable} is truncated")
                offset += sent
                left -= sent
        finally:
            posix.close(source)

    def read(self, name: str) -> bytes:
        """The content of `data/NAME`."""
        offset, length = self.entries()[DATA + name]
        source = posix.open(self._executable, posix.O_RDONLY | posix.O_CLOEXEC)
        try:
            return posix.pread(source, length, offset)
        finally:
            posix.close(source)

    def data_names(self) -> list[str]:
        """Every NAME that `read` knows."""
        return [name.removeprefix(DATA) for name in self.entries() if name.startswith(DATA)]


def _read_table(executable: int) -> dict[str, tuple[int, int]]:
    size = posix.fstat(executable).st_size
    tail_start = max(size - _COOKIE_SEARCH, 0)
    tail = posix.pread(executable, _COOKIE_SEARCH, tail_start)
    cookie = tail.rfind(_COOKIE_MAGIC)
    if cookie < 0:
        raise ImportError("the executable holds no archive")

    def number(data: bytes, start: int) -> int:
        return int.from_bytes(data[start : start + 4], "big")

    archive = tail_start + cookie + _COOKIE_LENGTH - number(tail, cookie + 8)
    table = posix.pread(executable, number(tail, cookie + 16), archive + number(tail, cookie + 12))
    entries = {}
    position = 0
    while position < len(table):
        end = position + number(table, position)
        if table[position + 17 : position + 18] == _LAZY_TYPE:
            name = table[position + _ENTRY_HEADER : end].rstrip(b"\0").decode()
            entries[name] = (archive + number(table, position + 4), number(table, position + 12))
        position = end
    return entries


class Loader(ExtensionFileLoader):
    """Loads one extension module from memory, or from the boot loader's directory where that fails."""

    def __init__(self, name: str, archive: Archive) -> None:
        super().__init__(name, "")
        self._archive = archive

    def create_module(self, spec: ModuleSpec) -> "ModuleType":
        """Map the library; ImportError if neither way succeeds."""
        try:
            spec.origin = self.path = self._in_memory()
            return super().create_module(spec)
        except (ImportError, OSError):
            spec.origin = self.path = self._unpacked()
            return super().create_module(spec)

    def _in_memory(self) -> str:
        # The descriptor stays open: the dynamic linker knows a library by its path, and takes the
        # next one with the same number for this one.
        descriptor = posix.memfd_create(self.name, posix.MFD_CLOEXEC)
        self._archive.copy(EXTENSION + self.name, descriptor)
        return f"/proc/self/fd/{descriptor}"

    def _unpacked(self) -> str:
        directory: str = sys._MEIPASS  # type: ignore[attr-defined]  # noqa: SLF001  # the boot loader's, 0700
        for entry in self._archive.entries():
            if entry.startswith(LIBRARY):
                self._unpack(entry, f"{directory}/{entry.removeprefix(LIBRARY)}")
        path = f"{directory}/{self.name}.so"
        self._unpack(EXTENSION + self.name, path)
        return path

    def _unpack(self, entry: str, path: str) -> None:
        try:
            descriptor = posix.open(path, posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC, 0o700)
        except FileExistsError:
            return
        try:
            self._archive.copy(entry, descriptor)
        finally:
            posix.close(descriptor)


class Finder:
    """Finds the extension modules of an archive; an entry of `sys.meta_path`."""

    def __init__(self, archive: Archive) -> None:
        self._archive = archive

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The spec of an extension module stored in the archive, None for any other module."""
        if EXTENSION + name not in self._archive.entries():
            return None
        spec = ModuleSpec(name, Loader(name, self._archive), origin=f"{EXTENSION}{name}")
        spec.has_location = True
        return spec


def running_executable() -> str:
    """A path that leads to this program even after an upgrade has put another one in its place."""
    try:
        running = posix.readlink("/proc/self/exe").removesuffix(" (deleted)")
    except OSError:
        running = ""
    # It is another one without /proc, and if the dynamic linker was called with us as its argument.
    return "/proc/self/exe" if running == sys.executable else sys.executable


def install() -> None:
    """Let extension modules be imported from the running executable."""
    sys.meta_path.insert(0, Finder(Archive(running_executable())))
