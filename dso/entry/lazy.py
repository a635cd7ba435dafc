"""Extension modules straight out of the executable, when they are first imported.

The boot loader (build/bootloader) has the interpreter import Python modules from the mapped executable. What is native
code the dynamic linker has to load from a file: the spec stores extension modules as `extension/MODULE`, and the
finder here has the one that is imported loaded from an anonymous memory file. Nothing is ever unpacked.

Shared libraries that a machine need not have are `library/NUMBER/FILE`, loaded at the start in the order of their
numbers, so that whatever is linked with one finds it.

Imports only what the interpreter holds from the start.
"""

import sys
from _frozen_importlib import BuiltinImporter, FrozenImporter, ModuleSpec
from _frozen_importlib_external import ExtensionFileLoader

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Container
    from types import ModuleType

ROOT = "/proc/self/exe"  # where modules say they come from: a file, in which nobody can put another
EXTENSION = "extension/"
LIBRARY = "library/"


class Loader(ExtensionFileLoader):
    """Loads one extension module; `load` is the boot loader's (build/bootloader/module.c)."""

    def __init__(self, name: str, load: "Callable[[str], str]") -> None:
        super().__init__(name, "")
        self._load = load

    def create_module(self, spec: ModuleSpec) -> "ModuleType":
        """Load the library.

        Raises:
            NotLoadableError: it cannot be. No ImportError, which would say that there is no such module: many a
                library then does without.
        """
        spec.origin = self.path = _loaded(self._load, EXTENSION + self.name)
        return super().create_module(spec)


class Finder:
    """Finds the extension modules among the names of an archive's entries; for `sys.meta_path`."""

    def __init__(self, names: "Container[str]", load: "Callable[[str], str]") -> None:
        self._names = names
        self._load = load

    def find_spec(self, name: str, _path: object = None, _target: object = None) -> ModuleSpec | None:
        """The spec of an extension module stored in the archive, None for any other module."""
        if EXTENSION + name not in self._names:
            return None
        spec = ModuleSpec(name, Loader(name, self._load), origin=EXTENSION + name)
        spec.has_location = True
        return spec


def _loaded(load: "Callable[[str], str]", name: str) -> str:
    try:
        return load(name)
    except OSError as error:
        from dso.errors import NotLoadableError

        hint = "see docs/install.md for what DSO needs of a machine"
        if isinstance(error, PermissionError):
            hint = "set TMPDIR to a directory that you may write to, on a file system without the option noexec"
        raise NotLoadableError(f"a part of DSO cannot be loaded: {error}", hint) from None


def _end(*details: object) -> None:
    """What nothing deals with, until a launcher says otherwise."""
    from dso.entry.failure import end

    end(*details)


def install() -> None:
    """In a frozen binary, have modules imported from it and from nowhere else; else do nothing."""
    try:
        import _archive  # type: ignore[import-not-found]  # the boot loader's
    except ImportError:
        return
    sys.excepthook = _end
    names = _archive.names()
    for name in names:
        if name.startswith(LIBRARY):
            _loaded(_archive.load, name)
    sys.meta_path[:] = [BuiltinImporter, FrozenImporter, Finder(frozenset(names), _archive.load)]
    sys._stdlib_dir = ROOT  # type: ignore[attr-defined]  # noqa: SLF001  # FrozenImporter makes __file__ of it
    sys.frozen = True  # type: ignore[attr-defined]  # as all ways of freezing Python programs have it
