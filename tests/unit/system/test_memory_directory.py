"""Plaintext that needs a path lies in memory only, and goes with its maker, however that ends."""

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dso.errors import NoMemoryFileError
from dso.system import memory_directory
from dso.system.memory_directory import is_in_memory, private_memory_directory, remove_abandoned, wipe_directory
from tests.support.process import ROOT, started
from tests.support.wait import wait_until


def test_directory_is_private_in_memory_and_gone_afterwards():
    with private_memory_directory() as path:
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        assert is_in_memory(path)
        os.makedirs(f"{path}/a/b")
        os.symlink("/etc/passwd", f"{path}/link")
        os.mkfifo(f"{path}/pipe")
        Path(f"{path}/a/b/file").write_text("secret")
        Path(f"{path}/read-only").write_text("secret")
        os.chmod(f"{path}/read-only", 0o400)
    assert not os.path.exists(path)
    assert os.path.exists("/etc/passwd")


def test_files_are_overwritten_before_they_are_removed():
    with private_memory_directory() as path:
        Path(f"{path}/file").write_bytes(b"secret" * 50_000)
        kept = os.open(f"{path}/file", os.O_RDONLY)
    content = os.pread(kept, 1_000_000, 0)
    os.close(kept)
    assert content == bytes(300_000)


def test_directory_is_gone_after_an_exception():
    seen = []

    def fail():
        with private_memory_directory() as path:
            seen.append(path)
            Path(f"{path}/file").write_text("secret")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert not os.path.exists(seen[0])


def test_there_is_no_fall_back_to_a_disk(tmp_path, monkeypatch):
    if is_in_memory(str(tmp_path)):
        tmp_path = Path(ROOT)
    assert not is_in_memory(str(tmp_path))
    monkeypatch.setattr(memory_directory, "memory_directories", lambda: iter([str(tmp_path), "/nonexistent", "/proc"]))
    before = os.listdir(tmp_path)
    with pytest.raises(NoMemoryFileError) as refusal, private_memory_directory():
        pass
    assert f"{tmp_path} is on a disk" in refusal.value.message
    assert "/nonexistent: No such file" in refusal.value.message
    assert os.listdir(tmp_path) == before


def test_runtime_directory_comes_first_and_a_disk_there_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert next(iter(memory_directory.memory_directories())) == str(tmp_path)
    with private_memory_directory() as path:
        assert is_in_memory(path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert next(iter(memory_directory.memory_directories())) == "/dev/shm"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give directories to others")
def test_a_runtime_directory_of_another_user_is_passed_over(monkeypatch):
    with private_memory_directory() as path:
        others = f"{path}/runtime"
        os.mkdir(others)
        monkeypatch.setenv("XDG_RUNTIME_DIR", others)
        assert others in memory_directory.memory_directories()
        os.chown(others, 61001, 61001)
        assert others not in memory_directory.memory_directories()
        with private_memory_directory() as ours:
            assert not ours.startswith(others)


def test_bind_mount_of_a_disk_over_memory_is_a_disk(tmp_path):
    """The file system's own device decides, not what is mounted around it."""
    with private_memory_directory() as path:
        os.mkdir(f"{path}/inner")
        subprocess.run(["mount", "--bind", ROOT, f"{path}/inner"], check=True)
        try:
            assert is_in_memory(path)
            assert not is_in_memory(f"{path}/inner")
        finally:
            subprocess.run(["umount", f"{path}/inner"], check=True)


def test_wiping_what_is_gone_is_fine(tmp_path):
    wipe_directory(str(tmp_path / "missing"))


MAKER = """
import os, sys
from dso.system.memory_directory import private_memory_directory
with private_memory_directory() as path:
    open(f"{path}/secret", "w").write("plaintext")
    print(path, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def maker():
    """A process that has such a directory, in a process group of its own; and the directory."""
    with started(
        [sys.executable, "-c", MAKER], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0
    ) as child:
        yield child, child.stdout.readline().decode().strip()


def _watcher_of(path):
    """The process whose last argument is the directory: it is one once the child that is to be it has executed."""
    return wait_until(lambda: _with_last_argument(path), "the watcher")


def _with_last_argument(path):
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[-2:-1] == [path.encode()]:
            return int(pid)
    return None


@pytest.mark.parametrize("kill", [os.kill, os.killpg], ids=["alone", "with its process group"])
def test_directory_is_gone_although_its_maker_was_killed(maker, kill):
    child, path = maker
    assert os.path.exists(f"{path}/secret")
    kill(child.pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(path), "the directory goes")


def test_watcher_holds_nothing_of_ours_and_goes_with_the_directory(maker):
    child, path = maker
    watcher = _watcher_of(path)
    opened = {os.readlink(f"/proc/{watcher}/fd/{one}").partition(":")[0] for one in os.listdir(f"/proc/{watcher}/fd")}
    assert opened <= {"pipe", os.devnull}
    assert os.readlink(f"/proc/{watcher}/cwd") == "/"
    assert os.getsid(watcher) == watcher
    assert b"docker-dso" not in Path(f"/proc/{watcher}/cmdline").read_bytes()
    child.stdin.close()
    assert child.wait() == 0
    assert not os.path.exists(path)
    wait_until(lambda: not os.path.exists(f"/proc/{watcher}"), "the watcher ends")


def test_what_is_left_when_the_watcher_was_killed_too_is_removed_by_the_next_command(maker):
    child, path = maker
    watcher = _watcher_of(path)
    os.kill(watcher, signal.SIGKILL)
    remove_abandoned()  # its maker lives
    assert os.path.exists(f"{path}/secret")
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    assert os.path.exists(f"{path}/secret")
    assert remove_abandoned() >= 1
    assert not os.path.exists(path)


def test_directory_in_use_is_left_alone():
    with private_memory_directory() as path:
        remove_abandoned()
        assert os.path.isdir(path)


def test_directory_of_another_user_is_left_alone_although_nobody_holds_it():
    path = f"/dev/shm/dso-edit-{os.urandom(8).hex()}"
    os.mkdir(path, 0o700)
    os.chown(path, 65534, 65534)
    try:
        remove_abandoned()
        assert os.path.isdir(path)
    finally:
        os.rmdir(path)


def test_killed_watcher_is_no_harm_to_the_end():
    with private_memory_directory() as path:
        os.kill(_watcher_of(path), signal.SIGKILL)
    assert not os.path.exists(path)
