"""Locks between commands, in real processes."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from dso.delivery import locks
from dso.errors import FileAccessError
from tests.support.process import ROOT, started

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

ENGINE = "unix:///var/run/docker.sock"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("XDG_RUNTIME_DIR", raising=False)
    return tmp_path


def test_project_in_use_cannot_be_taken_over() -> None:
    with locks.use(ENGINE, "shop"), locks.use(ENGINE, "shop"):
        assert locks.take_over(ENGINE, "shop") is None
    taken = locks.take_over(ENGINE, "shop")
    assert taken is not None
    assert locks.take_over(ENGINE, "shop") is None
    taken.release()
    taken.release()
    locks.use(ENGINE, "shop").release()


def test_projects_and_engines_have_locks_of_their_own() -> None:
    with locks.use(ENGINE, "shop"):
        for engine, project in ((ENGINE, "other"), ("context:prod\0", "shop")):
            taken = locks.take_over(engine, project)
            assert taken is not None
            taken.release()


def test_delivery_does_not_wait_for_use() -> None:
    with locks.use(ENGINE, "shop"), locks.deliver(ENGINE, "shop"):
        pass


HOLDER = f"""
import sys
from dso.delivery import locks
lock = locks.{{}}({ENGINE!r}, "shop")
print("held", flush=True)
sys.stdin.read()
"""


@contextmanager
def hold(function: str) -> Iterator[subprocess.Popen[str]]:
    """A process that holds a lock until its input, or the `with`, ends."""
    with holder(function) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        yield child


def holder(function: str) -> AbstractContextManager[subprocess.Popen[str]]:
    """The same, which may have to wait for the lock."""
    command = [sys.executable, "-c", HOLDER.format(function)]
    return started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT)


def test_killed_process_gives_its_locks_back() -> None:
    with hold("use") as child:
        assert locks.take_over(ENGINE, "shop") is None
        child.kill()
        child.wait()
        taken = locks.take_over(ENGINE, "shop")
        assert taken is not None
        taken.release()


def test_child_that_inherited_the_lock_keeps_it() -> None:
    with ExitStack() as stack:
        with locks.use(ENGINE, "shop") as lock:
            os.set_inheritable(lock.descriptor, True)
            child = stack.enter_context(started(["cat"], stdin=subprocess.PIPE, close_fds=False))
        assert locks.take_over(ENGINE, "shop") is None
        child.communicate()
    taken = locks.take_over(ENGINE, "shop")
    assert taken is not None
    taken.release()


def test_delivery_waits_for_the_one_under_way() -> None:
    with hold("deliver") as first, holder("deliver") as second:
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(0.5)
        first.communicate()
        out, _ = second.communicate(timeout=30)
        assert out == "held\n"


def test_lock_files_are_private(home: Path) -> None:
    with locks.use(ENGINE, "shop"):
        (path,) = (home / ".dso" / "locks").iterdir()
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
        assert path.stat().st_size == 0


def test_runtime_directory_serves_where_home_cannot(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / ".dso").touch()
    runtime = home / "run"
    runtime.mkdir()
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(runtime))
    with locks.use(ENGINE, "shop"):
        assert list((runtime / "dso").iterdir())


def test_no_place_for_locks_is_an_error(home: Path) -> None:
    (home / ".dso").touch()
    with pytest.raises(FileAccessError, match="lock files"):
        locks.use(ENGINE, "shop")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for others")
def test_what_root_makes_in_a_users_home_is_the_users(home: Path) -> None:
    os.chown(home, 4321, 4322)
    locks.use("unix:///x", "shop").release()
    made = [home / ".dso", home / ".dso" / "locks", *(home / ".dso" / "locks").iterdir()]
    assert len(made) == 3
    assert {(path.stat().st_uid, path.stat().st_gid) for path in made} == {(4321, 4322)}


def test_lock_file_that_cannot_be_opened_is_explained(home: Path) -> None:
    lock = locks.use("unix:///x", "shop")
    lock.release()
    (made,) = (home / ".dso" / "locks").iterdir()
    made.unlink()
    made.mkdir()
    with pytest.raises(FileAccessError) as caught:
        locks.use("unix:///x", "shop")
    assert "chown" in caught.value.hint
