"""Moments as `--since` takes them."""

from __future__ import annotations

from dso.errors import UsageError

FORMS = "a time span such as 10m, 2h or 3d, 2026-11-24, 2026-11-24T10:30[:00][Z|+01:00], or seconds since 1970"
_DAY = 86400
_EPOCH_DIGITS = 9  # fewer are no time since 1970 that anybody means, but a span without its unit
_DATE, _TIME, _SHORT_TIME, _OFFSET = "dddd-dd-dd", "dd:dd:dd", "dd:dd", "dd:dd"


def parse_since(text: str, now: float) -> float:
    """The moment in seconds since 1970, and no earlier one; a date or time without a zone is this machine's.

    Raises:
        UsageError: it is none of the forms.
    """
    found = _span(text)
    if found is not None:
        return max(now - found, 0.0)
    if _is_number(text) and len(text.partition(".")[0]) >= _EPOCH_DIGITS:
        return float(text)
    moment = _calendar(text)
    if moment is None:
        raise UsageError(f"--since: {text!r} is no time", hint=f"give {FORMS}")
    return max(moment, 0.0)


def _span(text: str) -> float | None:
    from dso.config.duration import parse_duration

    days, d, rest = text.partition("d")
    try:
        if d and _is_digits(days) and len(days) < _EPOCH_DIGITS:
            return int(days) * _DAY + (parse_duration(rest) if rest else 0.0)
        return parse_duration(text)
    except ValueError:
        return None


def _calendar(text: str) -> float | None:
    """ISO 8601, as far as people write it; None if it is not."""
    date, rest = text[:10], text[10:]
    if not _has_form(date, _DATE) or (rest and rest[0] not in "T "):
        return None
    zone: int | None = None
    clock = rest[1:]
    if rest and not clock:
        return None
    if clock.endswith("Z"):
        clock, zone = clock[:-1], 0
    else:
        sign = next((each for each in "+-" if each in clock), "")
        if sign:
            clock, _, offset = clock.partition(sign)
            zone = _offset(sign, offset)
            if zone is None:
                return None
    clock, dot, fraction = clock.partition(".")
    if (dot and not _is_digits(fraction)) or not any(_has_form(clock, form) for form in ("", _SHORT_TIME, _TIME)):
        return None
    if not clock and (zone is not None or dot):
        return None
    parts = [int(part) for part in (*date.split("-"), *filter(None, clock.split(":")))]
    year, month, day, hour, minute, second = (*parts, 0, 0, 0)[:6]
    whole = _seconds((year, month, day, hour, minute, second), zone)
    return None if whole is None else whole + float(f"0.{fraction or 0}")


def _seconds(moment: tuple[int, int, int, int, int, int], zone: int | None) -> float | None:
    """Seconds since 1970; None for a day or an hour that does not exist."""
    import time

    try:
        if zone is None:
            seconds = time.mktime((*moment, 0, 0, -1))
            written = time.localtime(seconds)
        else:
            year, month, day, hour, minute, second = moment
            seconds = float(_days(year, month, day) * _DAY + hour * 3600 + minute * 60 + second)
            written = time.gmtime(seconds)
    except (OverflowError, ValueError, OSError):
        return None
    is_real = written[:3] == moment[:3] and moment[3] < 24 and moment[4] < 60 and moment[5] < 60  # noqa: PLR2004
    return seconds - (zone or 0) if is_real else None


def _days(year: int, month: int, day: int) -> int:
    """Days since 1970 of the Gregorian calendar, whose years are counted from March so that leap days come last."""
    year -= month < 3  # noqa: PLR2004
    since_march = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return 365 * year + year // 4 - year // 100 + year // 400 + since_march - 719468


def _offset(sign: str, text: str) -> int | None:
    if _has_form(text, "dddd"):
        text = text[:2] + ":" + text[2:]
    elif _has_form(text, "dd"):
        text += ":00"
    if not _has_form(text, _OFFSET):
        return None
    hours, _, minutes = text.partition(":")
    return (-1 if sign == "-" else 1) * (int(hours) * 3600 + int(minutes) * 60)


def _has_form(text: str, form: str) -> bool:
    return len(text) == len(form) and all(
        _is_digits(each) if mark == "d" else each == mark for each, mark in zip(text, form, strict=True)
    )


def _is_digits(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _is_number(text: str) -> bool:
    whole, dot, fraction = text.partition(".")
    return _is_digits(whole) and (not dot or _is_digits(fraction))
