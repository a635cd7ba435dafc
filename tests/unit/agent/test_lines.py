"""A plugin's standard error on its way to the log."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dso.agent.lines import MAX_LINE_BYTES, LogLines


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def lines_of(*parts: bytes) -> list[str]:
    found: list[str] = []
    lines = LogLines(found.append, Clock())
    for part in parts:
        lines.feed(part)
    lines.close()
    return found


@given(st.lists(st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.integers(1, 30))
def test_lines_are_the_same_however_they_are_cut(lines: list[bytes], size: int) -> None:
    data = b"\n".join(lines)
    whole = lines_of(data)
    assert lines_of(*(data[start : start + size] for start in range(0, len(data), size))) == whole
    assert all(line.isprintable() for line in whole)


def test_last_line_needs_no_end_and_empty_ones_are_left_out() -> None:
    assert lines_of(b"one\n\n  \ntwo") == ["one", "two"]


def test_long_line_is_cut_once_and_the_next_is_whole() -> None:
    data = b"x" * (3 * MAX_LINE_BYTES) + b"\nnext\n"
    expected = ["x" * MAX_LINE_BYTES + " [cut]", "next"]
    assert lines_of(data) == expected
    assert lines_of(*(data[start : start + 1000] for start in range(0, len(data), 1000))) == expected
    assert lines_of(b"x" * MAX_LINE_BYTES + b"\n") == ["x" * MAX_LINE_BYTES]


def test_nothing_in_it_can_mislead_a_terminal_or_forge_a_line() -> None:
    assert lines_of(b"a\x1b[2J\rb\tc\xff\n") == ["a\\x1b[2J\\rb c\N{REPLACEMENT CHARACTER}"]


def test_flood_is_thinned_and_its_size_told() -> None:
    found: list[str] = []
    clock = Clock()
    lines = LogLines(found.append, clock)
    lines.feed(b"x\n" * 10_000)
    assert len(found) == 500
    clock.now = 1.0
    lines.feed(b"y\n")
    assert found[500:] == ["[9500 lines left out: more than 50 a second]", "y"]
    lines.close()
    assert len(found) == 502


def test_lines_that_are_left_out_are_counted_and_not_looked_at() -> None:
    found: list[str] = []
    seen: list[str] = []

    def redact(text: str) -> str:
        seen.append(text)
        return text

    for line in (b"x\n", b"\n", b" \n", b"y" * 20_000 + b"\n"):
        seen.clear()
        lines = LogLines(found.append, clock := Clock(), redact)
        for _ in range(10):
            lines.feed(line * 1000)
        assert len(seen) == 500
        assert lines.is_flooded
        clock.now += 0.1
        assert not lines.is_flooded
        found.clear()
        lines.feed(b"next\n")
        assert found == ["[9500 lines left out: more than 50 a second]", "next"]
        lines.feed(line * 1000)
        assert len(seen) == 505


def test_a_line_without_an_end_is_a_flood_once_it_is_cut() -> None:
    found: list[str] = []
    lines = LogLines(found.append, Clock())
    lines.feed(b"x" * 10_000)
    assert not lines.is_flooded
    lines.feed(b"x" * 10_000)
    assert lines.is_flooded
    lines.feed(b"x\nnext")
    assert not lines.is_flooded


def test_a_credential_at_the_cut_is_masked_whole() -> None:
    secret = "canary" * 100
    for before in (0, 1000, MAX_LINE_BYTES - 300, MAX_LINE_BYTES + 7900):
        for after in (0, 10_000):
            found: list[str] = []
            lines = LogLines(found.append, Clock(), lambda text: text.replace(secret, "***"))
            lines.feed(b"x" * before + secret.encode() + b"y" * after + b"\n")
            assert "canary" not in found[0]
            assert len(found[0]) <= MAX_LINE_BYTES + len(" [cut]")
