"""Who may change what somebody else defined."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

import pytest

from dso.agent.access import Caller
from dso.agent.volume.endpoint import may_use_engine

if TYPE_CHECKING:
    from pathlib import Path

OWNER, GROUP, STRANGER = 1001, 2001, 1002


@pytest.mark.parametrize(
    ("mode", "uid", "groups", "expected"),
    [
        (0o660, STRANGER, {GROUP}, True),
        (0o660, STRANGER, {1}, False),
        (0o666, STRANGER, {1}, True),
        (0o606, STRANGER, {GROUP}, False),  # as the kernel has it: the first class that fits decides
        (0o600, OWNER, {1}, True),
        (0o066, OWNER, {GROUP}, False),
        (0o640, STRANGER, {GROUP}, False),
    ],
)
def test_who_may_write_to_the_engines_socket_may_do_what_root_can(
    mode: int, uid: int, groups: set[int], expected: bool, tmp_path: Path
) -> None:
    path = str(tmp_path / "docker.sock")
    with socket.socket(socket.AF_UNIX) as engine:
        engine.bind(path)
        os.chown(path, OWNER, GROUP)
        os.chmod(path, mode)
        caller = Caller(1, uid, "", frozenset(groups), frozenset(), trusted=False)
        assert may_use_engine(caller, path) is expected
        assert not may_use_engine(caller, path + ".absent")
