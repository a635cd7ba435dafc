"""What dso.yaml says, checked and expanded; `dso.config.load` makes it.

docs/dso-yaml.md describes every key. Durations are in seconds.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.secret import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from dso.protocol.state import SecretInfo

DEFAULT_TIMEOUT = 10.0
DEFAULT_CACHE_TTL = 300.0


class Settings:
    """A provider's own settings, which may hold credentials: they show themselves to nobody."""

    __slots__ = ("_settings",)

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self._settings = dict(settings)

    def reveal(self) -> dict[str, Any]:
        """The settings, for the plugin's `initialize` and nothing else."""
        return self._settings

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Settings) and self._settings == other._settings

    def __hash__(self) -> int:
        raise TypeError("Settings are not hashable")

    def __repr__(self) -> str:
        return f"Settings({MASK})"


class ProviderConfig(NamedTuple):
    """One entry of `providers:`. `env` names further variables of the agent's own that its plugin gets."""

    name: str
    type: str
    settings: Settings
    timeout: float = DEFAULT_TIMEOUT
    cache_ttl: float = DEFAULT_CACHE_TTL
    env: tuple[str, ...] = ()


class Inject(NamedTuple):
    """How a secret is handed to services that do not ask for it themselves.

    `kind` is "env" or "file"; the others concern files: `path` in the container (None: under
    /run/secrets/dso), `uid` and `gid` (None: the service's numeric user), `mode`.
    """

    kind: str = "env"
    path: str | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int = 0o444


class Targets(NamedTuple):
    """Which services get a secret: named ones, and those with all of the labels. Both empty: those that declare it."""

    services: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()


class SecretConfig(NamedTuple):
    """One entry of `secrets:`. `mappings` are (field, variable) pairs."""

    name: str
    provider: str
    path: str
    version: str | None = None
    inject: Inject = Inject()
    mappings: tuple[tuple[str, str], ...] = ()
    targets: Targets = Targets()

    def info(self) -> SecretInfo:
        """The entry as the agent tells it to the command line."""
        from dso.protocol.state import SecretInfo

        inject = self.inject
        return SecretInfo(
            self.name,
            self.provider,
            self.path,
            self.version,
            kind=inject.kind,
            file_path=inject.path,
            uid=inject.uid,
            gid=inject.gid,
            mode=inject.mode,
            mappings=self.mappings,
            services=self.targets.services,
            labels=self.targets.labels,
        )


class AccessRule(NamedTuple):
    """One entry of `access:`: who may read which secrets; patterns as in fnmatch, on a secret's name."""

    users: tuple[str, ...]
    groups: tuple[str, ...]
    secrets: tuple[str, ...]


class AgentConfig(NamedTuple):
    """`agent:`; None where the agent's own default for its user applies."""

    socket: str | None = None
    log_level: str = "info"
    log_format: str = "text"
    plugin_dir: str | None = None
    state_dir: str | None = None
    runtime_dir: str | None = None
    volume_socket: str | None = None


class CloudConfig(NamedTuple):
    """A whole dso.yaml. `access` is None when the file has no such section: then group dso may read all."""

    path: str
    providers: Mapping[str, ProviderConfig]
    secrets: Mapping[str, SecretConfig]
    access: Sequence[AccessRule] | None
    agent: AgentConfig
