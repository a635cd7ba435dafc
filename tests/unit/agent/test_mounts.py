"""What is mounted for a volume, without a kernel."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from dso.agent import mounts
from dso.agent.mounts import Mounts
from dso.agent.volumefiles import INODES
from dso.protocol.volume import VOLUME_BYTES, memory_needed

if TYPE_CHECKING:
    import pytest


def test_size_and_inodes_are_limited_whatever_the_kernel_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[str]] = []

    def mount(path: str, options: str) -> None:
        asked.append(options.split(","))
        if "noswap" in asked[-1]:
            raise OSError(errno.EINVAL, "no such option", path)

    monkeypatch.setattr(mounts, "_mount", mount)
    Mounts("/nowhere").mount("/nowhere/x")
    assert len(asked) > 1
    assert "noswap" not in asked[-1]
    for options in asked:
        assert {"size=128m", f"nr_inodes={INODES}", "mode=0755"} <= set(options)


def test_as_many_files_as_fit_can_be_replaced_at_once() -> None:
    assert 2 * VOLUME_BYTES // memory_needed([0]) < INODES
