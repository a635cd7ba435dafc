"""`docker dso status`: which mode, which vault or agent, and which file secrets are delivered."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Any

    from dso.delivery.keeper import KeeperState

PERIOD = 2  # seconds between two looks with --watch


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    from dso.cli.output import add_list_options

    parser = subparsers.add_parser(
        "status",
        help="Show the mode, the vault or the agent, and the delivered file secrets",
        description="Show which mode runs and why, the vault, the Engine, and for each project with file secrets\n"
        "whether they are in memory. Keepers whose project is gone are removed, containers that pass themselves off\n"
        "as keepers are named. In Cloud Mode also the agent, its providers, and the secrets it has in memory with\n"
        "their age. -q prints the projects, or the providers.",
    )
    add_list_options(parser)
    parser.add_argument("--watch", action="store_true", help=f"show it again every {PERIOD} seconds, until ^C")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print the status; returns 0, or the error code of the agent or the Engine when it cannot be asked."""
    if not args.watch:
        return _show(args, sweep=True)
    import sys
    import time

    from dso.cli.output import clear_screen, say

    redraws = sys.stdout.isatty()
    first = True
    while True:
        if redraws:
            clear_screen()
        elif not first and args.format == "table":
            say()
        _show(args, sweep=first)
        sys.stdout.flush()
        first = False
        time.sleep(PERIOD)


def _show(args: argparse.Namespace, *, sweep: bool) -> int:
    from dso.cli.output import print_error, print_json, say_names
    from dso.system.memory_directory import remove_abandoned

    if sweep:
        remove_abandoned()
    report, code = _report(args, sweep=sweep)
    if args.format == "json":
        print_json(report)
    elif args.quiet:
        names = [one["name"] for one in report["agent"]["providers"]] if report["agent"] else []
        say_names(names or [project["project"] for project in report["projects"]])
    else:
        _print_report(report)
    for part in (report["agent"] or {}, report["engine"]):
        if "error" in part:
            print_error(part["error"], part["hint"])
    return code


def _report(args: argparse.Namespace, *, sweep: bool) -> tuple[dict[str, Any], int]:
    from dso.delivery import keeper
    from dso.delivery.engine import Engine
    from dso.errors import DsoError, KeeperError

    vault, vault_id = _vault_status()
    mode, agent, code = _mode_status(args)
    report: dict[str, Any] = {
        "mode": mode,
        "vault": vault,
        "agent": agent,
        "engine": {},
        "projects": [],
        "swept": [],
    }
    try:
        with Engine.from_docker_args(args.docker_args) as engine:
            try:
                report["swept"] = keeper.sweep(engine, vault_id=vault_id) if sweep else []
            except KeeperError as error:  # something holds on to what was swept: that hides nothing else
                report["engine"], code = {"error": error.message, "hint": error.hint}, code or error.code
            report["projects"] = [_project_status(state, vault_id) for state in keeper.states(engine)]
            report["engine"]["api"] = engine.api_version
    except DsoError as error:
        report["engine"] = {"error": error.message, "hint": error.hint}
        return report, code or error.code
    return report, code


def _mode_status(args: argparse.Namespace) -> tuple[dict[str, str], dict[str, Any] | None, int]:
    """The mode; in Cloud Mode what there is to say of the agent, and the exit code of its silence."""
    from dso.config.mode import CLOUD, detect_mode
    from dso.errors import NotConfiguredError

    try:
        mode = detect_mode(args.mode, args.config)
    except NotConfiguredError as error:
        return {"name": "none", "reason": error.message, "warning": error.hint}, None, 0
    shown = {"name": mode.name, "reason": mode.reason, "warning": mode.warning}
    if mode.name != CLOUD:
        return shown, None, 0
    from dso.cli.agent_report import agent_report

    return shown, *agent_report(mode)


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
        "state": "impostor" if state.impostor else "delivered" if state.content else "lost",
        "delivered_at": state.delivered_at or None,
        "this_vault": state.vault_id == vault_id,
        "impostor": state.impostor or None,
    }


def _print_report(report: dict[str, Any]) -> None:
    from dso.cli.output import print_table, say

    mode, vault = report["mode"], report["vault"]
    say(f"Mode:    {mode['name']} ({mode['reason']})")
    if mode["warning"]:
        for line in mode["warning"].split("\n"):
            say(f"         {line}")
    if report["agent"] is None or vault["state"] != "missing":
        say(f"Vault:   {vault['path']} ({vault.get('error') or vault.get('id') or vault['state']})")
    if report["engine"].get("api"):
        say(f"Engine:  API {report['engine']['api']}")
    for project in report["swept"]:
        say(f"Removed: file secrets of {project}, of which nothing runs any more")
    if report["agent"] is not None:
        from dso.cli.agent_report import print_agent

        print_agent(report["agent"])
    if not report["projects"]:
        return
    say()
    rows = [
        (
            project["project"],
            ", ".join(project["services"]),
            str(project["files"]) if project["state"] == "delivered" else "-",
            _delivered(project),
        )
        for project in report["projects"]
    ]
    print_table(("project", "services", "files", "delivered"), rows)


def _delivered(project: dict[str, Any]) -> str:
    from dso.cli.output import local_time

    if project["impostor"]:
        return f"NOT DSO's: the container {project['impostor']} has the labels of a keeper and is not one"
    if project["delivered_at"]:
        return local_time(project["delivered_at"])
    return "LOST: run `docker dso up` in the project (the Engine was restarted)"
