"""The configuration in use, as far as the command line itself needs it: the agent's socket, and a project's entries.

A ./dso.yaml that DSO found by itself is a stranger's word: it may name secrets. What else it wants, the agent's socket
and variables, counts only after the user allowed that for its directory (`dso.cli.project_trust`).
"""

from __future__ import annotations

import os

from dso import paths
from dso.errors import ConfigError, FileAccessError
from dso.system.files import read_file

_MAX_BYTES = 1024 * 1024  # as dso.config.load, which is loaded only if need be

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dso.config.mode import Mode
    from dso.config.model import CloudConfig
    from dso.protocol.client import AgentClient
    from dso.protocol.state import AgentInfo, SecretInfo


def connect(mode: Mode, *, may_ask: bool = True) -> AgentClient:
    """A connection to the agent that the configuration in use means; `may_ask` as for `agent_socket`.

    Raises:
        NotGrantedError: see `agent_socket`.
        AgentUnavailableError, AgentForbiddenError, AgentUntrustedError: see `AgentClient.connect`.
        ConfigError: the project's dso.yaml is faulty.
    """
    from dso.protocol.client import AgentClient

    return AgentClient.connect(agent_socket(mode, may_ask=may_ask))


def agent_socket(mode: Mode, *, may_ask: bool = True) -> str | None:
    """What the configuration in use says of the agent's socket; None when it says nothing.

    Only a file that mentions a socket is parsed. The system's own may not be readable for this user, or
    be faulty: that is the agent's to report.

    Args:
        mode: the mode, with its configuration.
        may_ask: whether somebody at the terminal may be asked if a file that was found in the current directory may
            choose a socket.

    Raises:
        NotGrantedError: the file was found in the current directory, and wants what nobody allowed it.
        ConfigError: it is a project's, and faulty.
    """
    config = mode.config
    if config is None:
        return None
    if mode.found:
        from dso.cli.project_trust import trusted_socket

        return trusted_socket(config, may_ask=may_ask)
    return None if os.environ.get(paths.SOCKET_VARIABLE) else _socket_in(config)


def _socket_in(config: str) -> str | None:
    is_project = _is_project(config)
    try:
        if b"socket" not in read_file(config, "the configuration", _MAX_BYTES):
            return None
    except FileAccessError as error:
        if is_project:
            raise ConfigError(error.message, hint="check the path given with -c, and the file's permissions") from None
        return None
    from dso.config.load import load_socket

    try:
        return load_socket(config, environment=os.environ)
    except ConfigError:
        if is_project:
            raise
        return None


def project_entries(mode: Mode, agent: AgentClient, info: AgentInfo, *, may_ask: bool = True) -> dict[str, SecretInfo]:
    """The entries of a project's own dso.yaml by name; none when the configuration in use is the system's.

    Raises:
        NotGrantedError: the file was found in the current directory, and wants what nobody allowed it.
        ConfigError: the file is faulty, or names providers that only an agent's own configuration may have.
    """
    config = mode.config
    if config is None or not _is_project(config):
        return {}
    if mode.found:
        from dso.cli.project_trust import trusted_project

        project = trusted_project(config, may_ask=may_ask)
    else:
        from dso.config.load import load_project

        project = load_project(config, environment=os.environ)
    if project.providers:
        _check_providers(project, agent, info)
    return {name: entry.info() for name, entry in project.secrets.items()}


def _is_project(config: str) -> bool:
    """Whether a configuration is another one than root's agent has."""
    return os.path.realpath(config) != os.path.realpath(paths.SYSTEM_CONFIG)


def _check_providers(project: CloudConfig, agent: AgentClient, info: AgentInfo) -> None:
    """A caller never chooses where the agent of somebody else goes to, nor as whom."""
    if info.uid != os.getuid():
        raise ConfigError(
            f"{project.path} has `providers:`, which the agent at {agent.path} takes from its own configuration only",
            hint=f"move them to {paths.SYSTEM_CONFIG} (`secrets:` may stay and name them); "
            f"or run an agent of your own: dso-agent --config {project.path}",
        )
    known = {provider.name for provider in agent.status().providers}
    missing = sorted(project.providers.keys() - known)
    if missing:
        raise ConfigError(
            f"{project.path} has providers that the agent at {agent.path} does not have: {', '.join(missing)}",
            hint=f"let it read that file: dso-agent --config {project.path}; it has: {_listed(known)}",
        )


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
