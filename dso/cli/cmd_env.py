"""`docker dso env`: `.env` files into the vault, and out of it."""

from __future__ import annotations

from dso.cli.env_export import register_export
from dso.cli.env_import import register_import

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

_DESCRIPTION = "Import .env files into the vault and export them from it, in exactly the grammar Compose reads."


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser("env", help="Import and export .env files", description=_DESCRIPTION)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", dest="action", required=True)
    register_import(commands)
    register_export(commands)
