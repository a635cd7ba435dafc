"""What concerns mounted volumes is done outside, and by several threads."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dso.agent import mountspace
from dso.agent.mountspace import THREADS, MountSpace

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MountSpace:
    """The space of an agent that its unit gave a mount name space of its own."""
    monkeypatch.setattr(MountSpace, "_is_apart", lambda _self: True)
    return MountSpace(str(tmp_path))


def test_volumes_are_worked_on_side_by_side(apart: MountSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that never ends keeps the others from nothing: each waits here until all are under way."""
    entered: list[int] = []
    monkeypatch.setattr(mountspace, "_enter_first", lambda: entered.append(threading.get_ident()))
    together = threading.Barrier(4, timeout=60)

    def work() -> int:
        together.wait()
        return threading.get_ident()

    with ThreadPoolExecutor(4) as callers:
        threads = {future.result() for future in [callers.submit(apart.run, work) for _ in range(4)]}
    assert len(threads) == 4
    assert threads <= set(entered), "each of them has gone outside"
    assert len(entered) == len(set(entered)), "and only once"


def test_what_is_done_outside_may_ask_for_more(apart: MountSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mountspace, "_enter_first", lambda: None)
    here = threading.get_ident()
    one, two = apart.run(lambda: (threading.get_ident(), apart.run(threading.get_ident)))
    assert here != one == two


def test_a_thread_that_cannot_go_outside_fails_only_what_it_was_to_do(
    apart: MountSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mountspace, "_enter_first", lambda: None)
    assert apart.run(lambda: 1) == 1
    faults = [OSError(24, "Too many open files")]

    def enter() -> None:
        if faults:
            raise faults.pop()

    monkeypatch.setattr(mountspace, "_enter_first", enter)
    release = threading.Event()

    def hold(started: threading.Event) -> None:
        started.set()
        release.wait(60)

    held: list[Future[None]] = []
    with ThreadPoolExecutor(THREADS) as callers:
        while faults:  # until all that are outside are held, and another has to go
            started = threading.Event()
            held.append(callers.submit(apart.run, hold, started))
            held[-1].add_done_callback(lambda _, started=started: started.set())  # type: ignore[misc]
            started.wait()
        release.set()
    assert [type(one.exception()) for one in held if one.exception()] == [OSError]
    assert apart.run(lambda: 2) == 2


def test_where_it_may_not_go_outside_it_is_done_here(apart: MountSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    def enter() -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(mountspace, "_enter_first", enter)
    assert apart.run(threading.get_ident) == threading.get_ident()
