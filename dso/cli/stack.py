"""From a Compose command line to a stack with its secrets: the steps `up`, `diff` and the others share."""

from __future__ import annotations

from typing import NamedTuple

from dso import paths
from dso.compose.override import ServiceOverride, build_override
from dso.compose.references import ServiceSecrets, collect, container_path
from dso.delivery.plan import SecretFile, ServiceVolume, volume_name
from dso.errors import UnsuitableValueError
from dso.secret import FoundSecret, SecretRef, SecretValue

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from typing import Protocol

    from dso.compose.model import Model
    from dso.compose.references import FileSecret
    from dso.compose.template import Template

    class Resolver(Protocol):
        """Where values come from."""

        def resolve(
            self, requests: Mapping[SecretRef, str], in_files: Collection[SecretRef] = ()
        ) -> dict[SecretRef, FoundSecret]:
            """What each reference stands for; errors name the places that want them.

            Of those `in_files` the value may be left out, where something else writes the files.
            """


# execve(2): one string of the environment, name and final NUL included, is at most 32 pages.
MAX_VARIABLE_BYTES = 131072


class ServiceStack(NamedTuple):
    """One service with its values.

    `environment` has the final text of each variable, `labels` what `diff` and `inspect` later
    read: references and digests of keyed MACs, never values.
    """

    secrets: ServiceSecrets
    environment: dict[str, SecretValue]
    labels: dict[str, str]


class Stack(NamedTuple):
    """A project's services that have secrets, resolved."""

    project: str
    services: tuple[ServiceStack, ...]
    model: Model
    found: Mapping[SecretRef, FoundSecret]

    def volumes(self) -> list[ServiceVolume]:
        """What has to be delivered; empty for services that have no files (any more), so that old ones go."""
        files = {service.secrets.service: tuple(map(self._file, service.secrets.files)) for service in self.services}
        return [ServiceVolume(service, files.get(service, ())) for service in self.model.services]

    def override(self) -> bytes:
        """The override file for Compose; it holds the values of environment secrets."""
        return build_override([self._service_override(service) for service in self.services])

    def environment_secrets(self) -> dict[str, list[str]]:
        """The variables of each service that hold a secret's value (not a path)."""
        found = {
            service.secrets.service: [
                variable
                for variable, template in service.secrets.environment.items()
                if any(not reference.is_file for reference in template.references)
            ]
            for service in self.services
        }
        return {service: variables for service, variables in found.items() if variables}

    def _file(self, file: FileSecret) -> SecretFile:
        whole = file.template.whole
        value = SecretValue(self.found[whole].reveal()) if whole else _render(file.template, self.found)
        return SecretFile(file.name, value, file.uid, file.gid, file.mode)

    def _service_override(self, service: ServiceStack) -> ServiceOverride:
        secrets = service.secrets
        return ServiceOverride(
            service=secrets.service,
            environment={name: value.reveal().decode() for name, value in service.environment.items()},
            labels=service.labels,
            volume=volume_name(self.project, secrets.service) if secrets.files else None,
            targets={file.target: file.name for file in secrets.files if file.target is not None},
            whole_volume=any(file.target is None for file in secrets.files),
            kept=secrets.kept,
        )


def resolve_stack(
    model: Model,
    resolver: Resolver,
    *,
    variables: Callable[[], Mapping[str, str]] = dict,
    complete: Callable[[Model, list[ServiceSecrets]], list[ServiceSecrets]] | None = None,
) -> Stack:
    """Find the references in a model, resolve them all at once, and say what each service gets.

    Args:
        model: the stack as Compose reads it.
        resolver: where values come from.
        variables: for `dso.compose.references.collect`.
        complete: adds to the services' secrets what they do not ask for themselves.

    Raises:
        ReferenceSyntaxError, ReferencePlaceError: what the references are wrong in.
        NotGrantedError: the project may not have what they stand for.
        SecretNotFoundError, SecretFieldError, ...: what the resolver lacks.
        UnsuitableValueError: values that cannot be environment variables.
    """
    wanted = collect(model, variables)
    if complete is not None:
        wanted = complete(model, wanted)
    found = _resolve(resolver, wanted)
    unsuitable: list[str] = []
    services = tuple(_service_stack(secrets, found, unsuitable) for secrets in wanted)
    if unsuitable:
        raise UnsuitableValueError(
            "\n  ".join(["values that cannot be environment variables:", *unsuitable]),
            hint="deliver them as files: write dsofile:// instead of dso://",
        )
    return Stack(model.project, services, model, found)


def requests_of(wanted: Sequence[ServiceSecrets]) -> tuple[dict[SecretRef, str], set[SecretRef]]:
    """Each reference whose value is needed, with the first place that wants it; and those that variables need."""
    requests: dict[SecretRef, str] = {}
    in_variables: set[SecretRef] = set()
    for secrets in wanted:
        of_variables = secrets.variable_requests()
        in_variables.update(of_variables)
        for reference, place in (*of_variables.items(), *secrets.file_requests().items()):
            requests.setdefault(reference, place)
    return requests, in_variables


def _resolve(resolver: Resolver, wanted: Sequence[ServiceSecrets]) -> Mapping[SecretRef, FoundSecret]:
    requests, in_variables = requests_of(wanted)
    return resolver.resolve(requests, requests.keys() - in_variables) if requests else {}


def _service_stack(
    secrets: ServiceSecrets, found: Mapping[SecretRef, FoundSecret], unsuitable: list[str]
) -> ServiceStack:
    environment = {variable: _render(template, found) for variable, template in secrets.environment.items()}
    for variable, value in environment.items():
        fault = _environment_fault(variable, value)
        if fault:
            unsuitable.append(f"service {secrets.service}, variable {variable}: {fault}")
    return ServiceStack(secrets, environment, _labels(secrets, found))


def _render(template: Template, found: Mapping[SecretRef, FoundSecret]) -> SecretValue:
    """The text of a value with references in it; a file's reference becomes its path in the container."""
    return SecretValue(
        template.render(
            lambda reference: container_path(reference).encode() if reference.is_file else found[reference].reveal()
        )
    )


def _environment_fault(variable: str, value: SecretValue) -> str:
    content = value.reveal()
    if b"\0" in content:
        return "it has a NUL byte"
    if len(variable) + len(content) + 2 > MAX_VARIABLE_BYTES:
        return f"it has {len(content)} bytes; the limit is {MAX_VARIABLE_BYTES // 1024} KiB with the name"
    try:
        content.decode()
    except UnicodeDecodeError:
        return "it is not UTF-8 text"
    return ""


def _labels(secrets: ServiceSecrets, found: Mapping[SecretRef, FoundSecret]) -> dict[str, str]:
    """The manifest (what came from which reference, with a digest of what it became) and the digest of it all.

    The digests are of templates and of keyed fingerprints, so that they change with a value and
    yet say nothing of it. They differ between places, so that equal values in two places are not seen to be equal.
    """
    from dso.system.json_fast import dumps

    manifest: dict[str, dict[str, list[str]]] = {
        "environment": {
            variable: [
                template.text,
                _digest(
                    "environment",
                    secrets.service,
                    variable,
                    template.text,
                    *(found[each].fingerprint for each in template.references if not each.is_file),
                ),
            ]
            for variable, template in secrets.environment.items()
        },
        "files": {
            (file.target or f"{paths.CONTAINER_SECRETS_DIR}/{file.name}"): [
                " ".join(map(str, file.template.references)),
                _digest(
                    "file",
                    secrets.service,
                    f"{file.name} {file.uid}:{file.gid} {file.mode:o}",
                    file.template.text,
                    *(found[each].fingerprint for each in file.content_references),
                ),
            ]
            for file in secrets.files
        },
    }
    text = dumps({part: dict(sorted(entries.items())) for part, entries in manifest.items()})
    return {paths.LABEL_DIGEST: _digest("digest", secrets.service, text), paths.LABEL_MANIFEST: text}


def _digest(*parts: str) -> str:
    """BLAKE2b of the parts, length-prefixed so that no two different lists run together: 32 hexadecimal digits."""
    from dso.system.native import blake2b_256

    encoded = [part.encode() for part in parts]
    return blake2b_256(b"".join(len(part).to_bytes(8, "big") + part for part in encoded)).hex()[:32]
