"""Plaintext lies in memory only."""

import fcntl
import os
import resource
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from dso.errors import NoMemoryFileError
from dso.system import memory
from dso.system.memory import is_in_memory, memory_file, private_memory_directory, wipe_directory

ROOT = str(Path(__file__).resolve().parents[3])


def test_memory_file_is_read_by_others_through_proc_and_closed_in_children():
    descriptor = memory_file("override", b"x" * 100_000)
    try:
        path = f"/proc/{os.getpid()}/fd/{descriptor}"
        assert subprocess.run(["cat", path], capture_output=True, check=True).stdout == b"x" * 100_000
        assert fcntl.fcntl(descriptor, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
        assert os.readlink(path).startswith("/memfd:override")
        assert os.read(descriptor, 3) == b"xxx"
    finally:
        os.close(descriptor)


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
    monkeypatch.setattr(memory, "memory_directories", lambda: iter([str(tmp_path), "/nonexistent", "/proc"]))
    before = os.listdir(tmp_path)
    with pytest.raises(NoMemoryFileError) as refusal, private_memory_directory():
        pass
    assert f"{tmp_path} is on a disk" in refusal.value.message
    assert "/nonexistent: No such file" in refusal.value.message
    assert os.listdir(tmp_path) == before


def test_runtime_directory_comes_first_and_a_disk_there_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert next(iter(memory.memory_directories())) == str(tmp_path)
    with private_memory_directory() as path:
        assert is_in_memory(path)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "relative")
    assert next(iter(memory.memory_directories())) == "/dev/shm"


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


@pytest.mark.parametrize(("hard", "expected"), [(resource.RLIM_INFINITY, (1, 1)), (1, (1, 1)), (0, (0, 0))])
def test_core_limit_is_one_where_it_may_be(hard, expected):
    script = (
        "import os, resource; from dso.system.memory import forbid_core_files\n"
        f"resource.setrlimit(resource.RLIMIT_CORE, ({hard}, {hard}))\n"
        "os.setuid(65534)\n"
        "forbid_core_files(); forbid_core_files()\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE))"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True, cwd=ROOT, text=True)
    assert found.stdout.strip() == str(expected)


def test_crash_leaves_no_core_file(tmp_path):
    script = (
        "import os; from dso.system.memory import forbid_core_files; forbid_core_files(); os.chdir({!r}); os.abort()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", script.format(str(tmp_path))], cwd=ROOT, check=False, stderr=subprocess.DEVNULL
    )
    assert ended.returncode == -6
    assert os.listdir(tmp_path) == []
