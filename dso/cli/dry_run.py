"""What `up --dry-run` shows: which service gets which reference, and how. Never values."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dso.cli.stack import Stack


def planned(stack: Stack) -> list[dict[str, str]]:
    """One entry for each variable and file: `service`, `kind` ("env" or "file"), `name`, `reference`."""
    from dso.paths import CONTAINER_SECRETS_DIR

    entries: list[dict[str, str]] = []
    for service in stack.services:
        secrets = service.secrets
        entries += [
            {"service": secrets.service, "kind": "env", "name": variable, "reference": template.text}
            for variable, template in secrets.environment.items()
        ]
        entries += [
            {
                "service": secrets.service,
                "kind": "file",
                "name": file.target or f"{CONTAINER_SECRETS_DIR}/{file.name}",
                "reference": " ".join(map(str, file.template.references)),
            }
            for file in secrets.files
        ]
    return entries


def print_plan(stack: Stack, output_format: str) -> int:
    """Print the plan as a table or as JSON; returns the exit code."""
    from dso.cli.output import counted, note, print_json, print_table

    entries = planned(stack)
    if output_format == "json":
        print_json({"project": stack.project, "secrets": entries})
    elif entries:
        print_table(("service", "kind", "name", "reference"), [list(entry.values()) for entry in entries])
    note(f"project {stack.project}: {counted(len(entries), 'reference')} resolved; nothing was started")
    return 0
