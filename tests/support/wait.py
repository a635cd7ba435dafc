"""Waiting for something to become true, instead of sleeping."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def wait_until(check: Callable[[], T], what: str, *, timeout: float = 30, interval: float = 0.05) -> T:
    """The first true value `check()` returns; AssertionError "WHAT did not happen" after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        value = check()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f"{what}: did not happen within {timeout:g} s (last: {value!r})")
        time.sleep(interval)
