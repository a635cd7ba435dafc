"""`--help` of the commands that hand their words to Compose, and so cannot be parsed by argparse."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

MODE_FLAGS = (
    ("--mode local|cloud", "choose the mode instead of detecting it"),
    ("-c, --config FILE", "cloud configuration to use; means Cloud Mode"),
    ("--debug", "trace what is done"),
)
DRY_RUN_FLAGS = (
    ("--dry-run", "resolve everything, show what each service would get (never values), start nothing"),
    ("--format table|json", "how --dry-run shows it"),
)
COMPOSE_FLAGS = (
    "-f, -p, --profile, --env-file and --project-directory go behind the command, and not before it;\n"
    "they and the COMPOSE_* variables work as in Compose."
)


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    usage: str,
    flags: Sequence[tuple[str, str]],
    notes: str,
) -> None:
    """Add a parser that serves `--help`, completion and the man pages only."""
    import argparse

    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        usage=f"docker dso {name} {usage}",
        epilog=notes,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_flags(parser, "flags of DSO's own", flags)
    parser.set_defaults(run=None)


def add_flags(parser: argparse.ArgumentParser, title: str, flags: Sequence[tuple[str, str]]) -> None:
    """Add flags written as help shows them, such as `-c, --config FILE` and `--mode local|cloud`."""
    group = parser.add_argument_group(title)
    for written, text in flags:
        *short, last = written.split(", ")
        name, _, takes = last.partition(" ")
        if not takes:
            group.add_argument(*short, name, action="store_true", help=text)
        else:
            choices = takes.split("|") if "|" in takes else None
            group.add_argument(*short, name, metavar=takes, choices=choices, help=text)
