"""`docker dso inspect`: a container's variables and mounts, with what came from a secret masked."""

from __future__ import annotations

from dso.secret import ENV_SCHEME, MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping
    from typing import Any


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    parser = subparsers.add_parser(
        "inspect",
        help="Show a container's variables and mounts with secrets masked",
        description="Show a container's variables and mounts. Every value that DSO put there is masked, and the\n"
        "reference it came from stands beside it.",
    )
    parser.add_argument("container", metavar="CONTAINER", help="name or id")
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the entries; JSON has `container`, `image`, `environment` and `mounts`."""
    from dso import paths
    from dso.cli.output import print_json, print_table, warn
    from dso.delivery.engine import Engine

    found = Engine.from_docker_args(args.docker_args).inspect_container(args.container)
    if paths.LABEL_MANIFEST not in (found["Config"].get("Labels") or {}):
        warn("DSO did not start this container: nothing is known to be a secret, and nothing is masked")
    report = describe(found)
    if args.format == "json":
        print_json(report)
        return 0
    rows = [("env", entry["name"], entry["value"], entry["reference"] or "-") for entry in report["environment"]]
    rows += [(entry["type"], entry["target"], entry["source"], entry["reference"] or "-") for entry in report["mounts"]]
    print_table(("kind", "name", "value", "from"), rows)
    return 0


def describe(found: Mapping[str, Any]) -> dict[str, Any]:
    """What `docker inspect` says of a container, with secrets masked.

    Source: Engine API, GET /containers/{id}/json: `Config.Env`, `Config.Labels`, `Mounts`.
    """
    from dso.cli.changes import manifest

    told = manifest(found["Config"].get("Labels") or {})
    references = {name: entry[0] for name, entry in told.get("environment", {}).items()}
    files = {target: entry[0] for target, entry in told.get("files", {}).items()}
    environment = [
        _variable(name, value, references.get(name))
        for name, _, value in (entry.partition("=") for entry in found["Config"].get("Env") or [])
    ]
    mounts = [
        {"type": "file", "target": target, "source": MASK, "reference": reference}
        for target, reference in files.items()
    ]
    mounts += [
        {
            "type": mount["Type"],
            "target": mount["Destination"],
            "source": mount.get("Name") or mount.get("Source", ""),
            "reference": "",
        }
        for mount in found.get("Mounts") or []
        if mount["Destination"] not in files
    ]
    return {
        "container": found["Name"].removeprefix("/"),
        "image": found["Config"].get("Image", ""),
        "environment": environment,
        "mounts": sorted(mounts, key=lambda mount: mount["target"]),
    }


def _variable(name: str, value: str, reference: str | None) -> dict[str, str]:
    # a dsofile:// variable holds a path, which is no secret
    masked = reference is not None and ENV_SCHEME in reference
    return {"name": name, "value": MASK if masked else value, "reference": reference or ""}
