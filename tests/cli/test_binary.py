"""The frozen binary as a file: what is in it, where it runs, what it leaves behind."""

from __future__ import annotations

import _imp
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from typing import TYPE_CHECKING

import pytest
from PyInstaller.archive.readers import CArchiveReader

from build.release.glibc import ON_EVERY_MACHINE
from dso.cli.commands import COMMANDS
from dso.entry.metadata import ANSWER, COMMAND
from dso.errors import FileAccessError, NotLoadableError
from dso.version import SHORT_DESCRIPTION, URL, VENDOR, VERSION
from tests.support.archive import Contents, contents_of
from tests.support.home import FROZEN, DsoHome
from tests.support.imports import all_imports
from tests.support.process import PYTHON, ROOT, Result, run, started
from tests.support.processes import descendants, waits_for_input
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
NO_INTERPRETER = ["/etc/ld.so.cache", "/proc/self/exe"]  # opened to start a program, and to read the answer


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


def test_holds_nothing_to_be_unpacked_or_decompressed(contents: Contents) -> None:
    assert contents.others == set()
    assert {name.partition("/")[0] for name in contents.files} <= {"ahead", "answer", "extension", "library"}


def test_metadata_is_answered_by_the_boot_loader(contents: Contents, scratch: Path) -> None:
    assert contents.named("answer/") == {COMMAND}
    assert CArchiveReader(FROZEN).extract(f"answer/{COMMAND}") == ANSWER.encode()
    trace = str(scratch / "trace")
    run(["strace", "-f", "-e", "trace=open,openat,clone,clone3,fork,vfork,execve", "-o", trace, FROZEN, COMMAND])
    with open(trace) as file:
        calls = [line.split(maxsplit=1)[1] for line in file]
    opened = {call.split('"')[1] for call in calls if call.startswith("open")}
    assert {path for path in opened if "/lib/" not in path and "/lib64/" not in path} == set(NO_INTERPRETER)
    assert [call.partition("(")[0] for call in calls if not call.startswith(("open", "+++"))] == ["execve"]


def test_runs_one_script(contents: Contents) -> None:
    assert contents.scripts == ["docker_dso"]  # and no run-time hooks of PyInstaller's
    assert not {name for name in contents.modules if name.startswith("pyi")}


def test_everything_dso_imports_is_in_the_binary(contents: Contents) -> None:
    ours = contents.importable | {"dso.entry.docker_dso"}
    imported = {one.name for one in all_imports() if one.importer in ours}
    assert {one for one in imported - contents.importable if not in_interpreter(one)} == set()


def in_interpreter(module: str) -> bool:
    """Built into every one, frozen into it, or added by the boot loader."""
    return module in sys.builtin_module_names or _imp.is_frozen(module) or module == "_archive"


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
    there = json.dumps(sorted(contents.importable))
    missing = run([PYTHON, "-I", "-S", "-c", code, ROOT, sysconfig.get_path("purelib")], input=there).out
    assert missing.splitlines() == []


def test_what_is_loaded_ahead_is_there_and_is_for_commands_that_there_are(contents: Contents) -> None:
    assert contents.named("ahead/") == {"secret", "env", "vault"} <= set(COMMANDS)
    assert "extension/cryptography.hazmat.bindings._rust" in contents.files


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
    """A file system with the binary, and with what every machine with glibc has: no Python, nothing else."""
    linked = run(["ldd", FROZEN]).out.split()
    for library in {word for word in linked if word.startswith("/")}:
        os.makedirs(root / os.path.dirname(library)[1:], exist_ok=True)
        shutil.copy(library, root / library[1:])
    place = os.path.dirname(next(word for word in linked if word.startswith("/") and "/libc.so" in word))
    for name in ON_EVERY_MACHINE & set(os.listdir(place)):
        shutil.copy(f"{place}/{name}", root / place[1:])
    for directory in ("bin", "home", "proc", "tmp"):
        (root / directory).mkdir(exist_ok=True)
    shutil.copy(FROZEN, root / "bin" / "docker-dso")


@pytest.fixture(params=["with /proc", "without /proc"])
def on_bare_machine(request: pytest.FixtureRequest, scratch: Path) -> Iterator[Callable[..., Result]]:
    bare_machine(scratch)
    mount = f"mount -t proc proc {scratch}/proc &&" if request.param == "with /proc" else ""
    enter = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user", "--pid", "--fork"])]

    def dso(*args: str, input: str = "", check: bool = True) -> Result:  # noqa: A002
        script = f'{mount} exec chroot {scratch} /bin/docker-dso "$@"'
        env = {"HOME": "/home", "PATH": os.environ["PATH"]}
        return run([*enter, "sh", "-c", script, "sh", *args], env=env, input=input, check=check)

    yield dso
    assert not os.listdir(scratch / "tmp")


def test_needs_no_python_nor_libraries_beside_glibc(on_bare_machine: Callable[..., Result]) -> None:
    assert json.loads(on_bare_machine("docker-cli-plugin-metadata").stdout)["Version"] == VERSION
    on_bare_machine("init")
    on_bare_machine("secret", "set", "shop/key", input="the value")
    assert on_bare_machine("secret", "get", "shop/key").stdout == b"the value"


def test_a_library_that_is_missing_is_named(on_bare_machine: Callable[..., Result], scratch: Path) -> None:
    (library,) = scratch.rglob("libgcc_s.so.1")
    library.unlink()
    done = on_bare_machine("init", check=False)
    assert done.returncode == NotLoadableError.code
    assert "libgcc_s.so.1: cannot open shared object file" in done.err
    assert "hint: see docs/install.md" in done.err


# While it runs


@pytest.fixture
def waiting(frozen: DsoHome, scratch: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A `secret set` with its temporary directory in `scratch`, which waits for the value on its standard input."""
    frozen.dso("init")
    child = subprocess.Popen(
        [frozen.plugin, "secret", "set", "shop/key"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=frozen.environment({"TMPDIR": str(scratch)}),
    )
    wait_until(lambda: waits_for_input(child.pid, FROZEN), "it reads its standard input")
    yield child
    if child.poll() is None:
        child.kill()
    child.communicate()


def test_is_one_process_without_threads(waiting: subprocess.Popen[bytes]) -> None:
    assert descendants(waiting.pid) == []
    assert os.listdir(f"/proc/{waiting.pid}/task") == [str(waiting.pid)]


def test_writes_nothing_to_tmpdir(waiting: subprocess.Popen[bytes], scratch: Path) -> None:
    assert os.listdir(scratch) == []
    waiting.communicate(b"the value")
    assert waiting.returncode == 0
    assert os.listdir(scratch) == []


def test_killed_it_leaves_nothing(waiting: subprocess.Popen[bytes], scratch: Path) -> None:
    waiting.kill()
    waiting.wait()
    assert os.listdir(scratch) == []


def test_a_running_one_survives_its_replacement(tmp_path: Path, frozen: DsoHome, scratch: Path) -> None:
    os.unlink(frozen.plugin)
    shutil.copy(FROZEN, frozen.plugin)
    frozen.dso("init")
    environment = frozen.environment({"TMPDIR": str(scratch)})
    with started([frozen.plugin, "secret", "set", "shop/key"], stdin=subprocess.PIPE, env=environment) as child:
        wait_until(lambda: waits_for_input(child.pid, frozen.plugin), "it reads its standard input")
        newer = tmp_path / "newer"
        newer.write_bytes(os.urandom(os.path.getsize(FROZEN)))
        os.rename(newer, frozen.plugin)
        child.communicate(b"the value", timeout=60)
        assert child.returncode == 0
    assert (
        DsoHome(str(tmp_path / "other")).dso("secret", "get", "shop/key", env={"HOME": frozen.path}).out == "the value"
    )


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
        b"_PYI_ARCHIVE_FILE": b"/none/such",
        b"_PYI_APPLICATION_HOME_DIR": b"/none/such",
        b"_MEIPASS2": b"/none/such",
        b"BYTES": b"\xff\xfe \xc3\xa4",
        b"LC_ALL": b"de_DE.ISO-8859-1",
        b"PWD": os.fsencode(os.getcwd()),  # the shell of the source variant would add it
    }
    if home.variant == "frozen":  # the interpreter of the source would heed it
        env[b"PYTHONHOME"] = b"/none/such"
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
    with open(f"/proc/{waiting.pid}/limits") as stream:
        (limits,) = [line for line in stream if line.startswith("Max core file size")]
    assert limits.split()[4] in ("0", "1")  # too small for one
