"""Where secrets come from and how files reach containers: what differs between Local and Cloud Mode."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    from dso.cli.stack import Resolver, Stack
    from dso.compose.files import ProjectFiles
    from dso.compose.model import Model
    from dso.compose.references import ServiceSecrets
    from dso.config.mode import Mode
    from dso.delivery.engine import Engine

    class Backend(Protocol):
        """One mode's part in bringing a stack up.

        `vault_id` is the local vault's, for sweeps of keepers; None where no vault has a part in it.
        """

        vault_id: str | None

        def open(self) -> str:
            """Do what can be done before the stack is known, while Compose reads it; says what that was."""

        def complete(self, model: Model, wanted: list[ServiceSecrets]) -> list[ServiceSecrets]:
            """Add what services get without asking for it."""

        def resolver(self, model: Model, files: ProjectFiles) -> Resolver:
            """What resolves the references of this stack, which was read from these files."""

        def deliver(self, engine: Engine, stack: Stack) -> None:
            """See to it that the services' volumes hold their files when the containers start."""


def backend_of(
    mode: Mode, docker_args: Sequence[str], warn: Callable[[str], None], trace: Callable[[str], None]
) -> Backend:
    """The backend of a mode; nothing is opened yet. `trace` is told what is only for `--debug`."""
    from dso.config.mode import CLOUD

    if mode.name == CLOUD:
        from dso.cli.cloud_backend import CloudBackend

        return CloudBackend(mode, docker_args, warn, trace)
    from dso.cli.local_backend import LocalBackend

    return LocalBackend()
