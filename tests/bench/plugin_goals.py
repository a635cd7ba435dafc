"""What the providers' plugins are held against."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench.goals import Outcome, Ratio, limit_outcome
from tests.support.memory import MIB

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.bench.plugins import PluginCost

AWS_CALLS_LIMIT = 3
PLUGIN_READY_LIMIT_MS = 1500
PLUGIN_MEMORY_LIMIT_MIB = 90
PLUGIN_SIZE_LIMIT_MB = 40

# HTTP requests that a further secret may take beside one that is logging in. Key Vault asks for a token by a challenge,
# which whoever comes before the first has answered it gets as well.
REQUESTS_LIMIT = {"azure": 2, "huawei": 1}

GOALS = (
    Ratio("50 new references into HashiCorp Vault, 50 ms away, beside one", "vault-50", "vault-1", 5, named=False),
    Ratio("50 new references into AWS, 50 ms away, beside one", "aws-50", "aws-1", 5, named=False),
    Ratio("50 new references into Azure Key Vault, 50 ms away, beside one", "azure-50", "azure-1", 5, named=False),
    Ratio("50 new references into Huawei Cloud CSMS, 50 ms away, beside one", "huawei-50", "huawei-1", 5, named=False),
)


def plugin_outcomes(costs: Sequence[PluginCost]) -> list[Outcome]:
    """What every plugin is held against, told of the one that comes off worst."""
    if not costs:
        return []
    slowest = max(costs, key=lambda cost: cost.trimmed.ready.typical)
    largest = max(costs, key=lambda cost: cost.memory)
    biggest = max(costs, key=lambda cost: cost.trimmed.size)
    ready, memory, size = slowest.trimmed.ready.typical, largest.memory / MIB, biggest.trimmed.size / 1e6
    worst = [
        ("Ready, the slowest", slowest, ready, PLUGIN_READY_LIMIT_MS, "ms"),
        ("Resident memory, the most", largest, memory, PLUGIN_MEMORY_LIMIT_MIB, "MiB"),
        ("Size of the binary, the largest", biggest, size, PLUGIN_SIZE_LIMIT_MB, "MB"),
    ]
    return [
        limit_outcome(f"{what} of {len(costs)} providers' plugins", f"`{cost.name}`", value, limit, unit)
        for what, cost, value, limit, unit in worst
    ]


def request_outcomes(requests: Mapping[str, int]) -> list[Outcome]:
    """How many HTTP requests new references take, by the keys of their series (tests/bench/cold.py)."""
    found = []
    if "aws-50" in requests:
        what = "API calls for 50 new references into AWS"
        found.append(limit_outcome(what, "`dso-provider-aws`", requests["aws-50"], AWS_CALLS_LIMIT, ""))
    for kind, backend in (("azure", "Azure Key Vault"), ("huawei", "Huawei Cloud CSMS")):
        if f"{kind}-50" in requests:
            one, many = requests[f"{kind}-1"], requests[f"{kind}-50"]
            what = f"HTTP requests for 50 new references into {backend}"
            limit = one + 49 * REQUESTS_LIMIT[kind]
            found.append(limit_outcome(what, f"`dso-provider-{kind}` (for one: {one})", many, limit, ""))
    return found
