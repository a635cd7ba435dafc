"""The frozen binary as a file: what is in it, where it runs, what it leaves behind."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest

from dso.errors import FileAccessError
from dso.version import SHORT_DESCRIPTION, URL, VENDOR, VERSION
from tests.support.archive import Contents, contents_of
from tests.support.home import FROZEN, DsoHome
from tests.support.imports import all_imports
from tests.support.process import PYTHON, ROOT, Result, run, started
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_BYTES = 25_000_000

# Nothing of these, nor of their sub-modules, is of use on the command line. (PyYAML is: it reads dso.yaml.)
UNWANTED = {
    *["azure", "boto3", "botocore", "docker", "huaweicloudsdkcore", "hvac", "requests", "urllib3", "aiohttp"],
    *["asyncio", "ctypes", "dataclasses", "email", "http", "inspect", "logging", "multiprocessing", "pathlib"],
    *["sqlite3", "ssl", "subprocess", "tempfile", "tkinter", "unittest", "urllib", "xml", "_hashlib", "_ssl"],
    *["PyInstaller", "altgraph", "hypothesis", "mypy", "packaging", "pip", "pkg_resources", "pytest", "setuptools"],
    *["matplotlib", "mpl_toolkits", "pylab", "numpy", "PIL", "fontTools", "contourpy", "kiwisolver", "pyparsing"],
}
LINKED_INTO_PYTHON = {"libexpat.so.1"}  # where libpython is linked with it, as Debian's is


@pytest.fixture(scope="module")
def contents() -> Contents:
    return contents_of(FROZEN)


@pytest.fixture
def frozen(tmp_path: Path) -> DsoHome:
    return DsoHome(str(tmp_path / "home"), "frozen")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def test_size_is_at_most_25_megabytes() -> None:
    assert os.path.getsize(FROZEN) <= MAX_BYTES


def test_holds_nothing_the_command_line_does_not_need(contents: Contents) -> None:
    assert "dso" in contents.modules
    assert not {name for name in contents.importable if name.split(".")[0] in UNWANTED}
    assert not {name for name in contents.importable if name.startswith(("dso.agent", "dso.providers"))}


def test_each_start_unpacks_only_what_the_interpreter_needs(contents: Contents) -> None:
    libpython = sysconfig.get_config_var("INSTSONAME")
    assert {libpython, "base_library.zip"} <= contents.unpacked <= {libpython, "base_library.zip", *LINKED_INTO_PYTHON}


def test_metadata_is_answered_before_anything_else_runs(contents: Contents) -> None:
    ours = ["dso.version", "dso.entry.metadata", "dso.entry.lazy", "dso.entry.early"]
    assert contents.early[: len(ours)] == ours
    assert contents.scripts == ["pyiboot01_bootstrap", "docker_dso"]  # and no run-time hooks


def test_everything_dso_imports_is_in_the_binary(contents: Contents) -> None:
    ours = contents.importable | {"dso.entry.docker_dso"}
    imported = {one.name for one in all_imports() if one.importer in ours}
    frozen_in = {"_frozen_importlib", "_frozen_importlib_external"}
    assert imported - contents.importable - set(sys.builtin_module_names) == frozen_in


def test_every_module_in_the_binary_finds_what_it_imports(contents: Contents) -> None:
    code = """
import importlib, json, sys
there = set(json.load(sys.stdin))
class OnlyThese:
    def find_spec(self, name, path=None, target=None):
        if name not in there and name not in sys.builtin_module_names and not importlib._bootstrap._imp.is_frozen(name):
            raise ModuleNotFoundError(f"{name} is not in the binary", name=name)
sys.path += sys.argv[1:]
sys.meta_path.insert(0, OnlyThese())
sys.modules["gettext"] = type(sys)("gettext")  # the launcher's stand-in
sys.modules["gettext"].gettext = sys.modules["gettext"].ngettext = None
for name in sorted(there):
    try:
        importlib.import_module(name)
    except ImportError as error:
        print(name, error.name)
"""
    only_for_the_boot_loader = {name for name in contents.early if name.startswith("pyimod")} | {"dso.entry.early"}
    there = json.dumps(sorted(contents.importable - only_for_the_boot_loader))
    missing = run([PYTHON, "-I", "-S", "-c", code, ROOT, sysconfig.get_path("purelib")], input=there).out
    assert missing.splitlines() == []


def test_metadata_is_what_docker_expects() -> None:
    done = run([FROZEN, "docker-cli-plugin-metadata"], env={})
    assert json.loads(done.stdout) == {
        "SchemaVersion": "0.1.0",
        "Vendor": VENDOR,
        "Version": VERSION,
        "ShortDescription": SHORT_DESCRIPTION,
        "URL": URL,
    }
    assert not done.stderr


def test_docker_lists_it_as_a_plugin(frozen: DsoHome) -> None:
    plugins = json.loads(frozen.command("docker", "info", "--format", "{{json .ClientInfo.Plugins}}").stdout)
    (found,) = [plugin for plugin in plugins if plugin["Name"] == "dso"]
    assert (found["Version"], found["Path"], found.get("Err")) == (VERSION, frozen.plugin, None)
    assert SHORT_DESCRIPTION in frozen.command("docker", "--help").out


def test_runs_with_an_empty_environment(scratch: Path) -> None:
    done = run([FROZEN, "version"], env={}, cwd=str(scratch))
    assert VERSION in done.out
    assert not done.stderr


# Where Python is not


def bare_machine(root: Path) -> None:
    """A file system with the binary and glibc: no Python, and no libgcc_s."""
    linked = run(["ldd", FROZEN]).out.split()
    for library in {word for word in linked if word.startswith("/")}:
        os.makedirs(root / os.path.dirname(library)[1:], exist_ok=True)
        shutil.copy(library, root / library[1:])
    libc = next(word for word in linked if word.startswith("/") and "/libc.so" in word)
    shutil.copy(os.path.join(os.path.dirname(libc), "libm.so.6"), root / os.path.dirname(libc)[1:])
    for directory in ("bin", "home", "proc", "tmp"):
        (root / directory).mkdir(exist_ok=True)
    shutil.copy(FROZEN, root / "bin" / "docker-dso")


@pytest.fixture(params=["with /proc", "without /proc"])
def on_bare_machine(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Callable[..., Result]]:
    bare_machine(scratch)
    mount = f"mount -t proc proc {scratch}/proc &&" if request.param == "with /proc" else ""
    enter = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user", "--pid", "--fork"])]

    def dso(*args: str, input: str = "") -> Result:  # noqa: A002
        script = f'{mount} exec chroot {scratch} /bin/docker-dso "$@"'
        env = {"HOME": "/home", "PATH": os.environ["PATH"]}
        return run([*enter, "sh", "-c", script, "sh", *args], env=env, input=input)

    yield dso
    assert not os.listdir(scratch / "tmp")


def test_needs_no_python_nor_libraries_beside_glibc(on_bare_machine: Callable[..., Result]) -> None:
    assert json.loads(on_bare_machine("docker-cli-plugin-metadata").stdout)["Version"] == VERSION
    on_bare_machine("init")
    on_bare_machine("secret", "set", "shop/key", input="the value")
    assert on_bare_machine("secret", "get", "shop/key").stdout == b"the value"


# The temporary directory


@pytest.fixture
def waiting(frozen: DsoHome, scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `secret set` with its temporary directory in `scratch`, which waits for the value on its standard input."""
    frozen.dso("init")
    child = subprocess.Popen(
        [frozen.plugin, "secret", "set", "shop/key"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=frozen.environment({"TMPDIR": str(scratch)}),
        start_new_session=True,
    )
    wait_until(lambda: is_reading(child.pid), "the child reads its standard input")
    yield child
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
    child.communicate()


def is_reading(parent: int) -> bool:
    """Whether the child of the boot loader's process waits for its standard input."""
    with open(f"/proc/{parent}/task/{parent}/children") as stream:
        children = stream.read().split()
    if not children:
        return False
    with open(f"/proc/{children[0]}/syscall") as stream:
        return stream.read().startswith("0 0x0 ")  # read(0, ...)


def unpacked_in(directory: Path) -> set[str]:
    (unpacked,) = os.listdir(directory)
    assert os.stat(directory / unpacked).st_mode & 0o777 == 0o700
    return set(os.listdir(directory / unpacked))


def test_unpacks_into_tmpdir_and_clears_up(waiting: subprocess.Popen[bytes], scratch: Path, contents: Contents) -> None:
    assert unpacked_in(scratch) == contents.unpacked
    waiting.communicate(b"the value")
    assert waiting.returncode == 0
    assert os.listdir(scratch) == []


def test_killed_it_leaves_nothing_but_files_of_the_binary(
    waiting: subprocess.Popen[bytes], scratch: Path, contents: Contents
) -> None:
    os.killpg(waiting.pid, signal.SIGKILL)
    waiting.wait()
    assert unpacked_in(scratch) == contents.unpacked


def test_a_running_one_survives_its_replacement(tmp_path: Path, frozen: DsoHome, scratch: Path) -> None:
    os.unlink(frozen.plugin)
    shutil.copy(FROZEN, frozen.plugin)
    frozen.dso("init")
    environment = frozen.environment({"TMPDIR": str(scratch)})
    with started([frozen.plugin, "secret", "set", "shop/key"], stdin=subprocess.PIPE, env=environment) as child:
        wait_until(lambda: is_reading(child.pid), "the child reads its standard input")
        newer = tmp_path / "newer"
        newer.write_bytes(os.urandom(os.path.getsize(FROZEN)))
        os.rename(newer, frozen.plugin)
        child.communicate(b"the value", timeout=60)
        assert child.returncode == 0
    assert (
        DsoHome(str(tmp_path / "other")).dso("secret", "get", "shop/key", env={"HOME": frozen.path}).out == "the value"
    )


def test_a_tmpdir_that_forbids_execution_is_an_error_of_the_boot_loader(frozen: DsoHome, scratch: Path) -> None:
    script = f'mount -t tmpfs -o noexec tmpfs {scratch} && TMPDIR={scratch} exec {frozen.plugin} "$@"'
    enter = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
    done = frozen.command(*enter, "sh", "-c", script, "sh", "version", check=False)
    assert done.returncode == 255
    assert "failed to map segment from shared object" in done.err


# What reaches Compose


def test_compose_gets_the_users_words_and_environment_to_the_byte(home: DsoHome, scratch: Path) -> None:
    docker = scratch / "docker"
    docker.write_text("#!/bin/sh\ncat /proc/$$/cmdline /proc/$$/environ\n")
    docker.chmod(0o755)
    env = {
        b"HOME": os.fsencode(home.path),
        b"PATH": os.fsencode(scratch) + b":" + os.fsencode(os.defpath),
        b"LD_LIBRARY_PATH": b"/usr/lib/theirs",
        b"VIRTUAL_ENV": b"/home/of/python",
        b"BYTES": b"\xff\xfe \xc3\xa4",
        b"LC_ALL": b"de_DE.ISO-8859-1",
        b"PWD": os.fsencode(os.getcwd()),  # the shell of the source variant would add it
    }
    done = subprocess.run([home.plugin, "compose", "ps", b"\xff\xc3\xa4"], stdout=subprocess.PIPE, env=env, check=True)
    words = [b"/bin/sh", os.fsencode(docker), b"compose", b"ps", b"\xff\xc3\xa4"]
    received = done.stdout.rstrip(b"\0").split(b"\0")
    assert received[: len(words)] == words
    assert dict(entry.split(b"=", 1) for entry in received[len(words) :]) == env


# How it ends


def test_output_nobody_reads_ends_it_quietly(home: DsoHome) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as pipe:
        done = subprocess.run(
            [home.plugin, "--help"], stdout=pipe, stderr=subprocess.PIPE, env=home.environment(), check=False
        )
    assert (done.returncode, done.stderr) == (141, b"")


def test_output_that_cannot_be_written_is_an_error(home: DsoHome) -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [home.plugin, "--help"], stdout=full, stderr=subprocess.PIPE, env=home.environment(), check=False
        )
    assert done.returncode == FileAccessError.code
    assert done.stderr == b"Error: cannot write the output: No space left on device\n"


def test_leaves_no_core_file_when_it_is_aborted(waiting: subprocess.Popen[bytes]) -> None:
    with open(f"/proc/{waiting.pid}/task/{waiting.pid}/children") as stream:
        (child,) = stream.read().split()
    with open(f"/proc/{child}/limits") as stream:
        (limits,) = [line for line in stream if line.startswith("Max core file size")]
    assert limits.split()[4] in ("0", "1")  # too small for one
