"""Until when a request of the agent has to be answered."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class Deadline:
    """Until when an operation has to be done, all its requests included."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds left, never less than a moment."""
        return max(self._end - time.monotonic(), 0.01)

    def is_over(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() >= self._end

    def at_most(self, seconds: float) -> Deadline:
        """A nearer one, for what is worth no longer a wait."""
        return Deadline(min(self.left(), seconds))


_LOCAL = threading.local()


@contextmanager
def within(deadline: Deadline) -> Iterator[None]:
    """Let everything this thread does now end by then, as far as it asks `current`: SDKs hand no deadline through."""
    former = current()
    _LOCAL.deadline = deadline
    try:
        yield
    finally:
        _LOCAL.deadline = former


def current() -> Deadline | None:
    """The deadline of this thread's work, if it has one."""
    return getattr(_LOCAL, "deadline", None)
