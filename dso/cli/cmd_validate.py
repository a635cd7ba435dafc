"""`docker dso validate`: check every reference in the stack."""

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
        "validate",
        "Check every reference in the stack",
        "Check that Compose accepts the stack, that every reference is well formed and stands where DSO\n"
        "serves it, and that every secret exists and suits its place. Starts nothing.",
        "[COMPOSE FLAGS] [SERVICE...]",
        (("--format table|json", "output format"), *MODE_FLAGS),
        COMPOSE_FLAGS,
    )


def run(invocation: Invocation) -> int:
    """Print what was checked; JSON has `project`, `services` and `references`. Faults are errors."""
    from dso.cli.dry_run import planned
    from dso.cli.handover import ComposeCall
    from dso.cli.output import counted, print_json, say

    call = ComposeCall(invocation, "up")
    stack = call.read_stack()
    count = len(planned(stack))
    if call.options.format == "json":
        print_json({"project": stack.project, "services": len(stack.services), "references": count})
    else:
        services = counted(len(stack.services), "service")
        valid = "is valid" if count == 1 else "are valid"
        say(f"project {stack.project}: {counted(count, 'reference')} in {services} {valid}")
    return 0
