"""`allow`: words that do not go together are an error, and nothing is done or left out silently."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.unit.cli.conftest import User


@pytest.mark.parametrize("words", [["--list", "shop"], ["--format", "json"], ["--format", "table", "shop"]])
def test_words_that_do_not_go_together_grant_and_list_nothing(user: User, words: list[str]) -> None:
    done = user.dso("allow", *words)
    assert (done.code, done.out) == (125, "")
    assert "--list" in done.err
    assert user.ok("allow", "--list").out == ""
