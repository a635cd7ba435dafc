"""What `docker dso system setup` has to do on this machine: found out first, then done as one transaction."""

from __future__ import annotations

import os
from typing import NamedTuple

from dso import paths
from dso.errors import ConfigError, ServiceError, SetupFailedError, SetupUnfinishedError
from dso.host import setup_steps as steps
from dso.host.accounts import missing_users
from dso.host.installation import OWN_TYPES, find_installation, needed_programs, trust_flaws
from dso.host.setup_steps import Programs
from dso.host.templates import config_text, environment_text, variables_of
from dso.host.units import unit_states

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dso.config.model import CloudConfig
    from dso.host.installation import Installation
    from dso.host.machine import Host
    from dso.host.templates import Variable
    from dso.host.transaction import Step
    from dso.host.units import Unit

_FILL_IN = (
    f"write them into {paths.SYSTEM_ENVIRONMENT} (sudoedit {paths.SYSTEM_ENVIRONMENT}),\n"
    "then run again: sudo docker dso system setup"
)


class Found(NamedTuple):
    """The machine as it is. `config` is the configuration in /etc/dso; `members` None: there is no group.

    `missing_users` are those that plugins run as, and that there are not.
    """

    installation: Installation
    units: Mapping[str, Unit]
    members: tuple[str, ...] | None
    config: CloudConfig | None
    has_config: bool
    has_environment: bool
    missing_users: tuple[str, ...] = ()


class Wanted(NamedTuple):
    """What the user wants: types of providers for a new dso.yaml, values for a new agent.env.

    `member`: who is to be in the group; `source`: the release to install what is missing from.
    """

    providers: Sequence[str] = ()
    values: Mapping[str, str] = {}
    member: str = ""
    source: str = ""


class Plan(NamedTuple):
    """The steps, what they write by path, and the variables that have to get a value before the agent can start."""

    steps: Sequence[Step]
    texts: Mapping[str, str]
    unset: Sequence[str] = ()


def examine(host: Host) -> Found:
    """Look at the machine.

    Raises:
        ServiceError: there is no systemd.
        SetupUnfinishedError: variables of the configuration have no value.
        ConfigError: the configuration is faulty; EnvFileError: its variables are.
    """
    if not host.has_systemd:
        raise ServiceError(
            "systemd does not run this machine",
            hint="start the agent your own way: `dso-agent` as root, with /etc/dso/dso.yaml (man dso.yaml)",
        )
    has_config, has_environment = host.exists(paths.SYSTEM_CONFIG), host.exists(paths.SYSTEM_ENVIRONMENT)
    config = load_system_config(host) if has_config and host.uid == 0 else None
    members = steps.members(host)
    users = tuple(missing_users(host))
    return Found(find_installation(host), unit_states(host), members, config, has_config, has_environment, users)


def load_system_config(host: Host) -> CloudConfig:
    """/etc/dso/dso.yaml as the agent would read it, variables from agent.env. Errors: see `examine`."""
    from dso.config.load import load_config

    environment = agent_environment(host)
    text = (host.read(paths.SYSTEM_CONFIG) or b"").decode("utf-8", "replace")
    try:
        return load_config(paths.SYSTEM_CONFIG, environment=environment, text=text)
    except ConfigError as error:
        unset = unset_variables(text, environment)
        if unset:
            raise unfinished(unset) from error
        raise


def agent_environment(host: Host) -> dict[str, str]:
    """The variables of agent.env; EnvFileError."""
    from dso.config import dotenv

    content = host.read(paths.SYSTEM_ENVIRONMENT)
    return dotenv.parse(dotenv.decode(content), source=paths.SYSTEM_ENVIRONMENT) if content else {}


def unset_variables(text: str, environment: Mapping[str, str]) -> list[str]:
    """Variables that a dso.yaml has as `${NAME}`, without a default, and that have no value."""
    found = []
    for line in text.splitlines():
        for piece in [] if line.lstrip().startswith("#") else line.split("${")[1:]:
            name, brace, _ = piece.partition("}")
            if brace and name.replace("_", "").isalnum() and name not in environment:
                found.append(name)
    return list(dict.fromkeys(found))


def unfinished(unset: Sequence[str]) -> SetupUnfinishedError:
    """Values are missing."""
    return SetupUnfinishedError(
        f"not set up yet: {', '.join(unset)} in {paths.SYSTEM_CONFIG} "
        f"{'has no value' if len(unset) == 1 else 'have no values'}",
        hint=_FILL_IN,
    )


def open_questions(found: Found, wanted: Wanted) -> list[Variable]:
    """Variables of the chosen providers that have no value yet; none once there is an agent.env or dso.yaml."""
    if found.has_environment or found.has_config:
        return []
    return [each for each in variables_of(wanted.providers) if not wanted.values.get(each.name)]


def plan(host: Host, found: Found, wanted: Wanted, answers: Callable[[], object]) -> Plan:
    """The steps from what was found to what is wanted; none of them is done yet.

    Raises:
        SetupFailedError: programs or units are not as they have to be, and there is no release to mend them from.
        ConfigError: a value that was given does not fit.
    """
    _check_configuration(host)
    steps.raise_for(found.installation.flaws)
    texts = _texts(found, wanted)
    unset = _unset(host, texts)
    todo = [steps.plugin_users(host, found.missing_users)] if found.missing_users else []
    todo += _programs(host, found, wanted)
    if found.members is None:
        todo.append(steps.group(host))
    if wanted.member and wanted.member not in (found.members or ()):
        todo.append(steps.member(host, wanted.member))
    if texts and not host.exists(os.path.dirname(paths.SYSTEM_CONFIG)):
        todo.append(steps.directory(host))
    for path, mode, what in (
        (paths.SYSTEM_CONFIG, 0o644, f"configuration for {', '.join(wanted.providers)}"),
        (paths.SYSTEM_ENVIRONMENT, 0o600, "its variables, for root only"),
    ):
        if path in texts:
            todo.append(steps.file(host, path, texts[path], mode, what))
    if found.has_environment and steps.is_open(host, paths.SYSTEM_ENVIRONMENT):
        todo.append(steps.close(host, paths.SYSTEM_ENVIRONMENT))
    if not unset:
        if any(not unit.is_enabled or not unit.is_active for unit in found.units.values()):
            todo.append(steps.start_units(host, found.units))
        todo.append(steps.health(answers))
    return Plan(todo, texts, unset)


def _check_configuration(host: Host) -> None:
    """SetupFailedError if others than root could choose where secrets come from."""
    for path in (os.path.dirname(paths.SYSTEM_CONFIG), paths.SYSTEM_CONFIG):
        if host.exists(path):
            steps.raise_for(trust_flaws(host, path))


def _texts(found: Found, wanted: Wanted) -> dict[str, str]:
    texts = {}
    if not found.has_config:
        texts[paths.SYSTEM_CONFIG] = config_text(wanted.providers)
        if not found.has_environment:
            texts[paths.SYSTEM_ENVIRONMENT] = environment_text(wanted.providers, wanted.values)
    return texts


def _unset(host: Host, texts: Mapping[str, str]) -> list[str]:
    """Variables of a new configuration that have no value. ConfigError: with their values it is faulty."""
    text = texts.get(paths.SYSTEM_CONFIG)
    if text is None:
        return []
    from dso.config import dotenv
    from dso.config.load import load_config

    if paths.SYSTEM_ENVIRONMENT in texts:
        environment = dotenv.parse(texts[paths.SYSTEM_ENVIRONMENT], source=paths.SYSTEM_ENVIRONMENT)
    else:
        environment = agent_environment(host)
    unset = unset_variables(text, environment)
    if not unset:
        load_config(paths.SYSTEM_CONFIG, environment=environment, text=text)
    return unset


def _programs(host: Host, found: Found, wanted: Wanted) -> list[Step]:
    """Steps that install and then verify programs; without a release they are verified now. SetupFailedError."""
    types = [one.type for one in found.config.providers.values()] if found.config else list(wanted.providers)
    plugin_dir = (found.config.agent.plugin_dir if found.config else None) or ""
    own = needed_programs(found.installation, [one for one in types if one in OWN_TYPES], plugin_dir)
    foreign = needed_programs(found.installation, [one for one in types if one not in OWN_TYPES], plugin_dir)[1:]
    programs = Programs(own, foreign)
    if wanted.source:
        steps.check_source(host, found.installation, wanted.source)
        return [
            steps.install(host, found.installation, wanted.source, {one for one in types if one in OWN_TYPES}),
            steps.verify(host, lambda: find_installation(host), programs),
        ]
    steps.raise_for(programs.flaws(host, found.installation))
    fault = steps.missing_units(found.installation, found.units)
    if fault:
        raise SetupFailedError(f"the units are not as they have to be: {fault}")
    return []


def is_complete(planned: Plan) -> bool:
    """Whether nothing had to be changed."""
    return not planned.unset and not planned.texts and all(step.undo is None for step in planned.steps)
