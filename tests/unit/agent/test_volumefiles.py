"""Files appear whole, change only when they have to, and are overwritten before they go."""

from __future__ import annotations

import fcntl
import os
import signal
import stat
from typing import TYPE_CHECKING

import pytest

from dso.agent import volumefiles
from dso.protocol.agent import VolumeFile
from dso.protocol.volume import STAGING
from dso.secret import SecretValue

if TYPE_CHECKING:
    from pathlib import Path


def files(**content: bytes) -> list[tuple[VolumeFile, SecretValue]]:
    """Files of ours by name (`__` for `/`), 0444."""
    return [
        (VolumeFile(name.replace("__", "/"), "dso://x/y", os.getuid(), os.getgid()), SecretValue(value))
        for name, value in content.items()
    ]


def content(directory: Path) -> dict[str, bytes]:
    found = {}
    for above, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(above, name)
            with open(path, "rb") as file:
                found[os.path.relpath(path, directory)] = file.read()
    return found


def update(directory: Path, *, shared: bool = False, **wanted: bytes) -> list[str]:
    return volumefiles.update(str(directory), files(**wanted), shared=shared)


def test_directory_holds_exactly_the_files(tmp_path: Path) -> None:
    assert sorted(update(tmp_path, a=b"1", d__b=b"2", d__e__c=b"", keep=b"4")) == ["a", "d/b", "d/e/c", "keep"]
    assert content(tmp_path) == {"a": b"1", "d/b": b"2", "d/e/c": b"", "keep": b"4"}
    assert sorted(update(tmp_path, a=b"1", d__b=b"changed", keep=b"4")) == ["d/b", "d/e"]
    assert content(tmp_path) == {"a": b"1", "d/b": b"changed", "keep": b"4"}
    assert update(tmp_path) != []
    assert os.listdir(tmp_path) == []


def test_mode_is_exact_whatever_the_umask_is(tmp_path: Path) -> None:
    former = os.umask(0o777)
    try:
        update(tmp_path, a=b"1", d__b=b"2")
    finally:
        os.umask(former)
    modes = [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("a", "d/b", "d")]
    assert modes == [0o444, 0o444, 0o755]


def test_file_that_is_as_it_should_be_is_not_touched(tmp_path: Path) -> None:
    update(tmp_path, a=b"1", b=b"2")
    before = (tmp_path / "a").stat()
    assert update(tmp_path, a=b"1", b=b"3") == ["b"]
    after = (tmp_path / "a").stat()
    assert (before.st_ino, before.st_ctime_ns) == (after.st_ino, after.st_ctime_ns)


def test_changed_mode_alone_is_a_change(tmp_path: Path) -> None:
    update(tmp_path, a=b"1")
    os.chmod(tmp_path / "a", 0o644)
    assert update(tmp_path, a=b"1") == ["a"]
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o444


def test_reader_that_has_a_file_open_keeps_the_old_content(tmp_path: Path) -> None:
    update(tmp_path, a=b"old", gone=b"old")
    with open(tmp_path / "a", "rb") as a, open(tmp_path / "gone", "rb") as gone:
        update(tmp_path, shared=True, a=b"new")
        assert (a.read(), gone.read()) == (b"old", b"old")
    assert content(tmp_path) == {"a": b"new"}


def test_removed_file_is_overwritten_when_nobody_else_uses_the_volume(tmp_path: Path) -> None:
    update(tmp_path, a=b"secret" * 20_000, d__b=b"secret")
    with open(tmp_path / "a", "rb") as a, open(tmp_path / "d" / "b", "rb") as b:
        update(tmp_path)
        assert set(a.read()) | set(b.read()) == {0}


def test_wipe_overwrites_and_removes_everything(tmp_path: Path) -> None:
    update(tmp_path, a=b"secret" * 20_000, d__e__b=b"secret")
    os.mkfifo(tmp_path / "fifo")
    with open(tmp_path / "a", "rb") as a, open(tmp_path / "d" / "e" / "b", "rb") as b:
        volumefiles.wipe(str(tmp_path))
        assert set(a.read()) | set(b.read()) == {0}
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("call", ["fchown", "fchmod", "write", "open"])
def test_failure_before_the_first_rename_changes_nothing(
    call: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(tmp_path, a=b"1", b=b"2")
    real, calls = getattr(os, call), []

    def fail(*args: object, **more: object) -> object:
        if call != "open" or (isinstance(args[1], int) and args[1] & os.O_CREAT):
            calls.append(args)
            if len(calls) == 2:
                raise OSError(28, "No space left on device")
        return real(*args, **more)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space left") as caught:
            update(tmp_path, a=b"new 1", b=b"new 2")
    assert caught.value.filename in ("a", "b")
    assert content(tmp_path) == {"a": b"1", "b": b"2"}


def test_what_a_killed_agent_left_aside_is_cleared(tmp_path: Path) -> None:
    (tmp_path / STAGING).mkdir()
    (tmp_path / STAGING / "0").write_bytes(b"half")
    update(tmp_path, a=b"1")
    assert content(tmp_path) == {"a": b"1"}
    assert not (tmp_path / STAGING).exists()


# What a container that mounts the volume writable can do to it.


@pytest.fixture
def victim(tmp_path: Path) -> Path:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a").write_bytes(b"untouched")
    return outside


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    inside = tmp_path / "volume"
    inside.mkdir()
    return inside


def test_links_lead_nowhere(volume: Path, victim: Path) -> None:
    (volume / "a").symlink_to(victim / "a")
    (volume / "d").symlink_to(victim)
    (volume / STAGING).symlink_to(victim)
    (volume / "stray").symlink_to(victim)
    update(volume, a=b"1", d__a=b"2")
    assert not (volume / "d").is_symlink()
    assert content(volume) == {"a": b"1", "d/a": b"2"}
    (volume / "l").symlink_to(victim)
    (volume / "d" / "l").symlink_to(victim / "a")
    volumefiles.wipe(str(volume))
    assert content(victim) == {"a": b"untouched"}


@pytest.mark.parametrize("kind", ["fifo", "directory", "socket"])
def test_what_is_in_the_way_is_replaced_without_waiting(kind: str, volume: Path) -> None:
    def put(path: Path) -> None:
        if kind == "directory":
            (path / "deep").mkdir(parents=True)
            (path / "deep" / "file").write_bytes(b"x")
        elif kind == "fifo":
            os.mkfifo(path)
        else:
            import socket

            with socket.socket(socket.AF_UNIX) as one:
                one.bind(str(path))

    put(volume / "a")
    put(volume / "d")
    put(volume / "stray")
    update(volume, a=b"1", d__b=b"2")
    assert content(volume) == {"a": b"1", "d/b": b"2"}
    assert sorted(os.listdir(volume)) == ["a", "d"]


def test_hard_link_cannot_have_a_wanted_file_overwritten(volume: Path) -> None:
    update(volume, a=b"1")
    os.link(volume / "a", volume / "stray")
    update(volume, a=b"1")
    assert content(volume) == {"a": b"1"}


def test_directories_nested_deeper_than_descriptors_can_be_removed(volume: Path) -> None:
    here = os.open(volume, os.O_RDONLY)
    try:
        for _ in range(3000):
            os.mkdir("x", dir_fd=here)
            inner = os.open("x", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = inner
    finally:
        os.close(here)
    update(volume, a=b"1")
    assert os.listdir(volume) == ["a"]


def test_huge_sparse_file_is_removed_at_once(volume: Path) -> None:
    with open(volume / "sparse", "wb") as file:
        file.write(b"x")
        file.truncate(1 << 40)
    volumefiles.wipe(str(volume))
    assert os.listdir(volume) == []


def test_a_file_that_grows_in_step_with_the_overwriting_does_not_go_on_for_ever(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a container does that still has the file open: each write of ours is followed by one of its own."""
    path = volume / "grows"
    path.write_bytes(b"x" * 200_000)
    real, written = os.pwrite, 0

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        nonlocal written
        written += len(data)
        assert written <= 1_000_000, "it follows a file that grows"
        with open(path, "ab") as file:
            file.write(b"x" * len(data))
        return real(descriptor, data, at)

    with open(path, "rb") as kept:
        monkeypatch.setattr(os, "pwrite", pwrite)
        volumefiles.wipe(str(volume))
        assert set(kept.read(200_000)) == {0}
    assert os.listdir(volume) == []
    assert written <= 262_144


def test_a_sparse_file_filled_ahead_of_the_overwriting_does_not_go_on_for_ever(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = volume / "sparse"
    path.write_bytes(b"x" * 4096)
    os.truncate(path, 1 << 40)
    real, written = os.pwrite, 0

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        nonlocal written
        written += len(data)
        assert written <= 1_000_000, "it follows what is written ahead of it"
        with open(path, "r+b") as file:
            file.seek(at + 1_000_000)
            file.write(b"x" * 4096)
        return real(descriptor, data, at)

    monkeypatch.setattr(os, "pwrite", pwrite)
    volumefiles.wipe(str(volume))
    assert os.listdir(volume) == []


def test_a_file_of_many_names_is_overwritten_once(volume: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (volume / "0").write_bytes(b"x" * 100_000)
    (volume / "d").mkdir()
    for number in range(1, 50):
        os.link(volume / "0", volume / "d" / str(number))
    real, written = os.pwrite, 0

    def pwrite(descriptor: int, data: bytes, at: int) -> int:
        nonlocal written
        written += len(data)
        return real(descriptor, data, at)

    with open(volume / "0", "rb") as kept:
        monkeypatch.setattr(os, "pwrite", pwrite)
        volumefiles.wipe(str(volume))
        assert set(kept.read()) == {0}
    assert written == 100_000
    assert os.listdir(volume) == []


def test_more_bytes_than_the_volume_can_hold_are_told_and_not_overwritten(volume: Path) -> None:
    for name in ("a", "b"):
        (volume / name).write_bytes(b"x" * 8192)
    with pytest.raises(OSError, match="more bytes than it can hold"):
        volumefiles.wipe(str(volume), volumefiles.Allowance(bytes_=8192))
    assert os.listdir(volume) == []


@pytest.mark.parametrize("names", [0, 1, 9, 10])
def test_more_names_than_the_volume_can_hold_are_told_and_left(names: int, volume: Path) -> None:
    (volume / "d" / "e").mkdir(parents=True)
    for number in range(8):
        (volume / "d" / "e" / str(number)).write_bytes(b"x")
    allowance = volumefiles.Allowance(names=names)
    if names == 10:
        volumefiles.wipe(str(volume), allowance)
        assert os.listdir(volume) == []
        return
    with pytest.raises(OSError, match="more names than it can hold"):
        volumefiles.wipe(str(volume), allowance)
    assert allowance.names == 0
    assert os.listdir(volume) != []


def test_names_made_in_step_with_the_removing_do_not_go_on_for_ever(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In every directory that is looked at another one is made."""
    (volume / "d").mkdir()
    real, made = os.rmdir, 0

    def rmdir(name: str, *, dir_fd: int) -> None:
        nonlocal made
        made += 1
        assert made <= 100, "it goes on for ever"
        here = os.open(name, os.O_RDONLY, dir_fd=dir_fd)
        os.mkdir("again", dir_fd=here)
        os.close(here)
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "rmdir", rmdir)
    with pytest.raises(OSError, match="not empty"):
        volumefiles.wipe(str(volume))
    assert update(volume, shared=True, a=b"1") == ["a", "d"]
    assert (volume / "a").read_bytes() == b"1"


def test_what_cannot_be_removed_keeps_nothing_else_from_being_overwritten(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    update(volume, a=b"secret", d__b=b"secret")
    for where in (volume, volume / "d"):
        for name in ("0", "stuck", "zz"):
            (where / name).write_bytes(b"x")
    real = os.unlink

    def unlink(name: str, *, dir_fd: int) -> None:
        if name == "stuck":  # as after chattr +i
            raise PermissionError(1, "Operation not permitted")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    with open(volume / "a", "rb") as a, open(volume / "d" / "b", "rb") as b:
        with pytest.raises(OSError, match="not permitted"):
            volumefiles.wipe(str(volume))
        assert set(a.read()) | set(b.read()) == {0}
    left = [name for _, _, names in os.walk(volume) for name in names]
    assert left == ["stuck", "stuck"]


def test_what_cannot_be_removed_keeps_no_container_from_its_files(
    volume: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (volume / "stuck").write_bytes(b"x")

    def unlink(name: str, *, dir_fd: int) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "unlink", unlink)
    assert update(volume, shared=True, a=b"1") == ["a", "stuck"]
    assert (volume / "a").read_bytes() == b"1"


def test_a_file_that_a_container_holds_a_lease_on_is_not_waited_for(volume: Path) -> None:
    """Opening it without O_NONBLOCK would take 45 seconds (/proc/sys/fs/lease-break-time)."""
    former = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        with open(volume / "a", "wb") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            with pytest.raises(BlockingIOError):
                volumefiles.wipe(str(volume))
        assert os.listdir(volume) == []
        with open(volume / "a", "wb") as file:
            fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            update(volume, shared=True, a=b"1")
        assert (volume / "a").read_bytes() == b"1"
    finally:
        signal.signal(signal.SIGIO, former)


def test_a_file_that_became_a_directory_is_not_overwritten_under_its_readers(volume: Path) -> None:
    update(volume, a=b"old")
    with open(volume / "a", "rb") as kept:
        update(volume, shared=True, a__b=b"new")
        assert kept.read() == b"old"


def test_only_some_of_the_names_a_container_made_are_told(volume: Path) -> None:
    for number in range(100):
        (volume / f"{number:03d}").write_bytes(b"x")
    assert len(update(volume, shared=True, a=b"1")) <= 21
    assert os.listdir(volume) == ["a"]
