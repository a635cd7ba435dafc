"""`docker dso compose ...`: any Compose command, with the stack's secrets where it starts containers."""

from __future__ import annotations

from dso.cli.compose_help import DRY_RUN_FLAGS, MODE_FLAGS, add_command

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from dso.cli.invocation import Invocation


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser, for its help."""
    add_command(
        subparsers,
        "compose",
        "Run any docker compose command with the stack's secrets",
        "Run a `docker compose` command. Those that start containers (up, create, run, start, restart, scale,\n"
        "watch) get the stack's secrets; every other one is passed through as it is.",
        "[COMPOSE FLAGS] COMMAND [ARGS...]",
        (*DRY_RUN_FLAGS, *MODE_FLAGS),
        "`docker dso compose COMMAND --help` shows Compose's own help.",
    )


def run(invocation: Invocation) -> int:
    """Run it; returns Compose's exit code."""
    from dso.cli.handover import run_compose

    return run_compose(invocation)
