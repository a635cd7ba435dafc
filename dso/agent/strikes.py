"""When to give up a plugin that lives and is of no use."""

from __future__ import annotations

import time


class Strikes:
    """Counts rounds of requests that came to nothing: those sent side by side are one round."""

    __slots__ = ("_counted_at", "_number")

    def __init__(self) -> None:
        self._number = 0
        self._counted_at = float("-inf")

    def count(self, began: float) -> int:
        """One more that began then; the number of rounds."""
        if began >= self._counted_at:
            self._number += 1
            self._counted_at = time.monotonic()
        return self._number
