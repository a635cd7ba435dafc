"""File secrets in Local Mode: deliver them into a project's keeper, and take them away again.

Why there is a keeper and what it looks like: docs/decisions/0003-keeper-parent-volume.md. This
module observes and acts; what to do is decided in `dso.delivery.plan`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from dso import paths
from dso.delivery import identity, locks
from dso.delivery.container import start_keeper
from dso.delivery.content import is_written, read_manifest, survey, write_files
from dso.delivery.engine import LIVE_STATUSES
from dso.delivery.identity import COMPOSE_PROJECT_LABEL
from dso.delivery.plan import (
    DIRECTORY,
    LABEL_FORMAT,
    Keeper,
    Observed,
    StartKeeper,
    Wanted,
    WriteFiles,
    keeper_seal,
    plan,
    suitable_keeper,
    volume_name,
)
from dso.errors import ContainerNotFoundError, EngineError, KeeperError

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from dso.delivery.engine import Engine
    from dso.delivery.plan import ServiceVolume

SWEEP_AFTER = 3600  # seconds: how long another vault's keeper is left alone
_HOLDING = ("running", "paused")


class KeeperState(NamedTuple):
    """A project's keeper as `status` shows it.

    `running` without `content` means that the memory was lost (the Engine or the keeper was
    restarted): `up` delivers again. `delivered_at` is in seconds since 1970, 0 without content.
    `impostor` is the name of a container that has a keeper's labels and is not one, or "".
    """

    project: str
    services: tuple[str, ...]
    running: bool
    content: bool
    delivered_at: int
    files: int
    vault_id: str
    impostor: str = ""


def in_use(engine: Engine, project: str) -> locks.Lock:
    """Keep others from taking the project's keeper away until the returned lock is released.

    Children started meanwhile hold it too: if this process is killed and Compose goes on, the
    keeper is still safe.
    """
    lock = locks.use(engine.identity, project)
    os.set_inheritable(lock.descriptor, True)
    return lock


def deliver(engine: Engine, project: str, volumes: Sequence[ServiceVolume], *, vault_id: str, mac_key: bytes) -> None:
    """See to it that each of the services' volumes holds exactly these files, in memory only.

    Services that are not named keep what they have. Two Engine requests when everything is there
    already, two more when content changed. Call it within `in_use`.

    Raises:
        VolumeConflictError: a volume of that name is not DSO's, or a container of somebody else mounts it.
        KeeperError: the keeper does not stay up, or a container passes itself off as one.
        UnsuitableValueError: the files do not fit.
        EngineError, EngineUnreachableError, EngineUnsupportedError, DockerNotFoundError: see Engine.request.
    """
    from time import time

    if not volumes:
        return
    wanted = Wanted(project, volumes, vault_id, mac_key, int(time()))
    with locks.deliver(engine.identity, project):
        observed = _observe(engine, wanted)
        keeper = suitable_keeper(observed.keepers, wanted)
        target = keeper.id if keeper else ""
        for action in plan(observed, wanted):
            if isinstance(action, StartKeeper):
                target = start_keeper(engine, wanted, action)
            elif isinstance(action, WriteFiles):
                write_files(engine, wanted, target, action, continues=is_written(observed.manifest))
            else:
                engine.remove_container(action.id)


def release(engine: Engine, project: str, *, remove_volumes: bool) -> bool:
    """Take the keeper, and the secrets with it, away from a project of which no container runs.

    Call it outside `in_use`. With remove_volumes the volumes go too, but for those that a stopped
    container uses (they are empty). Returns whether the project is without a keeper now; False
    means that a container runs or that another command is at work.

    Raises:
        KeeperError: done, but a container passes itself off as a keeper, or goes on holding the secrets.
    """
    lock = locks.take_over(engine.identity, project)
    if lock is None:
        return False
    with lock:
        if _has_live_container(engine, project):
            return False
        keepers, impostors = _keepers(engine, project)
        for keeper in keepers:
            engine.remove_container(keeper.id)
        if remove_volumes:
            _remove_volumes(engine, project)
        for container in impostors:
            raise identity.impostor(container)
    return True


def sweep(engine: Engine, *, vault_id: str | None, spared: str | None = None) -> list[str]:
    """Remove keepers that nobody needs any more, and volumes nobody uses; the projects whose keeper went.

    A keeper is removed when no container of its project runs, no command of this user is at work
    on the project, and it belongs to this vault, or is older than an hour and was not delivered to
    within that hour: the project of another user or another machine, whose locks cannot be seen
    here, may be about to start. `spared` is a project whose keeper `release` has just left alone.

    Raises:
        KeeperError: done, but a container goes on holding secrets of a project.
    """
    from time import time

    keepers, _ = _keepers(engine)
    labelled = engine.volumes(label=[f"{paths.LABEL_ROLE}=volume"], dangling=["true"], driver=["local"])
    idle_volumes = [volume for volume in labelled if identity.is_ours(volume, _project_of(volume))]
    due = {keeper.project for keeper in keepers if keeper.vault_id == vault_id or keeper.created < time() - SWEEP_AFTER}
    due |= {_project_of(volume) for volume in idle_volumes}
    due -= {
        keeper.project for keeper in keepers if keeper.vault_id != vault_id and keeper.created >= time() - SWEEP_AFTER
    }
    held = {project: lock for project in sorted(due) if (lock := locks.take_over(engine.identity, project))}
    try:
        fresh = {
            keeper.project
            for keeper in keepers
            if keeper.project in held and keeper.vault_id != vault_id and _delivered_since(engine, keeper, SWEEP_AFTER)
        }
        return _sweep_projects(engine, keepers, idle_volumes, held.keys() - fresh, spared)
    finally:
        for lock in held.values():
            lock.release()


def _delivered_since(engine: Engine, keeper: Keeper, seconds: int) -> bool:
    """Whether a keeper got its files within so many seconds; a clock elsewhere may be as much ahead."""
    from time import time

    manifest = read_manifest(engine, keeper) if keeper.holds else None
    return manifest is not None and abs(time() - manifest.delivered_at) < seconds


def states(engine: Engine) -> list[KeeperState]:
    """The keepers of this Engine, one entry for each project, sorted by name; then what passes itself off as one."""
    keepers, impostors = _keepers(engine)
    labelled = {volume["Name"]: volume for volume in engine.volumes(label=[f"{paths.LABEL_ROLE}=volume"])}
    found: dict[str, KeeperState] = {}
    for keeper in sorted(keepers, key=lambda keeper: (keeper.project, keeper.holds)):
        names = [volume_name(keeper.project, service) for service in (None, *keeper.services)]
        if not all(identity.is_ours(labelled.get(name, {}), keeper.project) for name in names):
            found[keeper.project] = _impostor_state(keeper.project, keeper.id[:12])
            continue
        manifest = read_manifest(engine, keeper) if keeper.holds else None
        found[keeper.project] = KeeperState(
            project=keeper.project,
            services=tuple(sorted(keeper.services)),
            running=keeper.holds,
            content=manifest is not None,
            delivered_at=manifest.delivered_at if manifest else 0,
            files=sum(len(files) for files in manifest.services.values()) if manifest else 0,
            vault_id=keeper.vault_id,
        )
    of_others = [
        _impostor_state(container["Labels"].get(paths.LABEL_PROJECT, ""), identity.container_name(container))
        for container in impostors
    ]
    return [*found.values(), *of_others]


def _impostor_state(project: str, name: str) -> KeeperState:
    return KeeperState(project, (), running=False, content=False, delivered_at=0, files=0, vault_id="", impostor=name)


def _sweep_projects(
    engine: Engine,
    keepers: Sequence[Keeper],
    idle_volumes: Sequence[Mapping[str, Any]],
    projects: Collection[str],
    spared: str | None,
) -> list[str]:
    """Sweep projects whose `use` lock is ours, so that what is observed from here on stays so."""
    candidates = {keeper.project for keeper in keepers if keeper.project in projects} - {spared}
    if candidates:
        live = engine.containers([COMPOSE_PROJECT_LABEL], LIVE_STATUSES)
        candidates -= {container["Labels"][COMPOSE_PROJECT_LABEL] for container in live}
    for keeper in keepers:
        if keeper.project in candidates:
            engine.remove_container(keeper.id)
    held: KeeperError | None = None
    for project in sorted(candidates):
        try:
            _remove_volumes(engine, project)
        except KeeperError as error:
            held = held or error
    kept = {keeper.project for keeper in keepers}
    for volume in idle_volumes:
        project = _project_of(volume)
        if project in projects and project not in kept:
            engine.remove_volume(volume["Name"])
    if held:
        raise held
    return sorted(candidates)


# What is there


def _has_live_container(engine: Engine, project: str) -> bool:
    """Whether a container of the project runs; one is asked for first, since hundreds are a megabyte of answer."""
    labels = [f"{COMPOSE_PROJECT_LABEL}={project}"]
    return any(
        _is_live(engine, container["Id"])
        for limit in (1, 0)
        for container in engine.containers(labels, LIVE_STATUSES, limit)
    )


def _is_live(engine: Engine, container_id: str) -> bool:
    """Whether a listed container really runs: the Engine's list lags behind `stop` by some milliseconds."""
    try:
        status = engine.inspect_container(container_id)["State"]["Status"]
    except ContainerNotFoundError:
        return False
    return status in LIVE_STATUSES


def _observe(engine: Engine, wanted: Wanted) -> Observed:
    names = [volume_name(wanted.project, volume.service) for volume in wanted.volumes if volume.files]
    users = identity.users_of(engine, [volume_name(wanted.project), *names], wanted.project)
    keepers = [_parse_keeper(container) for container in users if identity.is_keeper(container, wanted.project)]
    chosen = suitable_keeper(keepers, wanted)
    holding = chosen or next((keeper for keeper in keepers if keeper.holds), None)
    manifest = read_manifest(engine, holding) if holding else None
    if chosen and (manifest is None or manifest.seal != keeper_seal(wanted.mac_key, wanted.project, chosen.id)):
        volumes = engine.volumes(name=[volume_name(wanted.project)])
        identity.check_volumes(volumes, wanted.project, chosen.services)
    if holding and manifest is None:
        manifest = survey(engine, holding, wanted)
    return Observed(keepers, manifest)


def _keepers(engine: Engine, project: str | None = None) -> tuple[list[Keeper], list[dict[str, Any]]]:
    """The keepers, and the containers that have a keeper's labels and are none."""
    labels = [f"{paths.LABEL_ROLE}=keeper"]
    if project is not None:
        labels.append(f"{paths.LABEL_PROJECT}={project}")
    found = engine.containers(labels)
    keepers = [_parse_keeper(container) for container in found if identity.is_keeper(container)]
    return keepers, [container for container in found if not identity.is_keeper(container)]


def _project_of(volume: Mapping[str, Any]) -> str:
    return str(volume["Labels"].get(paths.LABEL_PROJECT, ""))


def _parse_keeper(container: Mapping[str, Any]) -> Keeper:
    """A keeper from an entry of ContainerList."""
    labels = container["Labels"]
    targets = [mount.get("Destination", "") for mount in container.get("Mounts") or []]
    prefix = DIRECTORY + "/"
    return Keeper(
        id=container["Id"],
        project=labels.get(paths.LABEL_PROJECT, ""),
        services=frozenset(target.removeprefix(prefix) for target in targets if target.startswith(prefix)),
        holds=container.get("State") in _HOLDING,
        created=int(container.get("Created", 0)),
        vault_id=labels.get(paths.LABEL_VAULT, ""),
        format=labels.get(LABEL_FORMAT, ""),
    )


def _remove_volumes(engine: Engine, project: str) -> None:
    """Remove the project's volumes, Cloud Mode's too, but for those that a container, running or not, uses.

    Raises:
        KeeperError: a container that runs keeps what is in one of them in memory.
        EngineError: one cannot be removed.
    """
    refused = ""
    used = []
    for volume in engine.volumes(label=[f"{paths.LABEL_ROLE}=volume", f"{paths.LABEL_PROJECT}={project}"]):
        if not identity.is_ours(volume, project) and not identity.is_of_agent(volume, project):
            continue
        try:
            if not engine.remove_volume(volume["Name"]):
                used.append(volume["Name"])
        except EngineError as error:
            if volume["Driver"] == "local":
                raise
            refused = refused or (f"{error.message} (is dso-agent running? start it, then run `docker dso down` again)")
    if refused:
        raise EngineError(refused)
    for container in engine.containers(statuses=LIVE_STATUSES, volumes=used) if used else ():
        name = identity.container_name(container)
        raise KeeperError(
            f"the container {name} goes on using file secrets of project {project}",
            hint=f"find out who started it (`docker inspect {name}`), then remove it (`docker rm -f {name}`)",
        )
