"""The argparse parser that `--help`, the man pages and completion share."""

from __future__ import annotations

import argparse

from dso.cli.commands import COMMANDS, load
from dso.cli.output import terminal_width
from dso.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

DESCRIPTION = "Start Compose stacks with their secrets, without plaintext on disk."
EPILOG = "Run `docker dso COMMAND --help` for more on a command."
GLOBAL_FLAGS = (
    ("--mode local|cloud", "choose the mode instead of detecting it"),
    ("-c, --config FILE", "cloud configuration to use; means Cloud Mode"),
    ("--debug", "trace what is done, and show tracebacks (never values)"),
)


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that reports mistakes the way all of DSO does."""

    def _get_formatter(self) -> argparse.HelpFormatter:
        """As argparse's, which is asked for with every `add_argument` and imports shutil for the terminal's width."""
        return self.formatter_class(prog=self.prog, width=terminal_width() - 2)  # type: ignore[call-arg]

    def error(self, message: str) -> NoReturn:
        """Raise UsageError instead of printing and exiting."""
        raise UsageError(message, hint=f"see `{self.prog} --help`")


def build_parser(only: str | None = None) -> Parser:
    """The parser of all commands, or of one: a run needs no more than its own.

    That of all has the flags for every command too, for who reads it; `dso.cli.invocation` is what takes them.
    """
    parser = Parser(
        prog="docker dso",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # With `prog` argparse need not format a usage line for it, which would import shutil.
    subparsers = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="command", required=True, prog=parser.prog
    )
    for command in [only] if only else COMMANDS:
        load(command).register(subparsers)
    if not only:
        from dso.cli.compose_help import add_flags

        add_flags(parser, "flags for every command", GLOBAL_FLAGS)
    return parser
