"""The frozen binaries where a machine is strict, and beside things that are not theirs."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import subprocess
import time
import zipfile
from typing import TYPE_CHECKING

import pytest

from dso.errors import FileAccessError, InvalidSecretError, NotLoadableError, UsageError
from dso.version import VERSION
from tests.support.confined import WITHOUT_MEMORY_FILES, mounted
from tests.support.home import FROZEN, DsoHome
from tests.support.process import ROOT, Result, run
from tests.support.processes import descendants, waits_for_input
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

DAEMONS = ["dso-agent", *(f"dso-provider-{name}" for name in ("vault", "aws", "azure", "huawei"))]


@pytest.fixture(scope="module")
def keeper(tmp_path_factory: pytest.TempPathFactory) -> DsoHome:
    """Somebody with a secret. To read it takes most of the modules that the dynamic linker has to load."""
    home = DsoHome(str(tmp_path_factory.mktemp("keeper") / "home"), "frozen")
    home.dso("init")
    home.dso("secret", "set", "shop/key", input="the value")
    return home


@pytest.fixture
def temporary(tmp_path: Path) -> Iterator[Path]:
    """A temporary directory in which nothing may be left."""
    path = tmp_path / "temporary"
    path.mkdir()
    yield path
    assert os.listdir(path) == []


def reads(keeper: DsoHome, *front: str, tmpdir: object, program: str = FROZEN) -> bool:
    done = keeper.command(*front, program, "secret", "get", "shop/key", env={"TMPDIR": str(tmpdir)}, check=False)
    assert (done.returncode, done.err) == (0, "")
    return done.stdout == b"the value"


# What the machine forbids


def test_runs_with_a_temporary_directory_where_nothing_may_be_executed(keeper: DsoHome, temporary: Path) -> None:
    assert reads(keeper, *mounted(f"mount -t tmpfs -o noexec tmpfs {temporary}"), tmpdir=temporary)


def test_runs_without_a_temporary_directory(keeper: DsoHome) -> None:
    assert reads(keeper, tmpdir="/none/such")


def test_runs_where_it_may_write_nowhere(keeper: DsoHome, temporary: Path) -> None:
    read_only = [f"mount --bind {place} {place}; mount -o remount,bind,ro {place}" for place in ("/", "/tmp")]
    assert reads(keeper, *mounted(*read_only, f"if touch {temporary}/x 2>&-; then exit 9; fi"), tmpdir=temporary)


def test_runs_without_proc(keeper: DsoHome, temporary: Path) -> None:
    assert reads(keeper, *mounted("mount -t tmpfs tmpfs /proc"), tmpdir=temporary)


def test_runs_where_memory_files_may_not_be_executed(keeper: DsoHome) -> None:
    """Linux has the setting since 6.3."""
    setting = "/proc/sys/vm/memfd_noexec"
    assert reads(keeper, *mounted(f"[ ! -e {setting} ] || echo 2 >{setting}", pids=True), tmpdir="/none/such")


def test_runs_where_there_are_no_memory_files(keeper: DsoHome, temporary: Path) -> None:
    assert reads(keeper, *WITHOUT_MEMORY_FILES, tmpdir=temporary)


def test_runs_where_there_are_neither_memory_files_nor_proc(keeper: DsoHome, temporary: Path) -> None:
    assert reads(keeper, *mounted("mount -t tmpfs tmpfs /proc"), *WITHOUT_MEMORY_FILES, tmpdir=temporary)


@pytest.mark.parametrize("name", ["docker-dso", *DAEMONS])
@pytest.mark.parametrize("missing", [False, True], ids=["noexec", "missing"])
def test_where_no_code_may_be_loaded_it_says_what_to_do(
    keeper: DsoHome, temporary: Path, name: str, missing: bool
) -> None:
    front = [] if missing else mounted(f"mount -t tmpfs -o noexec tmpfs {temporary}")
    directory = "/none/such" if missing else str(temporary)
    words = ["secret", "get", "shop/key"] if name == "docker-dso" else ["--version"]
    binary = os.path.join(ROOT, "dist", "bin", name)
    done = keeper.command(*front, *WITHOUT_MEMORY_FILES, binary, *words, env={"TMPDIR": directory}, check=False)
    assert (done.returncode, done.out) == (NotLoadableError.code, "")
    error, hint = done.err.splitlines()
    assert error.startswith("Error: a part of DSO cannot be loaded: ")
    assert error.endswith(f" may run neither from memory nor from {directory}")
    assert hint.startswith("  hint: set TMPDIR to a directory that you may write to")


# One process, and nothing beside it


@pytest.mark.parametrize("front", [[], WITHOUT_MEMORY_FILES], ids=["memory files", "no memory files"])
def test_is_one_process_that_leaves_nothing_when_it_is_killed(
    keeper: DsoHome, temporary: Path, front: Sequence[str]
) -> None:
    child = subprocess.Popen(
        [*front, FROZEN, "secret", "set", "shop/other"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=keeper.environment({"TMPDIR": str(temporary)}),
    )
    try:
        wait_until(lambda: waits_for_input(child.pid, FROZEN), "it reads its standard input")
        assert descendants(child.pid) == []
        assert os.listdir(f"/proc/{child.pid}/task") == [str(child.pid)]
        assert os.listdir(temporary) == []
    finally:
        child.kill()
        child.communicate()


# What is not ours


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A directory of modules that tell when one of them is imported."""
    directory = tmp_path / "trap"
    for name in ("dso", "encodings", "cryptography", "json", "lib/python3.11", "lib/python3.13"):
        (directory / name).mkdir(parents=True)
        (directory / name / "__init__.py").write_text("raise SystemExit('trapped')")
    for name in ("os", "argparse", "sitecustomize", "usercustomize", "_json", "resource", "errno", "docker_dso"):
        (directory / f"{name}.py").write_text("raise SystemExit('trapped')")
    return directory


def test_imports_nothing_from_the_current_directory_nor_where_variables_say(keeper: DsoHome, trap: Path) -> None:
    (trap / "startup.py").write_text("raise SystemExit('trapped')")
    env = {
        "PYTHONPATH": str(trap),
        "PYTHONHOME": str(trap),
        "PYTHONSTARTUP": str(trap / "startup.py"),
        "PYTHONPLATLIBDIR": str(trap),
        "PYTHONUSERBASE": str(trap),
        "PYTHONPYCACHEPREFIX": str(trap),
        "PYTHONIOENCODING": "utf-16",
        "PYTHONVERBOSE": "3",
        "PYTHONINSPECT": "1",
        "PYTHONDEVMODE": "1",
        "PYTHONIMPORTTIME": "1",
        "PYTHONMALLOC": "nonsense",
        "PYTHONHASHSEED": "nonsense",
        "PYTHONWARNINGS": "error",
        "PYTHONBREAKPOINT": "os.abort",
        "PYTHONDUMPREFS": "1",
        "VIRTUAL_ENV": str(trap),
        "LD_LIBRARY_PATH": str(trap),
        "_PYI_ARCHIVE_FILE": str(trap / "os.py"),
        "_PYI_APPLICATION_HOME_DIR": str(trap),
        "_PYI_PARENT_PROCESS_LEVEL": "1",
        "_MEIPASS2": str(trap),
    }
    for words in (["secret", "get", "shop/key"], ["--help"], ["version"]):
        plain = keeper.command(FROZEN, *words)
        surrounded = keeper.command(FROZEN, *words, env=env, cwd=str(trap))
        assert (surrounded.stdout, surrounded.stderr) == (plain.stdout, b"")


def test_imports_nothing_from_what_is_appended_to_it(keeper: DsoHome, trap: Path, tmp_path: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as appended:
        for path in trap.rglob("*.py"):
            appended.write(path, path.relative_to(trap))
        appended.writestr("__main__.py", "raise SystemExit('trapped')")
    program = tmp_path / "docker-dso"
    shutil.copy(FROZEN, program)
    with program.open("ab") as file:
        file.write(archive.getvalue())
    assert reads(keeper, tmpdir=tmp_path, program=str(program))
    program.unlink()


# How it is started


@pytest.mark.parametrize("name", ["a name with spaces", "näme\n", "a" * 255])
def test_does_not_mind_its_name(keeper: DsoHome, tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(FROZEN)
    assert reads(keeper, tmpdir=tmp_path, program=str(tmp_path / name))


@pytest.mark.parametrize("name", ["another", "", "-c", "/none/such"])
def test_does_not_mind_what_it_is_told_its_name_is(keeper: DsoHome, name: str) -> None:
    command = ["bash", "-c", 'exec -a "$0" "$@"', name, FROZEN, "secret", "get", "shop/key"]
    assert keeper.command(*command).stdout == b"the value"


ODD_WORDS = ["../x", "/", "a/b", "", ".", "x" * 49, "x" * 50, "x" * 56, "x" * 57, "x" * 100_000, "%s%n", "ä", "a\nb"]


@pytest.mark.parametrize("word", ODD_WORDS, ids=range(len(ODD_WORDS)))
def test_an_odd_first_word_is_a_usage_error(keeper: DsoHome, word: str) -> None:
    done = keeper.command(FROZEN, word, check=False)
    assert (done.returncode, done.out) == (UsageError.code, "")
    assert done.err.startswith("Error: ")


def test_answers_only_to_the_whole_word(keeper: DsoHome) -> None:
    for word in ("docker-cli-plugin-metadat", "docker-cli-plugin-metadata ", "./docker-cli-plugin-metadata"):
        assert keeper.command(FROZEN, word, check=False).returncode == UsageError.code
    assert keeper.command(FROZEN, "--debug", "docker-cli-plugin-metadata", check=False).returncode == UsageError.code
    assert keeper.command(FROZEN, "docker-cli-plugin-metadata", "more").stdout.startswith(b"{")


def test_metadata_that_cannot_be_written_is_a_failure() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run([FROZEN, "docker-cli-plugin-metadata"], stdout=full, check=False)
    assert done.returncode == 1


def without(keeper: DsoHome, streams: str, *words: str) -> Result:
    """With standard streams closed."""
    return keeper.command("sh", "-c", f'exec "$@" {streams}', "sh", FROZEN, *words, check=False)


@pytest.mark.parametrize("streams", ["<&-", "2>&-", "<&- 2>&-"])
def test_reads_a_secret_with_other_streams_closed(keeper: DsoHome, streams: str) -> None:
    done = without(keeper, streams, "secret", "get", "shop/key")
    assert (done.returncode, done.stdout, done.stderr) == (0, b"the value", b"")


@pytest.mark.parametrize("streams", [">&-", "<&- >&-", ">&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_output_is_an_error(keeper: DsoHome, streams: str) -> None:
    assert without(keeper, streams, "secret", "get", "shop/key").returncode == FileAccessError.code
    assert without(keeper, streams, "version").returncode == FileAccessError.code


@pytest.mark.parametrize("streams", ["<&-", "<&- >&-", "<&- 2>&-", "<&- >&- 2>&-"])
def test_a_closed_input_is_no_value(keeper: DsoHome, streams: str) -> None:
    done = without(keeper, streams, "secret", "set", "shop/none")
    assert done.returncode in (FileAccessError.code, InvalidSecretError.code)
    assert keeper.dso("secret", "list", "-q").out == "shop/key\n"


def test_messages_go_nowhere_when_stderr_is_closed(keeper: DsoHome) -> None:
    done = without(keeper, "2>&-", "secret", "get", "shop/none")
    assert (done.returncode, done.stdout) == (21, b"")


def test_an_interrupt_ends_it_quietly_whenever_it_comes(keeper: DsoHome) -> None:
    delays = random.Random(time.time())
    for _ in range(40):
        child = subprocess.Popen(
            [FROZEN, "secret", "get", "shop/key"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=keeper.environment(),
        )
        delay = delays.uniform(0, 0.05)
        time.sleep(delay)
        child.send_signal(signal.SIGINT)
        _, err = child.communicate()
        assert (child.returncode in (0, -signal.SIGINT, 128 + signal.SIGINT), err) == (True, b""), delay


@pytest.mark.parametrize("name", DAEMONS)
def test_daemons_take_nothing_from_variables_either(trap: Path, name: str) -> None:
    env = {"PYTHONPATH": str(trap), "PYTHONHOME": str(trap), "PYTHONVERBOSE": "1", "_PYI_ARCHIVE_FILE": "/none/such"}
    done = run([os.path.join(ROOT, "dist", "bin", name), "--version"], env=env, cwd=str(trap))
    assert (done.out, done.err) == (f"{name} {VERSION}\n", "")
