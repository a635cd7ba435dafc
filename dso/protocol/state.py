"""What the agent says of itself: the answers of `GET /v1/status` and `GET /v1/secrets`.

Names and states, never values.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.protocol.agent import API_VERSION
from dso.protocol.reading import MessageError, read_count, read_list, read_object, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

DEFAULT_MODE = 0o444


class VolumeDriverState(NamedTuple):
    """The agent's volume driver: its name for the Engine, and why it is not `available` if it is not."""

    name: str
    available: bool
    reason: str = ""
    volumes: int = 0
    mounted: int = 0

    @classmethod
    def from_json(cls, body: object) -> VolumeDriverState:
        """Read it; MessageError."""
        found = read_object(body, "`volume_driver`")
        return cls(
            read_text(found.get("name", ""), "name"),
            bool(found.get("available")),
            read_text(found.get("reason") or "", "reason"),
            read_count(found.get("volumes", 0), "volumes"),
            read_count(found.get("mounted", 0), "mounted"),
        )


class AgentInfo(NamedTuple):
    """Which agent answers: its API version and release, the user it runs as, its volume driver.

    `api`, `version`, `uid` and `volume_driver` in the answer of /v1/status, and in `agent` of /v1/secrets.
    """

    api: int
    version: str
    uid: int
    volume_driver: VolumeDriverState

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**self._asdict(), "volume_driver": self.volume_driver._asdict()}

    @classmethod
    def from_json(cls, body: object) -> AgentInfo:
        """Read it; MessageError. With another `api` than ours nothing else is looked at."""
        found = read_object(body, "what the agent says of itself")
        api, version = read_count(found.get("api"), "api"), str(found.get("version", ""))
        if api != API_VERSION:
            return cls(api, version, -1, VolumeDriverState("", available=False))
        driver = VolumeDriverState.from_json(found.get("volume_driver"))
        return cls(api, version, read_count(found.get("uid"), "uid"), driver)


class SecretInfo(NamedTuple):
    """An entry of the agent's `secrets:` that the caller may read, with whom it is for.

    `kind` is "env" or "file"; `file` has `path`, `uid`, `gid` (None: not given) and `mode`; `mappings` are (field,
    variable) pairs; with neither `services` nor `labels` it is for services that declare the variable.
    """

    name: str
    provider: str
    path: str
    version: str | None = None
    kind: str = "env"
    file_path: str | None = None
    uid: int | None = None
    gid: int | None = None
    mode: int = DEFAULT_MODE
    mappings: tuple[tuple[str, str], ...] = ()
    services: tuple[str, ...] = ()
    labels: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """One element of `secrets`, in the words of dso.yaml."""
        given = {"path": self.file_path, "uid": self.uid, "gid": self.gid}
        inject: dict[str, Any] = {"type": self.kind, "mode": self.mode}
        return {
            "name": self.name,
            "provider": self.provider,
            "path": self.path,
            **({} if self.version is None else {"version": self.version}),
            "inject": {**inject, **{key: value for key, value in given.items() if value is not None}},
            "mappings": dict(self.mappings),
            "targets": {"services": list(self.services), "labels": dict(self.labels)},
        }

    @classmethod
    def from_json(cls, body: object) -> SecretInfo:
        """Read one element; MessageError."""
        found = read_object(body, "an element of `secrets`")
        inject = read_object(found.get("inject") or {}, "`inject`")
        targets = read_object(found.get("targets") or {}, "`targets`")
        name, provider, path = (read_text(found.get(key), f"secrets: {key}") for key in ("name", "provider", "path"))
        services = read_list(targets.get("services") or [], "services")
        mode = inject.get("mode")
        return cls(
            name,
            provider,
            path,
            _optional_text(found.get("version"), "version"),
            kind=read_text(inject.get("type", "env"), "type"),
            file_path=_optional_text(inject.get("path"), "path"),
            uid=_optional_count(inject.get("uid"), "uid"),
            gid=_optional_count(inject.get("gid"), "gid"),
            mode=DEFAULT_MODE if mode is None else read_count(mode, "mode"),
            mappings=_pairs(found.get("mappings") or {}, "mappings"),
            services=tuple(read_text(one, "services") for one in services),
            labels=_pairs(targets.get("labels") or {}, "labels"),
        )


class CachedSecret(NamedTuple):
    """A secret in the agent's memory: `pin` is the version that was asked for, `version` the one that is there.

    `age` in seconds since the provider gave it; `stale`: it should be newer, but the provider cannot be reached.
    """

    provider: str
    path: str
    pin: str | None
    version: str
    age: float
    stale: bool

    @classmethod
    def from_json(cls, body: object) -> CachedSecret:
        """Read one element of `cached`; MessageError."""
        found = read_object(body, "an element of `cached`")
        provider, path = (read_text(found.get(key), f"cached: {key}") for key in ("provider", "path"))
        pin, version = _optional_text(found.get("pin"), "pin"), read_text(found.get("version") or "", "version")
        return cls(provider, path, pin, version, _number(found.get("age", 0), "age"), bool(found.get("stale")))


class SecretList(NamedTuple):
    """The answer of `GET /v1/secrets`; everything that `up` has to know before it resolves, in one request."""

    agent: AgentInfo
    secrets: Sequence[SecretInfo]
    cached: Sequence[CachedSecret] = ()

    def to_json(self) -> dict[str, Any]:
        """The body."""
        return {
            "agent": self.agent.to_json(),
            "secrets": [one.to_json() for one in self.secrets],
            "cached": [one._asdict() for one in self.cached],
        }

    @classmethod
    def from_json(cls, body: object) -> SecretList:
        """Read the body; MessageError. Of an agent with another API nothing but that is read."""
        found = read_object(body, "the answer")
        agent = AgentInfo.from_json(found.get("agent"))
        if agent.api != API_VERSION:
            return cls(agent, ())
        return cls(
            agent,
            [SecretInfo.from_json(one) for one in read_list(found.get("secrets"), "secrets")],
            [CachedSecret.from_json(one) for one in read_list(found.get("cached") or [], "cached")],
        )


class ProviderInfo(NamedTuple):
    """A provider as the agent sees it: `state` is a word ("ready", "failed"...), `error` why it is not ready."""

    name: str
    type: str
    state: str
    error: str = ""

    @classmethod
    def from_json(cls, body: object) -> ProviderInfo:
        """Read one element of `providers`; MessageError."""
        found = read_object(body, "an element of `providers`")
        return cls(*(str(found.get(key) or "") for key in cls._fields))


class AgentStatus(NamedTuple):
    """The answer of `GET /v1/status`: the agent, since when it runs (seconds), its configuration, its providers.

    `config_error` is what is wrong with the file `config` when a former configuration is in force, else "";
    `restart_needed` are the keys of `agent:` whose new values count after a restart only.
    """

    info: AgentInfo
    uptime: float
    config: str
    providers: Sequence[ProviderInfo]
    config_error: str = ""
    restart_needed: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """The body."""
        return {
            **self.info.to_json(),
            "uptime": self.uptime,
            "config": self.config,
            "config_error": self.config_error,
            "restart_needed": list(self.restart_needed),
            "providers": [one._asdict() for one in self.providers],
        }

    @classmethod
    def from_json(cls, body: object) -> AgentStatus:
        """Read the body, which may hold more; MessageError."""
        info = AgentInfo.from_json(body)
        if info.api != API_VERSION:
            return cls(info, 0, "", ())
        found = read_object(body, "the answer")
        providers = [ProviderInfo.from_json(one) for one in read_list(found.get("providers"), "providers")]
        needs_restart = read_list(found.get("restart_needed") or [], "restart_needed")
        return cls(
            info,
            _number(found.get("uptime", 0), "uptime"),
            str(found.get("config") or ""),
            providers,
            read_text(found.get("config_error") or "", "config_error"),
            [read_text(key, "restart_needed") for key in needs_restart],
        )


def _number(value: object, what: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageError(f"`{what}` is no number")
    return value


def _optional_count(value: object, what: str) -> int | None:
    return None if value is None else read_count(value, what)


def _optional_text(value: object, what: str) -> str | None:
    return None if value is None else read_text(value, what)


def _pairs(body: object, what: str) -> tuple[tuple[str, str], ...]:
    return tuple((name, read_text(value, what)) for name, value in read_object(body, f"`{what}`").items())
