"""A Compose file may not help itself to other projects' secrets by mounting what DSO made.

Such a file needs no reference and no grant: the volume of another project's service, the keeper's own
volume, or a container that has such volumes or secrets in its environment. It is refused before
anything starts. (Compose itself starts it, as it starts a file that mounts `/`: docs/security.md.)
"""

from __future__ import annotations

from dso import paths
from dso.errors import ContainerNotFoundError, KeeperError, VolumeConflictError

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from dso.delivery.engine import Engine

_RESERVED_LABELS = (paths.LABEL_ROLE, paths.LABEL_PROJECT, paths.LABEL_SERVICE, paths.LABEL_VAULT)
_CONTAINER = "container:"
_JOINING = ("network_mode", "pid", "ipc", "volumes_from")  # what can be another container's
_SHARING = ("pid", "volumes_from")  # and shows what that one has: its environment, its files


def refuse_borrowed(engine: Engine, document: Mapping[str, Any]) -> None:
    """Raise if a Compose model uses a volume or a container with secrets, or passes something off as DSO's.

    The Engine is asked only about volumes with a name like DSO's, and about containers the model names.
    Compose's own names for containers of the project (`service:web`) are none of those.

    Raises:
        VolumeConflictError: a volume of the model is DSO's, or has its labels; a service shares what a container
            with secrets has.
        KeeperError: a service joins a keeper, or has its labels.
    """
    volumes = document.get("volumes") or {}
    for key, definition in volumes.items():
        _refuse_labels(f"volume {key}", definition or {})
    names = {str((definition or {}).get("name", key)): key for key, definition in volumes.items()}
    for name, key in names.items():
        if "_dso" in name and _is_made_by_dso(engine, name):
            raise VolumeConflictError(
                f"the Compose file mounts the volume {name} (as {key}), which DSO made for secrets",
                hint="take it out of the file: a service gets its files by dsofile:// or by `secrets:`",
            )
    for service, definition in (document.get("services") or {}).items():
        _refuse_labels(f"service {service}", definition)
        for joined in _JOINING:
            for container in _named_containers(definition.get(joined)):
                _refuse_joining(engine, service, joined, container)


def _refuse_labels(what: str, definition: Mapping[str, Any]) -> None:
    for label in _RESERVED_LABELS:
        if label in (definition.get("labels") or {}):
            error = VolumeConflictError if what.startswith("volume") else KeeperError
            raise error(
                f"{what} of the Compose file has the label {label}, which is DSO's own",
                hint="take the label out of the file",
            )


def _is_made_by_dso(engine: Engine, name: str) -> bool:
    found = engine.volumes(name=[name], label=[f"{paths.LABEL_ROLE}=volume"])
    return any(volume.get("Name") == name for volume in found)


def _named_containers(value: object) -> Iterator[str]:
    for each in value if isinstance(value, list) else [value]:
        if isinstance(each, str) and each.startswith(_CONTAINER):
            # volumes_from may end in ":ro" or ":rw"
            yield each.removeprefix(_CONTAINER).partition(":")[0]


def _refuse_joining(engine: Engine, service: str, joined: str, container: str) -> None:
    try:
        found = engine.inspect_container(container)
    except ContainerNotFoundError:
        return  # Compose will say so
    labels = found["Config"]["Labels"] or {}
    if labels.get(paths.LABEL_ROLE) == "keeper":
        raise KeeperError(
            f"service {service} joins the container {container}, which keeps file secrets in memory",
            hint="take it out of the file: a service gets its files by dsofile:// or by `secrets:`",
        )
    if joined in _SHARING and (paths.LABEL_DIGEST in labels or _has_our_volume(engine, found)):
        raise VolumeConflictError(
            f"service {service} joins the container {container} (`{joined}`), which DSO gave secrets to",
            hint="take it out of the file; within a project, `service:NAME` does the same",
        )


def _has_our_volume(engine: Engine, container: Mapping[str, Any]) -> bool:
    names = [str(mount.get("Name") or "") for mount in container.get("Mounts") or []]
    return any("_dso" in name and _is_made_by_dso(engine, name) for name in names)
