"""What `docker dso status` says of the agent in Cloud Mode."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from dso.config.mode import Mode
    from dso.protocol.state import CachedSecret, SecretInfo


def agent_report(mode: Mode) -> tuple[dict[str, Any], int]:
    """The report, and the exit code: that of what keeps the agent from answering, else 0.

    `socket`; `version` and `api`, `uid`, `uptime` in seconds, `config`; `config_error`, what is wrong with
    that file when a former configuration is in force, and `restart_needed`, the keys of `agent:` that are read
    once and have changed; `providers` with `name`, `type`, `state`, `error`; `secrets` in the agent's
    memory with `name` (in dso.yaml, or None), `provider`, `path`, `pin`, `version`, `age` in seconds,
    `stale`; `volume_driver` with `name`, `available`, `reason`, `volumes`, `mounted`.
    If the agent does not answer, or is not asked (then there is no `socket`): `error` and `hint`, and
    the lists are empty.
    """
    from dso import paths
    from dso.cli.project_config import agent_socket, connect
    from dso.errors import DsoError

    report: dict[str, Any] = {"providers": [], "secrets": []}
    try:
        report["socket"] = paths.find_agent_socket(agent_socket(mode, may_ask=False))
        with connect(mode, may_ask=False) as agent:
            status = agent.status()
            known = agent.secrets()
    except DsoError as error:
        return {**report, "error": error.message, "hint": error.hint}, error.code
    info = status.info
    names = {(one.provider, one.path, one.version): one for one in known.secrets}
    report.update(
        version=info.version,
        api=info.api,
        uid=info.uid,
        uptime=status.uptime,
        config=status.config,
        config_error=status.config_error,
        restart_needed=list(status.restart_needed),
        providers=[one._asdict() for one in status.providers],
        secrets=[_secret(one, names.get((one.provider, one.path, one.pin))) for one in known.cached],
        volume_driver=info.volume_driver._asdict(),
    )
    return report, 0


def _secret(cached: CachedSecret, entry: SecretInfo | None) -> dict[str, Any]:
    return {"name": entry.name if entry else None, **cached._asdict()}


def print_agent(report: dict[str, Any]) -> None:
    """Show the report under the other lines of `status`."""
    from dso.cli.output import duration, print_table, say

    if "error" in report:
        say(f"Agent:   {report['socket']} (does not answer)" if "socket" in report else "Agent:   (not asked)")
        return
    say(f"Agent:   {report['socket']} (dso-agent {report['version']}, up {duration(report['uptime'])})")
    fault = f" (FAULTY, a former one is in force: {report['config_error']})" if report["config_error"] else ""
    first, *others = fault.split("\n")
    say(f"Config:  {report['config'] or '-'}{first}")
    for line in others:
        say(f"         {line}")
    if report["restart_needed"]:
        say(f"         {', '.join(report['restart_needed'])}: changed, and read at the next start of the agent only")
    driver = report["volume_driver"]
    if driver["available"]:
        say(f"Files:   volume driver {driver['name']}, {driver['volumes']} volumes, {driver['mounted']} mounted")
    else:
        say(f"Files:   unavailable ({driver['reason'] or 'this agent has no volume driver'})")
    if report["providers"]:
        say()
        rows = [(one["name"], one["type"], one["state"], one["error"] or "-") for one in report["providers"]]
        print_table(("provider", "type", "state", "error"), rows)
    if report["secrets"]:
        say()
        shown = [
            (
                f"{one['provider']}/{one['path']}" + (f"?version={one['pin']}" if one["pin"] else ""),
                one["name"] or "-",
                one["version"] or "-",
                duration(one["age"]),
                "STALE: the provider does not answer" if one["stale"] else "",
            )
            for one in report["secrets"]
        ]
        print_table(("secret", "entry", "version", "age", ""), shown)
