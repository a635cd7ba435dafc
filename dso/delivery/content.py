"""What is in a keeper's volumes, and how it gets there: one archive for all of them, and a manifest in it.

Why the archive looks as it does: docs/decisions/0003-keeper-parent-volume.md.
"""

from __future__ import annotations

from dso.delivery import pause
from dso.delivery.archive import Archive, read_files
from dso.delivery.plan import DIRECTORY, IN_DOUBT, MANIFEST, FileState, Manifest, keeper_seal
from dso.errors import ContainerNotFoundError, EngineError, KeeperError
from dso.protocol.volume import STAGING

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from dso.delivery.engine import Engine
    from dso.delivery.plan import Keeper, Wanted, WriteFiles

_LINK = "@before"  # in the parent volume: a link to the manifest that a delivery goes on from


def read_manifest(engine: Engine, keeper: Keeper) -> Manifest | None:
    """The manifest, or None: then the memory was lost, or another kind of keeper had it."""
    text = _manifest_text(engine, keeper.id)
    try:
        return Manifest.decode(text) if text is not None else None
    except (ValueError, RecursionError):
        return None


def _manifest_text(engine: Engine, keeper_id: str) -> bytes | None:
    archive = engine.get_archive(keeper_id, f"{DIRECTORY}/{MANIFEST}")
    try:
        return next((content for _, content in read_files(archive or b"")), None)
    except ValueError:
        return None


def is_written(manifest: Manifest | None) -> bool:
    """Whether a manifest was read, rather than made up from what is there."""
    return manifest is not None and manifest.delivered_at > 0


def survey(engine: Engine, keeper: Keeper, wanted: Wanted) -> Manifest:
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


def write_files(engine: Engine, wanted: Wanted, keeper_id: str, action: WriteFiles, *, continues: bool) -> None:
    """Write everything with one request, and see that it is there with another one.

    A keeper that ended meanwhile and runs again is empty: then the manifest is missing, too. Names
    are taken away with two more requests, which is seldom needed.

    Raises:
        KeeperError: the files are not there, since the keeper ended.
        EngineError: the Engine could not write them.
    """
    seal = keeper_seal(wanted.mac_key, wanted.project, keeper_id)
    during, after = action.during._replace(seal=seal), action.after._replace(seal=seal)
    action = action._replace(during=during, after=after)
    try:
        engine.put_archive(keeper_id, DIRECTORY, _build_archive(action, continues=continues))
    except EngineError:
        if continues and _manifest_text(engine, keeper_id) is None:
            raise _keeper_ended(engine, wanted.project, keeper_id) from None
        raise
    if action.removed:
        stale = [f"{DIRECTORY}/{service}/{name}" for service, name in action.removed]
        _unlink(engine, keeper_id, stale)
    if _manifest_text(engine, keeper_id) != after.encode():
        raise _keeper_ended(engine, wanted.project, keeper_id)


def _unlink(engine: Engine, keeper_id: str, paths: list[str]) -> None:
    try:
        engine.execute(keeper_id, [f"/{pause.NAME}", *paths])
    except EngineError:
        return  # an Engine that forbids exec: the names stay, the files are empty and nobody may read them


def _keeper_ended(engine: Engine, project: str, keeper_id: str) -> KeeperError:
    try:
        found = engine.inspect_container(keeper_id)
        state = found["State"]
        what = f"it is {state['Status']}, was started again {found['RestartCount']} times and last ended with "
        what += f"{state['ExitCode']}"
    except ContainerNotFoundError:
        what = "somebody has removed it"
    return KeeperError(
        f"the keeper of project {project} does not stay up, so its file secrets are not in memory: {what}",
        hint="look for the reason with `docker events --since 5m` and in the Engine's own log, then try again",
    )


def _build_archive(action: WriteFiles, *, continues: bool) -> bytes:
    """One archive for all volumes; the manifest goes first as "in doubt", and last as it then is.

    The Engine extracts in order and removes what is in an entry's way. A delivery that `continues`
    begins with a link to the manifest it goes on from: if the keeper has lost that, and with it the
    files that are not written again, the Engine refuses the archive. A new value is written
    whole into STAGING, which only root can enter, and then linked to its place, so that a reader
    never finds half of it. The file that follows takes STAGING's place, and its content away.
    """
    archive = Archive(action.after.delivered_at)
    if continues:
        archive.add_link(_LINK, MANIFEST, mode=0o400)
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
