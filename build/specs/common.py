"""What the PyInstaller specs share: how a one-file binary that starts fast is put together.

The boot loader unpacks what it must, runs the program and clears up, on every start; so there must
be little to unpack and little to run. docs/decisions/0001-one-file-binary-lazy-libraries.md has
the reasons and what each of them is worth.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING

from PyInstaller.building.api import EXE, PYZ
from PyInstaller.building.build_main import Analysis
from PyInstaller.building.utils import compile_pymodule, create_base_library_zip, process_collected_binary
from PyInstaller.compat import PY3_BASE_MODULES
from PyInstaller.config import CONF
from PyInstaller.depend.bindepend import get_imports, get_python_library_path

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Toc = list[tuple[str, str, str]]  # PyInstaller's: name in the binary, path here, type

ROOT = os.path.dirname(os.path.dirname(CONF["specpath"]))

# The boot loader runs these itself, in this order, before PyInstaller's own modules.
EARLY_MODULES = ("dso.version", "dso.entry.metadata", "dso.entry.lazy", "dso.entry.early")
EARLY_DAEMON_MODULES = ("dso.entry.lazy", "dso.entry.early_daemon")

# What the interpreter needs to come up, before anything can be read from the archive: its codecs.
# Other text is UTF-8 whatever the locale says (OPTIONS); what else is looked up a spec must name. What
# PyInstaller puts here besides is frozen into libpython, or comes from the archive as well.
BASE_MODULES = ("encodings", "encodings.aliases", "encodings.ascii", "encodings.latin_1", "encodings.utf_8")

# What the boot loader is linked with itself is on every machine where it runs.
LINKED = ("libz.so.1",)

# The interpreter of releases (build/release) says which wheels are old enough for it. No library of the machine that
# builds goes into a release: it would need that machine's glibc.
IS_RELEASE = find_spec("_manylinux") is not None

OPTIONS = [("X utf8=1", None, "OPTION")]


def freeze(
    name: str,
    script: str,
    excludes: list[str],
    *,
    daemon: bool = False,
    codecs: Sequence[str] = (),
    data: Mapping[str, str] | None = None,
) -> EXE:
    """Build the one-file binary NAME from a launcher of dso/entry.

    Args:
        name: of the binary, in PyInstaller's --distpath.
        script: path of the launcher, relative to the source tree.
        excludes: modules to leave out although something imports them.
        daemon: it starts once: shared libraries are the bundled ones, unpacked at the start, and not
            the machine's. Nothing that is unpacked is needed once it runs (see dso/entry/lazy.py).
        codecs: further ones that are looked up by name, as modules of `encodings`.
        data: files for `dso.entry.lazy.Archive.read`, as name -> path.
    """
    PY3_BASE_MODULES.clear()  # see BASE_MODULES
    analysis = Analysis(
        [os.path.join(ROOT, script)],
        pathex=[ROOT],
        hiddenimports=list(codecs),
        hookspath=[os.path.join(CONF["specpath"], "hooks")],
        excludes=excludes,
    )
    libraries, extensions = _split([entry for entry in analysis.binaries if _is_wanted(entry)], "EXTENSION")
    pyz = PYZ(analysis.pure)
    pyz.dependencies, bootstrap_extensions = _split(pyz.dependencies, "EXTENSION")
    eager = [entry for entry in libraries if entry[2] == "BINARY"] if daemon else _eager(libraries)
    return EXE(
        _early_modules(EARLY_DAEMON_MODULES if daemon else EARLY_MODULES),
        pyz,
        [entry for entry in analysis.scripts if not entry[0].startswith("pyi_rth_")],
        eager,
        _base_library(codecs),
        _lazy([entry for entry in libraries if entry not in eager], extensions + bootstrap_extensions),
        [(f"data/{name}", path, "PKG") for name, path in (data or {}).items()],
        OPTIONS,
        name=name,
        cdict={},  # nothing is compressed
        strip=True,
        upx=False,
    )


def _is_wanted(entry: tuple[str, str, str]) -> bool:
    name, path, _ = entry
    ours = os.path.realpath(path).startswith((sys.prefix, os.path.realpath(sys.base_prefix)))
    return name not in LINKED and (ours or not IS_RELEASE)


def _split(toc: Toc, kind: str) -> tuple[Toc, Toc]:
    """Entries of other types, entries of this one."""
    return [entry for entry in toc if entry[2] != kind], [entry for entry in toc if entry[2] == kind]


def work_directory() -> str:
    """Where a spec may put files that it makes."""
    os.makedirs(CONF["workpath"], exist_ok=True)
    return str(CONF["workpath"])


def _early_modules(names: Sequence[str]) -> Toc:
    return [(name, _compiled(name), "PYMODULE") for name in names]


def _compiled(name: str) -> str:
    source = os.path.join(ROOT, *name.split(".")) + ".py"
    path: str = compile_pymodule(name, source, workpath=os.path.join(CONF["workpath"], "early"), optimize=0)
    return path


def _base_library(codecs: Sequence[str]) -> Toc:
    """Codecs are found beside their package and nowhere else; what they import comes from the archive."""
    path = os.path.join(CONF["workpath"], "base_library.zip")
    modules = [(name, import_module(name).__file__, "PYMODULE") for name in (*BASE_MODULES, *codecs)]
    create_base_library_zip(path, modules)
    return [(os.path.basename(path), path, "DATA")]


def _eager(libraries: Toc) -> Toc:
    """What the boot loader itself opens, from its directory: libpython and what that is linked with."""
    python = get_python_library_path()
    needed = {os.path.basename(python), *(name for name, _ in get_imports(python))}
    return [entry for entry in libraries if os.path.basename(entry[0]) in needed]


def _lazy(libraries: Toc, extensions: Toc) -> Toc:
    """The rest of them, stripped, under the names `dso.entry.lazy` reads; a type the boot loader leaves alone."""
    others = [entry for entry in libraries if entry[2] == "BINARY"]
    files = [("library/" + os.path.basename(name), path) for name, path, _ in others]
    files += [("extension/" + _module_name(name), path) for name, path, _ in extensions]
    return [(name, process_collected_binary(path, name, use_strip=True), "PKG") for name, path in sorted(set(files))]


def _module_name(name: str) -> str:
    """`python3.11/lib-dynload/zlib.cpython-311-x86_64-linux-gnu.so` is the module `zlib`."""
    directory, _, file_name = name.rpartition("/")
    package = "" if directory.endswith("lib-dynload") else directory.replace("/", ".") + "." * bool(directory)
    return package + file_name.partition(".")[0]
