"""Clocks that jump, for one program and its children only.

clock = ShiftedClock(tmp_path)
with Agent(env=clock.env) as agent:
    clock.jump(wall=86400)
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from tests.support.process import run

if TYPE_CHECKING:
    from pathlib import Path

_SOURCE = os.path.join(os.path.dirname(__file__), "clock_shift.c")


class ShiftedClock:
    """`env` is for the program; it has to be linked with libc dynamically, and not set-uid."""

    def __init__(self, directory: Path) -> None:
        library, self._file = str(directory / "clock_shift.so"), str(directory / "clock_shift")
        run(["gcc", "-shared", "-fPIC", "-O1", "-o", library, _SOURCE, "-ldl"])
        with open(self._file, "wb") as file:
            file.write(bytes(16))
        self._wall = self._monotonic = 0
        self.env = {"LD_PRELOAD": library, "CLOCK_SHIFT": self._file}

    def jump(self, *, wall: int = 0, monotonic: int = 0) -> None:
        """Have the clocks jump by so many seconds from where they are."""
        self._wall += wall
        self._monotonic += monotonic
        with open(self._file, "r+b") as file:
            file.write(struct.pack("qq", self._wall, self._monotonic))
