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
COMPOSE_FLAGS = "-f, -p, --profile, --env-file, --project-directory and the COMPOSE_* variables work as in Compose."


def add_command(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    usage: str,
    flags: Sequence[tuple[str, str]],
    notes: str,
) -> None:
    """Add a parser that serves `--help` and the man pages only."""
    import argparse

    shown = "\n".join(f"  {flag:<22} {text}" for flag, text in flags)
    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        usage=f"docker dso {name} {usage}",
        epilog=f"flags of DSO's own:\n{shown}\n\n{notes}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=None)
