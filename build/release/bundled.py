"""What of others is in the binaries: packages from PyPI, and what the release interpreter was compiled from."""

from __future__ import annotations

import os
import subprocess
from importlib.metadata import Distribution, distributions
from typing import TYPE_CHECKING, NamedTuple

from PyInstaller.archive.readers import CArchiveReader

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

# A Debian source, and what in a binary comes from it; CPython and zlib are in the boot loader that all have.
SOURCES_IN = {
    "python3.13": None,
    "zlib": None,
    "libffi": "extension/_ctypes",
    "expat": "extension/pyexpat",
    "openssl": "extension/_ssl",
}
_MODULES = "mM"  # types of entries that are modules and packages

# Libraries in wheels that do not list them, and how a wheel's module says which it has.
EMBEDDED = {"pyyaml": ("libyaml", "import yaml._yaml as y; print(y.get_version_string())")}


class Package(NamedTuple):
    """One of PyPI's, of which something is in a binary."""

    name: str
    version: str
    distribution: Distribution


class Source(NamedTuple):
    """A source package of Debian's; `newest` is what the mirror listed, "unknown" if nobody could ask it."""

    name: str
    version: str
    newest: str

    @property
    def is_newest(self) -> bool:
        """Whether it is what a release is made of; another has to be accepted by name."""
        return self.version == self.newest


class Content(NamedTuple):
    """What of others is in one binary."""

    packages: list[Package]
    sources: list[Source]


def read_listed(path: str) -> tuple[list[Source], list[Source]]:
    """What build/release/interpreter.sh noted: the sources, and the circumstances under which they were looked up.

    SystemExit if it noted nothing.
    """
    try:
        with open(path, encoding="ascii") as file:
            listed = [Source(*line.split()) for line in file]
    except OSError as error:
        raise SystemExit(f"{path}: {error.strerror}: build/release/interpreter.sh --newest looks sources up") from error
    return [one for one in listed if one.name in SOURCES_IN], [one for one in listed if one.name not in SOURCES_IN]


class Release:
    """The virtual environment that the binaries were frozen in, and the interpreter of that."""

    def __init__(self, venv: str, interpreter: str) -> None:
        self._python = os.path.join(venv, "bin", "python")
        self.interpreter = interpreter
        self._library = os.path.join(interpreter, "python", "lib", "python3.13")
        self._packages: dict[str, Package] = {}
        self._owners: dict[str, str] = {}  # a file's name without what follows its first dot -> package
        for found in distributions(path=[os.path.join(venv, "lib", "python3.13", "site-packages")]):
            self._add(found)
        self._sources, self.circumstances = read_listed(os.path.join(interpreter, "listed"))

    @property
    def to_accept(self) -> list[str]:
        """What is not as it is in a release, as NAME=VERSION."""
        return [f"{one.name}={one.version}" for one in (*self.circumstances, *self._sources) if not one.is_newest]

    def _add(self, found: Distribution) -> None:
        name = found.metadata["Name"].lower().replace("_", "-")
        self._packages[name] = Package(name, found.version, found)
        for path in found.files or ():
            directory, _, file_name = str(path).rpartition("/")
            self._owners[f"{directory}/{file_name.partition('.')[0]}"] = name

    def content(self, binary: str) -> Content:
        """SystemExit if a module in it is nobody's: then something of unknown origin would be given away."""
        toc = CArchiveReader(binary).toc
        modules = {name for name, entry in toc.items() if entry[4] in _MODULES}
        modules |= {name.removeprefix("extension/") for name in toc if name.startswith("extension/")}
        owners = {self._owner(name) for name in modules} - {""}
        owners |= {name.split("/")[1] for name in toc if name.startswith("data/")}
        sources = [one for one in self._sources if SOURCES_IN[one.name] is None or SOURCES_IN[one.name] in toc]
        return Content([self._packages[name] for name in sorted(owners)], sources)

    def _owner(self, module: str) -> str:
        """The package that a module comes from, nothing if it is CPython's or ours."""
        path = module.replace(".", "/")
        directory, _, last = path.rpartition("/")
        for candidate in (f"{directory}/{last}", f"{path}/__init__"):
            if candidate in self._owners:
                return self._owners[candidate]
        top = module.partition(".")[0]
        if top == "dso" or self._is_cpythons(path):
            return ""
        if any(owned.startswith(f"{path}/") for owned in self._owners):
            return ""  # a directory that several packages share, as `azure`
        raise SystemExit(f"nobody knows where the module {module} comes from")

    def _is_cpythons(self, path: str) -> bool:
        places = (f"{self._library}/{path}", f"{self._library}/lib-dynload/{path}")
        return any(os.path.exists(place + ".py") or os.path.isdir(place) for place in places) or any(
            name.partition(".")[0] == path for name in os.listdir(f"{self._library}/lib-dynload")
        )

    def embedded_version(self, package: Package) -> tuple[str, str] | None:
        """Name and version of a library that a package's wheel holds without saying so."""
        if package.name not in EMBEDDED:
            return None
        name, code = EMBEDDED[package.name]
        done = subprocess.run([self._python, "-I", "-c", code], capture_output=True, check=True, text=True)
        return name, done.stdout.strip()


_LICENCE_NAMES = ("licen", "copying", "notice", "authors")


def licences(release: Release, contents: Mapping[str, Content]) -> Iterator[tuple[str, str]]:
    """Name and path of each licence text that has to go with the binaries; SystemExit if one has none."""
    packages = {one.name: one for content in contents.values() for one in content.packages}
    for name, package in sorted(packages.items()):
        texts = list(_licence_texts(package))
        if not texts:
            raise SystemExit(f"{name} {package.version} has no text of its licence in its wheel")
        yield from ((f"{name}/{text.replace('/', '-')}", path) for text, path in texts)
    for source in sorted({one for content in contents.values() for one in content.sources}):
        yield f"{source.name}/copyright", os.path.join(release.interpreter, "licences", source.name)


def _licence_texts(package: Package) -> Iterator[tuple[str, str]]:
    """Those in the .dist-info directory, by their names below it."""
    for path in sorted(map(str, package.distribution.files or ())):
        directory, _, name = path.partition("/")
        if directory.endswith(".dist-info") and name.rpartition("/")[2].lower().startswith(_LICENCE_NAMES):
            yield name.removeprefix("licenses/"), str(package.distribution.locate_file(path))


def all_packages(contents: Sequence[Content]) -> list[Package]:
    """Of several binaries, each once, by name."""
    return [one for _, one in sorted({one.name: one for content in contents for one in content.packages}.items())]
