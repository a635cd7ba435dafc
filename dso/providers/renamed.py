"""Paths whose names in a backend are other ones, because it allows fewer characters."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from dso.protocol.codes import INVALID_REQUEST
from dso.protocol.provider import ProviderError

if TYPE_CHECKING:
    from collections.abc import Callable

REMEMBERED = 10_000  # paths; beyond, those that were asked for first are forgotten


class Renamed:
    """The paths that were asked for: two that become the same name would be one secret without anybody noticing.

    `fold` makes the same of names that the backend does not tell apart.
    """

    def __init__(self, provider: str, service: str, fold: Callable[[str], str] = str) -> None:
        self._provider = provider
        self._service = service
        self._fold = fold
        self._lock = threading.Lock()
        self._paths: dict[str, str] = {}  # by name

    def claim(self, path: str, name: str) -> bool:
        """Take a name for a path, for the first time or again; whether it is the first.

        ProviderError if another path has it.
        """
        key = self._fold(name)
        with self._lock:
            known = self._paths.get(key)
            if known is None:
                self._paths[key] = path
                if len(self._paths) > REMEMBERED:
                    del self._paths[next(iter(self._paths))]
        if known is not None and self._fold(known) != self._fold(path):
            message = f"{path} and {known} would both be the secret {name} of {self._service}: use one of them"
            message += f" everywhere (if nothing asks for {known} any more, restart the agent)"
            raise ProviderError(INVALID_REQUEST, f"{self._provider}: {message}")
        return known is None
