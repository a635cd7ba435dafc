"""`docker dso down`: stop and remove the stack, and its file secrets with it."""

from __future__ import annotations

from dso.cli.compose_help import COMPOSE_FLAGS, MODE_FLAGS, add_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from dso.cli.invocation import Invocation


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser, for its help."""
    add_command(
        subparsers,
        "down",
        "Stop and remove the stack and its secrets",
        "Run `docker compose down` and remove the stack's file secrets. Needs neither vault nor key.",
        "[COMPOSE FLAGS] [SERVICE...]",
        MODE_FLAGS,
        f"Every flag of `docker compose down` works.\n{COMPOSE_FLAGS}",
    )


def run(invocation: Invocation) -> int:
    """Run it; returns Compose's exit code."""
    from dso.cli.handover import run_compose

    return run_compose(invocation, "down")
