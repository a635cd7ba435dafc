"""Cloud Mode: the agent resolves, and its volume driver writes the files.

The agent is asked three things, whatever the size of the stack: which entries dso.yaml has for
whom (`GET /v1/secrets`, while Compose reads its files), what the references stand for (`POST
/v1/resolve`), and, if there are files, to define the volumes (`PUT /v1/volumes`).
"""

from __future__ import annotations

import os

from dso import paths
from dso.cli.injection import inject
from dso.cli.output import duration
from dso.cli.project_config import connect, project_entries
from dso.compose.references import container_path
from dso.delivery import volume
from dso.delivery.connection import find_target
from dso.delivery.plan import volume_name
from dso.errors import AgentProtocolError, AgentUnavailableError
from dso.protocol.agent import ResolveRequest, SecretEntry, VolumeFile, VolumeSpec
from dso.protocol.faults import error_of_references
from dso.secret import FoundSecret

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from dso.cli.stack import Stack
    from dso.compose.files import ProjectFiles
    from dso.compose.model import Model
    from dso.compose.references import FileSecret, ServiceSecrets
    from dso.config.mode import Mode
    from dso.delivery.engine import Engine
    from dso.protocol.agent import Resolved
    from dso.protocol.client import AgentClient
    from dso.protocol.state import SecretInfo, SecretList, VolumeDriverState
    from dso.secret import SecretRef


class CloudBackend:
    """The agent, and the project's own dso.yaml if that is the configuration in use."""

    def __init__(
        self,
        mode: Mode,
        docker_args: Sequence[str],
        warn: Callable[[str], None],
        trace: Callable[[str], None] = lambda _message: None,
    ) -> None:
        self.vault_id: str | None = None
        self._mode = mode
        self._docker_args = docker_args
        self._warn = warn
        self._trace = trace
        self._agent: AgentClient | None = None
        self._known: SecretList | None = None
        self._project: dict[str, SecretInfo] = {}

    def open(self) -> str:
        """Read the project's dso.yaml and ask the agent who it is and which entries it has."""
        try:
            self._agent = agent = connect(self._mode)
        except AgentUnavailableError as error:
            if os.path.exists(paths.vault_file()):
                error.hint += "\nor take the secrets from your vault: --mode=local, without -c"
            raise
        with agent:  # Compose may read its files for long, and the agent be started again: `resolve` connects anew
            self._known = agent.secrets()
            self._project = project_entries(self._mode, agent, self._known.agent)
        return f"asked the agent at {agent.path}: dso-agent {self._known.agent.version}"

    def complete(self, model: Model, wanted: list[ServiceSecrets]) -> list[ServiceSecrets]:
        """Add what the entries' `mappings` and `targets` say; a project's entries win over the agent's."""
        entries = {entry.name: entry for entry in self._opened[1].secrets} | self._project
        return inject(model, wanted, list(entries.values()))

    def resolver(self, model: Model, files: ProjectFiles) -> CloudBackend:  # noqa: ARG002
        """The agent, which knows no Compose projects."""
        return self

    def resolve(
        self, requests: Mapping[SecretRef, str], in_files: Collection[SecretRef] = ()
    ) -> dict[SecretRef, FoundSecret]:
        """What each reference stands for, in one request; of those in files no value comes here.

        Raises:
            FileSecretsUnavailableError: there are files, and they cannot be delivered.
            SecretNotFoundError, SecretForbiddenError, ProviderFailedError, ...: see `dso.protocol.faults`.
        """
        agent, known = self._opened
        request = ResolveRequest(
            [str(reference) for reference in requests if reference not in in_files],
            [str(reference) for reference in requests if reference in in_files],
            _sent(self._project.values()),
        )
        with agent:  # Compose, or the user, may take long after this: no connection is kept meanwhile
            if in_files:
                self._check_driver(known.agent.volume_driver)
            answer = agent.resolve(request)
        if answer.errors:
            raise error_of_references(answer.errors, {str(reference): place for reference, place in requests.items()})
        resolved = {one.reference: one for one in answer.resolved}
        self._warn_of_stale(resolved.values())
        for one in answer.resolved:
            if one.name:
                self._trace(f"{one.reference} is the secret {one.name} in its backend, which allows fewer characters")
        return {
            reference: _found(resolved.get(str(reference)), str(reference), needs_value=reference not in in_files)
            for reference in requests
        }

    def deliver(self, engine: Engine, stack: Stack) -> None:
        """Define the services' volumes: at the agent with one request, then at the Engine."""
        specs = {
            service.secrets.service: self._spec(service.secrets.files)
            for service in stack.services
            if service.secrets.files
        }
        if not specs:
            return
        from dso.system.json_fast import dumps

        agent, _ = self._opened
        with agent:
            driver = agent.put_volumes({volume_name(stack.project, service): spec for service, spec in specs.items()})
        texts = {service: dumps(spec.to_json()) for service, spec in specs.items()}
        volume.ensure_volumes(engine, stack.project, driver, texts)

    def _check_driver(self, driver: VolumeDriverState) -> None:
        """Raise unless the Engine may reach the agent's volume driver; whether it does, only itself can tell."""
        if not driver.available:
            raise volume.unavailable(driver.reason or "this agent has no volume driver")
        reason = volume.unreachable_reason(find_target(self._docker_args))
        if reason:
            raise volume.unavailable(reason)

    def _spec(self, files: Sequence[FileSecret]) -> VolumeSpec:
        names = {reference.path for file in files for reference in file.content_references}
        entries = [entry for entry in self._project.values() if entry.name in names]
        return VolumeSpec(
            [VolumeFile(file.name, _template(file), file.uid, file.gid, file.mode) for file in files], _sent(entries)
        )

    def _warn_of_stale(self, resolved: Collection[Resolved]) -> None:
        for one in resolved:
            if one.stale:
                self._warn(
                    f"{one.reference}: its provider cannot be reached; the value is {duration(one.age)} old and may "
                    "have changed since"
                )

    @property
    def _opened(self) -> tuple[AgentClient, SecretList]:
        assert self._agent is not None  # noqa: S101  # `open` precedes everything else
        assert self._known is not None  # noqa: S101
        return self._agent, self._known


def _sent(entries: Collection[SecretInfo]) -> list[SecretEntry]:
    return [SecretEntry(entry.name, entry.provider, entry.path, entry.version) for entry in entries]


def _found(resolved: Resolved | None, reference: str, *, needs_value: bool) -> FoundSecret:
    if resolved is None or (needs_value and resolved.value is None):
        raise AgentProtocolError(
            f"the agent's answer leaves out {reference}", hint="docker-dso and dso-agent have to be of one release"
        )
    return FoundSecret(resolved.value, resolved.fingerprint)


def _template(file: FileSecret) -> str:
    """A file's content for the agent: it knows secrets, and not where a container finds its files."""
    if file.template.whole:
        return str(file.template.whole)
    return "".join(
        part if isinstance(part, str) else container_path(part) if part.is_file else "{{" + str(part) + "}}"
        for part in file.template.parts
    )
