"""The keeper's container: its image, its configuration, and the volumes that come with it."""

from __future__ import annotations

import os

from dso import paths
from dso.delivery import pause
from dso.delivery.archive import Archive
from dso.delivery.engine import message_of
from dso.delivery.plan import DIRECTORY, KEEPER_FORMAT, LABEL_FORMAT, NOSWAP, VOLUME_OPTIONS, volume_name
from dso.errors import EngineError
from dso.system.json_fast import loads

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from dso.delivery.engine import Engine
    from dso.delivery.plan import StartKeeper, Wanted

IMAGE_REPOSITORY, IMAGE_TAG = "dso/keeper", KEEPER_FORMAT
_FIRST_ERROR, _NOT_FOUND = 400, 404


def start_keeper(engine: Engine, wanted: Wanted, action: StartKeeper) -> str:
    """Create and start a keeper, and with it the volumes that are missing; its id.

    noswap (Linux 6.4, not in a user namespace) is tried rather than asked for: the mount then
    fails with EINVAL, and the empty volumes are made anew without it.
    """
    keeper_id = _create_keeper(engine, wanted, action)
    started = engine.start_container(keeper_id)
    if started.status < _FIRST_ERROR:
        return keeper_id
    message = message_of(started)
    engine.remove_container(keeper_id)
    for service in (None, *action.services):
        engine.remove_volume(volume_name(wanted.project, service))
    if action.noswap and "invalid argument" in message:
        return start_keeper(engine, wanted, action._replace(noswap=False))
    raise EngineError(f"the Docker Engine could not start the keeper of project {wanted.project}: {message}")


def _create_keeper(engine: Engine, wanted: Wanted, action: StartKeeper) -> str:
    name = f"{wanted.project}-dso-keeper-{os.urandom(4).hex()}"
    configuration = _configuration(wanted, action)
    response = engine.create_container(name, configuration)
    if response.status == _NOT_FOUND:
        _import_image(engine)
        response = engine.create_container(name, configuration)
    if response.status >= _FIRST_ERROR:
        raise EngineError(f"the Docker Engine could not create the keeper: {message_of(response)}")
    keeper_id: str = loads(response.body.decode())["Id"]  # type: ignore[index]  # it is an object
    return keeper_id


def _import_image(engine: Engine) -> None:
    """Make the keeper's image out of the bytes of its one program: no registry is needed."""
    archive = Archive(0)
    archive.add_file(pause.NAME, pause.executable(engine.version().get("Arch", "")), mode=0o555)
    engine.import_image(IMAGE_REPOSITORY, IMAGE_TAG, archive.finish(), (f'ENTRYPOINT ["/{pause.NAME}"]',))


def _configuration(wanted: Wanted, action: StartKeeper) -> dict[str, object]:
    """The body of ContainerCreate. No Compose labels: `down --remove-orphans` must not take the keeper."""
    mounts = [_mount(wanted, service, noswap=action.noswap) for service in (None, *action.services)]
    return {
        "Image": f"{IMAGE_REPOSITORY}:{IMAGE_TAG}",
        "Entrypoint": [f"/{pause.NAME}"],
        "Cmd": [],
        "User": "0:0",
        "StopSignal": "SIGKILL",
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
