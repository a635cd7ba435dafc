"""A Compose file may not help itself to other projects' secrets by mounting what DSO made.

Such a file needs no reference and no grant: the volume of another project's service, the keeper's own
volume, or the volumes of a keeper. It is refused before anything starts. (Compose itself starts it,
as it starts a file that mounts `/`: docs/security.md.)
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
_JOINING = ("network_mode", "pid", "ipc")  # what can be another container's


def refuse_borrowed(engine: Engine, document: Mapping[str, Any]) -> None:
    """Raise if a Compose model uses a volume or a keeper that DSO made, or passes something off as one.

    The Engine is asked only about volumes with a name like DSO's, and about containers the model names.

    Raises:
        VolumeConflictError: a volume of the model is DSO's, or has its labels.
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
        for container in _named_containers(definition):
            if _is_labelled_keeper(engine, container):
                raise KeeperError(
                    f"service {service} joins the container {container}, which keeps file secrets in memory",
                    hint="take it out of the file: a service gets its files by dsofile:// or by `secrets:`",
                )


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


def _named_containers(definition: Mapping[str, Any]) -> Iterator[str]:
    values = [definition.get(key) or "" for key in _JOINING] + list(definition.get("volumes_from") or ())
    for value in values:
        if isinstance(value, str) and value.startswith(_CONTAINER):
            # volumes_from may end in ":ro" or ":rw"
            yield value.removeprefix(_CONTAINER).partition(":")[0]


def _is_labelled_keeper(engine: Engine, container: str) -> bool:
    try:
        labels = engine.inspect_container(container)["Config"]["Labels"] or {}
    except ContainerNotFoundError:
        return False  # Compose will say so
    return labels.get(paths.LABEL_ROLE) == "keeper"
