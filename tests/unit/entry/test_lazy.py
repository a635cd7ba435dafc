"""Extension modules out of an archive, with a stand-in for the boot loader's `_archive`."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from dso.entry import lazy
from dso.errors import NotLoadableError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec

STORED = "_json"  # an extension module, on Debian too


def load(name: str) -> str:
    """As the boot loader does: the path the dynamic linker knows the library by."""
    source = importlib.util.find_spec(name.removeprefix(lazy.EXTENSION))
    assert source is not None
    file = os.memfd_create(name)
    with open(str(source.origin), "rb") as library:
        os.write(file, library.read())
    return f"/proc/self/fd/{file}"


def found(load: Callable[[str], str] = load) -> ModuleSpec:
    spec = lazy.Finder({lazy.EXTENSION + STORED}, load).find_spec(STORED)
    assert spec is not None
    return spec


def imported(spec: ModuleSpec) -> ModuleType:
    module = importlib.util.module_from_spec(spec)
    assert spec.loader is not None
    spec.loader.exec_module(module)
    return module


def test_an_extension_is_loaded_from_where_the_boot_loader_says() -> None:
    module = imported(found())
    assert module.encode_basestring_ascii("ä") == json.dumps("ä")
    assert str(module.__file__).startswith("/proc/self/fd/")
    assert module.__spec__ is not None
    assert module.__spec__.origin == module.__file__


def test_an_extension_is_loaded_when_it_is_imported_and_not_when_it_is_found() -> None:
    asked: list[str] = []

    def note(name: str) -> str:
        asked.append(name)
        return load(name)

    spec = found(note)
    assert asked == []
    imported(spec)
    assert asked == [lazy.EXTENSION + STORED]


@pytest.mark.parametrize("name", ["json", "_jso", "_json.more", ""])
def test_other_modules_are_left_to_others(name: str) -> None:
    assert lazy.Finder({lazy.EXTENSION + STORED, "library/00/json", "data/json"}, load).find_spec(name) is None


@pytest.mark.parametrize(
    ("failure", "hint"),
    [(PermissionError("x may not run"), "set TMPDIR"), (OSError("x: not found"), "see docs/install.md")],
)
def test_what_cannot_be_loaded_is_an_error_that_nobody_takes_for_a_missing_module(failure: OSError, hint: str) -> None:
    def fail(_: str) -> str:
        raise failure

    with pytest.raises(NotLoadableError, match=str(failure)) as raised:
        imported(found(fail))
    assert raised.value.hint.startswith(hint)
    assert not isinstance(raised.value, ImportError)


# In place


class Archive(ModuleType):
    """`_archive` with these entries."""

    def __init__(self, names: list[str]) -> None:
        super().__init__("_archive")
        self._names = names
        self.loaded: list[str] = []

    def names(self) -> list[str]:
        return self._names

    def load(self, name: str) -> str:
        self.loaded.append(name)
        return ""


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Of which the finders and all else that is changed comes back."""
    finders, path = list(sys.meta_path), sys.meta_path
    monkeypatch.setattr(sys, "meta_path", list(finders))
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "frozen", False, raising=False)
    monkeypatch.setattr(sys, "_stdlib_dir", sys._stdlib_dir)  # type: ignore[attr-defined]
    assert path == finders
    return monkeypatch


def test_in_a_binary_modules_come_from_it_and_from_nowhere_else(interpreter: pytest.MonkeyPatch) -> None:
    archive = Archive(["answer/word", "extension/x", "library/00/liba.so", "data/y", "library/01/libb.so"])
    interpreter.setitem(sys.modules, "_archive", archive)
    lazy.install()
    assert [getattr(finder, "__name__", "") for finder in sys.meta_path[:-1]] == ["BuiltinImporter", "FrozenImporter"]
    last = sys.meta_path[-1]
    assert isinstance(last, lazy.Finder)
    assert last.find_spec("x") is not None
    assert archive.loaded == ["library/00/liba.so", "library/01/libb.so"]  # in this order
    assert sys.frozen  # type: ignore[attr-defined]


def test_from_source_nothing_changes(interpreter: pytest.MonkeyPatch) -> None:
    before = list(sys.meta_path), sys.excepthook
    lazy.install()
    assert (sys.meta_path, sys.excepthook) == before
