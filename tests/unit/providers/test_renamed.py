"""Paths that become another name in a backend."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dso.providers import renamed as module
from dso.providers.renamed import PATHS, Renamed

if TYPE_CHECKING:
    import pytest


def test_another_path_of_one_name_is_told_with_the_first_and_once() -> None:
    renamed = Renamed()
    assert renamed.add("a/b", "a-b") == []
    assert renamed.add("a/b", "a-b") is None
    assert renamed.add("a-b", "a-b") == ["a/b"]
    assert renamed.add("a-b", "a-b") is None
    assert renamed.add("a/c", "a-c") == []


def test_paths_that_the_backend_does_not_tell_apart_are_one() -> None:
    renamed = Renamed(str.lower)
    assert renamed.add("A", "A") == []
    assert renamed.add("a", "a") is None
    assert renamed.add("A/B", "A-B") == []
    assert renamed.add("a-b", "a-b") == ["A/B"]


def test_what_is_remembered_has_bounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMEMBERED", 3)
    renamed = Renamed()
    told = [renamed.add(f"{number}/x", "same") for number in range(2 * PATHS)]
    assert [others is None for others in told] == [False] * PATHS + [True] * PATHS
    for number in range(3):
        renamed.add(f"a/{number}", f"a-{number}")
    assert renamed.add("new", "same") == [], "the oldest name was forgotten"
