"""`--since`: spans, ISO dates and times, seconds since 1970; nothing else."""

from __future__ import annotations

import contextlib
import time
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.cli.since import parse_since
from dso.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

NOW = 1_800_000_000.0


@pytest.fixture
def in_berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10m", 600), ("2h", 7200), ("1h30m", 5400), ("500ms", 0.5), ("3d", 259200), ("1d12h", 129600), ("0s", 0)],
)
def test_spans_are_before_now(text: str, seconds: float) -> None:
    assert parse_since(text, NOW) == NOW - seconds


def test_nothing_is_before_1970() -> None:
    assert parse_since("365d", 5.0) == 0.0
    assert parse_since("1969-12-31T00:00Z", NOW) == 0.0


@pytest.mark.parametrize(("text", "seconds"), [("1700000000", 1.7e9), ("1700000000.25", 1700000000.25)])
def test_seconds_since_1970(text: str, seconds: float) -> None:
    assert parse_since(text, NOW) == seconds


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-24", (2026, 11, 24, 0, 0, 0)),
        ("2026-11-24T10:30", (2026, 11, 24, 10, 30, 0)),
        ("2026-07-24 10:30:05", (2026, 7, 24, 10, 30, 5)),
    ],
)
def test_times_without_a_zone_are_local(in_berlin: None, text: str, moment: tuple[int, ...]) -> None:
    hours = 2 if moment[1] == 7 else 1
    expected = datetime(*moment, tzinfo=timezone(timedelta(hours=hours)))  # type: ignore[arg-type,misc]
    assert parse_since(text, NOW) == expected.timestamp()


@given(st.integers(86400, 4_100_000_000), st.integers(0, 999_999), st.integers(-14 * 60, 14 * 60))
def test_iso_times_mean_what_the_standard_library_says(seconds: int, micros: int, minutes: int) -> None:
    moment = datetime.fromtimestamp(seconds, UTC).replace(microsecond=micros)
    zoned = moment.astimezone(timezone(timedelta(minutes=minutes)))
    assert parse_since(zoned.isoformat(), NOW) == pytest.approx(zoned.timestamp(), abs=1e-5)
    utc = moment.replace(microsecond=0)
    assert parse_since(utc.isoformat().replace("+00:00", "Z"), NOW) == utc.timestamp()


def test_offsets_may_leave_out_the_colon_or_the_minutes() -> None:
    expected = datetime(2026, 11, 24, 9, tzinfo=UTC).timestamp()
    for offset in ("+01:00", "+0100", "+01"):
        assert parse_since(f"2026-11-24T10:00{offset}", NOW) == expected


@pytest.mark.parametrize(
    "text",
    [
        *["", "10", "yesterday", "-5m", "5 m", "1700", "d", "xd", "1dx", "2026-1-1", "2026-11-24T", "2026-11-24X10:00"],
        *["2026-02-30", "2026-13-01", "2026-00-10", "2026-11-24T25:00", "2026-11-24T10:60", "2026-11-24T10:00:61"],
        *["2026-02-30T00:00Z", "2026-13-01T00:00Z", "2026-11-24T24:00Z", "2026-11-24T10:00+1", "2026-11-24T10:00.5.5"],
        *["2026-11-24TZ", "2026-11-24T+01:00", "2026-11-24T.5", "٢٠٢٦-11-24", "0000-00-00T00:00Z"],
    ],
)
def test_anything_else_is_an_error_that_names_the_forms(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_since(text, NOW)
    assert "10m" in caught.value.hint


@given(st.text(max_size=30))
def test_no_text_breaks_it(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert parse_since(text, NOW) >= 0
