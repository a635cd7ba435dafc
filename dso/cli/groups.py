"""Commands that are groups of further ones: `secret set`, `vault check`."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable
    from typing import Protocol

    class AddCommand(Protocol):
        """Adds one command of the group and says what runs it."""

        def __call__(
            self, name: str, summary: str, action: Callable[[argparse.Namespace], int], /
        ) -> argparse.ArgumentParser:
            """Returns the command's parser, for its arguments."""


def add_group(
    subparsers: argparse._SubParsersAction[argparse.ArgumentParser],
    name: str,
    summary: str,
    description: str,
    epilog: str,
) -> AddCommand:
    """Add a command that is a group; returns what adds its commands."""
    import argparse

    parser = subparsers.add_parser(
        name,
        help=summary,
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    # With `prog` argparse need not format a usage line for it, which would import shutil.
    commands = parser.add_subparsers(
        title="commands", metavar="COMMAND", dest="action", required=True, prog=parser.prog
    )

    def add(command: str, help_text: str, action: Callable[[argparse.Namespace], int], /) -> argparse.ArgumentParser:
        added = commands.add_parser(command, help=help_text, description=f"{help_text}.")
        added.set_defaults(run=action)
        return added

    return add
