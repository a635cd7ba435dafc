"""All steps, or none."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from dso.errors import ServiceError, SetupFailedError
from dso.host.machine import Host
from dso.host.transaction import Step, perform

if TYPE_CHECKING:
    from pathlib import Path


class Trace:
    def __init__(self) -> None:
        self.done: list[str] = []
        self.said: list[str] = []

    def step(self, name: str, error: BaseException | None = None, undo_error: Exception | None = None) -> Step:
        def apply() -> None:
            self.done.append(name)
            if error:
                raise error

        def undo() -> None:
            self.done.append(f"un{name}")
            if undo_error:
                raise undo_error

        return Step(name, apply, undo)


@pytest.fixture
def trace() -> Trace:
    return Trace()


def test_every_step_is_said_and_done_in_order(trace: Trace) -> None:
    perform([trace.step("a"), trace.step("b")], trace.said.append)
    assert trace.done == trace.said == ["a", "b"]


def test_a_failure_undoes_it_and_what_was_before_the_last_first(trace: Trace) -> None:
    steps = [trace.step("a"), trace.step("b"), trace.step("c", ServiceError("no", hint="so")), trace.step("d")]
    with pytest.raises(SetupFailedError) as caught:
        perform(steps, trace.said.append)
    assert trace.done == ["a", "b", "c", "unc", "unb", "una"]
    assert caught.value.message == "could not c: no\nwhat was there before is there again"
    assert caught.value.hint == "so"
    assert "undoing: b" in trace.said


def test_what_cannot_be_undone_is_told_and_the_rest_is_undone(trace: Trace) -> None:
    stuck = trace.step("b", undo_error=OSError(30, "Read-only file system"))
    steps = [trace.step("a"), stuck, trace.step("c", OSError(5, "I/O"))]
    with pytest.raises(SetupFailedError) as caught:
        perform(steps, trace.said.append)
    assert trace.done[-1] == "una"
    assert "could not undo `b`: Read-only file system" in caught.value.message
    assert "is there again" not in caught.value.message


def test_a_defect_in_a_step_undoes_as_well(trace: Trace) -> None:
    with pytest.raises(SetupFailedError, match="KeyError"):
        perform([trace.step("a"), trace.step("b", KeyError("value"))], trace.said.append)
    assert trace.done[-1] == "una"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_undoes_and_leaves_the_handlers_as_they_were(trace: Trace, number: signal.Signals) -> None:
    before = signal.getsignal(number)
    stop = Step("stop", lambda: os.kill(os.getpid(), number))
    with pytest.raises(SetupFailedError, match="interrupted"):
        perform([trace.step("a"), stop, trace.step("b")], trace.said.append)
    assert trace.done == ["a", "una"]
    assert signal.getsignal(number) == before


def test_a_second_signal_does_not_stop_the_undoing(trace: Trace) -> None:
    def undo() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        trace.done.append("undone")

    steps = [trace.step("a"), Step("b", lambda: None, undo), trace.step("c", ServiceError("no"))]
    with pytest.raises(SetupFailedError):
        perform(steps, trace.said.append)
    assert trace.done == ["a", "c", "unc", "undone", "una"]


def test_nobody_who_listens_does_not_stop_the_undoing(trace: Trace) -> None:
    def say(_title: str) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(SetupFailedError, match="could not b: no"):
        perform([trace.step("a"), trace.step("b", ServiceError("no"))], say)
    assert trace.done == ["a", "b", "unb", "una"]


def test_a_program_that_a_signal_interrupts_has_ended_before_the_undoing(trace: Trace, tmp_path: Path) -> None:
    """Else it could change the machine after its change was undone."""
    host, ended = Host(), tmp_path / "ended"
    script = f"""
        trap 'touch {ended}; exit' TERM
        kill -TERM {os.getpid()}
        while :; do sleep 0.05; done
    """

    def apply() -> None:
        host.run(["sh", "-c", script])

    def undo() -> None:
        trace.done.append(f"ended: {ended.exists()}")

    with pytest.raises(SetupFailedError, match="it was interrupted"):
        perform([Step("run", apply, undo)], trace.said.append)
    assert trace.done == ["ended: True"]
