"""Durations as dso.yaml has them: `500ms`, `10s`, `5m`, `1h`, and in one: `1m30s`."""

from __future__ import annotations

_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DIGITS = frozenset("0123456789")
_MAX_DIGITS = 9
MAX_SECONDS = 365 * 86400.0
FORMS = "500ms, 10s, 5m, 1h or 1m30s"


def parse_duration(text: str) -> float:
    """Seconds. Whole numbers with a unit, larger units first, each at most once, a year at most in all.

    Raises:
        ValueError: it is no duration; the text says why, without quoting anything.
    """
    total = 0.0
    units = list(_SECONDS)
    at = 0
    while at < len(text):
        start = at
        while at < len(text) and text[at] in _DIGITS:
            at += 1
        digits = text[start:at]
        if not 1 <= len(digits) <= _MAX_DIGITS:
            raise ValueError("a duration is a whole number and its unit")
        start = at
        while at < len(text) and text[at].isalpha():
            at += 1
        unit = text[start:at]
        if not unit:
            raise ValueError("a duration needs a unit")
        if unit not in _SECONDS:
            raise ValueError("the units of a duration are ms, s, m and h")
        if unit not in units:
            raise ValueError("the larger unit of a duration comes first, and each once")
        del units[: units.index(unit) + 1]
        total += int(digits) * _SECONDS[unit]
    if not text:
        raise ValueError("a duration is a whole number and its unit")
    if total > MAX_SECONDS:
        raise ValueError("a duration is a year at most")
    return total
