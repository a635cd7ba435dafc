"""`docker dso status`: which mode, which vault, and which file secrets are delivered."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from dso.delivery.keeper import KeeperState


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    from dso.cli.output import add_list_options

    parser = subparsers.add_parser(
        "status",
        help="Show the mode, the vault and the delivered file secrets",
        description="Show which mode runs and why, the vault, the Engine, and for each project with file secrets\n"
        "whether they are in memory. Keepers whose project is gone are removed.",
    )
    add_list_options(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the status; returns 0, or the Engine's error code when it cannot be asked."""
    from dso.cli.output import print_error, print_json

    report, code = _report(args)
    if args.format == "json":
        print_json(report)
    elif args.quiet:
        for project in report["projects"]:
            print(project["project"])
    else:
        _print_report(report)
    if code:
        print_error(report["engine"]["error"], report["engine"]["hint"])
    return code


def _report(args: argparse.Namespace) -> tuple[dict[str, Any], int]:
    from dso.delivery import keeper
    from dso.delivery.engine import Engine
    from dso.errors import DsoError

    vault, vault_id = _vault_status()
    report: dict[str, Any] = {"mode": _mode_status(args), "vault": vault, "engine": {}, "projects": [], "swept": []}
    try:
        engine = Engine.from_docker_args(args.docker_args)
        report["swept"] = keeper.sweep(engine, vault_id=vault_id)
        report["projects"] = [_project_status(state, vault_id) for state in keeper.states(engine)]
        report["engine"] = {"api": engine.api_version}
    except DsoError as error:
        report["engine"] = {"error": error.message, "hint": error.hint}
        return report, error.code
    return report, 0


def _mode_status(args: argparse.Namespace) -> dict[str, str]:
    from dso.config.mode import detect_mode
    from dso.errors import NotConfiguredError

    try:
        mode = detect_mode(args.mode, args.config)
    except NotConfiguredError as error:
        return {"name": "none", "reason": error.message, "warning": error.hint}
    return {"name": mode.name, "reason": mode.reason, "warning": mode.warning}


def _vault_status() -> tuple[dict[str, Any], str | None]:
    """The vault's path and id, which stand in the open part of its file: no key is needed."""
    from dso import paths
    from dso.errors import DsoError, VaultNotFoundError
    from dso.vault.store import read_vault_file

    path = paths.vault_file()
    try:
        _, header = read_vault_file(path)
    except VaultNotFoundError:
        return {"path": path, "state": "missing"}, None
    except DsoError as error:
        return {"path": path, "state": "unusable", "error": error.message}, None
    return {"path": path, "state": "present", "id": header.vault_id}, header.vault_id


def _project_status(state: KeeperState, vault_id: str | None) -> dict[str, Any]:
    return {
        "project": state.project,
        "services": list(state.services),
        "files": state.files,
        "state": "delivered" if state.content else "lost",
        "delivered_at": state.delivered_at or None,
        "this_vault": state.vault_id == vault_id,
    }


def _print_report(report: dict[str, Any]) -> None:
    from dso.cli.output import local_time, print_table

    mode, vault = report["mode"], report["vault"]
    print(f"Mode:    {mode['name']} ({mode['reason']})")
    if mode["warning"]:
        print("         " + mode["warning"].replace("\n", "\n         "))
    print(f"Vault:   {vault['path']} ({vault.get('error') or vault.get('id') or vault['state']})")
    if report["engine"].get("api"):
        print(f"Engine:  API {report['engine']['api']}")
    for project in report["swept"]:
        print(f"Removed: file secrets of {project}, of which nothing runs any more")
    if not report["projects"]:
        return
    print()
    rows = [
        (
            project["project"],
            ", ".join(project["services"]),
            str(project["files"]) if project["state"] == "delivered" else "-",
            local_time(project["delivered_at"])
            if project["delivered_at"]
            else "LOST: run `docker dso up` in the project (the Engine was restarted)",
        )
        for project in report["projects"]
    ]
    print_table(("project", "services", "files", "delivered"), rows)
