"""The keeper's container: its image, its configuration, and the volumes that come with it."""

from __future__ import annotations

import os

from dso import paths
from dso.delivery import image, pause
from dso.delivery.engine import message_of, version_number
from dso.delivery.identity import check_existing_volumes, check_volumes, is_ours
from dso.delivery.plan import DIRECTORY, KEEPER_FORMAT, LABEL_FORMAT, NOSWAP, VOLUME_OPTIONS, volume_name
from dso.errors import EngineError, VolumeConflictError
from dso.system.json_fast import loads

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from dso.delivery.engine import Engine
    from dso.delivery.plan import StartKeeper, Wanted
    from dso.system.http import Response

_FIRST_ERROR, _NOT_FOUND = 400, 404


def start_keeper(engine: Engine, wanted: Wanted, action: StartKeeper, *, noswap: bool = True) -> str:
    """Create and start a keeper, and with it the volumes that are missing; its id.

    The volumes are looked at between the two: from then on the Engine changes them no more, and
    nothing has been written into them yet. noswap (Linux 6.4, not in a user namespace) is tried
    rather than asked for: the mount then fails with EINVAL, and the empty volumes are made anew
    without it.

    Raises:
        VolumeConflictError: a volume of a needed name exists and is not DSO's.
        EngineError: the keeper cannot be made or started.
    """
    created = _create_keeper(engine, wanted, action, noswap=noswap)
    volumes = engine.volumes(name=[volume_name(wanted.project)])
    if created.status >= _FIRST_ERROR:
        _remove_idle_volumes(engine, wanted, action)
        check_existing_volumes(volumes, wanted.project, action.services)
        raise EngineError(f"the Docker Engine could not create the keeper: {message_of(created)}")
    keeper_id: str = loads(created.body.decode())["Id"]  # type: ignore[index]  # it is an object
    try:
        check_volumes(volumes, wanted.project, action.services)
    except VolumeConflictError:
        engine.remove_container(keeper_id)
        _remove_idle_volumes(engine, wanted, action)
        raise
    started = engine.start_container(keeper_id)
    if started.status < _FIRST_ERROR:
        return keeper_id
    message = message_of(started)
    engine.remove_container(keeper_id)
    _remove_idle_volumes(engine, wanted, action)
    if noswap and "invalid argument" in message:
        return start_keeper(engine, wanted, action, noswap=False)
    raise EngineError(f"the Docker Engine could not start the keeper of project {wanted.project}: {message}")


def _remove_idle_volumes(engine: Engine, wanted: Wanted, action: StartKeeper) -> None:
    """Remove the keeper's volumes that no container uses; only DSO's own, which are empty then."""
    needed = {volume_name(wanted.project, service) for service in (None, *action.services)}
    for volume in engine.volumes(name=[volume_name(wanted.project)]):
        if volume["Name"] in needed and is_ours(volume, wanted.project):
            engine.remove_volume(volume["Name"])


def _create_keeper(engine: Engine, wanted: Wanted, action: StartKeeper, *, noswap: bool) -> Response:
    """ContainerCreate from the image by its id; it is brought in first where the Engine has none of that id.

    That the Engine has this machine's architecture is tried rather than asked for.
    """
    name = f"{wanted.project}-dso-keeper-{os.urandom(4).hex()}"
    configuration = _configuration(wanted, action, noswap=noswap)

    def create(architecture: str) -> Response | None:
        response = None
        for image_id in image.candidates(architecture, version_number(engine.api_version)):
            response = engine.create_container(name, {**configuration, "Image": image_id})
            if response.status != _NOT_FOUND:
                break
        return response

    def bring(architecture: str) -> Response | None:
        engine.load_image(image.archive(architecture))
        return create(architecture)

    likely = image.likely_architecture()
    response = create(likely)
    if likely and response is not None and response.status == _NOT_FOUND:
        response = bring(likely)
    if response is None or response.status == _NOT_FOUND or _is_foreign(response):
        architecture = engine.version().get("Arch", "")
        if response is not None and response.status < _FIRST_ERROR:
            engine.remove_container(loads(response.body.decode())["Id"])  # type: ignore[index]  # it is an object
        response = bring(architecture)
        assert response is not None  # noqa: S101  # `archive` refuses an architecture without candidates
    return response


def _is_foreign(created: Response) -> bool:
    """Whether the Engine warns that a new container's image is for another platform."""
    if created.status >= _FIRST_ERROR:
        return False
    warnings = loads(created.body.decode()).get("Warnings") or []  # type: ignore[attr-defined]  # it is an object
    return any("platform" in warning for warning in warnings)


def _configuration(wanted: Wanted, action: StartKeeper, *, noswap: bool) -> dict[str, object]:
    """The body of ContainerCreate without the image. No Compose labels: `down --remove-orphans` must not take it."""
    mounts = [_mount(wanted, service, noswap=noswap) for service in (None, *action.services)]
    return {
        "Entrypoint": [f"/{pause.NAME}"],
        "Cmd": [],
        "User": "0:0",
        "StopSignal": "SIGKILL",
        "Healthcheck": {"Test": ["NONE"]},
        "Labels": {
            paths.LABEL_ROLE: "keeper",
            paths.LABEL_PROJECT: wanted.project,
            paths.LABEL_VAULT: wanted.vault_id,
            LABEL_FORMAT: KEEPER_FORMAT,
        },
        "HostConfig": {
            "Mounts": mounts,
            "NetworkMode": "none",
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "RestartPolicy": {"Name": "always"},
            "LogConfig": {"Type": "none"},
        },
    }


def _mount(wanted: Wanted, service: str | None, *, noswap: bool) -> dict[str, object]:
    labels = {
        paths.LABEL_ROLE: "volume",
        paths.LABEL_PROJECT: wanted.project,
        paths.LABEL_VAULT: wanted.vault_id,
    }
    if service is not None:
        labels[paths.LABEL_SERVICE] = service
    options = f"{VOLUME_OPTIONS},{NOSWAP}" if noswap else VOLUME_OPTIONS
    driver = {"Name": "local", "Options": {"type": "tmpfs", "device": "tmpfs", "o": options}}
    return {
        "Type": "volume",
        "Source": volume_name(wanted.project, service),
        "Target": DIRECTORY if service is None else f"{DIRECTORY}/{service}",
        "VolumeOptions": {"NoCopy": True, "Labels": labels, "DriverConfig": driver},
    }
