"""What each provider's plugin costs: the size of its binary, the time until it is ready, its memory."""

from __future__ import annotations

import os
import time
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.bench.measure import CommandFailedError
from tests.support.memory import MIB, resident
from tests.support.plugin import Plugin
from tests.support.process import ROOT
from tests.support.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

BINARIES = os.path.join(ROOT, "dist", "bin")

# Settings that are complete; nothing answers there, and being ready takes no connection.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "vault": {"address": "http://127.0.0.1:1", "mount": "secret", "auth": {"method": "token", "token": "none"}},
    "aws": {
        "region": "eu-central-1",
        "endpoint_url": "http://127.0.0.1:1",
        "access_key_id": "none",
        "secret_access_key": "none",
    },
}


class PluginCost(NamedTuple):
    """One plugin: bytes of its binary, ms from its start to its answer to `initialize`, bytes of memory when idle."""

    name: str
    size: int
    ready: list[float]
    memory: int

    @property
    def row(self) -> tuple[str, ...]:
        """A row of the report."""
        return (
            f"`{self.name}`",
            f"{self.size / 1e6:.1f} MB",
            f"{median(self.ready):.0f} ms",
            f"{self.memory / MIB:.1f} MiB",
        )


HEAD = ("Plugin", "Size of the binary", "Ready after", "Resident memory, idle")


def costs(rounds: int) -> Iterator[PluginCost]:
    """Of every plugin that has been frozen."""
    for name, settings in SETTINGS.items():
        path = os.path.join(BINARIES, f"dso-provider-{name}")
        if not os.path.exists(path):
            continue
        measured = [_once(path, name, settings) for _ in range(rounds)]
        ready, memory = zip(*measured, strict=True)
        yield PluginCost(os.path.basename(path), os.stat(path).st_size, list(ready), int(median(memory)))


def _once(path: str, name: str, settings: Mapping[str, Any]) -> tuple[float, int]:
    begun = time.perf_counter_ns()
    with Plugin([path]) as plugin:
        given = {"protocol": 1, "name": name, "config": dict(settings), "timeout": 10}
        answer = plugin.answer(plugin.send("initialize", given))
        taken = (time.perf_counter_ns() - begun) / 1e6
        if answer.error:
            raise CommandFailedError(f"{os.path.basename(path)} is not ready: {answer.error.message}")
        pid = plugin.process.pid
        time.sleep(0.2)
        return taken, resident([pid, *(one.pid for one in descendants(pid))])
