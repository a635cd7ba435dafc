"""`docker dso up`: start the stack with its secrets."""

from __future__ import annotations

from dso.cli.compose_help import COMPOSE_FLAGS, DRY_RUN_FLAGS, MODE_FLAGS, add_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from dso.cli.invocation import Invocation


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser, for its help."""
    add_command(
        subparsers,
        "up",
        "Start the stack with its secrets",
        "Resolve the stack's dso:// and dsofile:// references and start it with `docker compose up`.",
        "[COMPOSE FLAGS] [SERVICE...]",
        (*DRY_RUN_FLAGS, *MODE_FLAGS),
        f"Every flag of `docker compose up` works.\n{COMPOSE_FLAGS}",
    )


def run(invocation: Invocation) -> int:
    """Run it; returns Compose's exit code."""
    from dso.cli.handover import run_compose

    return run_compose(invocation, "up")
