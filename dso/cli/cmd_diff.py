"""`docker dso diff`: what `up` would change in the running stack because a secret changed."""

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
        "diff",
        "Show what `up` would change in the running stack",
        "Compare the secrets of the running stack with those in the vault, or with those the agent has: which\n"
        "services `up` would create or re-create, and which variables and files changed. Names only; other\n"
        "changes are Compose's to find.",
        "[COMPOSE FLAGS] [SERVICE...]",
        (
            ("--exit-code", "end with 10 when there is a difference"),
            ("--format table|json", "output format"),
            *MODE_FLAGS,
        ),
        COMPOSE_FLAGS,
    )


def run(invocation: Invocation) -> int:
    """Print the differences; returns 0, or with --exit-code 10 when there are some."""
    from dso.cli.changes import compare_with_running
    from dso.cli.handover import ComposeCall
    from dso.cli.output import note, print_json, print_table
    from dso.delivery.engine import Engine
    from dso.errors import DIFFERENCE_FOUND

    use_exit_code = "--exit-code" in invocation.words
    invocation.words = [word for word in invocation.words if word != "--exit-code"]
    call = ComposeCall(invocation, "up")
    stack = call.read_stack()
    changes = compare_with_running(Engine.from_docker_args(call.docker_args), stack)
    if call.options.format == "json":
        print_json([change._asdict() for change in changes])
    elif changes:
        print_table(
            ("service", "change", "variables", "files"),
            [(c.service, c.change, ", ".join(c.environment) or "-", ", ".join(c.files) or "-") for c in changes],
        )
    else:
        note(f"project {stack.project}: the running stack has the secrets as they are now")
    return DIFFERENCE_FOUND if changes and use_exit_code else 0
