"""Extension modules out of an archive such as PyInstaller appends to a binary."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from typing import TYPE_CHECKING

import pytest
from PyInstaller.archive.writers import CArchiveWriter

from dso.entry import lazy

if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from pathlib import Path
    from types import ModuleType

STORED = "_json"  # an extension module, on Debian too


@pytest.fixture
def binary(tmp_path: Path) -> Path:
    """Something executable, an archive, and something after it, as objcopy leaves them."""
    source = importlib.util.find_spec(STORED)
    assert source is not None
    library = tmp_path / "libsomething.so.1"
    library.write_bytes(b"a library")
    CArchiveWriter(
        str(tmp_path / "archive"),
        [
            ("unpacked.so", str(source.origin), False, "b"),
            (lazy.EXTENSION + STORED, str(source.origin), False, "a"),
            (lazy.LIBRARY + library.name, str(library), False, "a"),
            (lazy.DATA + "some/file", str(library), False, "a"),
        ],
        pylib_name="libpython",
    )
    path = tmp_path / "binary"
    path.write_bytes(os.urandom(4321) + (tmp_path / "archive").read_bytes() + os.urandom(1234))
    return path


@pytest.fixture
def unpack_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "unpacked"
    path.mkdir()
    monkeypatch.setattr(sys, "_MEIPASS", str(path), raising=False)
    return path


def found(binary: Path) -> ModuleSpec:
    spec = lazy.Finder(lazy.Archive(str(binary))).find_spec(STORED)
    assert spec is not None
    return spec


def imported(spec: ModuleSpec) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def works(module: ModuleType) -> bool:
    return bool(module.encode_basestring_ascii("ä") == json.dumps("ä"))


def test_only_what_the_boot_loader_leaves_alone_is_listed(binary: Path) -> None:
    expected = {lazy.EXTENSION + STORED, lazy.LIBRARY + "libsomething.so.1", lazy.DATA + "some/file"}
    assert set(lazy.Archive(str(binary)).entries()) == expected


def test_a_data_file_is_read_by_its_name(binary: Path) -> None:
    archive = lazy.Archive(str(binary))
    assert archive.data_names() == ["some/file"]
    assert archive.read("some/file") == b"a library"
    with pytest.raises(KeyError):
        archive.read("libsomething.so.1")


def test_an_extension_is_loaded_from_memory_and_nothing_is_unpacked(binary: Path, unpack_directory: Path) -> None:
    module = imported(found(binary))
    assert works(module)
    assert str(module.__file__).startswith("/proc/self/fd/")
    assert not os.listdir(unpack_directory)


def test_two_extensions_in_memory_have_different_paths(binary: Path) -> None:
    assert imported(found(binary)).__file__ != imported(found(binary)).__file__


@pytest.mark.parametrize("failure", [OSError("no memory file"), ImportError("libsomething.so.1: not found")])
def test_where_memory_will_not_do_it_is_unpacked_with_the_libraries(
    binary: Path, unpack_directory: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
) -> None:
    def fail(*_: object) -> None:
        raise failure

    monkeypatch.setattr("dso.entry.lazy.posix.memfd_create", fail)
    for _ in range(2):  # the second time the files are there
        module = imported(found(binary))
        assert works(module)
        assert module.__file__ == f"{unpack_directory}/{STORED}.so"
        assert (unpack_directory / "libsomething.so.1").read_bytes() == b"a library"
        assert set(os.listdir(unpack_directory)) == {f"{STORED}.so", "libsomething.so.1"}


def test_other_modules_are_left_to_others(binary: Path) -> None:
    assert lazy.Finder(lazy.Archive(str(binary))).find_spec("json") is None


def test_a_file_without_an_archive_is_an_import_error(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(b"\x7fELF")
    with pytest.raises(ImportError, match="holds no archive"):
        lazy.Archive(str(other)).entries()


def test_a_truncated_archive_is_an_import_error_and_no_endless_loop(binary: Path) -> None:
    archive = lazy.Archive(str(binary))
    archive.entries()
    os.truncate(binary, 5000)
    with (binary.parent / "copy").open("wb") as target, pytest.raises(ImportError, match="is truncated"):
        archive.copy(lazy.EXTENSION + STORED, target.fileno())


def test_the_running_executable_is_found_where_it_ran_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", os.readlink("/proc/self/exe"))
    assert lazy.running_executable() == "/proc/self/exe"
    monkeypatch.setattr(sys, "executable", "/usr/bin/docker-dso")  # started through ld.so, which /proc/self/exe then is
    assert lazy.running_executable() == "/usr/bin/docker-dso"
