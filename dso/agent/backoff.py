"""How long to wait before the next try."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Backoff:
    """Delays that double from `base` to `cap` seconds, each cut by up to a half at random.

    The random part keeps many who failed together from trying again together.
    """

    __slots__ = ("_base", "_cap", "_random", "failures")

    def __init__(self, base: float, cap: float, random: Callable[[], float]) -> None:
        """`random` gives numbers from 0 to 1, 1 excluded."""
        self._base = base
        self._cap = cap
        self._random = random
        self.failures = 0

    def failed(self, retry_after: float | None = None) -> float:
        """Seconds to wait after one more failure in a row; not less than what the other side asked for."""
        whole = min(self._cap, self._base * 2.0 ** min(self.failures, 64))
        self.failures += 1
        return max(whole * (1 - self._random() / 2), retry_after or 0.0)

    def succeeded(self) -> None:
        """The next failure is the first one again."""
        self.failures = 0
