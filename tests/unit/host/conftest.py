"""A machine to set up and to examine."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.support.host import FakeHost

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def host(tmp_path: Path) -> FakeHost:
    """A machine with systemd and nothing of DSO."""
    machine = FakeHost(str(tmp_path / "root"))
    os.makedirs(machine.path("/run/systemd/system"))
    os.makedirs(machine.path("/etc"))
    machine.says["getent group dso"] = ("", 2)
    return machine
