"""`docker dso version`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("version", help="Show the version", description="Show DSO's version.")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the version; JSON has `version` and `vendor`."""
    from dso.version import VENDOR, VERSION

    if args.format == "json":
        from dso.cli.output import print_json

        print_json({"version": VERSION, "vendor": VENDOR})
    else:
        print(f"docker-dso {VERSION}")
    return 0
