"""What is printed for people."""

import os
import shutil

import pytest

from dso.cli.output import note, print_error, terminal_width, visible


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


@pytest.mark.parametrize("columns", [None, "", "72", "0", "-5", "wide"])
@pytest.mark.parametrize("terminal", [None, 0, 133])
def test_lines_are_as_wide_as_argparse_would_have_them(columns, terminal, monkeypatch):
    def size(_descriptor: int) -> os.terminal_size:
        if terminal is None:
            raise OSError
        return os.terminal_size((terminal, 24))

    monkeypatch.setattr(os, "get_terminal_size", size)
    if columns is None:
        monkeypatch.delenv("COLUMNS", raising=False)
    else:
        monkeypatch.setenv("COLUMNS", columns)
    assert terminal_width() == shutil.get_terminal_size().columns
