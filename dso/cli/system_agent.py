"""What the commands of `docker dso system` share: root, and the agent that systemd runs."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dso.host.machine import Host
    from dso.protocol.state import AgentStatus


def need_root(host: Host, command: str) -> None:
    """RootNeededError for anybody else."""
    from dso.errors import RootNeededError

    if host.uid != 0:
        raise RootNeededError(
            f"`docker dso system {command}` changes the machine, which only root may",
            hint=f"sudo docker dso system {command}",
        )


def agent_answers() -> AgentStatus:
    """What the system's agent says of itself; AgentUnavailableError and its like while it does not."""
    import os

    from dso import paths
    from dso.config.load import load_socket
    from dso.errors import ConfigError
    from dso.protocol.client import AgentClient

    try:
        socket = load_socket(paths.SYSTEM_CONFIG, environment=os.environ)
    except ConfigError:
        socket = None
    with AgentClient.connect(socket or paths.SYSTEM_SOCKET) as agent:
        return agent.status()
