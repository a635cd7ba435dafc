"""`docker dso system doctor`: look at everything, name causes and remedies, mend what is safe."""

from __future__ import annotations

import os

from dso import paths

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable

    from dso.config.model import CloudConfig
    from dso.host.findings import Finding
    from dso.host.installation import Installation
    from dso.host.machine import Host
    from dso.host.units import Unit

_MARKS = {"ok": "ok", "note": "note", "warning": "WARNING", "error": "ERROR"}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The flags."""
    parser.description = (
        "Look at Docker, Compose and the plugin, the vault, and where Cloud Mode is installed at its programs, units, "
        "files, socket and providers. Each fault has its cause and a remedy. Without root, what can be seen counts. "
        "Exit code: 0 unless something does not work (ERROR), then 60; warnings and notes do not count."
    )
    parser.add_argument("--format", choices=("table", "json"), default="table", help="output format (default: table)")
    parser.add_argument(
        "--fix", action="store_true", help="mend what is safe to mend (permissions, units, leftovers), and say so"
    )


def run(args: argparse.Namespace) -> int:
    """Print the findings, faults last in detail.

    Raises:
        UnhealthyError: there is an ERROR (left, with --fix).
    """
    from dso.cli.output import print_json
    from dso.errors import UnhealthyError
    from dso.host.findings import ERROR
    from dso.version import VERSION

    findings = examine(args)
    mended: list[Finding] = []
    if args.fix:
        mended = mend(findings)
        findings = examine(args) if mended else findings
    errors = [one for one in findings if one.state == ERROR]
    if args.format == "json":
        shown = [_as_json(one) for one in findings]
        fixed = [{"check": one.check, "what": one.what} for one in mended]
        print_json({"version": VERSION, "healthy": not errors, "findings": shown, "fixed": fixed})
    else:
        for one in findings:
            _print(one)
    if errors:
        fixable = [one for one in errors if one.fix]
        hint = f"`docker dso system doctor --fix` can mend {len(fixable)} of them" if fixable and not args.fix else ""
        raise UnhealthyError(
            f"{len(errors)} thing{'s do' if len(errors) > 1 else ' does'} not work, see above", hint=hint
        )
    return 0


def mend(findings: Iterable[Finding]) -> list[Finding]:
    """Apply the fixes, say each on stderr, and return what was mended."""
    from dso.cli.output import note, warn
    from dso.errors import DsoError
    from dso.host.findings import is_fault

    mended: list[Finding] = []
    done: set[str] = set()
    for one in findings:
        if one.fix is None or not is_fault(one) or one.remedy in done:
            continue
        done.add(one.remedy)
        try:
            one.fix()
        except (DsoError, OSError) as error:
            reason = error.message if isinstance(error, DsoError) else error.strerror
            warn(f"could not mend: {one.what}: {reason}")
        else:
            note(f"mended: {one.what} ({one.remedy.removeprefix('sudo ')})")
            mended.append(one)
    return mended


def examine(args: argparse.Namespace) -> list[Finding]:
    """Look at everything there is on this machine."""
    import time

    from dso.delivery.engine import Engine
    from dso.host import check_docker, check_leftovers, check_machine, check_vault
    from dso.host.installation import find_installation
    from dso.host.machine import Host
    from dso.system.proc import docker_command

    host, docker = Host(), [docker_command(), *args.docker_args]
    installation = find_installation(host)
    vault, vault_id = check_vault.vault()
    findings = check_docker.mode(args.mode, args.config)
    with Engine.from_docker_args(args.docker_args) as engine:
        found, info = check_docker.engine(engine)
        findings += [*found, *check_docker.compose(host, docker), *check_docker.plugin(host, docker), *vault]
        findings += _cloud(host, installation)
        if info:
            findings += [*check_machine.swap(host, info), *check_leftovers.leftovers(engine, vault_id)]
    now = time.time()
    return [*findings, *check_leftovers.edits(), *check_machine.clock(host, installation, now)]


def _cloud(host: Host, installation: Installation) -> list[Finding]:
    """Cloud Mode, where anything of it is on this machine."""
    from dso.cli.system_agent import agent_answers
    from dso.host import check_agent, check_programs
    from dso.host.installation import program_flaws
    from dso.host.units import unit_states

    states = unit_states(host)
    is_set_up = host.exists(paths.SYSTEM_CONFIG)
    if not _has_cloud(host, installation, states):
        return check_programs.interrupted(host, installation) + check_agent.not_set_up()
    config = _config(host) if is_set_up and host.uid == 0 else None
    types = [one.type for one in config.providers.values()] if config else []
    plugin_dir = (config.agent.plugin_dir if config else None) or ""
    findings = check_programs.programs(host, installation, types, plugin_dir)
    if host.has_systemd:
        findings += check_programs.units(host, installation, states, is_set_up=is_set_up)
    if not is_set_up:
        return findings
    findings += [*check_agent.plugin_users(host, types), *_access(host)]
    found, status = check_agent.agent(agent_answers)
    may_run = not program_flaws(host, installation, installation.agent)
    return [*findings, *found, *check_agent.providers(host, installation.agent, status, may_run=may_run)]


def _has_cloud(host: Host, installation: Installation, states: dict[str, Unit]) -> bool:
    return (
        installation.has_agent
        or host.exists(paths.SYSTEM_CONFIG)
        or host.exists(installation.agent)
        or any(unit.load != "not-found" for unit in states.values())
    )


def _config(host: Host) -> CloudConfig | None:
    from dso.errors import DsoError
    from dso.host.setup import load_system_config

    try:
        return load_system_config(host)
    except DsoError:
        return None  # `configuration` tells


def _access(host: Host) -> list[Finding]:
    from dso.host import check_agent
    from dso.host.setup import load_system_config
    from dso.host.setup_steps import members

    gid = _group_number()
    user = "" if host.uid == 0 else _user_name(host.uid)
    findings = check_agent.membership(members(host), user, os.getgroups(), gid)
    findings += check_agent.files(host)
    if host.has_systemd:
        findings += check_agent.socket(host, gid)
    if host.uid == 0:
        findings += check_agent.configuration(lambda: load_system_config(host))
    return findings


def _group_number() -> int | None:
    from grp import getgrnam

    try:
        return getgrnam(paths.AGENT_GROUP).gr_gid
    except KeyError:
        return None


def _user_name(uid: int) -> str:
    from pwd import getpwuid

    try:
        return getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _as_json(one: Finding) -> dict[str, object]:
    return {
        "check": one.check,
        "state": one.state,
        "what": one.what,
        "cause": one.cause or None,
        "remedy": one.remedy or None,
        "fixable": one.fix is not None,
    }


def _print(one: Finding) -> None:
    from dso.cli.output import say_lines

    say_lines(f"{_MARKS[one.state]:9}{one.check}: " + _indented(one.what))
    for name, text in (("cause", one.cause), ("remedy", one.remedy)):
        if text:
            say_lines(f"{'':9}{name}: " + _indented(text))


def _indented(text: str) -> str:
    return text.replace("\n", "\n" + " " * 11)
