"""Tests in an event loop."""

from __future__ import annotations

import asyncio
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Self


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run a test in an event loop of its own."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        asyncio.run(test(**arguments))

    return run


async def until(check: Callable[[], Any], what: str) -> Any:
    """Wait for something without stopping the loop."""
    for _ in range(1500):
        found = check()
        if found:
            return found
        await asyncio.sleep(0.02)
    raise AssertionError(f"{what}: did not happen")


class Turns:
    """Counts the turns of the event loop that others have while the body of its `async with` runs."""

    def __init__(self) -> None:
        self.count = 0

    async def _take(self) -> None:
        while True:
            await asyncio.sleep(0)
            self.count += 1

    async def __aenter__(self) -> Self:
        self._taking = asyncio.ensure_future(self._take())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._taking.cancel()
