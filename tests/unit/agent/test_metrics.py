"""Numbers for Prometheus."""

from __future__ import annotations

import os
import re

from dso.agent.metrics import BUCKETS, METRICS, Metrics
from tests.support.process import ROOT

SAMPLE = re.compile(r'^([a-z_]+)(?:\{((?:[a-z_]+="(?:[^"\\\n]|\\.)*",?)*)\})? (\S+)$')


def samples(text: str) -> dict[str, float]:
    found = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            name, labels, value = SAMPLE.fullmatch(line).groups()
            found[f"{name}{{{labels}}}" if labels else name] = float(value)
    return found


def test_the_page_lists_the_metrics_there_are():
    with open(os.path.join(ROOT, "docs", "agent-api.md"), encoding="utf-8") as page:
        rows = re.findall(
            r"^\| `((?:dso_agent|process)_\w+)` \| (\w+) \| (.*?) \| (.*?) \|$", page.read(), re.MULTILINE
        )
    listed = {name: (kind, tuple(re.findall(r"`(\w+)`", labels)), text) for name, kind, labels, text in rows}
    assert listed == {name: tuple(metric) for name, metric in METRICS.items()}
    assert list(listed) == list(METRICS)


def test_counters_add_up_and_are_told_with_their_labels():
    metrics = Metrics("1.2")
    metrics.count("dso_agent_references_total", "ok", by=50)
    metrics.count("dso_agent_references_total", "ok")
    metrics.count("dso_agent_references_total", 'odd"\\\n')
    text = metrics.text()
    assert samples(text)['dso_agent_references_total{result="ok"}'] == 51
    assert 'result="odd\\"\\\\\\n"' in text
    assert samples(text)['dso_agent_info{version="1.2"}'] == 1
    assert "# TYPE dso_agent_references_total counter" in text


def test_a_histogram_has_every_bucket_sum_and_count():
    metrics = Metrics("1")
    for seconds in (0.0005, 0.002, 100.0):
        metrics.took("/healthz", 200, seconds)
    found = samples(metrics.text())
    buckets = [
        found[f'dso_agent_request_seconds_bucket{{endpoint="/healthz",le="{bound}"}}'] for bound in (*BUCKETS, "+Inf")
    ]
    assert buckets == sorted(buckets)
    assert (buckets[0], buckets[1], buckets[-2], buckets[-1]) == (1, 2, 2, 3)
    assert found['dso_agent_request_seconds_count{endpoint="/healthz"}'] == 3
    assert found['dso_agent_request_seconds_sum{endpoint="/healthz"}'] == 100.0025
    assert found['dso_agent_requests_total{endpoint="/healthz",status="200"}'] == 3


def test_gauges_are_asked_for_when_somebody_looks():
    metrics = Metrics("1")
    now = [1.0]
    metrics.sources.append(lambda: {("dso_agent_connections", ()): now[0]})
    now[0] = 5
    found = samples(metrics.text())
    assert found["dso_agent_connections"] == 5
    assert found["process_open_fds"] > 0
    assert found["process_resident_memory_bytes"] > 1024 * 1024


def test_a_metric_without_samples_is_not_announced():
    assert "dso_agent_reloads_total" not in Metrics("1").text()
