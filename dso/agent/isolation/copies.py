"""Copies of the files that a provider's settings name, in a directory that only its plugin's user can read."""

from __future__ import annotations

import errno
import itertools
import logging
import os
import stat
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from dso.agent.isolation import memory
from dso.agent.isolation.reading import read_file, signature
from dso.agent.logbook import where
from dso.system.files import write_all

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from dso.agent.isolation.accounts import Account
    from dso.agent.isolation.files import Source

_LOG = logging.getLogger("dso.agent.isolation")
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MOST_ENTRIES = 1000  # of a directory with certificates
_ABSENT = (errno.ENOENT, errno.ENOTDIR)
_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
_numbers = itertools.count(1)


class Copies:
    """The files of one plugin. Its methods may block, and may be called by several threads.

    The plugin's user reads what is in the directory, and can change nothing there: it is root's (see `memory`).
    """

    def __init__(self, base: str, name: str, sources: Iterable[Source], account: Account) -> None:
        """`base` is where all plugins' directories are; `name` is the provider's."""
        self.directory = f"{base}/{_plain(name)}.{os.getpid()}.{next(_numbers)}"
        self._base = base
        self._account = account
        self._names: dict[Source, str] = {}
        for source in sources:
            name = _plain(source.label)
            self._names[source] = name if name not in self._names.values() else f"{name}.{len(self._names)}"
        self._places = {source: f"{self.directory}/{name}" for source, name in self._names.items()}
        self._copied: dict[str, tuple[int, ...]] = {}
        self._turn = threading.Lock()
        self._is_made = False
        self._is_over = False

    @property
    def places(self) -> Mapping[Source, str]:
        """Where the copy of each file is, or will be."""
        return self._places

    def make(self) -> list[str]:
        """Make the directory and copy everything; returns what cannot be copied, and why. OSError: no directory."""
        with self._turn:
            if self._is_over:
                return []
            if not self._is_made:
                os.makedirs(self._base, mode=0o711, exist_ok=True)
                os.chmod(self._base, 0o711)  # noqa: S103  # it may be passed through, and not listed
                memory.make(self.directory, self._account)
                self._is_made = True
            return self._refresh()

    def refresh(self) -> list[str]:
        """Copy what has changed, and take away what is gone; returns what cannot be copied, and why."""
        with self._turn:
            return self._refresh() if self._is_made else []

    def remove(self) -> None:
        """Take it all away, for good; what stays is logged."""
        with self._turn:
            self._is_made, self._is_over = False, True
            _remove(self.directory)

    def original(self, text: str) -> str:
        """A text that names the files themselves, and not their copies."""
        if self.directory in text:
            for source, place in sorted(self._places.items(), key=lambda pair: -len(pair[1])):
                text = text.replace(place, source.path)
        return text

    def _refresh(self) -> list[str]:
        faults: list[str] = []
        wanted: set[str] = set()
        top = os.open(self.directory, memory.DIRECTORY)
        try:
            for source, place in self._names.items():
                try:
                    for name, path in _files(place, source.path):
                        wanted.add(name)
                        self._copy(top, name, path)
                except OSError as error:
                    if error.errno not in _ABSENT:
                        faults.append(f"{source.label} ({source.path}): {error.strerror or 'cannot be read'}")
            for name in set(self._copied) - wanted:
                self._forget(top, name)
        finally:
            os.close(top)
        return faults

    def _copy(self, top: int, name: str, path: str) -> None:
        seen = signature(path)
        if seen is not None and seen == self._copied.get(name):
            return
        try:
            found = read_file(path)
            self._write(top, name, found.content)
        except OSError:
            self._forget(top, name)  # what is gone, or must not be read, the plugin has no more either
            raise
        self._copied[name] = found.signature

    def _write(self, top: int, name: str, content: bytes) -> None:
        inner, _, last = name.rpartition("/")
        if inner and inner not in os.listdir(top):
            memory.make_inside(top, inner, self._account)
        directory = os.open(inner, memory.DIRECTORY, dir_fd=top) if inner else os.dup(top)
        try:
            new = last + ".new"
            with suppress(FileNotFoundError):
                os.unlink(new, dir_fd=directory)
            descriptor = os.open(new, _NEW, 0o400, dir_fd=directory)
            try:
                write_all(descriptor, content)
                os.fchown(descriptor, 0, self._account.gid)
                os.fchmod(descriptor, memory.FILE_MODE)
            finally:
                os.close(descriptor)
            os.rename(new, last, src_dir_fd=directory, dst_dir_fd=directory)
        finally:
            os.close(directory)

    def _forget(self, top: int, name: str) -> None:
        self._copied.pop(name, None)
        inner, _, last = name.rpartition("/")
        with suppress(OSError):  # it was never there
            directory = os.open(inner, memory.DIRECTORY, dir_fd=top) if inner else os.dup(top)
            try:
                os.unlink(last, dir_fd=directory)
            finally:
                os.close(directory)


def sweep(base: str) -> None:
    """Take away what agents have left that were killed: directories whose agent does not run any more."""
    try:
        names = os.listdir(base)
    except OSError:
        return
    for name in names:
        pid = name.rpartition(".")[0].rpartition(".")[2]
        if pid.isdigit() and not os.path.exists(f"/proc/{pid}"):
            _remove(f"{base}/{name}")


def _remove(directory: str) -> None:
    """Whatever is wrong with one directory keeps nobody from starting, and no other from being removed."""
    try:
        memory.remove(directory)
    except Exception as error:  # noqa: BLE001
        _LOG.warning("copies of a plugin's files are left in %s: %s", directory, where(error))


def _plain(name: str) -> str:
    """A name that leads nowhere."""
    return "".join(letter if letter in _LETTERS else "_" for letter in name)[:64].lstrip(".") or "_"


def _files(name: str, path: str) -> Iterator[tuple[str, str]]:
    """The names of copies, with what is to be in them: one, or one for each file of a directory."""
    if not stat.S_ISDIR(_mode(path)):
        yield name, path
        return
    entries = sorted(os.listdir(path))
    if len(entries) > _MOST_ENTRIES:
        raise OSError(0, f"it is a directory of more than {_MOST_ENTRIES} files")
    for entry in entries:
        if stat.S_ISREG(_mode(f"{path}/{entry}")):
            yield f"{name}/{entry}", f"{path}/{entry}"


def _mode(path: str) -> int:
    try:
        return os.stat(path).st_mode
    except OSError:
        return 0
