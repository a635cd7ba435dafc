"""`docker dso diff`: what `up` would change in the running stack because a secret changed."""

from __future__ import annotations

from typing import NamedTuple

from dso.cli.compose_help import COMPOSE_FLAGS, MODE_FLAGS, add_command, help_wanted, print_help

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from typing import Any

    from dso.cli.invocation import Invocation
    from dso.cli.stack import Stack
    from dso.delivery.engine import Engine

PARTS = ("environment", "files")


class Change(NamedTuple):
    """One service that `up` would create or re-create.

    `change` is "create" or "re-create"; `environment` and `files` name what has another value.
    """

    service: str
    change: str
    environment: list[str]
    files: list[str]


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser, for its help."""
    add_command(
        subparsers,
        "diff",
        "Compare the secrets of the running stack with those in the vault: which services `up` would create\n"
        "or re-create, and which variables and files changed. Names only; other changes are Compose's to find.",
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
    if help_wanted(invocation.words):
        return print_help("diff")
    from dso.cli.handover import ComposeCall
    from dso.cli.output import note, print_json, print_table
    from dso.delivery.engine import Engine
    from dso.errors import DifferenceFound

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
        note(f"project {stack.project}: the running stack has the secrets of the vault")
    return DifferenceFound.code if changes and use_exit_code else 0


def compare_with_running(engine: Engine, stack: Stack) -> list[Change]:
    """What differs between a resolved stack and its containers, running or not."""
    labels = [f"com.docker.compose.project={stack.project}", "com.docker.compose.oneoff=False"]
    return compare(stack, [container["Labels"] for container in engine.containers(labels)])


def compare(stack: Stack, running: Sequence[Mapping[str, str]]) -> list[Change]:
    """What differs between a resolved stack and the labels of its containers."""
    import json

    from dso import paths

    wanted = {service.secrets.service: service.labels for service in stack.services}
    changes: list[Change] = []
    for service in stack.model.services:
        labels = [found for found in running if found.get("com.docker.compose.service") == service]
        goal = json.loads(wanted[service][paths.LABEL_MANIFEST]) if service in wanted else {}
        if not labels and goal:
            changes.append(Change(service, "create", *(sorted(goal[part]) for part in PARTS)))
        for found in labels:
            change = _difference(service, json.loads(found.get(paths.LABEL_MANIFEST, "{}")), goal)
            if change:
                changes.append(change)
                break
    return changes


def _difference(service: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    from dso.cli.stack import changed_names

    names = [changed_names(before.get(part, {}), after.get(part, {})) for part in PARTS]
    return Change(service, "re-create", *names) if any(names) else None
