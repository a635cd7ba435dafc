"""Files that are whole or not there, and locks."""

import errno
import os
import signal
import socket
import stat
import subprocess
import sys

import pytest

from dso.errors import FileAccessError
from dso.system.files import FileLock, locked, read_file, remove_stale_temporaries, write_all, write_atomic, write_new
from tests.support.process import started


def _temporaries(directory):
    return [name for name in os.listdir(directory) if name.endswith(".tmp")]


@pytest.mark.parametrize("umask", [0, 0o077, 0o777])
@pytest.mark.parametrize("mode", [0o600, 0o644])
def test_mode_is_exact_whatever_the_umask(tmp_path, umask, mode):
    path = tmp_path / "file"
    before = os.umask(umask)
    try:
        write_atomic(str(path), b"content", mode)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == mode
    assert path.read_bytes() == b"content"


def test_replacing_makes_a_new_file_and_readers_of_the_old_one_keep_it(tmp_path):
    path = tmp_path / "file"
    write_atomic(str(path), b"old")
    with path.open("rb") as reader:
        write_atomic(str(path), b"newer")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"newer"
    assert not _temporaries(tmp_path)


def test_relative_path_and_owner(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_atomic("file", b"x", owner=(2001, 2002))
    status = (tmp_path / "file").stat()
    assert (status.st_uid, status.st_gid) == (2001, 2002)


@pytest.mark.parametrize("call", ["write", "fsync", "rename", "fchmod"])
def test_failure_keeps_the_old_file_and_removes_the_temporary(tmp_path, monkeypatch, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")

    def fail(*_args):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(OSError, match="No space"):
            write_atomic(str(path), b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_need_not_be_durable_is_whole_without_waiting_for_the_disk(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", None)
    write_atomic(str(path), b"new", durable=False)
    assert path.read_bytes() == b"new"
    assert _temporaries(tmp_path) == []


def test_short_writes_are_continued(tmp_path, monkeypatch):
    original = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: original(descriptor, bytes(data)[:7]))
    write_atomic(str(tmp_path / "file"), b"0123456789" * 10)
    assert (tmp_path / "file").read_bytes() == b"0123456789" * 10


def test_directory_that_cannot_be_synchronised_is_fine_only_where_the_file_system_has_no_way(tmp_path, monkeypatch):
    original = os.fsync

    def refuse_directories(number):
        def call(descriptor):
            if stat.S_ISDIR(os.fstat(descriptor).st_mode):
                raise OSError(number, "no")
            original(descriptor)

        return call

    monkeypatch.setattr(os, "fsync", refuse_directories(22))
    write_atomic(str(tmp_path / "file"), b"x")
    monkeypatch.setattr(os, "fsync", refuse_directories(5))
    with pytest.raises(OSError, match="no"):
        write_atomic(str(tmp_path / "file"), b"x")


def test_new_file_never_replaces_anything(tmp_path):
    path = tmp_path / "file"
    write_new(str(path), b"first")
    os.symlink("nowhere", tmp_path / "link")
    for taken in (path, tmp_path / "link"):
        with pytest.raises(FileExistsError):
            write_new(str(taken), b"second")
    assert path.read_bytes() == b"first"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert sorted(os.listdir(tmp_path)) == ["file", "link"]


def _without_links_and_modes(patch):
    """A file system as FAT is."""

    def refuse(*_args, **_kwargs):
        raise OSError(1, "Operation not permitted")

    patch.setattr(os, "link", refuse)
    patch.setattr(os, "fchmod", refuse)


def test_new_file_on_a_file_system_without_links_and_modes(tmp_path, monkeypatch):
    path = str(tmp_path / "file")
    with monkeypatch.context() as patch:
        _without_links_and_modes(patch)
        write_new(path, b"first", None)
        with pytest.raises(FileExistsError):
            write_new(path, b"second", None)
        write_atomic(path, b"third", None)
        with pytest.raises(PermissionError):
            write_new(str(tmp_path / "private"), b"x")
    assert read_file(path, "the file", 1000) == b"third"
    assert os.listdir(tmp_path) == ["file"]


def test_failure_without_links_leaves_no_part_of_the_file(tmp_path, monkeypatch):
    original, calls = os.fsync, []

    def fail_the_second_time(descriptor):
        calls.append(descriptor)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        original(descriptor)

    with monkeypatch.context() as patch:
        _without_links_and_modes(patch)
        patch.setattr(os, "fsync", fail_the_second_time)
        with pytest.raises(OSError, match="No space"):
            write_new(str(tmp_path / "file"), b"x", None)
    assert os.listdir(tmp_path) == []


def test_stale_temporaries_of_this_file_only_are_removed(tmp_path):
    for name in (".file.0123.tmp", ".file2.0123.tmp", ".file.note", "file"):
        (tmp_path / name).touch()
    remove_stale_temporaries(str(tmp_path / "file"))
    remove_stale_temporaries(str(tmp_path / "missing" / "file"))
    assert sorted(os.listdir(tmp_path)) == [".file.note", ".file2.0123.tmp", "file"]


def test_read_file_reads_what_grows_and_what_has_no_size(tmp_path):
    (tmp_path / "file").write_bytes(b"x" * 300_000)
    assert len(read_file(str(tmp_path / "file"), "the file", 300_000)) == 300_000
    assert read_file("/proc/self/status", "the file", 100_000).startswith(b"Name:")
    assert read_file("/dev/null", "the file", 1, pipes=True) == b""


def test_read_file_names_what_it_could_not_read_and_why(tmp_path):
    with pytest.raises(FileAccessError, match=r"cannot read the backup .*missing: no such file or directory"):
        read_file(str(tmp_path / "missing"), "the backup", 1)
    with pytest.raises(FileAccessError, match="is a directory"):
        read_file(str(tmp_path), "the backup", 1)
    (tmp_path / "file").write_bytes(b"12345")
    assert read_file(str(tmp_path / "file"), "the backup", 5) == b"12345"
    with pytest.raises(FileAccessError, match="more than 4 bytes"):
        read_file(str(tmp_path / "file"), "the backup", 4)


@pytest.mark.parametrize("replace", [False, True], ids=["new file", "replaced file"])
def test_plaintext_has_no_name_before_it_is_whole(tmp_path, monkeypatch, replace):
    """So that nothing is left of it if the process is killed meanwhile."""
    original, seen = os.write, []

    def write(descriptor, data):
        seen.append(os.listdir(tmp_path))
        return original(descriptor, data)

    path = tmp_path / "file"
    if replace:
        path.write_bytes(b"former")
    monkeypatch.setattr(os, "write", write)
    (write_atomic if replace else write_new)(str(path), b"plaintext", nameless=True)
    assert seen == [["file"] if replace else []]
    assert path.read_bytes() == b"plaintext"
    assert os.listdir(tmp_path) == ["file"]
    if not replace:
        with pytest.raises(FileExistsError):
            write_new(str(path), b"another", nameless=True)
    assert path.stat().st_mode & 0o777 == 0o600


def test_plaintext_is_written_where_files_need_names(tmp_path, monkeypatch):
    original = os.open

    def refuse(path, flags, mode=0o777, **options):
        if flags & os.O_TMPFILE == os.O_TMPFILE:
            raise OSError(errno.EOPNOTSUPP, "no")
        return original(path, flags, mode, **options)

    monkeypatch.setattr(os, "open", refuse)
    write_new(str(tmp_path / "file"), b"first", nameless=True)
    write_atomic(str(tmp_path / "file"), b"second", nameless=True)
    assert (tmp_path / "file").read_bytes() == b"second"
    assert os.listdir(tmp_path) == ["file"]


def test_sparse_file_is_refused_by_its_size_before_anything_is_read(tmp_path, monkeypatch):
    with open(tmp_path / "file", "wb") as file:
        file.truncate(40 << 30)
    monkeypatch.setattr(os, "read", lambda *_words: pytest.fail("read"))
    with pytest.raises(FileAccessError, match="more than 1000 bytes"):
        read_file(str(tmp_path / "file"), "the vault", 1000)


def test_file_that_grows_is_read_no_further_than_one_byte_beyond_the_limit(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"x")
    original, got = os.read, []

    def read(descriptor, count):
        with open(tmp_path / "file", "ab") as file:
            file.write(b"x" * 100_000)
        got.append(original(descriptor, count))
        return got[-1]

    monkeypatch.setattr(os, "read", read)
    with pytest.raises(FileAccessError, match="more than 250000 bytes"):
        read_file(str(tmp_path / "file"), "the vault", 250_000)
    assert sum(map(len, got)) == 250_001


@pytest.mark.parametrize("kind", ["pipe", "device", "socket"])
def test_what_is_no_regular_file_is_refused_at_once(tmp_path, kind):
    path = str(tmp_path / "file")
    if kind == "pipe":
        os.mkfifo(path)  # nobody writes to it: opening it must not wait
    elif kind == "device":
        path = "/dev/zero"
    else:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path)
    with pytest.raises(FileAccessError, match=r"not a regular file|no such device"):
        read_file(path, "the vault", 1000)


def test_device_without_an_end_is_read_up_to_the_limit_where_devices_are_taken():
    with pytest.raises(FileAccessError, match="/dev/zero has more than 1000 bytes"):
        read_file("/dev/zero", "the file", 1000, pipes=True)


def test_write_all_takes_bytes_and_views(tmp_path):
    descriptor = os.open(tmp_path / "file", os.O_WRONLY | os.O_CREAT)
    write_all(descriptor, b"ab")
    write_all(descriptor, memoryview(b"cdef")[1:3])
    os.close(descriptor)
    assert (tmp_path / "file").read_bytes() == b"abde"


def test_exclusive_lock_keeps_others_out_and_is_given_back(tmp_path):
    path = str(tmp_path / "lock")
    with locked(path):
        for shared in (False, True):
            with pytest.raises(TimeoutError), locked(path, 0, shared=shared):
                pass
    with locked(path, 0):
        pass
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600


def test_shared_locks_get_along(tmp_path):
    path = str(tmp_path / "lock")
    with locked(path, 0, shared=True), locked(path, 0, shared=True), pytest.raises(TimeoutError):
        FileLock(path, 0).__enter__()


def test_waiting_ends_when_the_holder_does(tmp_path):
    path = str(tmp_path / "lock")
    script = (
        "import sys; from dso.system.files import locked\n"
        f"with locked({path!r}): print('held', flush=True); sys.stdin.read()"
    )
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    with started([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=root) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(TimeoutError):
            FileLock(path, 0.05).__enter__()
        holder.send_signal(signal.SIGKILL)
        with locked(path, 60):
            pass


def test_lock_file_is_not_followed_through_a_link(tmp_path):
    os.symlink(tmp_path / "elsewhere", tmp_path / "lock")
    with pytest.raises(OSError, match="symbolic links"):
        FileLock(str(tmp_path / "lock"), 0).__enter__()
    assert os.listdir(tmp_path) == ["lock"]
