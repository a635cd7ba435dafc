"""What a changed secret changes in the running stack, told from the labels of its containers."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

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


def compare_with_running(engine: Engine, stack: Stack) -> list[Change]:
    """What differs between a resolved stack and its containers, running or not."""
    labels = [f"com.docker.compose.project={stack.project}", "com.docker.compose.oneoff=False"]
    return compare(stack, [container["Labels"] for container in engine.containers(labels)])


def compare(stack: Stack, running: Sequence[Mapping[str, str]]) -> list[Change]:
    """What differs between a resolved stack and the labels of its containers."""
    wanted = {service.secrets.service: service.labels for service in stack.services}
    changes: list[Change] = []
    for service in stack.model.services:
        labels = [found for found in running if found.get("com.docker.compose.service") == service]
        goal = manifest(wanted[service]) if service in wanted else {}
        if not labels and goal:
            changes.append(Change(service, "create", *(sorted(goal[part]) for part in PARTS)))
        for found in labels:
            change = _difference(service, manifest(found), goal)
            if change:
                changes.append(change)
                break
    return changes


def manifest(labels: Mapping[str, str]) -> dict[str, dict[str, list[str]]]:
    """What a container's labels say of its secrets: by part and name, a reference and a MAC.

    An image or a Compose file may have put anything there: what makes no sense is left out.
    """
    from dso import paths
    from dso.system.json_fast import loads

    try:
        found: Any = loads(labels.get(paths.LABEL_MANIFEST, "{}"))
    except ValueError:
        return {}
    parts = {part: found[part] for part in PARTS if part in found} if isinstance(found, dict) else {}
    return {part: _entries(content) for part, content in parts.items() if isinstance(content, dict)}


def _entries(content: Mapping[str, Any]) -> dict[str, list[str]]:
    return {
        name: entry
        for name, entry in content.items()
        if isinstance(entry, list) and entry and all(isinstance(one, str) for one in entry)
    }


def _difference(service: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Change | None:
    names = [_changed_names(before.get(part, {}), after.get(part, {})) for part in PARTS]
    return Change(service, "re-create", *names) if any(names) else None


def _changed_names(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The names that are new, gone or have another MAC, from one part of two manifests."""
    return sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
