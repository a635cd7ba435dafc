"""Native injection: what the entries of dso.yaml give to services that do not ask for it themselves."""

from __future__ import annotations

from typing import NamedTuple

from dso.compose.model import unescape
from dso.compose.references import FileSecret, ServiceSecrets, container_file_name, container_path, numeric_user
from dso.compose.template import Template
from dso.errors import ConfigError
from dso.paths import CONTAINER_SECRETS_DIR
from dso.secret import SecretRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from dso.compose.model import Model
    from dso.protocol.state import SecretInfo


class _Gift(NamedTuple):
    """What one entry, or one field of it, gives to a service."""

    entry: SecretInfo
    variable: str | None
    template: Template | None  # what the variable becomes
    file: FileSecret | None


def inject(model: Model, wanted: Sequence[ServiceSecrets], entries: Sequence[SecretInfo]) -> list[ServiceSecrets]:
    """The services' secrets with those that dso.yaml gives them; `wanted` is what they ask for themselves.

    Only services this command starts count. A variable that holds a reference of the service's own
    keeps it, one with any other value gets the secret.

    Raises:
        ConfigError: an entry cannot be given, or two give a service the same thing.
    """
    own = {secrets.service: secrets for secrets in wanted}
    found = []
    for service, definition in model.services.items():
        secrets = own.get(service) or ServiceSecrets(service, {}, (), {})
        gifts = [gift for entry in entries for gift in _gifts(entry, service, definition)]
        secrets = _with(secrets, gifts) if gifts else secrets
        if secrets.environment or secrets.files:
            found.append(secrets)
    return found


def is_target(entry: SecretInfo, service: str, definition: Mapping[str, Any]) -> bool:
    """Whether an entry with targets is for a service: it is named, or has all of the labels."""
    labels = {name: unescape(str(value)) for name, value in (definition.get("labels") or {}).items()}
    return service in entry.services or (
        bool(entry.labels) and all(labels.get(name) == value for name, value in entry.labels)
    )


def _gifts(entry: SecretInfo, service: str, definition: Mapping[str, Any]) -> list[_Gift]:
    has_targets = bool(entry.services or entry.labels)
    if has_targets and not is_target(entry, service, definition):
        return []
    declared = definition.get("environment") or {}
    mappings = [pair for pair in entry.mappings if has_targets or pair[1] in declared]
    if entry.kind == "env":
        return [_variable(entry, field, variable) for field, variable in mappings]
    owner = numeric_user(definition.get("user"))
    if not entry.mappings:
        return [_file(entry, None, None, owner)] if has_targets else []
    if entry.file_path is not None and len(entry.mappings) > 1:
        raise ConfigError(
            f"secret {entry.name}: `inject.path` is one file, and `mappings` name {len(entry.mappings)} fields",
            hint="leave out `path` (each field gets a file under /run/secrets/dso), or map one field",
        )
    return [_file(entry, field, variable, owner) for field, variable in mappings]


def _variable(entry: SecretInfo, field: str, variable: str) -> _Gift:
    reference = SecretRef.parse(f"dso://{entry.name}#{field}")
    return _Gift(entry, variable, Template(str(reference), (reference,)), None)


def _file(entry: SecretInfo, field: str | None, variable: str | None, owner: tuple[int, int]) -> _Gift:
    reference = SecretRef.parse(f"dsofile://{entry.name}" + (f"#{field}" if field else ""))
    name = container_file_name(reference)
    file = FileSecret(
        # `~` is in no reference, so a file with a place of its own never has the name of another
        name=name if entry.file_path is None else f"~injected/{name}",
        target=entry.file_path,
        template=Template(str(reference), (reference,)),
        uid=owner[0] if entry.uid is None else entry.uid,
        gid=owner[1] if entry.gid is None else entry.gid,
        mode=entry.mode,
        label=f"secret {entry.name} of dso.yaml",
    )
    path = entry.file_path or container_path(reference)
    return _Gift(entry, variable, Template(str(reference), (path,)) if variable else None, file)


def _with(secrets: ServiceSecrets, gifts: Sequence[_Gift]) -> ServiceSecrets:
    """A service's secrets with what is given to it; what it asks for itself stays."""
    environment = dict(secrets.environment)
    files = {_place(file): file for file in secrets.files}
    givers = dict.fromkeys(files, "the Compose file")
    for gift in gifts:
        if gift.variable in secrets.environment:
            continue
        if gift.file is not None:
            place = _place(gift.file)
            former = files.get(place)
            if former is None or former.template.references != gift.file.template.references:
                _claim(place, gift.entry.name, givers, secrets.service)
                files[place] = gift.file
        if gift.variable is not None and gift.template is not None:
            _claim(f"variable {gift.variable}", gift.entry.name, givers, secrets.service)
            environment[gift.variable] = gift.template
    return ServiceSecrets(secrets.service, environment, tuple(files.values()), secrets.kept)


def _place(file: FileSecret) -> str:
    return file.target or f"{CONTAINER_SECRETS_DIR}/{file.name}"


def _claim(what: str, entry: str, givers: dict[str, str], service: str) -> None:
    """Nothing may come from two sides: which of them a service got would be chance."""
    former = givers.setdefault(what, f"the secret {entry} of dso.yaml")
    if former != f"the secret {entry} of dso.yaml":
        raise ConfigError(
            f"service {service}: {what} would come from {former} and from the secret {entry} of dso.yaml",
            hint="name the services each secret is for under `targets:`, or take one of the two away",
        )
