"""File secrets in Cloud Mode: the Engine's side of the agent's volumes.

The agent's volume driver writes the files when the Engine mounts a volume; all that is done here
is to see to it that the Engine has the volumes. A volume's options hold references, never values.
"""

from __future__ import annotations

from dso import paths
from dso.delivery.engine import message_of
from dso.delivery.identity import SPEC_OPTION, is_of_agent, is_ours, users_of
from dso.delivery.plan import volume_name
from dso.errors import EngineError, FileSecretsUnavailableError, VolumeConflictError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dso.delivery.connection import Target
    from dso.delivery.engine import Engine
    from dso.system.http import Response

_FIRST_ERROR, _CONFLICT = 400, 409
_LOCAL = "unix://"
_CONTEXT = "context:"
_NO_DRIVER = ("error looking up volume plugin", "plugin not found", "no such volume driver")


def ensure_volumes(engine: Engine, project: str, driver: str, specs: Mapping[str, str]) -> None:
    """See to it that the Engine has each service's volume, made by this driver.

    One request for each volume, whether or not it is there already, and one before that asks who
    uses them; a volume's definition is the agent's, which has it before (`PUT /v1/volumes`).

    Args:
        engine: the Engine.
        project: the Compose project.
        driver: the driver's name.
        specs: for each service what the volume holds, as JSON.

    Raises:
        FileSecretsUnavailableError: this Engine has no such driver.
        VolumeConflictError: a volume of that name is not DSO's, still in use with another driver, or mounted by a
            container of somebody else.
        EngineError, EngineUnreachableError, ...: see Engine.request.
    """
    users_of(engine, [volume_name(project, service) for service in specs], project)
    for service, spec in specs.items():
        name = volume_name(project, service)
        labels = {paths.LABEL_ROLE: "volume", paths.LABEL_PROJECT: project, paths.LABEL_SERVICE: service}
        response = engine.create_volume(name, driver, {SPEC_OPTION: spec}, labels)
        if response.status >= _FIRST_ERROR and _is_conflict(response) and _remove_former(engine, project, name):
            response = engine.create_volume(name, driver, {SPEC_OPTION: spec}, labels)
        if response.status >= _FIRST_ERROR:
            raise _refusal(response, name, driver)


def unreachable_reason(target: Target) -> str:
    """Why this Engine cannot reach a driver on this machine; "" if it may be able to."""
    host, _, config = target.identity.partition("\0")
    if host.startswith(_CONTEXT):
        host = _host_of_context(host.removeprefix(_CONTEXT), config)
    if not host or host.startswith(_LOCAL):
        return ""
    return f"the Engine is reached at {host}, which need not be this machine"


def _host_of_context(name: str, config: str) -> str:
    """Where a context's Engine is; "" when that cannot be told: then the Engine has to say whether it knows the driver.

    Source: docker/cli, cli/context/store: meta/<SHA-256 of the name>/meta.json.
    """
    import json
    from hashlib import sha256

    from dso.delivery.connection import MAX_DOCKER_CONFIG
    from dso.errors import FileAccessError
    from dso.system.files import read_file

    path = f"{config or paths.home() + '/.docker'}/contexts/meta/{sha256(name.encode()).hexdigest()}/meta.json"
    try:
        document = json.loads(read_file(path, "Docker's context", MAX_DOCKER_CONFIG))
        return str(document["Endpoints"]["docker"]["Host"])
    except (FileAccessError, ValueError, RecursionError, KeyError, TypeError):
        return ""


def unavailable(reason: str) -> FileSecretsUnavailableError:
    """The error that says what file secrets in Cloud Mode need."""
    return FileSecretsUnavailableError(
        f"file secrets cannot be delivered: {reason}",
        hint="dsofile:// in Cloud Mode needs dso-agent running as root on the Engine's own machine "
        "(`sudo systemctl start dso-agent`);\nwrite dso:// for a variable instead, or use --mode=local",
    )


def _is_conflict(response: Response) -> bool:
    """Whether another driver has a volume of that name: "driver 'local' already has volume ...: must be unique"."""
    return response.status == _CONFLICT or "volume name must be unique" in message_of(response)


def _remove_former(engine: Engine, project: str, name: str) -> bool:
    """Remove a volume of that name that Local Mode, or another agent, has left; whether it is gone."""
    found: Sequence[Mapping[str, object]] = engine.volumes(name=[name])
    return any(
        volume.get("Name") == name
        and (is_ours(volume, project) or is_of_agent(volume, project))
        and engine.remove_volume(name)
        for volume in found
    )


def _refusal(response: Response, name: str, driver: str) -> Exception:
    message = message_of(response)
    if any(sign in message for sign in _NO_DRIVER):
        return unavailable(f"this Engine does not know the agent's volume driver {driver!r}: {message}")
    if _is_conflict(response):
        return VolumeConflictError(
            f"the volume {name} exists and is not the agent's: {message}",
            hint="if Local Mode made it: `docker dso down` first; "
            f"otherwise rename the project or the service, or, if nobody needs it, `docker volume rm {name}`",
        )
    return EngineError(f"the Docker Engine could not make the volume {name}: {message}")
