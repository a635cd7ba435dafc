"""What each provider's plugin costs, as DSO builds it and as PyInstaller would by itself (tests/bench/untrimmed.py)."""

from __future__ import annotations

import random
import time
import zlib
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.protocol.provider import Initialized, SecretData
from tests.bench import backends
from tests.bench.measure import CommandFailedError, Series
from tests.support.binaries import binary
from tests.support.memory import MIB, resident
from tests.support.plugin import Plugin
from tests.support.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tests.bench.backends import Backend

ROUNDS = 10
USED_ROUNDS = 3
READS = 1000
PLUGIN = "dso-provider-"

# Settings that are complete; nothing answers there, and being ready takes no connection.
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "vault": {"address": "http://127.0.0.1:1", "mount": "secret", "auth": {"method": "token", "token": "none"}},
    "aws": {
        "region": "eu-central-1",
        "endpoint_url": "http://127.0.0.1:1",
        "access_key_id": "none",
        "secret_access_key": "none",
    },
    "azure": {
        "vault_url": "https://none.vault.azure.net/",
        "auth": {"method": "client_secret", "tenant_id": "none", "client_id": "none", "client_secret": "none"},
    },
    "huawei": {
        "region": "cn-north-4",
        "project_id": "none",
        "auth": {"method": "aksk", "access_key": "none", "secret_key": "none"},
    },
}


class Build(NamedTuple):
    """One binary of a plugin and what was measured of it; sizes and memory in bytes, the boot loader's included.

    `idle` is its memory when it is ready, `used` after a thousand reads.
    """

    path: str
    size: int
    compressed: int
    ready: Series
    idle: list[int]
    used: list[int]

    @classmethod
    def of(cls, path: str, key: str, label: str) -> Build:
        """One that nothing has been measured of yet but its size."""
        with open(path, "rb") as file:
            content = file.read()
        return cls(path, len(content), len(zlib.compress(content, 6)), Series(key, label, [], []), [], [])


class PluginCost(NamedTuple):
    """A plugin as it is built, and for comparison before trimming."""

    name: str
    trimmed: Build
    untrimmed: Build | None

    @property
    def builds(self) -> list[Build]:
        """Those that were measured."""
        return [self.trimmed, *([self.untrimmed] if self.untrimmed else [])]

    @property
    def memory(self) -> float:
        """The most resident memory it was seen with, in the state it needs more in."""
        return max(median(self.trimmed.idle), median(self.trimmed.used))

    @property
    def row(self) -> tuple[str, ...]:
        """A row of the report, with `before → after` in each cell."""

        def cell(text: str, figure: Callable[[Build], float]) -> str:
            return " → ".join(text.format(figure(build)) for build in reversed(self.builds))

        return (
            f"`{self.name}`",
            cell("{:.1f}", lambda build: build.size / 1e6),
            cell("{:.1f}", lambda build: build.compressed / 1e6),
            cell("{:.0f}", lambda build: build.ready.typical),
            cell("{:.1f}", lambda build: median(build.idle) / MIB),
            cell("{:.1f}", lambda build: median(build.used) / MIB),
        )


HEAD = (
    "Plugin",
    "Size of the binary, MB",
    "Gzipped, MB",
    "Ready after, ms",
    "Resident memory, idle, MiB",
    f"The same after {READS:,} reads",
)


def measure(default_builds: Mapping[str, str], rounds: int | None, tell: Callable[[str], None]) -> list[PluginCost]:
    """Measure every plugin beside its default build, whose path may be given by type; `rounds` makes it a trial."""
    costs = [_find(kind, default_builds.get(kind)) for kind in SETTINGS]
    pairs = [(kind, build) for kind, cost in zip(SETTINGS, costs, strict=True) for build in cost.builds]
    shuffle = random.Random(0).shuffle
    for number in range(-1, rounds or ROUNDS):  # the first one is not counted: it fills the page cache
        tell(f"start of plugins, round {number + 1}")
        shuffle(pairs)
        for kind, build in pairs:
            ready, memory = _start(build.path, kind)
            if number >= 0:
                build.ready.wall.append(ready)
                build.idle.append(memory)
    for kind, cost in zip(SETTINGS, costs, strict=True):
        tell(f"{READS:,} reads by {cost.name}")
        with backends.opened(kind) as backend:
            for build in cost.builds * min(rounds or USED_ROUNDS, USED_ROUNDS):
                build.used.append(_use(build.path, kind, backend))
    return costs


def _find(kind: str, default_build: str | None) -> PluginCost:
    name = f"{PLUGIN}{kind}"
    label = f"`{name}` until it is ready"
    after = Build.of(binary(name, "release"), f"ready-{kind}", label)
    if default_build is None:
        return PluginCost(name, after, None)
    return PluginCost(name, after, Build.of(default_build, f"ready-default-{kind}", f"{label} (default build)"))


def _start(path: str, kind: str) -> tuple[float, int]:
    """The time until it is ready, in ms, and the memory it has then."""
    begun = time.perf_counter_ns()
    with Plugin([path]) as plugin:
        _initialize(plugin, kind, SETTINGS[kind])
        taken = (time.perf_counter_ns() - begun) / 1e6
        return taken, _memory(plugin)


def _use(path: str, kind: str, backend: Backend) -> int:
    """The memory it has after many reads, asked for as the agent does: in batches, or one by one and overlapping."""
    with Plugin([path], backend.environment) as plugin:
        batch = _initialize(plugin, kind, backend.config).batch
        for _ in range(READS // len(backends.SECRETS)):
            if batch:
                found = [
                    one
                    for first in range(0, len(backends.SECRETS), batch)
                    for one in plugin.get_many(*((name, None) for name in backends.SECRETS[first : first + batch]))
                ]
            else:
                asked = [plugin.send("get", {"path": name}) for name in backends.SECRETS]
                found = [plugin.secret(number) for number in asked]
            _check(kind, found)
        return _memory(plugin)


def _initialize(plugin: Plugin, kind: str, config: Mapping[str, Any]) -> Initialized:
    answer = plugin.call("initialize", {"protocol": 1, "name": kind, "config": dict(config), "timeout": 10})
    if answer.error:
        raise CommandFailedError(f"{PLUGIN}{kind} is not ready: {answer.error.message}")
    return Initialized.from_result(answer.result)


def _check(kind: str, found: Sequence[object]) -> None:
    """What is measured has to be the work."""
    failed = [one for one in found if not isinstance(one, SecretData)]
    if failed or len(found) != len(backends.SECRETS):
        raise CommandFailedError(f"{PLUGIN}{kind} did not read {len(backends.SECRETS)} secrets: {failed[:1]}")


def _memory(plugin: Plugin) -> int:
    time.sleep(0.2)
    pid = plugin.process.pid
    return resident([pid, *(one.pid for one in descendants(pid))])
