"""Paths whose names in a backend are other ones, because it allows fewer characters."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED = 10_000  # names; beyond, those that were read first are forgotten
PATHS = 8  # of one name


class Renamed:
    """The paths that were read: two of one name are one secret, which somebody may not have noticed.

    That is worth a line of the log and no more. It refuses nobody: what one caller asks for, be it junk, must
    not decide what another one gets.
    """

    def __init__(self, fold: Callable[[str], str] = str) -> None:
        """`fold` makes the same of names that the backend does not tell apart."""
        self._fold = fold
        self._lock = threading.Lock()
        self._paths: dict[str, dict[str, str]] = {}  # by name: those that differ for the backend, as they were written

    def add(self, path: str, name: str) -> list[str] | None:
        """Note that a path was read: which others had been under that name; None if this one had been already."""
        with self._lock:
            known = self._paths.setdefault(self._fold(name), {})
            if self._fold(path) in known or len(known) >= PATHS:
                return None
            others = list(known.values())
            known[self._fold(path)] = path
            if len(self._paths) > REMEMBERED:
                del self._paths[next(iter(self._paths))]
        return others
