"""Names of files in volumes, and the memory they take."""

from __future__ import annotations

import pytest

from dso.protocol.volume import STAGING, memory_needed, name_fault


@pytest.mark.parametrize("name", ["key", "a/b", ".hidden", "..data", "with space", "ümlaut", "x" * 255, "a/" + STAGING])
def test_names_a_file_can_have(name: str) -> None:
    assert name_fault(name) is None


@pytest.mark.parametrize(
    "name",
    [
        *["", "/", "/etc/passwd", "a/", "a//b", ".", "..", "a/../b", "a/..", "./a", "a\0b", STAGING, f"{STAGING}/x"],
        *["x" * 256, "ü" * 128],
    ],
)
def test_names_that_lead_elsewhere_or_are_too_long_are_refused(name: str) -> None:
    assert name_fault(name)


def test_every_file_takes_whole_pages() -> None:
    assert [memory_needed([size]) for size in (0, 1, 4095, 4096)] == [4096, 4096, 4096, 8192]
    assert memory_needed([1, 1]) == 8192
