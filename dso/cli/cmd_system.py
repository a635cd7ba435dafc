"""`docker dso system`: set up Cloud Mode on this machine, examine it, and look after the agent's service."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

    from dso.host.machine import Host

_EPILOG = """\
examples:
  sudo docker dso system setup --provider vault      asks for what it needs
  sudo -EH docker dso system setup --provider vault --yes
                                                     with VAULT_ADDR and VAULT_TOKEN exported before; everybody
                                                     could see, and sudo would log, `sudo VAULT_TOKEN=...`
  docker dso system doctor                           what is wrong, why, and what to do
  sudo docker dso system restart                     after a change of /etc/dso
"""
_STACKS_NEED_IT = (
    "containers with file secrets of the agent that run go on, and cannot start again until it is back; "
    "`sudo docker dso system enable` brings it back"
)


def register(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command's parser."""
    from dso.cli import cmd_logs, cmd_system_doctor, cmd_system_setup
    from dso.cli.groups import add_group

    add = add_group(
        subparsers,
        "system",
        "Set up and look after Cloud Mode on this machine",
        "Set up Cloud Mode on this machine, find out what is wrong with it, look after the agent's service.",
        _EPILOG,
    )
    cmd_system_setup.add_arguments(add("setup", "Set up the agent on this machine (root)", cmd_system_setup.run))
    command = add("doctor", "Examine this machine: each fault with its cause and remedy", cmd_system_doctor.run)
    cmd_system_doctor.add_arguments(command)
    command = add("status", "Show the agent's units and the agent", run_status)
    command.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    add("enable", "Start the agent, now and whenever the machine comes up (root)", run_enable)
    add("disable", "Stop the agent, and leave it out when the machine comes up (root)", run_disable)
    add("restart", "Restart the agent, so that /etc/dso is read again (root)", run_restart)
    cmd_logs.add_arguments(add("logs", "Show the agent's log", run_logs))
    command = add("uninstall", "Remove DSO from this machine; asks before configuration is removed", run_uninstall)
    command.add_argument("--purge", action="store_true", help="configuration, state and root's own vault too")
    command.add_argument("-y", "--yes", action="store_true", help="do not ask")
    command.add_argument("--force", action="store_true", help="even while containers or volumes need the agent")


def run_status(args: argparse.Namespace) -> int:
    """Units as systemd has them, and what the agent says of itself; the code of what keeps it from answering."""
    from dso import paths
    from dso.cli.agent_report import agent_report, print_agent
    from dso.cli.output import print_error, print_json, print_table, say
    from dso.config.mode import CLOUD, Mode
    from dso.host.machine import Host
    from dso.host.units import unit_states

    states = unit_states(Host())
    agent, code = agent_report(Mode(CLOUD, "system", paths.SYSTEM_CONFIG))
    units = [
        {"name": unit.name, "active": unit.active, "enabled": unit.enabled or "no", "path": unit.path or None}
        for unit in states.values()
    ]
    if args.format == "json":
        print_json({"units": units, "agent": agent})
    else:
        rows = [
            (unit.name, _state(unit.load, unit.active), unit.enabled or "-", unit.path or "-")
            for unit in states.values()
        ]
        print_table(("unit", "state", "at boot", "file"), rows)
        say()
        print_agent(agent)
    if "error" in agent:
        print_error(agent["error"], agent["hint"])
    return code


def _state(load: str, active: str) -> str:
    return active if load == "loaded" else load


def run_enable(_args: argparse.Namespace) -> int:
    """Enable and start, or leave all as it was; wait until the agent answers. ServiceError, AgentUnavailableError."""
    from dso.cli.output import note
    from dso.cli.system_agent import agent_answers
    from dso.errors import ServiceError
    from dso.host.units import enable, restore, unit_states

    host = _as_root("enable")
    _check_units(host)
    before = unit_states(host)
    try:
        enable(host)
    except ServiceError:
        restore(host, before)  # sockets that nobody answers stall the Engine
        raise
    agent_answers()
    note("the agent runs, and comes up with the machine")
    return 0


def run_disable(_args: argparse.Namespace) -> int:
    """Disable and stop. ServiceError."""
    from dso.cli.output import note, warn
    from dso.host.units import disable

    host = _as_root("disable")
    _check_units(host)
    disable(host)
    note("the agent is stopped, and stays so when the machine comes up")
    warn(_STACKS_NEED_IT)
    return 0


def run_restart(_args: argparse.Namespace) -> int:
    """Restart the service; the sockets stay, so nobody is turned away meanwhile. ServiceError."""
    from dso.cli.output import note
    from dso.cli.system_agent import agent_answers
    from dso.host.units import SERVICE, systemctl

    host = _as_root("restart")
    _check_units(host)
    host.run(["systemctl", "reset-failed", SERVICE])
    systemctl(host, "restart", SERVICE)
    agent_answers()
    note("the agent runs with the configuration as it is now")
    return 0


def run_logs(args: argparse.Namespace) -> int:
    """`docker dso logs`, of the system's agent whatever mode runs here."""
    from dso import paths
    from dso.cli import cmd_logs
    from dso.config.mode import CLOUD

    args.mode, args.config = CLOUD, paths.SYSTEM_CONFIG
    return cmd_logs.run(args)


def run_uninstall(args: argparse.Namespace) -> int:
    """Hand over to the installed uninstall.sh, which knows what was put where.

    Raises:
        SetupFailedError: there is none, or others than root could have changed what root is to run.
    """
    import os

    from dso import paths
    from dso.errors import SetupFailedError
    from dso.host.installation import find_installation, trust_flaws
    from dso.host.machine import Host
    from dso.host.setup_steps import raise_for
    from dso.system.proc import attach

    host = Host()
    home = find_installation(host).home
    if host.uid:
        home = (os.environ.get("XDG_DATA_HOME") or paths.home() + "/.local/share") + "/dso"
    script = f"{home}/uninstall.sh"
    if not host.exists(script):
        raise SetupFailedError(
            f"there is no {script}: DSO was not installed by its installer"
            + (", or for everybody" if host.uid else ""),
            hint="for the whole machine: sudo docker dso system uninstall" if host.uid else "remove its files by hand",
        )
    if not host.uid:
        raise_for(trust_flaws(host, script))
    flags = [f"--{name}" for name in ("purge", "yes", "force") if getattr(args, name)]
    return attach(["sh", script, *flags])


def _as_root(command: str) -> Host:
    from dso.cli.system_agent import need_root
    from dso.host.machine import Host

    host = Host()
    need_root(host, command)
    return host


def _check_units(host: Host) -> None:
    from dso.errors import ServiceError
    from dso.host.units import SERVICE, unit_states

    if not host.has_systemd:
        raise ServiceError("systemd does not run this machine", hint="start and stop `dso-agent` your own way")
    if unit_states(host)[SERVICE].load == "not-found":
        raise ServiceError("the agent is not installed on this machine", hint="docs/install.md says how to install it")
