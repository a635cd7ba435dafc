"""The keeper's program: bytes we wrote, run for real."""

from __future__ import annotations

import os
import platform
import shutil
import signal
import struct
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from dso.delivery import pause
from dso.errors import EngineUnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

NATIVE = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())
EMULATORS = {"amd64": "qemu-x86_64-static", "arm64": "qemu-aarch64-static"}


@pytest.fixture(params=["amd64", "arm64"])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> list[str]:
    """The command that runs the program, natively or with Debian's qemu-user-static."""
    architecture = request.param
    path = tmp_path / "pause"
    path.write_bytes(pause.executable(architecture))
    path.chmod(0o755)
    if architecture == NATIVE:
        return [str(path)]
    emulator = shutil.which(EMULATORS[architecture])
    if emulator is None:
        pytest.skip(f"{EMULATORS[architecture]} is not installed (package qemu-user-static)")
    return [emulator, str(path)]


def test_without_arguments_it_sleeps_without_using_the_processor(program: list[str]) -> None:
    with subprocess.Popen(program) as child:
        try:
            deadline = time.monotonic() + 30
            while _state(child.pid) != "S" and time.monotonic() < deadline:
                time.sleep(0.01)
            assert _state(child.pid) == "S"
            child.send_signal(signal.SIGSTOP)  # pause(2) returns when a signal handler ran or the process continues
            child.send_signal(signal.SIGCONT)
            time.sleep(0.05)
            assert child.poll() is None
        finally:
            child.kill()


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rsplit(") ", 1)[1].split()[0]


def test_with_arguments_it_unlinks_each_and_ends(program: list[str], tmp_path: Path) -> None:
    names = [str(tmp_path / name) for name in ("a", "b c", "missing", "d")]
    for name in names:
        if not name.endswith("missing"):
            open(name, "w").close()
    (tmp_path / "kept").touch()
    (tmp_path / "directory").mkdir()
    done = subprocess.run([*program, *names, str(tmp_path / "directory")], check=False, timeout=30)
    assert done.returncode == 0
    assert sorted(os.listdir(tmp_path)) == ["directory", "kept", "pause"]


@pytest.mark.parametrize(("architecture", "machine"), [("amd64", 62), ("arm64", 183)])
def test_headers_describe_one_read_only_executable_segment(architecture: str, machine: int) -> None:
    data = pause.executable(architecture)
    (_, kind, found_machine, version, entry, headers, sections, _flags, size, entry_size, entries, *_rest) = (
        struct.unpack_from("<16sHHIQQQIHHHHHH", data)
    )
    assert (kind, found_machine, version, headers, sections) == (2, machine, 1, 64, 0)
    assert (size, entry_size, entries) == (64, 56, 1)
    load, flags, offset, address, _, in_file, in_memory, align = struct.unpack_from("<IIQQQQQQ", data, 64)
    assert (load, flags, offset) == (1, 5, 0)
    assert in_file == in_memory == len(data)
    assert address % align == 0
    assert entry == address + 64 + 56
    assert len(data) < 256


@pytest.mark.parametrize("architecture", ["386", "arm", "riscv64", "s390x", ""])
def test_other_architectures_are_refused(architecture: str) -> None:
    with pytest.raises(EngineUnsupportedError) as caught:
        pause.executable(architecture)
    assert "dso://" in caught.value.hint
