"""What `fetch`, `export`, `sync`, `logs` and `watch` share: the agent, and the entries this user may read."""

from __future__ import annotations

from dso.errors import AgentProtocolError, UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Self

    from dso.config.mode import Mode
    from dso.protocol.agent import Fault, Resolved
    from dso.protocol.client import AgentClient
    from dso.protocol.state import SecretInfo, SecretList


def cloud_mode(args: argparse.Namespace, hint: str) -> Mode:
    """The mode that runs, if it is Cloud Mode; `hint` says what to do in Local Mode instead.

    Raises:
        UsageError: it is Local Mode.
        NotConfiguredError: see `detect_mode`.
    """
    from dso.cli.output import warn
    from dso.config.mode import CLOUD, detect_mode

    mode = detect_mode(args.mode, args.config)
    if mode.name != CLOUD:
        raise UsageError(f"there is no agent to ask: this is Local Mode ({mode.reason})", hint=hint)
    if mode.warning:
        warn(mode.warning)
    return mode


class Cloud:
    """A connection to the agent and what it says of the entries; use it in a `with`.

    Attributes:
        agent: the connection.
        known: what `GET /v1/secrets` says.
        project: the entries of the project's own dso.yaml, by name.
        entries: all entries by name, the project's in place of the agent's.
    """

    __slots__ = ("agent", "entries", "known", "project")

    def __init__(self, agent: AgentClient, known: SecretList, project: Mapping[str, SecretInfo]) -> None:
        self.agent = agent
        self.known = known
        self.project = project
        self.entries = {**{entry.name: entry for entry in known.secrets}, **project}

    @classmethod
    def open(cls, mode: Mode, *, may_ask: bool = True) -> Self:
        """Ask the agent of the configuration in use; `may_ask` as for `dso.cli.project_config.agent_socket`.

        Raises:
            NotGrantedError: a dso.yaml that was found in the current directory wants what nobody allowed it.
            AgentUnavailableError, AgentForbiddenError, AgentVersionError: see dso.protocol.client.
            ConfigError: the project's dso.yaml is faulty.
        """
        from dso.cli.project_config import connect, project_entries

        agent = connect(mode, may_ask=may_ask)
        try:
            known = agent.secrets()
            return cls(agent, known, project_entries(mode, agent, known.agent, may_ask=may_ask))
        except BaseException:
            agent.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.agent.close()

    def resolve(
        self, values: Sequence[str], checks: Sequence[str] = ()
    ) -> tuple[dict[str, Resolved], dict[str, Fault]]:
        """What references stand for, and what is wrong with the others, by reference."""
        from dso.protocol.agent import ResolveRequest, SecretEntry

        sent = [SecretEntry(entry.name, entry.provider, entry.path, entry.version) for entry in self.project.values()]
        answer = self.agent.resolve(ResolveRequest(values, checks, sent))
        resolved = {one.reference: one for one in answer.resolved}
        faults = {fault.reference: fault for fault in answer.errors}
        for reference in (*values, *checks):
            one = resolved.get(reference)
            if reference not in faults and (one is None or (reference in values and one.value is None)):
                raise AgentProtocolError(
                    f"the agent's answer leaves out {reference}",
                    hint="docker-dso and dso-agent have to be of one release",
                )
        return resolved, faults


def warn_if_stale(name: str, one: Resolved) -> None:
    """Say that a value may be out of date, if it is."""
    from dso.cli.output import duration, warn

    if one.stale:
        warn(f"{name}: its provider cannot be reached; this is {duration(one.age)} old and may have changed since")
