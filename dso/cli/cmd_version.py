"""`docker dso version`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("version", help="Show the version", description="Show DSO's version.")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    parser.set_defaults(run=run)


def run_plain(words: Sequence[str]) -> int | None:
    """Run `version` without a flag; None if there is one (see `dso.cli.main`)."""
    if words:
        return None
    print_version("table")
    return 0


def run(args: argparse.Namespace) -> int:
    """Print the version as the flag says."""
    print_version(args.format)
    return 0


def print_version(form: str) -> None:
    """Print the version; JSON has `version` and `vendor`."""
    from dso.version import VENDOR, VERSION

    if form == "json":
        from dso.cli.output import print_json

        print_json({"version": VERSION, "vendor": VENDOR})
    else:
        from dso.cli.output import say

        say(f"docker-dso {VERSION}")
