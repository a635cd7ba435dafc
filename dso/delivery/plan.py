"""What has to be done so that a project's file secrets are where its containers look for them.

Pure: `plan` compares what is wanted with what was observed and returns actions; `dso.delivery.keeper`
observes and acts. The arrangement (volumes, keeper, manifest) is described and justified in
docs/decisions/0003-keeper-parent-volume.md.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.errors import UnsuitableValueError
from dso.protocol.volume import VOLUME_BYTES, memory_needed, name_fault
from dso.secret import SecretValue, is_segment, mac
from dso.system.json_fast import dumps, loads

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from typing import Any

KEEPER_FORMAT = "1"  # a keeper made by a DSO with another arrangement is replaced
LABEL_FORMAT = "io.dso.keeper"
DIRECTORY = "/run/dso"  # where the parent volume is mounted in the keeper
MANIFEST = "@manifest"  # in the parent volume; "@" cannot be in a service's name
VOLUME_OPTIONS = "size=64m,mode=0755,nodev,nosuid,noexec"  # VOLUME_BYTES, and one replaced file twice for a moment
NOSWAP = "noswap"


class SecretFile(NamedTuple):
    """One file: `name` is its path in the volume, relative; `mode` its permission bits."""

    name: str
    value: SecretValue
    uid: int
    gid: int
    mode: int


class ServiceVolume(NamedTuple):
    """Everything a service's volume is to hold: files that are there and not listed go away."""

    service: str
    files: tuple[SecretFile, ...]


class FileState(NamedTuple):
    """What is known of a delivered file; `mac` is keyed."""

    mac: str
    uid: int
    gid: int
    mode: int


IN_DOUBT = FileState("", 0, 0, 0)


class Manifest(NamedTuple):
    """What the volumes hold: when that was delivered (seconds since 1970), and the files of each service.

    `seal` says who wrote it: `keeper_seal` of the keeper whose volumes were looked at before.
    """

    delivered_at: int
    services: dict[str, dict[str, FileState]]
    seal: str = ""

    def encode(self) -> bytes:
        """JSON, as it lies in the parent volume."""
        return dumps({"delivered_at": self.delivered_at, "seal": self.seal, "services": self.services}).encode()

    @classmethod
    def decode(cls, text: bytes) -> Manifest:
        """Read what `encode` wrote; ValueError for anything else."""
        try:
            found: Any = loads(text.decode())
            services = {
                service: {name: FileState(*state) for name, state in files.items()}
                for service, files in found["services"].items()
            }
            return cls(int(found["delivered_at"]), services, str(found["seal"]))
        except (AttributeError, KeyError, OverflowError, TypeError) as error:
            raise ValueError("not a manifest") from error


class Keeper(NamedTuple):
    """A keeper container. `holds` says whether it runs, and so keeps its volumes' content alive."""

    id: str
    project: str
    services: frozenset[str]
    holds: bool
    created: int
    vault_id: str
    format: str


class Observed(NamedTuple):
    """What the Engine has of a project.

    `manifest` is None when no keeper runs.
    """

    keepers: Sequence[Keeper]
    manifest: Manifest | None


class Wanted(NamedTuple):
    """What the project is to have, and the vault it comes from. `now` in seconds since 1970."""

    project: str
    volumes: Sequence[ServiceVolume]
    vault_id: str
    mac_key: bytes
    now: int


class RemoveKeeper(NamedTuple):
    """Remove a keeper container."""

    id: str


class StartKeeper(NamedTuple):
    """Create and start a keeper; it is the one that later actions write to."""

    services: tuple[str, ...]


class WriteFiles(NamedTuple):
    """Write files into the volumes, in one step that ends with `after` as the manifest.

    While it lasts the manifest is `during`: if it breaks off, the next delivery knows which files
    are in doubt. `removed` are emptied first, then taken away. Services in `staged` have former
    content that readers may be looking at (or that a broken off delivery left in STAGING).
    """

    changed: tuple[tuple[str, SecretFile], ...]
    removed: tuple[tuple[str, str], ...]
    staged: frozenset[str]
    during: Manifest
    after: Manifest


Action = RemoveKeeper | StartKeeper | WriteFiles


def volume_name(project: str, service: str | None = None) -> str:
    """The volume of a service; without one the project's parent volume, which holds the manifest."""
    return f"{project}_dso" if service is None else f"{project}_dso_{service}"


def suitable_keeper(keepers: Sequence[Keeper], wanted: Wanted) -> Keeper | None:
    """The running keeper that has every service's volume: those wanted, and those of any other keeper."""
    services = _all_services(keepers, wanted)
    for keeper in keepers:
        if keeper.holds and keeper.services >= services and (keeper.vault_id, keeper.format) == _identity(wanted):
            return keeper
    return None


def plan(observed: Observed, wanted: Wanted) -> list[Action]:
    """The actions that bring about what is wanted; none when everything is there.

    Raises:
        UnsuitableValueError: a service's files do not fit into its volume, or one of their names cannot be used.
        ValueError: a service's name cannot be used; Compose accepts no such name.
    """
    for volume in wanted.volumes:
        _check(volume)
    keeper = suitable_keeper(observed.keepers, wanted)
    if not any(volume.files for volume in wanted.volumes) and not any(other.holds for other in observed.keepers):
        return []  # nothing to bring, and nothing there that could be taken away
    actions: list[Action] = []
    if keeper is None:
        services = sorted(_all_services(observed.keepers, wanted))
        actions += [RemoveKeeper(stale.id) for stale in observed.keepers if not stale.holds]
        actions.append(StartKeeper(tuple(services)))
    writing = _plan_files(observed.manifest, wanted)
    if writing:
        actions.append(writing)
    actions += [
        RemoveKeeper(other.id)
        for other in observed.keepers
        if other is not keeper and (other.holds or keeper is not None)
    ]
    return actions


def file_mac(mac_key: bytes, project: str, service: str, file: SecretFile) -> str:
    """A keyed MAC of a file's content, different for each place it is delivered to."""
    return mac(mac_key, file.value, "delivered", project, service, file.name)


def keeper_seal(mac_key: bytes, project: str, keeper_id: str) -> str:
    """A keyed MAC of a keeper's id, in its manifest: a delivery with this key has looked at its volumes.

    The Engine chooses the id, and changes neither the volumes of a container nor the options of a
    volume that a container has. So they need not be looked at again.
    """
    return mac(mac_key, SecretValue(keeper_id.encode()), "keeper", project)


def _identity(wanted: Wanted) -> tuple[str, str]:
    return (wanted.vault_id, KEEPER_FORMAT)


def _all_services(keepers: Iterable[Keeper], wanted: Wanted) -> frozenset[str]:
    """A new keeper takes over what others keep: `up api` must not lose what `db` has."""
    kept = frozenset(service for keeper in keepers for service in keeper.services)
    return kept | {volume.service for volume in wanted.volumes if volume.files}


def _check(volume: ServiceVolume) -> None:
    if not is_segment(volume.service):
        raise ValueError(f"a service cannot be called {volume.service!r}")
    names = [file.name for file in volume.files]
    if len(set(names)) != len(names):
        raise UnsuitableValueError(
            f"two files of service {volume.service} have one name", hint="give one of the secrets another name"
        )
    for name in names:
        _check_name(volume.service, name)
    needed = memory_needed(len(file.value) for file in volume.files)
    if needed > VOLUME_BYTES:
        raise UnsuitableValueError(
            f"the files of service {volume.service} take {needed} bytes of memory; the limit is {VOLUME_BYTES}",
            hint="keep large data out of the vault, or split the service",
        )


def _check_name(service: str, name: str) -> None:
    """Refuse what the Engine would put elsewhere, or refuse itself when half of the delivery is done."""
    why = name_fault(name)
    if why is None:
        return
    raise UnsuitableValueError(
        f"service {service} cannot have a secret in a file called {name!r}: {why}",
        hint="the file is named after the secret: give that another name (`docker dso secret mv`)",
    )


def _plan_files(manifest: Manifest | None, wanted: Wanted) -> WriteFiles | None:
    """What to write and to remove; None when all is there."""
    held = {} if manifest is None else manifest.services
    after = dict(held)
    changed: list[tuple[str, SecretFile]] = []
    removed: list[tuple[str, str]] = []
    for volume in wanted.volumes:
        service, present = volume.service, held.get(volume.service, {})
        goal = {
            file.name: FileState(file_mac(wanted.mac_key, wanted.project, service, file), file.uid, file.gid, file.mode)
            for file in volume.files
        }
        changed += [(service, file) for file in volume.files if present.get(file.name) != goal[file.name]]
        removed += [(service, name) for name in present if name not in goal]
        if goal or present:
            after[service] = goal
    if not changed and not removed:
        return None
    during = {service: dict(held.get(service, {})) for service in after}
    for service, name in (*removed, *((service, file.name) for service, file in changed)):
        during[service][name] = IN_DOUBT
    staged = {service for service, file in changed if file.name in held.get(service, {})}
    staged |= {volume.service for volume in wanted.volumes if IN_DOUBT in held.get(volume.service, {}).values()}
    at = wanted.now
    return WriteFiles(
        tuple(changed), tuple(removed), frozenset(staged), during=Manifest(at, during), after=Manifest(at, after)
    )
