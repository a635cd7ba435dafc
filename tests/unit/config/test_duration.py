"""Durations, from text to seconds."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.config.duration import parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("500ms", 0.5),
        ("10s", 10.0),
        ("5m", 300.0),
        ("1h", 3600.0),
        ("1m30s", 90.0),
        ("1h2m3s4ms", 3723.004),
        ("0s", 0.0),
        ("090s", 90.0),
        ("8760h", 365 * 86400.0),
    ],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "a whole number and its unit"),
        ("10", "needs a unit"),
        ("s", "a whole number and its unit"),
        ("-1s", "a whole number and its unit"),
        ("1.5s", "needs a unit"),
        ("1 s", "needs a unit"),
        ("1s ", "a whole number and its unit"),
        ("1d", "the units of a duration are"),
        ("1S", "the units of a duration are"),
        ("1sm", "the units of a duration are"),
        ("30s1m", "the larger unit"),
        ("1s1s", "the larger unit"),
        ("8761h", "a year at most"),
        ("9999999999s", "a whole number and its unit"),
        ("\u0661s", "a whole number and its unit"),
        ("1\u017f", "the units of a duration are"),
    ],
)
def test_what_is_no_duration(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        parse_duration(text)


@given(st.integers(0, 99), st.integers(0, 59), st.integers(0, 59), st.integers(0, 999))
def test_parts_add_up(hours: int, minutes: int, seconds: int, milliseconds: int) -> None:
    found = parse_duration(f"{hours}h{minutes}m{seconds}s{milliseconds}ms")
    assert round(found * 1000) == ((hours * 60 + minutes) * 60 + seconds) * 1000 + milliseconds


@given(st.text("0123456789hms. -", max_size=12))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as fault:
        assert str(fault).startswith(("a duration", "the "))  # noqa: PT017
