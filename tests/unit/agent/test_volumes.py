"""What the volume driver remembers of holds, which outlast no reboot."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dso.agent.volumes import Hold, State, identify, runs

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def state(tmp_path: Path) -> State:
    return again(tmp_path)


def again(directory: Path, boot: str = "boot", now: float = 5.0) -> State:
    """The state as the next agent finds it."""
    found = State(str(directory / "state"), str(directory / "run"), boot)
    found.faults = found.load(now)  # type: ignore[attr-defined]
    return found


def test_holds_are_there_for_the_next_agent_of_the_same_boot(state: State, tmp_path: Path) -> None:
    state.holds = {"one": {"id": Hold(2, "17:42", 1.0)}}
    state.save_holds()
    assert again(tmp_path, now=9.0).holds == {"one": {"id": Hold(2, "17:42", 9.0)}}
    assert again(tmp_path, "another boot").holds == {}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"format":1,"boot":"boot"}', b'{"format":1,"boot":"boot","holds":{"a":{"i":[1]}}}']
)
def test_damaged_holds_are_told_and_forgotten(content: bytes, state: State, tmp_path: Path) -> None:
    (tmp_path / "run" / "holds.json").write_bytes(content)
    found = again(tmp_path)
    assert found.holds == {}
    assert "holds.json cannot be read" in found.faults[0]  # type: ignore[attr-defined]


def test_directories_that_cannot_be_made_are_told(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    state = State(str(tmp_path / "state" / "x"), str(tmp_path / "run"), "boot")
    assert any("cannot be made" in fault for fault in state.load(0))
    assert state.definitions.volumes == {}


def test_process_is_known_by_more_than_its_number() -> None:
    one = identify(os.getpid())
    assert one.pid == os.getpid()
    assert runs(one.identity)
    assert not runs(f"{os.getpid()}:1")
    assert not runs("")
    assert identify(1 << 22).identity == ""
