"""Cold starts: measured only where the page cache is really emptied, and the page says how."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.bench import pagecache
from tests.bench.felt import COLD, ROWS, felt_text
from tests.bench.measure import Series

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def program(tmp_path: Path) -> str:
    path = tmp_path / "program"
    path.write_bytes(b"code")
    return str(path)


def answers(monkeypatch: pytest.MonkeyPatch, *cached: bool) -> None:
    """What `is_cached` says, one after the other."""
    left = iter(cached)
    monkeypatch.setattr(pagecache, "is_cached", lambda _path: next(left))


def test_root_empties_the_whole_cache(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, True, False)
    found = pagecache.find_eviction([program], str(tmp_path / "drop_caches"))
    assert found
    assert "drop_caches" in found.how
    assert (tmp_path / "drop_caches").read_text() == "3"


def test_others_have_the_files_forgotten(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, True, True, False)
    found = pagecache.find_eviction([program], str(tmp_path / "missing" / "drop_caches"))
    assert found
    assert "posix_fadvise" in found.how
    found.evict()


def test_a_way_without_effect_is_none(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, True, True, True, True)
    assert pagecache.find_eviction([program], str(tmp_path / "drop_caches")) is None


def test_a_file_system_that_cannot_say_counts_as_none(program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def is_cached(_path: str) -> bool:
        raise OSError

    monkeypatch.setattr(pagecache, "is_cached", is_cached)
    assert pagecache.find_eviction([program], str(tmp_path / "drop_caches")) is None


def test_what_was_just_read_is_cached(program: str):
    with open(program, "rb") as file:
        file.read()
    assert pagecache.is_cached(program)


def every_series(*suffixes: str) -> dict[str, Series]:
    keys = {key + suffix for row in ROWS for key in row[1:] for suffix in suffixes}
    return {key: Series(key, key, [10.0] * 3, [10.0] * 3) for key in keys}


def test_the_page_says_how_the_cache_was_emptied():
    text = felt_text(every_series("", COLD), "was emptied (`drop_caches`)")
    assert text.count("1.00 x") == 2 * len(ROWS)
    assert "before each run the page cache was emptied (`drop_caches`)" in text


def test_the_page_says_why_there_is_no_cold_figure():
    text = felt_text(every_series(""), None)
    assert text.count("1.00 x") == len(ROWS)
    assert "no figures for a cold start, since this machine's page cache cannot be emptied" in text
