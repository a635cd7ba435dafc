"""Paths that could become other ones reach no provider, and legal ones do."""

from __future__ import annotations

import sys
import unicodedata
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.protocol.backend_path import LOOK_ALIKES, MAX_PATH, path_fault

LEGAL = [
    "prod/db",
    "/prod/db",  # AWS tells it from prod/db
    "a/b/c_d.e-f+g=h@i",
    "arn:aws:secretsmanager:eu-west-1:123456789012:secret:prod/db-AbCdEf",
    "team a/100% sure",  # HashiCorp's KV
    "what?/this#that&more;less",
    "..hidden/...a/a..b/.x",
    "\u00fcml\u00e4ut/\u65e5\u672c/\U0001f600",
    "50%zz",
    "50%",
    "5%u",
    "AWSPREVIOUS",
    "v3",
    "x" * MAX_PATH,
]
ILLEGAL = [
    *["", "/", "//", "a/", "//a", "a//b", "x" * (MAX_PATH + 1)],
    *[
        ".",
        "..",
        "...",
        "a/..",
        "../a",
        "a/./b",
        "/..",
        "a/.. /b",
        "a/ ../b",
        "a/..;/b",
        "a/..;x=1/b",
        "a/;/b",
        " ",
        "a/ /b",
    ],
    *[
        "%2e%2e/a",
        "a/%2E%2E/b",
        "%252e%252e/a",
        "a%2fb",
        "a%5cb",
        "a%00",
        "a%25b",
        "%u002e%u002e/a",
        "%U002Eb",
        "%c0%ae",
    ],
    *["a%\uff12\uff45", "a%2\uff45", "%u\uff10\uff10\uff12e"],
    *["..\\a", "a\\b", "\\\\server\\share"],
    *[
        "a\0",
        "a\nb",
        "a\rb",
        "a\tb",
        "\x1b[2J",
        "a\x7f",
        "\x85",
        "\u202ea",
        "a\u200bb",
        "\ufeffa",
        "\ud800",
        "a\u00a0b",
    ],
    *[
        "\uff0e\uff0e/a",
        "a/\u2024\u2024/b",
        "\u2025/a",
        "\u2026",
        "a\uff0fb",
        "a\u2215b",
        "a\u2044b",
        "a\uff3cb",
        "\ufe52\ufe52/a",
    ],
    *["\uff052e\uff052e/a", "\u3002\u3002/a", "\uff61\uff61/a", "\u2488", "\u2105", "\ufe68", "a\u29f8b", "a\u2216b"],
]


@pytest.mark.parametrize("path", LEGAL)
def test_what_a_backend_may_have_is_left_alone(path: str) -> None:
    assert path_fault(path) is None


@pytest.mark.parametrize("path", ILLEGAL)
def test_what_could_become_another_path_is_refused(path: str) -> None:
    fault = path_fault(path)
    assert fault is not None
    assert fault.isprintable()


def test_characters_that_normalization_makes_special_are_known() -> None:
    special = set("./\\%")
    found = {
        character
        for character in map(chr, range(0x80, sys.maxunicode + 1))
        if character.isprintable() and special & set(unicodedata.normalize("NFKC", character))
    }
    assert found <= LOOK_ALIKES
    assert LOOK_ALIKES - found == set("\u2044\u2215\u29f8\u2216\u29f5\u3002\uff61")


PIECES = [
    "a",
    "b",
    ".",
    "..",
    "/",
    "%",
    "2",
    "e",
    "E",
    "f",
    "5",
    "c",
    "%2e",
    "%2f",
    "%25",
    "\\",
    " ",
    ";",
    "\uff0e",
    "\u2024",
    "u002e",
]


def resolved(text: str) -> list[str]:
    """Where a server ends up that resolves dots."""
    found: list[str] = []
    for segment in text.split("/"):
        plain = segment.partition(";")[0].strip()
        if plain == "..":
            found = found[:-1]
        elif plain not in ("", "."):
            found.append(segment)
    return found


@given(st.lists(st.sampled_from(PIECES), max_size=14).map("".join))
def test_no_accepted_path_means_another_one_however_often_it_is_decoded(path: str) -> None:
    if path_fault(path) is not None:
        return
    expected = path.removeprefix("/").split("/")
    decoded = path
    for _ in range(4):
        assert resolved(decoded) == expected
        assert resolved(unicodedata.normalize("NFKC", decoded).replace("\\", "/")) == expected
        decoded = unquote(decoded)
    assert decoded == path
