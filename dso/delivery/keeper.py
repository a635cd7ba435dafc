"""File secrets in Local Mode: deliver them into a project's keeper, and take them away again.

Why there is a keeper and what it looks like: docs/decisions/0003-keeper-parent-volume.md. This
module observes and acts; what to do is decided in `dso.delivery.plan`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from dso import paths
from dso.delivery import locks, pause
from dso.delivery.archive import Archive, read_files
from dso.delivery.container import start_keeper
from dso.delivery.engine import LIVE_STATUSES
from dso.delivery.plan import (
    DIRECTORY,
    IN_DOUBT,
    LABEL_FORMAT,
    MANIFEST,
    FileState,
    Keeper,
    Manifest,
    Observed,
    StartKeeper,
    Wanted,
    WriteFiles,
    plan,
    suitable_keeper,
    volume_name,
)
from dso.errors import ContainerNotFoundError, EngineError
from dso.protocol.volume import STAGING

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from dso.delivery.engine import Engine
    from dso.delivery.plan import ServiceVolume

COMPOSE_PROJECT_LABEL = "com.docker.compose.project"
SWEEP_AFTER = 3600  # seconds: how long another vault's keeper is left alone
_HOLDING = ("running", "paused")


class KeeperState(NamedTuple):
    """A project's keeper as `status` shows it.

    `running` without `content` means that the memory was lost (the Engine or the keeper was
    restarted): `up` delivers again. `delivered_at` is in seconds since 1970, 0 without content.
    """

    project: str
    services: tuple[str, ...]
    running: bool
    content: bool
    delivered_at: int
    files: int
    vault_id: str


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
    already, a third one when content changed. Call it within `in_use`.

    Raises:
        VolumeConflictError: a volume of that name is not DSO's.
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
                _write_files(engine, target, action)
            else:
                engine.remove_container(action.id)


def release(engine: Engine, project: str, *, remove_volumes: bool) -> bool:
    """Take the keeper, and the secrets with it, away from a project of which no container runs.

    Call it outside `in_use`. With remove_volumes the volumes go too, but for those that a stopped
    container uses (they are empty). Returns whether the project is without a keeper now; False
    means that a container runs or that another command is at work.
    """
    lock = locks.take_over(engine.identity, project)
    if lock is None:
        return False
    with lock:
        if _has_live_container(engine, project):
            return False
        for keeper in _keepers(engine, project):
            engine.remove_container(keeper.id)
        if remove_volumes:
            _remove_volumes(engine, project)
    return True


def sweep(engine: Engine, *, vault_id: str | None, spared: str | None = None) -> list[str]:
    """Remove keepers that nobody needs any more, and volumes nobody uses; the projects whose keeper went.

    A keeper is removed when no container of its project runs, no command of this user is at work
    on the project, and it belongs to this vault, or is older than an hour and was not delivered to
    within that hour: the project of another user or another machine, whose locks cannot be seen
    here, may be about to start. `spared` is a project whose keeper `release` has just left alone.
    """
    from time import time

    keepers = _keepers(engine)
    idle_volumes = engine.volumes(label=[f"{paths.LABEL_ROLE}=volume"], dangling=["true"], driver=["local"])
    due = {keeper.project for keeper in keepers if keeper.vault_id == vault_id or keeper.created < time() - SWEEP_AFTER}
    due |= {volume["Labels"].get(paths.LABEL_PROJECT, "") for volume in idle_volumes}
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
    """Whether a keeper got its files within so many seconds."""
    from time import time

    manifest = _read_manifest(engine, keeper) if keeper.holds else None
    return manifest is not None and manifest.delivered_at > time() - seconds


def states(engine: Engine) -> list[KeeperState]:
    """The keepers of this Engine, one entry for each project, sorted by name."""
    found: dict[str, KeeperState] = {}
    for keeper in sorted(_keepers(engine), key=lambda keeper: (keeper.project, keeper.holds)):
        manifest = _read_manifest(engine, keeper) if keeper.holds else None
        found[keeper.project] = KeeperState(
            project=keeper.project,
            services=tuple(sorted(keeper.services)),
            running=keeper.holds,
            content=manifest is not None,
            delivered_at=manifest.delivered_at if manifest else 0,
            files=sum(len(files) for files in manifest.services.values()) if manifest else 0,
            vault_id=keeper.vault_id,
        )
    return list(found.values())


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
    for project in candidates:
        _remove_volumes(engine, project)
    kept = {keeper.project for keeper in keepers}
    for volume in idle_volumes:
        project = volume["Labels"].get(paths.LABEL_PROJECT)
        if project in projects and project not in kept:
            engine.remove_volume(volume["Name"])
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
    keepers = _keepers(engine, wanted.project)
    chosen = suitable_keeper(keepers, wanted)
    holding = chosen or next((keeper for keeper in keepers if keeper.holds), None)
    manifest = None
    if holding:
        manifest = _read_manifest(engine, holding) or _survey(engine, holding, wanted)
    volumes = () if chosen else engine.volumes(name=[volume_name(wanted.project)])
    return Observed(keepers, manifest, volumes)


def _keepers(engine: Engine, project: str | None = None) -> list[Keeper]:
    labels = [f"{paths.LABEL_ROLE}=keeper"]
    if project is not None:
        labels.append(f"{paths.LABEL_PROJECT}={project}")
    return [_parse_keeper(container) for container in engine.containers(labels)]


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


def _read_manifest(engine: Engine, keeper: Keeper) -> Manifest | None:
    """The manifest, or None: then the memory was lost, or another kind of keeper had it."""
    archive = engine.get_archive(keeper.id, f"{DIRECTORY}/{MANIFEST}")
    if archive is None:
        return None
    try:
        for _, content in read_files(archive):
            return Manifest.decode(content)
    except ValueError:
        return None
    return None


def _survey(engine: Engine, keeper: Keeper, wanted: Wanted) -> Manifest:
    """What is in the services' volumes, all in doubt: in place of a manifest that was lost.

    Containers hold their volumes through a restart of the keeper (which loses the manifest): a
    file that is not wanted any more has to go from there too. After a restart of the Engine they
    are empty.
    """
    found: dict[str, dict[str, FileState]] = {}
    for service in (volume.service for volume in wanted.volumes if volume.service in keeper.services):
        archive = engine.get_archive(keeper.id, f"{DIRECTORY}/{service}")
        names = [name.partition("/")[2] for name, _ in read_files(archive or b"")]
        found[service] = {name: IN_DOUBT for name in names if name and not name.startswith(STAGING)}
    return Manifest(0, found)


# Acting


def _write_files(engine: Engine, keeper_id: str, action: WriteFiles) -> None:
    """Write everything with one request; take names away with two more, which is seldom needed."""
    engine.put_archive(keeper_id, DIRECTORY, _build_archive(action))
    if action.removed:
        stale = [f"{DIRECTORY}/{service}/{name}" for service, name in action.removed]
        try:
            engine.execute(keeper_id, [f"/{pause.NAME}", *stale])
        except EngineError:
            return  # an Engine that forbids exec: the names stay, the files are empty and nobody may read them


def _build_archive(action: WriteFiles) -> bytes:
    """One archive for all volumes; the manifest goes first as "in doubt", and last as it then is.

    The Engine extracts in order and removes what is in an entry's way. A new value is written
    whole into STAGING, which only root can enter, and then linked to its place, so that a reader
    never finds half of it. The file that follows takes STAGING's place, and its content away.
    """
    archive = Archive(action.after.delivered_at)
    archive.add_file(MANIFEST, action.during.encode(), mode=0o400)
    for service, name in action.removed:
        archive.add_file(f"{service}/{name}", b"", mode=0)
    for directory in _directories(action):
        archive.add_directory(directory)
    for service in sorted(action.staged):
        archive.add_directory(f"{service}/{STAGING}", mode=0o700)
    for number, (service, file) in enumerate(action.changed):
        place, mode = f"{service}/{file.name}", file.mode & 0o7777
        written = f"{service}/{STAGING}/{number}" if service in action.staged else place
        archive.add_file(written, file.value.reveal(), uid=file.uid, gid=file.gid, mode=mode)
        if written != place:
            archive.add_link(place, written, uid=file.uid, gid=file.gid, mode=mode)
    for service in sorted(action.staged):
        archive.add_file(f"{service}/{STAGING}", b"", mode=0)
        archive.add_directory(f"{service}/{STAGING}", mode=0o700)
    archive.add_file(MANIFEST, action.after.encode(), mode=0o400)
    return archive.finish()


def _directories(action: WriteFiles) -> list[str]:
    found: dict[str, None] = {}
    for service, file in action.changed:
        parts = [service, *file.name.split("/")]
        for depth in range(2, len(parts)):
            found["/".join(parts[:depth])] = None
    return list(found)


def _remove_volumes(engine: Engine, project: str) -> None:
    """Remove the project's volumes, Cloud Mode's too, but for those that a container, running or not, uses."""
    refused = ""
    for volume in engine.volumes(label=[f"{paths.LABEL_ROLE}=volume", f"{paths.LABEL_PROJECT}={project}"]):
        try:
            engine.remove_volume(volume["Name"])
        except EngineError as error:
            if volume["Driver"] == "local":
                raise
            refused = refused or (f"{error.message} (is dso-agent running? start it, then run `docker dso down` again)")
    if refused:
        raise EngineError(refused)
