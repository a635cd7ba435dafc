"""What is printed for people."""

import pytest

from dso.cli.output import note, print_error, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain words: äöü", "plain words: äöü"),
        ("two\nlines\tand a tab", "two\nlines\tand a tab"),
        ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        ("turned \u202e around", "turned \\u202e around"),
    ],
)
def test_nothing_in_a_message_steers_the_terminal(text, shown, capsys):
    assert visible(text) == shown
    print_error(text)
    note(text)
    assert capsys.readouterr().err == f"Error: {shown}\n[DSO] {shown}\n"
