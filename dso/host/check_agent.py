"""The agent: who may use it, its files, its socket, what it says, and whether its providers work."""

from __future__ import annotations

import os
import stat

from dso import paths
from dso.errors import AgentForbiddenError, ConfigError, DsoError
from dso.host.accounts import make_user, missing_users
from dso.host.findings import ERROR, NOTE, OK, WARNING, Finding
from dso.host.installation import OWN_TYPES
from dso.host.provider_check import check_providers
from dso.host.units import SERVICE
from dso.version import VERSION

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from dso.host.machine import Host
    from dso.host.provider_check import ProviderHealth
    from dso.protocol.state import AgentStatus

_SOCKET = "/run/dso.sock"
_MEMBERS = 0o660
_CAPABILITIES = ("CAP_SETUID", "CAP_SETGID", "CAP_KILL")
_OTHERS_MAY_WRITE = stat.S_IWGRP | stat.S_IWOTH


def membership(members: Sequence[str] | None, user: str, session: Sequence[int], gid: int | None) -> list[Finding]:
    """Whether a user who is not root may use the agent, now and in this login session.

    Args:
        members: of the group; None: there is no group.
        user: the user's name.
        session: the groups of this process, by number.
        gid: the group's number.
    """
    group = paths.AGENT_GROUP
    if members is None:
        return [Finding("group", ERROR, f"there is no group {group}", "", "sudo docker dso system setup")]
    if not user:
        return [Finding("group", OK, f"the group {group}: {', '.join(members) or 'no members'}")]
    if gid in session:
        return [Finding("group", OK, f"{user} is in the group {group}")]
    if user in members:
        cause = "groups are taken at login, and this session is older"
        what = f"{user} is in the group {group}, but this session is not"
        return [Finding("group", ERROR, what, cause, f"log out and in again, or in this shell: newgrp {group}")]
    what = f"{user} is not in the group {group}"
    remedy = f"sudo usermod -aG {group} {user}, then log in again (its members can read the agent's secrets)"
    return [Finding("group", WARNING, what, "only root and its members may use the agent", remedy)]


def plugin_users(host: Host, types: Iterable[str]) -> list[Finding]:
    """Whether the agent can run plugins of these types as users of their own, which it insists on."""
    own = {paths.PLUGIN_USER_PREFIX + one if one in OWN_TYPES else paths.PLUGIN_USER for one in types}
    missing = missing_users(host, [name for name in paths.PLUGIN_USERS if name in own])
    found = []
    if missing:
        what = f"there is no user {', '.join(missing)}"
        cause = "the agent runs each plugin as a user of its own, and starts none as root"
        fix = _make_users(host, missing) if host.uid == 0 else None
        found.append(Finding("users", ERROR, what, cause, "sudo docker dso system setup", fix))
    lacking = _lacking(host) if host.has_systemd else []
    if lacking:
        what = f"{SERVICE} lacks {', '.join(lacking)}"
        cause = (
            "the agent needs them to run plugins as users of their own; a drop-in or a unit of your own takes them away"
        )
        remedy = f"add them to CapabilityBoundingSet= (systemctl cat {SERVICE}), then: sudo docker dso system restart"
        found.append(Finding("users", ERROR, what, cause, remedy))
    return found or [
        Finding("users", OK, f"plugins run as users of their own: {', '.join(sorted(own) or paths.PLUGIN_USERS)}")
    ]


def _lacking(host: Host) -> list[str]:
    """The capabilities for that which the unit does not have."""
    shown = host.run(["systemctl", "show", "--property=CapabilityBoundingSet", SERVICE])
    value = shown.stdout.decode("utf-8", "replace").strip().partition("=")[2].split()
    return [name for name in _CAPABILITIES if value and name.lower() not in value]


def _make_users(host: Host, names: list[str]) -> Callable[[], None]:
    def fix() -> None:
        for name in names:
            make_user(host, name)

    return fix


def files(host: Host) -> list[Finding]:
    """/etc/dso and the agent's state: whose they are, and who may read and change them."""
    found = []
    for path, forbidden, why in (
        (os.path.dirname(paths.SYSTEM_CONFIG), _OTHERS_MAY_WRITE, "others could replace the configuration"),
        (paths.SYSTEM_CONFIG, _OTHERS_MAY_WRITE, "others could choose where secrets come from"),
        (paths.SYSTEM_ENVIRONMENT, 0o077, "it holds credentials"),
        (paths.SYSTEM_STATE_DIR, 0o077, "it says which secrets containers have"),
    ):
        status = host.status(path)
        if status is None or stat.S_ISLNK(status.st_mode):
            continue
        mode = stat.S_IMODE(status.st_mode)
        if status.st_uid != 0:
            what = f"{path} belongs to user {status.st_uid}, not to root"
            remedy = f"look at what is in it, then: sudo chown root:root {path}"
            found.append(Finding("permissions", ERROR, what, why, remedy))
        elif mode & forbidden:
            wanted = mode & ~forbidden
            what = f"{path} is open to other users (mode {mode:04o})"
            fix = _close(host, path, forbidden) if host.uid == 0 else None
            found.append(Finding("permissions", ERROR, what, why, f"sudo chmod {wanted:o} {path}", fix))
    return found or [Finding("permissions", OK, "/etc/dso and /var/lib/dso are root's alone to change")]


def socket(host: Host, gid: int | None) -> list[Finding]:
    """The agent's API socket: there, root:dso, 0660."""
    status = host.status(_SOCKET)
    if status is None:
        cause = "dso-agent.socket makes it"
        return [Finding("socket", ERROR, f"there is no {_SOCKET}", cause, "sudo docker dso system enable")]
    if not stat.S_ISSOCK(status.st_mode):
        remedy = f"sudo rm {_SOCKET} && sudo systemctl restart dso-agent.socket"
        return [Finding("socket", ERROR, f"{_SOCKET} is no socket", "", remedy)]
    mode = stat.S_IMODE(status.st_mode)
    if status.st_uid == 0 and status.st_gid == gid and mode == _MEMBERS:
        return [Finding("socket", OK, f"{_SOCKET}, for root and the group {paths.AGENT_GROUP}")]
    what = f"{_SOCKET} is {status.st_uid}:{status.st_gid}, mode {mode:04o}"
    cause = f"it has to be root:{paths.AGENT_GROUP}, 0660"
    remedy = f"sudo chown root:{paths.AGENT_GROUP} {_SOCKET} && sudo chmod 660 {_SOCKET}"
    fix = _give(host, gid) if host.uid == 0 and gid is not None else None
    return [Finding("socket", ERROR, what, cause, remedy, fix)]


def configuration(load: Callable[[], object]) -> list[Finding]:
    """Whether /etc/dso/dso.yaml is right, with the variables of agent.env; `load` raises what is wrong."""
    try:
        load()
    except ConfigError as error:
        return [Finding("configuration", ERROR, error.message, "", error.hint)]
    except DsoError as error:
        return [Finding("configuration", ERROR, error.message, "", error.hint)]
    return [Finding("configuration", OK, f"{paths.SYSTEM_CONFIG} is right, and its variables have values")]


def agent(ask: Callable[[], AgentStatus]) -> tuple[list[Finding], AgentStatus | None]:
    """What the agent says of itself; `ask` raises why it does not."""
    try:
        status = ask()
    except AgentForbiddenError as error:
        return [Finding("agent", ERROR, error.message, "", error.hint)], None
    except DsoError as error:
        return [Finding("agent", ERROR, f"the agent does not answer: {error.message}", "", error.hint)], None
    info = status.info
    found = [Finding("agent", OK, f"dso-agent {info.version} answers")]
    if info.version != VERSION:
        cause = "it was started before an upgrade, or is another installation"
        what = f"the agent that runs is version {info.version}, and docker-dso is {VERSION}"
        found = [Finding("agent", WARNING, what, cause, "sudo docker dso system restart")]
    if status.config_error:
        cause = "the agent goes on with the former configuration until it is restarted, and then will not start"
        what = f"{status.config} is faulty now: {status.config_error}"
        found.append(Finding("agent", ERROR, what, cause, "correct it, then: docker dso sync, or system restart"))
    if status.restart_needed:
        what = f"{', '.join(status.restart_needed)} in {status.config} changed since the agent started"
        found.append(Finding("agent", WARNING, what, "they are read at a start only", "sudo docker dso system restart"))
    driver = info.volume_driver
    if not driver.available:
        remedy = "sudo docker dso system enable; `docker dso system logs` may say more"
        what = "file secrets in Cloud Mode cannot be had: the agent's volume driver is not available"
        found.append(Finding("agent", ERROR, what, driver.reason, remedy))
    return found, status


def providers(host: Host, agent_program: str, status: AgentStatus | None, *, may_run: bool) -> list[Finding]:
    """Whether each provider can be reached and takes the credentials.

    Root looks itself (`dso-agent --check`), with a program that only root could have written (`may_run`); others
    are told what the agent knows.
    """
    if host.uid == 0 and may_run:
        checked, fault = check_providers(host, agent_program)
        if fault:
            return [Finding("providers", ERROR, "the providers cannot be checked", fault, "see `configuration`")]
        return [_provider(one) for one in checked]
    if status is None:
        return []
    found = []
    for each in status.providers:
        if each.error:
            what = f"{each.name} ({each.type}): {each.state}"
            found.append(Finding("providers", ERROR, what, each.error, "sudo docker dso system doctor says more"))
        else:
            found.append(
                Finding("providers", OK, f"{each.name} ({each.type}): {each.state}, as far as the agent knows")
            )
    return found


def _provider(health: ProviderHealth) -> Finding:
    name = f"{health.name} ({health.type})"
    if not health.code:
        return Finding("providers", OK, f"{name} is reached and takes the credentials")
    return Finding("providers", ERROR, f"{name} does not work [{health.code}]", health.message, health.remedy)


def not_set_up() -> list[Finding]:
    """For machines without root's agent, where nothing is missing."""
    what = "Cloud Mode is not set up for this machine; Local Mode and an agent of your own do without it"
    return [Finding("cloud", NOTE, what)]


def _close(host: Host, path: str, forbidden: int) -> Callable[[], None]:
    return lambda: host.set_mode(path, forbidden)


def _give(host: Host, gid: int) -> Callable[[], None]:
    def fix() -> None:
        os.chown(host.path(_SOCKET), 0, gid)
        os.chmod(host.path(_SOCKET), _MEMBERS)

    return fix
