"""Files in memory, and no core files."""

import fcntl
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from dso.system.memory import memory_file

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
