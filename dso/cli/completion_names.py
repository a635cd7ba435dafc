"""Names to complete: of secrets, never a value; of versions, slots and containers."""

from __future__ import annotations

from dso.cli.completion import KEEP_ORDER, NO_FILES, NO_SPACE, NOTHING, Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable

    from dso.cli.completion import Line
    from dso.vault.store import Vault

_SCHEMES = ("dso://", "dsofile://")


def answer_for(metavar: str, line: Line, current: str) -> Answer:
    """What could stand for an argument with this name in the help; nothing for one that is not known here.

    Raises:
        DsoError, OSError: who knows the names cannot be asked.
    """
    if metavar in ("REF", "OLD"):
        return _references(_vault().names(), line, current)
    if metavar == "NAME":
        return _references(_names_in_the_cloud(line), line, current)
    names = _NAMES.get(metavar)
    return names(line).beginning_with(current) if names else NOTHING


def _plain(names: Iterable[str]) -> Answer:
    return Answer([(name, "") for name in names])


def _references(names: Iterable[str], line: Line, current: str) -> Answer:
    """Names that are not on the line yet, written as the user has begun to."""
    from dso.vault.names import GLOBAL_NAMESPACE

    names = [name for name in names if name not in line.positionals]
    scheme = next((scheme for scheme in _SCHEMES if current.startswith(scheme)), "")
    found = [scheme + name for name in names]
    if current and "/" not in current:  # KEY is global/KEY
        prefix = GLOBAL_NAMESPACE + "/"
        found += [name.removeprefix(prefix) for name in names if name.startswith(prefix)]
    return _plain(found).beginning_with(current)


def _vault() -> Vault:
    """The vault, if it opens by itself: nobody is asked for a passphrase, and no file with one is read.

    The file may be a pipe that can be read once, and deriving the key takes long on purpose.
    """
    from dso.vault.store import Vault
    from dso.vault.unlock import Unlock, without_passphrase_file

    return Vault.open(unlock=Unlock(environment=without_passphrase_file(), ask=lambda _prompt: None))


def _namespaces(_line: Line) -> Answer:
    return _plain(sorted({name.split("/", 1)[0] for name in _vault().names()}))


def _grantable(line: Line) -> Answer:
    """What `allow` could grant: namespaces, and secrets by name; for `deny`, what the directory has."""
    from dso.vault.names import GLOBAL_NAMESPACE

    if line.command == "deny":
        import os

        from dso.grants.store import Grants

        granted = Grants.load().of(os.path.realpath(os.getcwd()))
        names: Iterable[str] = (*granted.namespaces, *granted.secrets)
    else:
        secrets = _vault().names()
        names = sorted({name.split("/", 1)[0] for name in secrets} - {GLOBAL_NAMESPACE}) + secrets
    return _plain(name for name in names if name not in line.positionals)


def _beginnings(line: Line) -> Answer:
    """What a new name could begin with."""
    return Answer([(f"{one}/", "") for one, _ in _namespaces(line).candidates], NO_FILES | NO_SPACE)


def _versions(line: Line) -> Answer:
    """The versions of a secret before the current one, newest first."""
    from dso.cli.output import local_time
    from dso.vault.names import parse_name

    earlier = _vault().history(parse_name(line.positionals[0]))[1:]
    return Answer([(str(one.version), local_time(one.updated_at)) for one in earlier], NO_FILES | KEEP_ORDER)


def _slots(_line: Line) -> Answer:
    """The slots in the vault's readable part."""
    from dso import paths
    from dso.vault.store import read_vault_file

    _, header = read_vault_file(paths.vault_file())
    return Answer([(slot.id, slot.type) for slot in header.slots])


def _names_in_the_cloud(line: Line) -> list[str]:
    """The entries of dso.yaml that this user may read, and by PROVIDER/PATH what the agent has in memory besides."""
    from dso.cli.cloud import Cloud
    from dso.config.mode import CLOUD, detect_mode
    from dso.secret import is_segment

    mode = detect_mode(line.mode, line.config)
    if mode.name != CLOUD:
        return []
    with Cloud.open(mode, may_ask=False) as cloud:
        if line.command == "export":  # takes entries only
            return sorted(cloud.entries)
        paths = {(entry.provider, entry.path) for entry in cloud.entries.values()}
        others = {f"{one.provider}/{one.path}" for one in cloud.known.cached if (one.provider, one.path) not in paths}
        return sorted(cloud.entries) + sorted(name for name in others if all(map(is_segment, name.split("/"))))


def _containers(_line: Line) -> Answer:
    """The containers that DSO gave secrets to, if the Engine is here: a remote one could ask for a password."""
    from dso import paths
    from dso.delivery.connection import find_target
    from dso.delivery.engine import Engine

    target = find_target(())
    if target.socket_path is None:
        return NOTHING
    with Engine(target) as engine:
        found = engine.containers(labels=(paths.LABEL_MANIFEST,))
    return Answer([(one["Names"][0].lstrip("/"), str(one.get("Image", ""))) for one in found if one.get("Names")])


def _providers(_line: Line) -> Answer:
    """The types of providers that a configuration can be written for."""
    from dso.host.templates import TEMPLATES

    return Answer([(name, template.title) for name, template in TEMPLATES.items()])


_NAMES = {
    "NAMESPACE": _namespaces,
    "NAMESPACE|NAMESPACE/NAME": _grantable,
    "NEW": _beginnings,
    "VERSION": _versions,
    "SLOT": _slots,
    "CONTAINER": _containers,
    "TYPE": _providers,
}
