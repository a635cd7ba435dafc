"""From a Compose command line to a stack with its secrets: the steps `up`, `diff` and the others share."""

from __future__ import annotations

from typing import NamedTuple

from dso import paths
from dso.compose.override import ServiceOverride, build_override
from dso.compose.references import ServiceSecrets, collect, container_path
from dso.delivery.plan import SecretFile, ServiceVolume, volume_name
from dso.errors import UnsuitableValueError
from dso.secret import SecretRef, SecretValue, mac

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Protocol

    from dso.compose.model import Model
    from dso.compose.template import Template

    class Resolver(Protocol):
        """Where values come from."""

        def resolve(self, requests: Mapping[SecretRef, str]) -> dict[SecretRef, SecretValue]:
            """The value of each reference; errors name the places that want them."""


# execve(2): one string of the environment, name and final NUL included, is at most 32 pages.
MAX_VARIABLE_BYTES = 131072


class ServiceStack(NamedTuple):
    """One service with its values.

    `environment` has the final text of each variable, `files` what goes into the service's volume,
    `labels` what `diff` and `inspect` later read: references and keyed MACs, never values.
    """

    secrets: ServiceSecrets
    environment: dict[str, SecretValue]
    files: tuple[SecretFile, ...]
    labels: dict[str, str]


class Stack(NamedTuple):
    """A project's services that have secrets, resolved.

    `vault_id` and `mac_key` are those of the vault the values came from.
    """

    project: str
    services: tuple[ServiceStack, ...]
    model: Model
    vault_id: str
    mac_key: SecretValue

    def volumes(self) -> list[ServiceVolume]:
        """What has to be delivered; empty for services that have no files (any more), so that old ones go."""
        files = {service.secrets.service: service.files for service in self.services}
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
    vault_id: str,
    mac_key: bytes,
    variables: Callable[[], Mapping[str, str]] = dict,
) -> Stack:
    """Find the references in a model, resolve them all at once, and say what each service gets.

    `variables` is for `dso.compose.references.collect`.

    Raises:
        ReferenceSyntaxError, ReferencePlaceError: what the references are wrong in.
        SecretNotFoundError, SecretFieldError: what the resolver lacks.
        UnsuitableValueError: values that cannot be environment variables.
    """
    found = collect(model, variables)
    requests: dict[SecretRef, str] = {}
    for secrets in found:
        for reference, place in secrets.requests().items():
            requests.setdefault(reference, place)
    values = resolver.resolve(requests) if requests else {}
    unsuitable: list[str] = []
    services = tuple(_service_stack(secrets, values, mac_key, unsuitable) for secrets in found)
    if unsuitable:
        raise UnsuitableValueError(
            "\n  ".join(["values that cannot be environment variables:", *unsuitable]),
            hint="deliver them as files: write dsofile:// instead of dso://",
        )
    return Stack(model.project, services, model, vault_id, SecretValue(mac_key))


def _service_stack(
    secrets: ServiceSecrets, values: Mapping[SecretRef, SecretValue], mac_key: bytes, unsuitable: list[str]
) -> ServiceStack:
    environment = {variable: _render(template, values) for variable, template in secrets.environment.items()}
    for variable, value in environment.items():
        fault = _environment_fault(variable, value)
        if fault:
            unsuitable.append(f"service {secrets.service}, variable {variable}: {fault}")
    files = tuple(
        SecretFile(
            name=file.name,
            value=values[file.template.whole] if file.template.whole else _render(file.template, values),
            uid=file.uid,
            gid=file.gid,
            mode=file.mode,
        )
        for file in secrets.files
    )
    return ServiceStack(secrets, environment, files, _labels(secrets, environment, files, mac_key))


def _render(template: Template, values: Mapping[SecretRef, SecretValue]) -> SecretValue:
    """The text of a value with references in it; a file's reference becomes its path in the container."""
    return SecretValue(
        template.render(
            lambda reference: container_path(reference).encode() if reference.is_file else values[reference].reveal()
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


def _labels(
    secrets: ServiceSecrets, environment: Mapping[str, SecretValue], files: tuple[SecretFile, ...], mac_key: bytes
) -> dict[str, str]:
    """The manifest (what came from which reference, with a MAC of its value) and the digest of it all."""
    import json

    manifest: dict[str, dict[str, list[str]]] = {
        "environment": {
            variable: [
                secrets.environment[variable].text,
                mac(mac_key, value, "environment", secrets.service, variable),
            ]
            for variable, value in environment.items()
        },
        "files": {
            (described.target or f"{paths.CONTAINER_SECRETS_DIR}/{file.name}"): [
                " ".join(map(str, described.template.references)),
                mac(mac_key, file.value, "file", secrets.service, f"{file.name} {file.uid}:{file.gid} {file.mode:o}"),
            ]
            for described, file in zip(secrets.files, files, strict=True)
        },
    }
    text = json.dumps(manifest, separators=(",", ":"), sort_keys=True)
    digest = mac(mac_key, SecretValue(text.encode()), "digest", secrets.service)
    return {paths.LABEL_DIGEST: digest, paths.LABEL_MANIFEST: text}
