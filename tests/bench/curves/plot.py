"""Plots of curves, as SVG that a page shows on light and on dark ground.

    plot(os.path.join(setting.plots, "vault.svg"), "Reading a secret", "Secrets in the vault", "Time, ms", curves)

Both axes are logarithmic: a straight line that rises with the axes' own slope is linear growth. The same figures make
the same file. matplotlib is imported when something is drawn, and by nothing else.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple

from tests.support.process import ROOT

if TYPE_CHECKING:
    from collections.abc import Sequence

INCHES = (5.2, 3.9)  # of one panel
INK = "#797979"  # text and axes: the contrast to white and to GitHub's dark ground is the same, 4.4 to 1
# Okabe and Ito's colours that stand out on both; markers and dashes tell the curves apart without them.
STYLES = (
    ("#0072b2", "o", "-"),
    ("#d55e00", "s", "--"),
    ("#009e73", "^", "-."),
    ("#cc79a7", "D", ":"),
    ("#56708a", "v", "-"),
    ("#b08800", "P", "--"),
)
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",  # text stays text: small, and read by screen readers
    "svg.hashsalt": "dso",
    "font.family": "sans-serif",
    "font.size": 11,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 12,
    "xtick.color": INK,
    "ytick.color": INK,
}


class Curve(NamedTuple):
    """Points of one line: `ys` over `xs`, both above 0.

    `spread` is the range of each y (quartiles, say), shown as a band; leave it out where there is none.
    """

    label: str
    xs: Sequence[float]
    ys: Sequence[float]
    spread: Sequence[tuple[float, float]] | None = None


class Panel(NamedTuple):
    """One pair of axes; `limit` is a goal to show as a line across, as its text and its y."""

    title: str
    x_label: str
    y_label: str
    curves: Sequence[Curve]
    limit: tuple[str, float] | None = None


def plot(path: str, title: str, x_label: str, y_label: str, curves: Sequence[Curve]) -> None:
    """Write one panel to `path`; labels of axes name their unit ("Time, ms")."""
    draw(path, [Panel(title, x_label, y_label, curves)])


def draw(path: str, panels: Sequence[Panel]) -> None:
    """Write panels beside each other to `path`, which ends in .svg (or .png, for a look)."""
    os.environ.setdefault("MPLCONFIGDIR", os.path.join(ROOT, ".build", "bench", "matplotlib"))  # its cache of fonts
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_SETTINGS):
        figure = Figure((INCHES[0] * len(panels), INCHES[1]), layout="constrained")
        for index, panel in enumerate(panels):
            _panel(figure.add_subplot(1, len(panels), index + 1), panel)
        nameless = {"Date": None, "Creator": None} if path.endswith(".svg") else None
        figure.savefig(path, transparent=True, metadata=nameless)


def _panel(axes: Any, panel: Panel) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label, xscale="log", yscale="log")
    for curve, (colour, marker, dashes) in zip(panel.curves, STYLES, strict=False):
        axes.plot(curve.xs, curve.ys, dashes, color=colour, marker=marker, markersize=5, label=curve.label)
        if curve.spread:
            low, high = zip(*curve.spread, strict=True)
            axes.fill_between(curve.xs, low, high, color=colour, alpha=0.2, linewidth=0)
    if panel.limit:
        text, value = panel.limit
        axes.axhline(value, color=INK, linestyle=(0, (1, 3)), label=text)
    axes.set_ylim(*_limits(panel))
    axes.set_xticks(sorted({x for curve in panel.curves for x in curve.xs}))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axes.yaxis.set_minor_locator(NullLocator())
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.15g}"))
    axes.grid(color=INK, alpha=0.25, linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=10)


def _limits(panel: Panel) -> tuple[float, float]:
    """Room for all values, and for the legend above them; two decades at least, or noise would look like growth."""
    values = [each for curve in panel.curves for each in curve.ys]
    values += [each for curve in panel.curves for pair in curve.spread or () for each in pair]
    values += [panel.limit[1]] if panel.limit else []
    low, high = min(values) / 1.5, max(values) * 2.5
    missing = max(1.0, 100 / (high / low)) ** 0.5
    return low / missing, high * missing
