"""Starting a plugin's program: what may happen to the child before it has become the program."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
from typing import TYPE_CHECKING

import pytest

from dso.agent import launch
from dso.agent.isolation import descent
from dso.agent.isolation.accounts import Account
from dso.protocol.codes import PLUGIN_CRASHED, PLUGIN_MISSING, PLUGIN_USER
from dso.protocol.provider import ProviderError
from tests.support.loop import in_loop

if TYPE_CHECKING:
    from pathlib import Path

NOBODY = Account("dso-test", 61001, 61001)
PRCTL = ctypes.CDLL(None).prctl
_PR_GET_DUMPABLE = 3


def has_children() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return False
    return True


async def refusal(path: str, account: Account | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        await launch.launch(path, {}, account)
    return raised.value


@in_loop
async def test_a_child_that_is_stopped_before_it_is_the_program_stops_nobody_else_and_is_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(launch, "BEGIN", 0.5)
    monkeypatch.setattr(descent, "_execute", lambda *_: os.kill(os.getpid(), signal.SIGSTOP))
    starting = asyncio.create_task(refusal("/bin/true"))
    turns = 0
    while not starting.done():
        await asyncio.sleep(0.01)
        turns += 1
    assert turns > 1
    error = await starting
    assert (error.code, "was stopped before it began" in error.message) == (PLUGIN_CRASHED, True)
    assert not has_children()


@in_loop
async def test_a_start_that_is_given_up_leaves_no_child(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(descent, "_execute", lambda *_: os.kill(os.getpid(), signal.SIGSTOP))
    starting = asyncio.create_task(refusal("/bin/true"))
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not has_children()


@in_loop
async def test_a_child_has_nothing_of_the_agents_open_when_it_becomes_the_user(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(_account: Account) -> None:
        os.write(1, " ".join(os.listdir("/proc/self/fd")).encode())

    monkeypatch.setattr(descent, "_become", become)
    held = os.open("/", os.O_RDONLY)
    os.set_inheritable(held, True)  # as sockets of systemd are
    program = await launch.launch("/bin/true", {}, NOBODY)
    os.close(held)
    assert program.stdout is not None
    seen = {int(number) for number in program.stdout.read().split()}
    launch.discard(program)
    assert seen == {0, 1, 2, 3, 4}  # its standard ones, the report, and what it was listed by


@in_loop
async def test_a_child_that_cannot_become_the_user_runs_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def become(_account: Account) -> None:
        raise PermissionError

    monkeypatch.setattr(descent, "_become", become)
    script = tmp_path / "script"
    script.write_text(f"#!/bin/sh\n: >{tmp_path}/ran\n")
    script.chmod(0o755)
    error = await refusal(str(script), NOBODY)
    assert (error.code, error.message) == (
        PLUGIN_USER,
        "the plugin is not started: the agent cannot run it as dso-test",
    )
    assert not (tmp_path / "ran").exists()


@in_loop
async def test_a_program_without_its_interpreter_is_missing(tmp_path: Path) -> None:
    script = tmp_path / "script"
    script.write_text("#!/no/such/interpreter\n")
    script.chmod(0o755)
    assert (await refusal(str(script))).code == PLUGIN_MISSING


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its groups")
@in_loop
async def test_nobody_looks_into_a_child_that_has_become_the_user_whatever_fs_suid_dumpable_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(descent, "_execute", lambda *_: os.write(1, b"%d" % PRCTL(_PR_GET_DUMPABLE, 0, 0, 0, 0)))
    # Of a change from root to root the kernel makes nothing by itself, as of any where that setting is 1.
    program = await launch.launch("/bin/true", {}, Account("root", 0, 0))
    assert program.stdout is not None
    is_dumpable = program.stdout.read()
    launch.discard(program)
    assert is_dumpable == b"0"
