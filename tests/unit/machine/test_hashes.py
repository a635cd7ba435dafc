"""Everything that pip fetches fits a hash that is in the repository, the compiler of releases included."""

from __future__ import annotations

import base64
import hashlib
import io
import os
import re
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from build import hashes
from tests.support.process import PYTHON, ROOT, run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.process import Result

FILES = sorted(path for path in Path(ROOT, "build").rglob("*requirements*.txt"))
SCRIPTS = [Path(ROOT, "Makefile"), *Path(ROOT, "build").rglob("*.sh"), *Path(ROOT, ".ci").iterdir()]
_HASHED = re.compile(r"[A-Za-z0-9._-]+==[^\s\\]+( --hash=sha256:[0-9a-f]{64})+")


def logical_lines(path: Path) -> list[str]:
    lines = re.sub(r"\s*\\\n\s*", " ", path.read_text()).splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_requirement_has_its_version_and_its_hashes(path: Path) -> None:
    faulty = [line for line in logical_lines(path) if not _HASHED.fullmatch(line)]
    assert faulty == []


def test_there_are_files_to_look_at() -> None:
    assert {path.name for path in FILES} == {"requirements.txt", "sdist-requirements.txt"}
    assert len(FILES) == 3


def test_every_pip_in_a_script_demands_hashes_and_runs_no_code_that_it_fetches_unpinned() -> None:
    found = []
    for path in SCRIPTS:
        for line in re.sub(r"\s*\\\n\s*", " ", path.read_text()).splitlines():
            if re.search(r"\bpip\b.* install --|^\s*pip install\b", line) and not line.lstrip().startswith("#"):
                found.append(line)
                assert "--require-hashes" in line, path
                assert "--only-binary :all:" in line or "--no-build-isolation" in line, path
    assert len(found) == 4


def test_renewing_keeps_comments_and_order_and_drops_hashes_of_before() -> None:
    text = "# why\na==1 \\\n    --hash=sha256:00\n\nb==2\n"
    assert hashes.entries(text) == ["# why", "a==1", "", "b==2"]


class Index:
    """Packages in a directory, which pip takes instead of any index."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.packages = directory / "packages"
        self.packages.mkdir()
        self.requirements = directory / "requirements.txt"
        self.sources = directory / "sdist-requirements.txt"
        self.requirements.touch()
        self.sources.touch()

    @property
    def env(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.directory),
            "PIP_NO_INDEX": "1",
            "PIP_FIND_LINKS": str(self.packages),
            "PIP_NO_CACHE_DIR": "1",
        }

    def wheel(self, name: str, requires: str = "") -> str:
        """Make NAME 1.0; its line in a requirement file."""
        code, metadata = f"{name}.py", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"
        metadata += f"Requires-Dist: {requires}\n" if requires else ""
        about = f"{name}-1.0.dist-info"
        files = {
            code: "",
            f"{about}/METADATA": metadata,
            f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = [f"{path},sha256={_digest(text)},{len(text)}" for path, text in files.items()]
        files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""])
        path = self.packages / f"{name}-1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as wheel:
            for file_name, text in files.items():
                wheel.writestr(file_name, text)
        return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    def source(self, name: str, build_requires: Sequence[str]) -> str:
        """Make the source package NAME 1.0, which wants these to be built; its line in a requirement file."""
        path = self.packages / f"{name}-1.0.tar.gz"
        project = f'[build-system]\nrequires = {list(build_requires)}\nbuild-backend = "setuptools.build_meta"\n'
        setup = f"from setuptools import setup\nsetup(name={name!r}, version='1.0')\n"
        with tarfile.open(path, "w:gz") as archive:
            for file_name, text in (
                ("pyproject.toml", project),
                ("setup.py", setup),
                ("PKG-INFO", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n"),
            ):
                entry = tarfile.TarInfo(f"{name}-1.0/{file_name}")
                entry.size = len(text)
                archive.addfile(entry, io.BytesIO(text.encode()))
        return f"{name}==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"

    def tamper(self, name: str) -> None:
        """Another wheel of the same name and version; pip would install it."""
        path = next(self.packages.glob(f"{name}-1.0-*.whl"))
        with zipfile.ZipFile(path, "a") as wheel:
            wheel.writestr("evil.pth", "import os")

    def everyday(self) -> Result:
        """Make the everyday virtual environment."""
        return self._run(f"{ROOT}/build/machine/python.sh", f"{self.directory}/venv", str(self.requirements))

    def release(self) -> Result:
        """Make the virtual environment that releases are frozen in, with this Python for its interpreter."""
        interpreter = self.directory / "interpreter"
        (interpreter / "python" / "bin").mkdir(parents=True)
        (interpreter / "python" / "bin" / "python3.13").symlink_to(sys.executable)
        (interpreter / "pip").mkdir()
        pip = run([sys.executable, "-c", "import pip, os; print(os.path.dirname(os.path.dirname(pip.__file__)))"]).out
        with zipfile.ZipFile(interpreter / "pip" / "pip-1-py3-none-any.whl", "w") as wheel:
            for path in Path(pip.strip(), "pip").rglob("*"):
                if path.suffix in (".py", ".pem", ".txt", ".typed"):
                    wheel.write(path, path.relative_to(pip.strip()))
        return self._run(
            f"{ROOT}/build/release/venv.sh", f"{self.directory}/venv", str(interpreter), str(self.requirements)
        )

    def compiler(self) -> Result:
        """Get the compiler, as the scripts beside this file do, whose requirements these are."""
        shutil.copytree(f"{ROOT}/build", self.directory / "build")
        shutil.copy(self.requirements, self.directory / "build" / "release" / "requirements.txt")
        script = (
            'here=$1/build/release; . "$here/common.sh"; work=$1/work; mkdir "$work"; use_compiler "$work"; echo got'
        )
        return self._run("bash", "-euc", script, "bash", str(self.directory))

    def _run(self, *argv: str) -> Result:
        return run(
            argv, env={**self.env, "DSO_PYTHON": PYTHON, "XDG_CACHE_HOME": f"{self.directory}/cache"}, check=False
        )

    def installed(self, name: str) -> bool:
        return any(self.directory.glob(f"venv/lib/python3.*/site-packages/{name}.py"))


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")


@pytest.fixture
def index(tmp_path: Path) -> Index:
    return Index(tmp_path)


def test_package_that_fits_its_hash_is_installed(index: Index) -> None:
    index.requirements.write_text(index.wheel("alpha") + "\n# Checking\n")
    done = index.everyday()
    assert done.returncode == 0, done.err
    assert index.installed("alpha")


WAYS = {"everyday": Index.everyday, "release": Index.release, "compiler": Index.compiler}


@pytest.mark.parametrize("way", WAYS)
def test_tampered_wheel_is_refused(index: Index, way: str) -> None:
    index.requirements.write_text(index.wheel("alpha") + "\n# Checking\n")
    index.tamper("alpha")
    done = WAYS[way](index)
    assert done.returncode != 0
    assert "DO NOT MATCH THE HASHES" in done.err
    assert not index.installed("alpha")
    assert not list(index.directory.glob("cache/dso-release/zig-*"))


@pytest.mark.parametrize("way", WAYS)
def test_requirement_without_a_hash_is_refused(index: Index, way: str) -> None:
    index.requirements.write_text(index.wheel("alpha").partition(" ")[0] + "\n# Checking\n")
    done = WAYS[way](index)
    assert done.returncode != 0
    assert "Hashes are required" in done.err
    assert not index.installed("alpha")


@pytest.mark.parametrize("way", WAYS)
def test_dependency_that_is_not_listed_is_refused(index: Index, way: str) -> None:
    index.wheel("beta")
    index.requirements.write_text(index.wheel("alpha", requires="beta") + "\n# Checking\n")
    done = WAYS[way](index)
    assert done.returncode != 0
    assert "beta" in done.err
    assert not index.installed("beta")


@pytest.mark.parametrize("way", WAYS)
def test_source_package_is_refused_where_a_wheel_should_be(index: Index, way: str) -> None:
    index.requirements.write_text(index.source("alpha", []) + "\n# Checking\n")
    done = WAYS[way](index)
    assert done.returncode != 0
    assert "alpha" in done.err
    assert not index.installed("alpha")


def test_named_source_package_is_built_without_fetching_what_it_wants_for_that(index: Index) -> None:
    index.wheel("helper")  # pip would fetch it, and any version of it, for a build in isolation
    index.requirements.write_text("")
    index.sources.write_text(index.source("alpha", ["setuptools", "helper"]) + "\n")
    index.everyday()
    assert not index.installed("helper")
    assert not any("helper" in path.name for path in index.directory.glob("venv/lib/python3.*/site-packages/*"))
