"""Local Mode: the vault, and the keeper that holds files in memory."""

from __future__ import annotations

# Everything that is needed once Compose has read its files, imported while it does.
from dso.cli.grants.gate import ProjectGate
from dso.delivery import keeper
from dso.vault.resolver import LocalResolver
from dso.vault.store import Vault

TYPE_CHECKING = False
if TYPE_CHECKING:
    from dso.cli.stack import Stack
    from dso.compose.files import ProjectFiles
    from dso.compose.model import Model
    from dso.compose.references import ServiceSecrets
    from dso.delivery.engine import Engine


class LocalBackend:
    """The vault under the user's home."""

    def __init__(self) -> None:
        self.vault_id: str | None = None
        self._vault: Vault | None = None

    def open(self) -> str:
        """Unlock the vault."""
        self._vault = Vault.open()
        self.vault_id = self._vault.id
        return "unlocked the vault"

    def complete(self, model: Model, wanted: list[ServiceSecrets]) -> list[ServiceSecrets]:  # noqa: ARG002
        """A service gets nothing but what it asks for."""
        return wanted

    def resolver(self, model: Model, files: ProjectFiles) -> LocalResolver:
        """The vault, with the project's namespace first, as far as the project may have it."""
        return LocalResolver(self._opened, model.project, ProjectGate(model.project, files))

    def deliver(self, engine: Engine, stack: Stack) -> None:
        """Bring the files into the project's keeper."""
        vault = self._opened
        keeper.deliver(engine, stack.project, stack.volumes(), vault_id=vault.id, mac_key=vault.mac_key)

    @property
    def _opened(self) -> Vault:
        assert self._vault is not None  # noqa: S101  # `open` precedes everything else
        return self._vault
