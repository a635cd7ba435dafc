"""How a curve grows: by what power, and in words.

A cost is taken to be `a + b * x ** k`: a constant part (starting a program, say) and one that grows. `k` is the
exponent that is stated: 1 is linear. It is the one that leaves the least relative error at all points, with a and b
no less than 0; its range comes from drawing the measurements at random again (the percentile bootstrap).
A slope in a log-log plot would call every curve flat whose constant part is large, and the slope after the cost at the
smallest x is subtracted hangs on that one measurement.
"""

from __future__ import annotations

import random
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from tests.bench.measure import Estimate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

FLAT = 1.1  # at most so many times as much at the largest x as at the smallest
LINEAR = 1.1  # exponents up to this one are linear: nothing is measured more exactly
UNKNOWN = 1.5  # ranges as wide as this say nothing of an exponent
RESAMPLES = 500
_EXPONENTS = range(10, 401)  # in hundredths
_COARSE = 10


class Growth(NamedTuple):
    """How a cost grows from the smallest to the largest x.

    Attributes:
        ratio: what it costs at the largest, in multiples of what it costs at the smallest.
        exponent: `k`, None for a curve that is flat.
    """

    ratio: Estimate
    exponent: Estimate | None

    @property
    def words(self) -> str:
        """What to call it; `grows little` is for growth that drowns in the noise, so that its exponent is unknown."""
        if self.exponent is None:
            return "flat"
        _, low, high = self.exponent
        if low > LINEAR:
            return "worse than linear"
        if high - low > UNKNOWN:
            return "grows little"
        return "slower than linear" if high < 2 - LINEAR else "linear"

    @property
    def within_linear(self) -> bool:
        """Whether it is no worse than linear, as far as can be told from noise."""
        return self.words != "worse than linear"

    @property
    def text(self) -> str:
        """The words with their figures, for a cell of a table."""
        ratio = f"{self.ratio.value:.2f} x ({self.ratio.low:.2f} to {self.ratio.high:.2f})"
        if self.exponent is None or self.words == "grows little":
            return f"{self.words}: {ratio}"
        value, low, high = self.exponent
        return f"{self.words}: exponent {value:.2f} ({low:.2f} to {high:.2f}), {ratio}"


def growth(xs: Sequence[float], samples: Sequence[Sequence[float]]) -> Growth:
    """How the medians of `samples` grow over `xs`, which ascend; `samples[i]` was measured at `xs[i]`.

    Three xs at least, and at each one measurement or more above 0. Measurements of the same round have the same
    index: they are drawn together, as they met the same disturbance.
    """
    ratio = _bootstrap(lambda ys: ys[-1] / ys[0], samples)
    if ratio.value <= FLAT:
        return Growth(ratio, None)
    powers = _powers(xs)
    return Growth(ratio, _bootstrap(lambda ys: _exponent(powers, ys), samples))


def _powers(xs: Sequence[float]) -> dict[int, list[float]]:
    """`x ** k` for every k that is tried, in multiples of the largest."""
    return {step: [(x / xs[-1]) ** (step / 100) for x in xs] for step in _EXPONENTS}


def _exponent(powers: dict[int, list[float]], ys: Sequence[float]) -> float:
    """The `k` of `a + b * x ** k` with the least relative error."""
    inverse = [1 / y for y in ys]
    roughly = min(_EXPONENTS[::_COARSE], key=lambda step: _error(powers[step], inverse))
    near = [step for step in range(roughly - _COARSE + 1, roughly + _COARSE) if step in _EXPONENTS]
    return min(near, key=lambda step: _error(powers[step], inverse)) / 100


def _error(powers: Sequence[float], us: Sequence[float]) -> float:
    """The squares of the relative errors that the best a and b leave, both 0 at least; `us` are 1 / y.

    With v = x ** k / y they are those for which a * u + b * v comes nearest to 1.
    """
    uu = vv = uv = u1 = v1 = 0.0
    for power, u in zip(powers, us, strict=True):
        v = power * u
        uu += u * u
        vv += v * v
        uv += u * v
        u1 += u
        v1 += v
    determinant = uu * vv - uv * uv
    a, b = u1 * vv - v1 * uv, v1 * uu - u1 * uv
    if a < 0:
        a, b = 0.0, v1 / vv
    elif b < 0:
        a, b = u1 / uu, 0.0
    else:
        a, b = a / determinant, b / determinant
    return len(us) + a * a * uu + b * b * vv + 2 * (a * b * uv - a * u1 - b * v1)


def _bootstrap(figure: Callable[[Sequence[float]], float], samples: Sequence[Sequence[float]]) -> Estimate:
    draw = random.Random(0).random
    value = figure([median(each) for each in samples])
    again = []
    for _ in range(RESAMPLES):
        drawn = [draw() for _ in range(max(map(len, samples)))]
        again.append(figure([median([each[int(u * len(each))] for u in drawn[: len(each)]]) for each in samples]))
    again.sort()
    return Estimate(value, again[RESAMPLES * 25 // 1000], again[RESAMPLES * 975 // 1000])
