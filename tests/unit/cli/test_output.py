"""What is printed for people, and that nothing is printed past it."""

from __future__ import annotations

import ast
import json
import os
import shutil

import pytest

from dso.cli import output
from dso.cli.output import note, print_error, print_json, print_table, say, say_names, terminal_width
from dso.system import terminal
from tests.support.imports import sources

HOSTILE = "x\x1b[2J\x9b31m\u202e\x7f\r\ny\u2028"
SHOWN = "x\\x1b[2J\\x9b31m\\u202e\\x7f\\r\\ny\\u2028"

# What may write past `dso.cli.output`, and why that shows nobody else's text.
RAW = {
    ("dso.cli.cmd_secret", "write_value"): "a secret's exact bytes, which the user asked for; a terminal has a say",
    ("dso.cli.plaintext", "write_value"): "the same",
    ("dso.cli.plaintext", "write_out"): "the same",
    ("dso.entry.failure", "tell"): "text of our own, before anything else can be imported",
    ("dso.entry.metadata", "answer_and_exit"): "text of our own",
    ("dso.providers.process", "_run"): "text of our own",
    ("dso.providers.process", "_report"): "made visible there: `sys.stderr` may be gone by then",
}
SHOW = {"visible", "visible_lines", "visible_json", "error_text", "foreign_lines", "json_text"}


@pytest.mark.parametrize("text", ["plain words: äöü", HOSTILE])
def test_nothing_in_what_is_printed_steers_the_terminal_or_begins_a_line(
    text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shown = text if text.isprintable() else SHOWN
    print_error(text, text)
    note(text)
    say(text)
    say_names([text])
    print_table(("a", "b"), [(text, "z")])
    printed = capsys.readouterr()
    hint = f"  hint: {shown}".replace("\\r\\n", "\\r\n  hint: ")  # a hint has several lines, each marked as one
    assert printed.err == f"Error: {shown}\n{hint}\n[DSO] {shown}\n"
    assert printed.out.split("\n") == [shown, shown, f"{'A'.ljust(len(shown))}   B", f"{shown}   z", ""]


def test_json_means_the_same_and_steers_no_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({HOSTILE: [HOSTILE]})
    out = capsys.readouterr().out
    assert json.loads(out) == {HOSTILE: [HOSTILE]}
    assert all(each.isprintable() or each == "\n" for each in out)


def test_what_compose_says_is_made_visible_and_cannot_pass_for_ours(capsys: pytest.CaptureFixture[str]) -> None:
    output.show_stderr(b"two\nlines \x1b[2J\xff\nError: x\n  hint: y\n[DSO] z\n\n")
    assert capsys.readouterr().err == "two\nlines \\x1b[2J\\xff\\nError: x\\n  hint: y\\n[DSO] z\n\n"


def test_a_question_is_made_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = os.openpty()
    name = os.ttyname(theirs)
    opened = os.open
    monkeypatch.setattr(os, "open", lambda path, *rest: opened(name if path == "/dev/tty" else path, *rest))
    os.write(ours, b"y\n")
    assert terminal.confirm(f"Remove {HOSTILE}?")
    os.write(ours, b"no\n")
    assert terminal.ask_line(HOSTILE) == "no"
    shown = os.read(ours, 4096).decode()
    lines = SHOWN.replace("\\n", "\r\n")  # a question may have several lines
    assert f"Remove {lines}? [y/N] " in shown
    assert not set(shown) & set("\x1b\x9b\u202e\x7f")


def test_nothing_prints_but_the_functions_that_make_text_visible() -> None:
    found = [one for module, source in sources() for one in _writes(module, ast.parse(source))]
    assert {(module, function) for module, function, _ in found} <= RAW.keys(), "\n".join(map(str, found))


@pytest.mark.parametrize(
    "source",
    [
        *[
            "print(x)",
            "print(f'{x}')",
            "print('a', x)",
            "input(x)",
            "sys.stdout.write(x)",
            "sys.stderr.buffer.write(x)",
        ],
        *[
            "os.write(1, x)",
            "write_all(2, x)",
            "from sys import stdout",
            "print(visible(a), b)",
            "print(a, end=visible(b))",
        ],
    ],
)
def test_the_check_finds_what_prints_past_them(source: str) -> None:
    assert list(_writes("dso.cli.new", ast.parse(f"def run():\n    {source}"))) == [("dso.cli.new", "run", 2)]


def _writes(module: str, tree: ast.AST, function: str = "") -> list[tuple[str, str, int]]:
    found = []
    for node in ast.iter_child_nodes(tree):
        inside = node.name if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) else function
        if _prints(node):
            found.append((module, inside, int(getattr(node, "lineno", 0))))
        else:
            found += _writes(module, node, inside)
    return found


def _prints(node: ast.AST) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.module == "sys" and any(one.name in ("stdout", "stderr") for one in node.names)
    if not isinstance(node, ast.Call):
        return False
    called = ast.unparse(node.func)
    if called == "print":
        ends = [one.value for one in node.keywords if one.arg in ("end", "sep")]
        return not all(isinstance(one, ast.Constant) or _is_visible(one) for one in (*node.args, *ends))
    if called in ("os.write", "write", "write_all", "posix.write"):
        return isinstance(node.args[0], ast.Constant) and node.args[0].value in (1, 2)
    streams = ("sys.stdout.", "sys.stderr.")
    writes = called.startswith(streams) and called.endswith((".write", ".writelines"))
    return called in ("input", "breakpoint") or (writes and not _is_visible(node.args[0]))


def _is_visible(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in SHOW


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


@pytest.mark.parametrize(("number", "shown"), [(0, "0 references"), (1, "1 reference"), (2, "2 references")])
def test_one_is_not_a_plural(number, shown):
    assert output.counted(number, "reference") == shown
