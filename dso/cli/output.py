"""How results and messages look: results on stdout, everything else on stderr."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def visible(text: str) -> str:
    """The text with what could steer a terminal spelled out; newlines and tabs stay."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() or each in "\n\t" else each.encode("unicode_escape", "replace").decode()
        for each in text
    )


def note(message: str) -> None:
    """Tell the user something on stderr."""
    print(f"[DSO] {visible(message)}", file=sys.stderr, flush=True)


def warn(message: str) -> None:
    """Warn the user on stderr."""
    note(f"warning: {message}")


def print_error(message: str, hint: str = "") -> None:
    """`Error: what happened`, and on the next line what to do next."""
    print(f"Error: {visible(message)}", file=sys.stderr)
    for line in hint.splitlines():
        print(f"  hint: {visible(line)}", file=sys.stderr)
    sys.stderr.flush()


def print_table(headers: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its longest cell, headers in capitals as Docker's are."""
    lines = [tuple(header.upper() for header in headers), *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(headers))]
    for line in lines:
        print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def print_json(value: object) -> None:
    """Print JSON, indented, keys in the order given."""
    import json

    print(json.dumps(value, indent=2, ensure_ascii=False))


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


def duration(seconds: float) -> str:
    """A time span in its largest unit, as ages are shown: `8 s`, `12 min`, `3 h`, `2 d`."""
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{int(seconds // size)} {unit}"
    return f"{int(seconds)} s"
