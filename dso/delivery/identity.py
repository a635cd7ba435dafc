"""What is DSO's own among the Engine's containers and volumes: docs/decisions/0016-keeper-identity.md.

Labels say where to look and prove nothing, since anybody can copy them. A keeper is known by its
image and its mounts, a volume by its driver, its options and by who else mounts it.
"""

from __future__ import annotations

from dso import paths
from dso.delivery import image, pause
from dso.delivery.plan import DIRECTORY, NOSWAP, VOLUME_OPTIONS, volume_name
from dso.errors import EngineError, KeeperError, VolumeConflictError

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from typing import Any

    from dso.delivery.engine import Engine

COMPOSE_PROJECT_LABEL = "com.docker.compose.project"
SPEC_OPTION = "spec"  # the one option of the agent's driver: what the volume holds, as JSON
_TMPFS = [{"type": "tmpfs", "device": "tmpfs", "o": o} for o in (f"{VOLUME_OPTIONS},{NOSWAP}", VOLUME_OPTIONS)]


def is_keeper(container: Mapping[str, Any], of: str | None = None) -> bool:
    """Whether a container (as in ContainerList) is a keeper, running or not; of any project unless one is given.

    Its image holds one program that can only sleep and unlink, so nothing else in its configuration
    could give a secret away.
    """
    labels = container.get("Labels") or {}
    project = labels.get(paths.LABEL_PROJECT)
    mounts = container.get("Mounts") or []
    return bool(
        labels.get(paths.LABEL_ROLE) == "keeper"
        and project
        and of in (None, project)
        and COMPOSE_PROJECT_LABEL not in labels  # whatever a Compose file makes has it
        and image.is_ours(container.get("ImageID") or "")
        and container.get("Command") == f"/{pause.NAME}"
        and (container.get("HostConfig") or {}).get("NetworkMode") == "none"
        and any(mount.get("Destination") == DIRECTORY for mount in mounts)
        and all(_is_mount_of_keeper(mount, project) for mount in mounts)
    )


def _is_mount_of_keeper(mount: Mapping[str, Any], project: str) -> bool:
    place = mount.get("Destination") or ""
    service = None if place == DIRECTORY else place.removeprefix(DIRECTORY + "/")
    kind = (mount.get("Type"), mount.get("Driver"), mount.get("Name"))
    return service != place and kind == ("volume", "local", volume_name(project, service))


def is_ours(volume: Mapping[str, Any], project: str) -> bool:
    """Whether a volume (as in VolumeList) is a tmpfs that DSO made for this project, by the name it has."""
    return volume.get("Driver") == "local" and volume.get("Options") in _TMPFS and _is_named(volume, project)


def is_of_agent(volume: Mapping[str, Any], project: str) -> bool:
    """Whether a volume is one that Cloud Mode made for this project: it holds nothing but a definition."""
    options = volume.get("Options") or {}
    return volume.get("Driver") != "local" and options.keys() == {SPEC_OPTION} and _is_named(volume, project)


def _is_named(volume: Mapping[str, Any], project: str) -> bool:
    labels = volume.get("Labels") or {}
    return (
        labels.get(paths.LABEL_ROLE) == "volume"
        and labels.get(paths.LABEL_PROJECT) == project
        and volume.get("Name") == volume_name(project, labels.get(paths.LABEL_SERVICE))
    )


def check_volumes(volumes: Sequence[Mapping[str, Any]], project: str, services: Iterable[str]) -> None:
    """Raise unless a keeper's volumes are all there and DSO's own.

    Call it when a container has them: the Engine then keeps them as they are.

    Raises:
        VolumeConflictError: one is not what DSO makes.
        EngineError: one is missing.
    """
    check_existing_volumes(volumes, project, services)
    missing = _names(project, services) - {volume.get("Name") for volume in volumes}
    if missing:
        raise EngineError(f"the Docker Engine does not list the volume {min(missing)}, which it has just made")


def check_existing_volumes(volumes: Sequence[Mapping[str, Any]], project: str, services: Iterable[str]) -> None:
    """As `check_volumes`, of those that are there."""
    needed = _names(project, services)
    for volume in volumes:
        name = volume.get("Name")
        if name not in needed or is_ours(volume, project):
            continue
        if is_of_agent(volume, project):
            raise VolumeConflictError(
                f"the volume {name} is of the driver {volume.get('Driver')}, as in Cloud Mode: "
                "no secret of the vault is written into it",
                hint="take the stack down first (`docker dso down`), then start it in Local Mode; "
                f"or `docker volume rm {name}`",
            )
        raise VolumeConflictError(
            f"the volume {name} exists and was not made by DSO: no secret is written into it",
            hint=f"rename the project or the volume; or, if nobody needs it, `docker volume rm {name}`",
        )


def _names(project: str, services: Iterable[str]) -> set[str]:
    return {volume_name(project), *(volume_name(project, service) for service in services)}


def users_of(engine: Engine, volumes: Sequence[str], project: str) -> list[dict[str, Any]]:
    """The containers, running or not, that mount one of a project's volumes: its own ones and its keepers.

    Raises:
        KeeperError: another container, with the labels of a keeper, mounts one too.
        VolumeConflictError: another container does.
    """
    found = engine.containers(volumes=volumes)
    for container in found:
        mounted = {mount.get("Name") for mount in container.get("Mounts") or []}.intersection(volumes)
        labels = container.get("Labels") or {}
        its_project = labels.get(COMPOSE_PROJECT_LABEL)
        if not mounted or (its_project == project and volume_name(project) not in mounted):
            continue
        if is_keeper(container, project):
            continue
        if labels.get(paths.LABEL_ROLE) == "keeper" and its_project is None:
            raise impostor(container)
        name = container_name(container)
        raise VolumeConflictError(
            f"the container {name} mounts the volume {min(mounted)} and is not one of project {project}: "
            "no secret is written into that volume",
            hint=f"find out who started it (`docker inspect {name}`), then remove it (`docker rm -f {name}`)",
        )
    return found


def impostor(container: Mapping[str, Any]) -> KeeperError:
    """The error that says that a container has a keeper's labels and is none."""
    name = container_name(container)
    return KeeperError(
        f"the container {name} has the labels of a keeper and is not one: no secret is written into it, "
        "and DSO does not remove it",
        hint=f"find out who started it (`docker inspect {name}`), then remove it (`docker rm -f {name}`)",
    )


def container_name(container: Mapping[str, Any]) -> str:
    """A listed container's name."""
    names = container.get("Names") or [container["Id"]]
    return str(names[0]).lstrip("/")
