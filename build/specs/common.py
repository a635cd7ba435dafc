"""What the PyInstaller specs share: how a one-file binary that starts fast is put together.

PyInstaller finds what a program needs and appends it to the boot loader, which is our own (build/bootloader): nothing
is unpacked, and whatever is not used at a start costs nothing. docs/decisions/0014-boot-loader-of-our-own.md has the
reasons and what each of them is worth.
"""

from __future__ import annotations

import _imp
import os
import sys
from graphlib import TopologicalSorter
from importlib.util import find_spec
from typing import TYPE_CHECKING

from PyInstaller.building.api import EXE, PKG
from PyInstaller.building.build_main import Analysis
from PyInstaller.building.utils import compile_pymodule, process_collected_binary
from PyInstaller.compat import PY3_BASE_MODULES
from PyInstaller.config import CONF
from PyInstaller.depend import bindepend

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Toc = list[tuple[str, str, str]]  # PyInstaller's: name in the binary, path here, type

ROOT = os.path.dirname(os.path.dirname(CONF["specpath"]))

# Found by name: the interpreter's own for text, and what files are opened with.
CODECS = ("encodings.utf_8", "encodings.ascii", "encodings.latin_1")

# What an extension module of ours may be linked with that is on every machine.
EVERYWHERE = ("libgcc_s.so.1",)

# The interpreter of releases (build/release) says which wheels are old enough for it. No library of the machine that
# builds goes into a release: it would need that machine's glibc.
IS_RELEASE = find_spec("_manylinux") is not None

# PyInstaller wants it, to have it unpacked; the interpreter is in the boot loader.
LIBPYTHON = sys.executable
bindepend.get_python_library_path = lambda: LIBPYTHON

# The type of an entry that is a package; PyInstaller itself has them in archives of another kind.
PACKAGE = "PYPACKAGE"
PKG.xformdict[PACKAGE] = "M"


class Executable(EXE):  # type: ignore[misc]  # PyInstaller has no types
    """An archive behind our own boot loader."""

    def _bootloader_file(self, _exe: str, _extension: str | None = None) -> str:
        return os.environ["DSO_BOOT_LOADER"]


def freeze(
    name: str,
    script: str,
    excludes: list[str],
    *,
    hidden_imports: Sequence[str] = (),
    data: Mapping[str, str] | None = None,
    answers: Mapping[str, str] | None = None,
    ahead: Mapping[str, str] | None = None,
) -> EXE:
    """Build the one-file binary NAME from a launcher of dso/entry.

    Args:
        name: of the binary, in PyInstaller's --distpath.
        script: path of the launcher, relative to the source tree.
        excludes: modules to leave out although something imports them.
        hidden_imports: modules to take along although nothing imports them by its name.
        data: files for `dso.entry.daemon.PackedData`, as name -> path.
        answers: what the boot loader prints when a word is its first argument, as word -> text.
        ahead: extension modules that commands import, each loaded while the interpreter starts, as command -> module.
    """
    PY3_BASE_MODULES.clear()  # PyInstaller would put these in a file to be unpacked
    analysis = Analysis(
        [os.path.join(ROOT, script)],
        pathex=[ROOT],
        hiddenimports=["dso.entry.lazy", *CODECS, *hidden_imports],
        hookspath=[os.path.join(CONF["specpath"], "hooks")],
        excludes=excludes,
    )
    files = {f"data/{key}": path for key, path in (data or {}).items()}
    files |= _texts("answer", answers or {})
    files |= _texts("ahead", {command: f"extension/{module}" for command, module in (ahead or {}).items()})
    return Executable(
        _modules(analysis.pure),
        [(os.path.basename(script).removesuffix(".py"), os.path.join(ROOT, script), "PYSOURCE")],
        _native([entry for entry in analysis.binaries if _is_wanted(entry)]),
        [(key, path, "PKG") for key, path in sorted(files.items())],
        name=name,
        cdict={},  # nothing is compressed
        strip=True,
        upx=False,
    )


def _is_wanted(entry: tuple[str, str, str]) -> bool:
    name, path, _ = entry
    ours = os.path.realpath(path).startswith((sys.prefix, os.path.realpath(sys.base_prefix)))
    is_python = path == LIBPYTHON or name.startswith("libpython")
    return not is_python and name not in EVERYWHERE and (ours or not IS_RELEASE)


def work_directory() -> str:
    """Where a spec may put files that it makes."""
    os.makedirs(CONF["workpath"], exist_ok=True)
    return str(CONF["workpath"])


def _modules(pure: Toc) -> Toc:
    """Compiled, without those that are in every interpreter."""
    found = []
    nothing = os.path.join(work_directory(), "__init__.py")
    open(nothing, "w").close()  # what a name space package has, for which PyInstaller says that its source is "-"
    for name, place, _ in sorted(pure):
        if _imp.is_frozen(name):
            continue
        source = nothing if place == "-" else place
        path = compile_pymodule(name, source, workpath=os.path.join(CONF["workpath"], "modules"), optimize=0)
        is_package = os.path.basename(source) == "__init__.py"
        found.append((name, path, PACKAGE if is_package else "PYMODULE"))
    return found


def _native(binaries: Toc) -> Toc:
    """Extension modules and libraries, stripped, under the names that `dso.entry.lazy` knows."""
    files = [(f"extension/{_module_name(name)}", name, path) for name, path, kind in binaries if kind == "EXTENSION"]
    libraries = {os.path.basename(name): path for name, path, kind in binaries if kind == "BINARY"}
    for number, name in enumerate(_in_order(libraries)):
        files.append((f"library/{number:02d}/{name}", name, libraries[name]))
    return [(entry, process_collected_binary(path, name, use_strip=True), "PKG") for entry, name, path in files]


def _in_order(libraries: dict[str, str]) -> list[str]:
    """Each after those it is linked with, so that it finds them loaded."""
    needs = {name: {found for found, _ in bindepend.get_imports(path)} for name, path in libraries.items()}
    return list(TopologicalSorter({name: sorted(needs[name] & needs.keys()) for name in sorted(needs)}).static_order())


def _module_name(name: str) -> str:
    """`python3.11/lib-dynload/zlib.cpython-311-x86_64-linux-gnu.so` is the module `zlib`."""
    directory, _, file_name = name.rpartition("/")
    package = "" if directory.endswith("lib-dynload") else directory.replace("/", ".") + "." * bool(directory)
    return package + file_name.partition(".")[0]


def _texts(kind: str, texts: Mapping[str, str]) -> dict[str, str]:
    """Small files for the boot loader, as entry -> path; `texts` is what follows `kind` in the entry's name -> text."""
    files = {}
    for word, text in texts.items():
        path = os.path.join(work_directory(), f"{kind}-{word}")
        with open(path, "w", encoding="ascii") as file:
            file.write(text)
        files[f"{kind}/{word}"] = path
    return files
