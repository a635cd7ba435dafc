"""Numbers for Prometheus: `GET /metrics`, text format 0.0.4. docs/agent-api.md lists them, and a test compares."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0)

Labels = tuple[str, ...]


class Metric(NamedTuple):
    """A metric: its type for Prometheus, the names of its labels, what it tells."""

    kind: str
    labels: Labels
    help: str


METRICS: dict[str, Metric] = {
    "dso_agent_info": Metric("gauge", ("version",), "Always 1; the label tells the release."),
    "dso_agent_start_time_seconds": Metric("gauge", (), "When the agent started, in seconds since 1970."),
    "dso_agent_requests_total": Metric("counter", ("endpoint", "status"), "Requests answered, by status."),
    "dso_agent_request_seconds": Metric("histogram", ("endpoint",), "Time from a request's head to its answer."),
    "dso_agent_connections": Metric("gauge", (), "Connections that are open."),
    "dso_agent_connections_total": Metric("counter", (), "Connections accepted."),
    "dso_agent_connections_refused_total": Metric("counter", (), "Connections of users who may not use the agent."),
    "dso_agent_connections_closed_early_total": Metric(
        "counter",
        ("reason",),
        "Connections the agent ended or refused: a timeout, room for another, an answer nobody reads, a full budget.",
    ),
    "dso_agent_held_bytes": Metric("gauge", (), "Memory that requests under way, and their answers, are held against."),
    "dso_agent_streams": Metric("gauge", (), "Answers of /v1/events and /v1/logs that go on."),
    "dso_agent_references_total": Metric("counter", ("result",), 'References asked for: "ok", or the error\'s code.'),
    "dso_agent_events_total": Metric("counter", ("event",), "Events, by name."),
    "dso_agent_reloads_total": Metric("counter", ("result",), 'Configuration read again: "ok" or "failed".'),
    "dso_agent_config_ok": Metric("gauge", (), "0 while the file is faulty and a former configuration in force."),
    "dso_agent_cache_entries": Metric("gauge", (), "Secrets in memory."),
    "dso_agent_cache_bytes": Metric("gauge", (), "Size of the secrets in memory."),
    "dso_agent_cache_total": Metric("counter", ("what",), "What the cache did: hits, misses, fetches, failures..."),
    "dso_agent_provider_up": Metric("gauge", ("provider", "type"), "1 while the plugin runs and its backend answers."),
    "dso_agent_provider_restarts_total": Metric("counter", ("provider", "type"), "How often its plugin was restarted."),
    "dso_agent_volumes": Metric("gauge", (), "Volumes the volume driver knows."),
    "dso_agent_volumes_mounted": Metric("gauge", (), "Volumes that are mounted."),
    "process_resident_memory_bytes": Metric("gauge", (), "Memory of the agent's process."),
    "process_cpu_seconds_total": Metric("counter", (), "Processor time used."),
    "process_open_fds": Metric("gauge", (), "Open file descriptors."),
}


class Metrics:
    """Counters and histograms; gauges are asked for when somebody looks (`sources`)."""

    def __init__(self, version: str) -> None:
        self._counters: dict[tuple[str, Labels], float] = {}
        self._histograms: dict[Labels, tuple[list[int], list[float]]] = {}
        self._fixed = {("dso_agent_info", (version,)): 1.0, ("dso_agent_start_time_seconds", ()): time.time()}
        self.sources: list[Callable[[], Mapping[tuple[str, Labels], float]]] = [_process]
        self.count("dso_agent_connections_total", by=0)
        self.count("dso_agent_connections_refused_total", by=0)

    def count(self, name: str, *labels: str, by: float = 1) -> None:
        """Add to a counter."""
        key = (name, labels)
        self._counters[key] = self._counters.get(key, 0) + by

    def took(self, endpoint: str, status: int, seconds: float) -> None:
        """A request was answered."""
        self.count("dso_agent_requests_total", endpoint, str(status))
        buckets, total = self._histograms.setdefault((endpoint,), ([0] * (len(BUCKETS) + 1), [0.0]))
        total[0] += seconds
        buckets[bisect_left(BUCKETS, seconds)] += 1

    def text(self) -> str:
        """Everything, as Prometheus reads it."""
        samples: dict[tuple[str, Labels], float] = {**self._fixed, **self._counters}
        for source in self.sources:
            samples.update(source())
        by_name: dict[str, list[tuple[Labels, float]]] = {}
        for (name, labels), value in samples.items():
            by_name.setdefault(name, []).append((labels, value))
        lines: list[str] = []
        for name, metric in METRICS.items():
            found = (
                self._histogram(name) if metric.kind == "histogram" else _samples(name, metric, by_name.get(name, ()))
            )
            if found:
                lines += [f"# HELP {name} {metric.help}", f"# TYPE {name} {metric.kind}", *found]
        return "\n".join(lines) + "\n"

    def _histogram(self, name: str) -> list[str]:
        names = METRICS[name].labels
        lines = []
        for labels, (buckets, total) in sorted(self._histograms.items()):
            so_far = 0
            for bound, count in zip((*map(str, BUCKETS), "+Inf"), buckets, strict=True):
                so_far += count
                lines.append(_sample(f"{name}_bucket", (*names, "le"), (*labels, bound), so_far))
            lines.append(_sample(f"{name}_sum", names, labels, total[0]))
            lines.append(_sample(f"{name}_count", names, labels, so_far))
        return lines


def _samples(name: str, metric: Metric, found: Iterable[tuple[Labels, float]]) -> list[str]:
    return [_sample(name, metric.labels, labels, value) for labels, value in sorted(found)]


def _sample(name: str, names: Labels, labels: Labels, value: float) -> str:
    pairs = ",".join(f'{key}="{_escaped(label)}"' for key, label in zip(names, labels, strict=True))
    number = str(int(value)) if value == int(value) else repr(round(value, 6))
    return f"{name}{{{pairs}}} {number}" if pairs else f"{name} {number}"


def _escaped(label: str) -> str:
    return label.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _process() -> dict[tuple[str, Labels], float]:
    """What the kernel says of this process."""
    times = os.times()
    found: dict[tuple[str, Labels], float] = {("process_cpu_seconds_total", ()): times.user + times.system}
    try:
        found["process_resident_memory_bytes", ()] = resident_memory()
        found["process_open_fds", ()] = len(os.listdir("/proc/self/fd"))
    except (OSError, ValueError):
        pass  # no /proc
    return found


def resident_memory() -> int:
    """This process's resident memory in bytes; OSError."""
    with open("/proc/self/statm", encoding="ascii") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
