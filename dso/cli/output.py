"""How results and messages look: results on stdout, everything else on stderr.

All that the command line prints goes through these functions, which make visible what others wrote
(`dso.system.visible`); a test sees to it that nothing else prints. A secret's exact bytes, where the user asks for
them, are written by `dso.cli.plaintext` and `secret get`.
"""

from __future__ import annotations

import os
import sys

from dso.system.visible import error_text, foreign_lines, visible, visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence


def say(line: str = "", *, flush: bool = False) -> None:
    """Print one line of a result; a line end in it does not begin another."""
    print(visible(line), flush=flush)


def say_lines(text: str) -> None:
    """Print a result of several lines; where they hold names of others', make those visible first."""
    print(visible_lines(text))


def say_names(names: Iterable[str]) -> None:
    """Print what -q prints: a name a line."""
    for name in names:
        print(visible(name))


def note(message: str) -> None:
    """Tell the user something on stderr, in one line."""
    tell(f"[DSO] {message}")


def tell(line: str) -> None:
    """Print one line on stderr."""
    print(visible(line), file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Warn the user on stderr."""
    note(f"warning: {message}")


def show_stderr(said: bytes) -> None:
    """Pass on what a program we started said on its standard error."""
    print(foreign_lines(said.decode("utf-8", "surrogateescape")), end="", file=sys.stderr, flush=True)


def print_error(message: str, hint: str = "") -> None:
    """`Error: what happened`, and on the next line what to do next."""
    print(error_text(message, hint), file=sys.stderr, flush=True)


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its longest cell, headers in capitals as Docker's are."""
    lines = [tuple(header.upper() for header in headers), *(tuple(map(visible, row)) for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        print(visible("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()))


def print_json(value: object) -> None:
    """Print JSON, indented, keys in the order given."""
    print(json_text(value))


def json_text(value: object) -> str:
    """JSON for people and programs: indented, in UTF-8, and everything that is not printable escaped as JSON has it."""
    import json

    from dso.system.visible import visible_json

    return visible_json(json.dumps(value, indent=2, ensure_ascii=False))


def clear_screen() -> None:
    """Erase the display, for what is shown again and again."""
    print("\x1b[H\x1b[2J", end="")  # cursor home, erase the display (ECMA-48)


def terminal_width() -> int:
    """The terminal's width in characters, $COLUMNS before what standard output says; 80 if neither knows."""
    try:
        given = int(os.environ.get("COLUMNS", ""))
    except ValueError:
        given = 0
    if given > 0:
        return given
    try:
        return os.get_terminal_size(1).columns or 80
    except OSError:
        return 80


def add_list_options(parser: argparse.ArgumentParser) -> None:
    """`--format table|json` and `-q`, which every command that lists things takes."""
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    parser.add_argument("-q", "--quiet", action="store_true", help="print names only")


def local_time(epoch: int) -> str:
    """Seconds since 1970 as local time, `2026-11-23 22:41:05`."""
    import time

    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))


def counted(number: int, noun: str) -> str:
    """A number with its noun, in the plural where there is not one: `1 reference`, `2 references`."""
    return f"{number} {noun}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """A time span in its largest unit, as ages are shown: `8 s`, `12 min`, `3 h`, `2 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
