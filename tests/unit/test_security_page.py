"""docs/security.md names the tests that show what it says, and they are there."""

from __future__ import annotations

import os
import re

from tests.support.process import ROOT

_NAMED = re.compile(r"`((?:[a-z_]+/)*)(test_\w+\.py|provider_contract\.py)`|`((?:[a-z_]+/)+)`")
_TESTS = os.path.join(ROOT, "tests")


def _page() -> str:
    with open(os.path.join(ROOT, "docs", "security.md"), encoding="utf-8") as file:
        return file.read()


def test_every_test_that_the_page_names_is_there() -> None:
    known = {name for _, _, names in os.walk(_TESTS) for name in names}
    missing = [
        folder or directory + name
        for directory, name, folder in _NAMED.findall(_page())
        if not (os.path.exists(os.path.join(_TESTS, folder or directory + name)) or (not directory and name in known))
    ]
    assert missing == []


def test_every_attacker_has_a_test() -> None:
    table = _page().partition("## Who attacks")[2].partition("\n## ")[0]
    rows = [line for line in table.splitlines() if line.startswith("|")][2:]
    assert len(rows) > 15
    assert [row for row in rows if not _NAMED.search(row.rsplit("|", 2)[1])] == []
