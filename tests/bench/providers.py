"""What each provider's plugin costs, and what it takes to read what nobody has asked for yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.bench import cold, plugins, untrimmed
from tests.bench.goals import outcomes
from tests.bench.part import Part
from tests.bench.plugin_goals import GOALS, plugin_outcomes, request_outcomes
from tests.bench.report import table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.bench.part import Setting
    from tests.bench.plugins import PluginCost

_TRIMMING = """\
Before → after trimming. Before, PyInstaller has frozen the same provider with its defaults: all that its analysis and
its hooks find, compressed. After is what DSO installs: it is stored as it is, since what is compressed has to be
unpacked at each start. The gzipped sizes say what is really in there.
"""

_PLUGINS = """\
One such plugin runs for each provider of dso.yaml; all its processes are counted. "Ready" is from the start of the
program to its answer to the agent's first message. The reads are of 50 secrets again and again, in batches where the
service has a call for that, else 50 at the same time.
"""


def measure(setting: Setting) -> Part:
    """Measure every provider's plugin, beside its default build if that is wanted."""
    builds = {}
    if setting.default_build:
        builds = {kind: untrimmed.build(f"{plugins.PLUGIN}{kind}", setting.say) for kind in plugins.SETTINGS}
    costs = plugins.measure(builds, setting.rounds, setting.tell)
    far = cold.measure(list(plugins.SETTINGS), setting.rounds, setting.tell)
    series = [*(build.ready for cost in costs for build in cost.builds), *far.series]
    ratios = outcomes({each.key: each for each in series}, GOALS)
    return Part(
        [*ratios, *plugin_outcomes(costs), *request_outcomes(far.requests)],
        (),
        series,
        costs_text(costs),
        f"{setting.rounds or plugins.ROUNDS} rounds of every provider's plugin",
    )


def costs_text(costs: Sequence[PluginCost]) -> str:
    """The table of what each plugin costs, with its explanations."""
    rows = [cost.row for cost in costs]
    text = ["## What each provider costs\n", table(plugins.HEAD, rows)]
    if any("→" in cell for row in rows for cell in row):
        text.append(_TRIMMING)
    return "\n".join([*text, _PLUGINS])
