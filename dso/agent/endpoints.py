"""What the agent's API does, endpoint by endpoint; docs/agent-api.md says it for callers."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING, Any, Protocol

from dso.agent.fairness.rates import Rate
from dso.agent.fairness.turns import others_first
from dso.agent.logbook import KEPT_LINES
from dso.agent.metrics import CONTENT_TYPE
from dso.agent.server import Answer, RefusedError, parse
from dso.agent.volume.endpoint import VolumesEndpoint, is_denial
from dso.agent.web.audit import audit
from dso.errors import ConfigError
from dso.protocol import agent as messages
from dso.protocol import codes
from dso.protocol.provider import ProviderError
from dso.protocol.state import CachedSecret, SecretList
from dso.protocol.stream import HEARTBEAT, HEARTBEAT_INTERVAL, LEVELS
from dso.system.json_fast import dumps

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

    from dso.agent.access import Caller
    from dso.agent.cache import Cache, Key
    from dso.agent.events import Events
    from dso.agent.logbook import Logbook
    from dso.agent.metrics import Metrics
    from dso.agent.resolver import Resolver
    from dso.agent.server import Endpoint, Request
    from dso.agent.volumedriver import VolumeDriver
    from dso.config.model import CloudConfig
    from dso.protocol.state import AgentInfo
    from dso.protocol.stream import AgentEvent, LogLine

_LINES = "application/x-ndjson"
_MAX_KNOWN, _MAX_KNOWN_BODY = 1024 * 1024, 16 * 1024  # bytes of requests that are remembered, and of one
_CONFIG_FAULTS = "it has faults, which the agent's log names"  # for those who may not see that log
_AUDIT_BURST, _AUDIT_PER_SECOND = 32e6, 4e6  # characters of the log that a user's requests may take
_LINE_FACTOR = 2  # bytes of an answer for each character of a line
_MAX_SHOWN = 1024  # characters of a name that is no reference
_LINES_AT_ONCE = 25  # of the log, or secrets, before others have their turn


class State(Protocol):
    """What the endpoints need of the agent."""

    config: CloudConfig
    resolver: Resolver
    cache: Cache
    events: Events
    book: Logbook
    metrics: Metrics

    @property
    def driver(self) -> VolumeDriver | None:
        """The volume driver, once it is there."""

    def info(self) -> AgentInfo:
        """Which agent this is."""

    def status(self) -> dict[str, Any]:
        """The answer of /v1/status."""

    async def reload(self) -> Mapping[str, Any]:
        """Read the configuration again; ConfigError: it is faulty, and the former one in force."""


class Endpoints:
    """One method for each endpoint; `routes` has them by path and method."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._requests: dict[bytes, messages.ResolveRequest] = {}
        self._known_bytes = 0
        self._reloads = Rate("requests to read the configuration again", burst=5, per_second=0.1, together=2)
        self._refreshes = Rate("requests to refresh secrets", burst=20, per_second=1)
        self._volumes = VolumesEndpoint(state, self._note)
        self._told = Rate("names for the log", burst=_AUDIT_BURST, per_second=_AUDIT_PER_SECOND, together=2)
        self.routes: dict[str, dict[str, Endpoint]] = {
            messages.HEALTH: {"GET": self.health},
            messages.RESOLVE: {"POST": self.resolve},
            messages.STATUS: {"GET": self.status},
            messages.SECRETS: {"GET": self.secrets},
            messages.VOLUMES: {"PUT": self.volumes},
            messages.RELOAD: {"POST": self.reload},
            messages.EVENTS: {"GET": self.events},
            messages.LOGS: {"GET": self.logs},
            messages.METRICS: {"GET": self.metrics},
        }

    async def health(self, request: Request) -> Answer:
        """The agent answers; providers may be down all the same."""
        request.query()
        return Answer(b'{"status":"ok"}\n')

    async def status(self, request: Request) -> Answer:
        """How the agent, its providers and its volume driver are."""
        request.query()
        status = self._state.status()
        if not self._state.resolver.access.may_see_log(request.caller):
            for provider in status["providers"]:
                provider["error"] = provider["code"]  # the message may name what others read
            if status["config_error"]:
                status["config_error"] = _CONFIG_FAULTS
        return Answer.of(status)

    async def metrics(self, request: Request) -> Answer:
        """Numbers for Prometheus."""
        request.query()
        return Answer(self._state.metrics.text().encode(), CONTENT_TYPE)

    # Secrets.

    async def resolve(self, request: Request) -> Answer:
        """References to values."""
        request.query()
        wanted = self._resolve_request(await request.body())
        state = self._state
        self._check_log(request.caller)
        held = request.hold.amount
        given = await state.resolver.answer(wanted, request.caller, request.hold.grow)
        state.metrics.count("dso_agent_references_total", "ok", by=given.found)
        for fault in given.errors:
            state.metrics.count("dso_agent_references_total", fault.code)
        body = await given.encode()
        request.hold.grow(max(0, sum(map(len, body)) - (request.hold.amount - held)))
        await self._note("secrets.read", request.caller, given.read)
        await self._note("access.refused", request.caller, given.refused)
        return Answer(body, is_held=True)

    async def volumes(self, request: Request) -> Answer:
        """What volumes are to hold."""
        self._check_log(request.caller)
        return await self._volumes.put(request)

    def _check_log(self, caller: Caller) -> None:
        """BusyError for who has filled too much of the log: asked of whatever has many names logged."""
        if not caller.trusted:
            self._told.check(caller.uid)

    def _resolve_request(self, body: bytes) -> messages.ResolveRequest:
        """Read a body; one that came before, as each `up` of a stack sends it, is known. Bodies hold names only."""
        known = self._requests.get(body)
        if known is None:
            known = messages.ResolveRequest.from_json(parse(body))
            if len(body) <= _MAX_KNOWN_BODY:
                if self._known_bytes + len(body) > _MAX_KNOWN:
                    self._requests.clear()
                    self._known_bytes = 0
                self._requests[body] = known
                self._known_bytes += len(body)
        return known

    async def _note(self, event: str, caller: Caller, found: Sequence[str], **more: Sequence[str]) -> None:
        """Log an access: who, and every name, in as many lines as that takes."""
        if found or more:
            size = await audit(self._state.events, event, {"uid": caller.uid, "pid": caller.pid}, secrets=found, **more)
            if not caller.trusted:
                self._told.owe(caller.uid, size)

    async def secrets(self, request: Request) -> Answer:
        """The entries of dso.yaml and what is in memory, as far as the caller may read them."""
        request.query()
        state, caller = self._state, request.caller
        may_read = state.resolver.access.may_read
        entries = [entry.info() for entry in state.config.secrets.values() if may_read(caller, entry.name)]
        cached = []
        for at, entry in enumerate(state.cache.entries(), 1):
            if self._may_know(caller, entry.key.provider, entry.key.path):
                cached.append(CachedSecret(*entry.key, entry.version, round(entry.age, 3), entry.stale))
            if not at % _LINES_AT_ONCE:
                await others_first()
        return Answer.of(SecretList(state.info(), entries, cached).to_json())

    def _may_know(self, caller: Caller, provider: str, path: str) -> bool:
        """Whether a caller may read a secret under any of its names."""
        resolver = self._state.resolver
        return any(resolver.access.may_read(caller, subject) for subject in resolver.lookup.subjects_of(provider, path))

    # Reloading.

    async def reload(self, request: Request) -> Answer:
        """Read the configuration again and refresh everything, or one secret only, of what the caller may read."""
        name = request.query("secret").get("secret")
        caller = request.caller
        if not caller.trusted:
            (self._reloads if name is None else self._refreshes).spend(caller.uid)
        self._state.events(
            "reload.asked", uid=caller.uid, pid=caller.pid, **({} if name is None else {"secret": name[:_MAX_SHOWN]})
        )
        if name is not None:
            return await self._reload_one(name, caller)
        try:
            configuration = await self._state.reload()
        except ConfigError as error:
            if not self._state.resolver.access.may_see_log(caller):
                text = f"the agent's configuration stays as it was, for the file cannot be used: {_CONFIG_FAULTS}"
                raise RefusedError(codes.RELOAD_FAILED, text, "ask whoever looks after the agent") from None
            raise RefusedError(codes.RELOAD_FAILED, error.message, error.hint) from None
        return Answer.of({"configuration": dict(configuration), **await self._refresh(None, caller)})

    async def _reload_one(self, name: str, caller: Caller) -> Answer:
        found = self._state.resolver.find(name, caller)
        if isinstance(found, messages.Fault):
            if is_denial(found):
                await self._note("access.refused", caller, [self._state.resolver.known_as(name)])
            raise RefusedError.of(found)
        cached = [key for key in self._state.cache.known() if key[:2] == found[:2]]
        result = await self._refresh(list(dict.fromkeys([found, *cached])), caller)
        return Answer.of({"secret": name, **result})

    async def _refresh(self, keys: list[Key] | None, caller: Caller) -> dict[str, Any]:
        """Refresh secrets (None: all in memory that the caller may read); what came of it."""
        cache, resolver = self._state.cache, self._state.resolver
        if caller.trusted:
            found = await cache.refresh(keys)
        else:
            keys = cache.known() if keys is None else keys
            readable = []
            for at, key in enumerate(keys, 1):
                if self._may_know(caller, key.provider, key.path):
                    readable.append(key)
                if not at % _LINES_AT_ONCE:
                    await others_first()
            found = await cache.refresh(readable, resolver.fetching.of(caller.uid))
        return {
            "refreshed": sum(not isinstance(one, ProviderError) for one in found.values()),
            "changed": sorted({f"{key.provider}/{key.path}" for key, one in found.items() if one is True}),
            "failed": [
                messages.Fault(
                    one.code, one.message, reference=f"dso://{key.provider}/{key.path}", provider=key.provider
                ).to_json()
                for key, one in found.items()
                if isinstance(one, ProviderError)
            ],
        }

    # What happens.

    async def events(self, request: Request) -> Answer:
        """Events as they happen."""
        request.query()
        last = request.header("Last-Event-ID")
        after = int(last) if last.isascii() and last.isdigit() and len(last) < 16 else None  # noqa: PLR2004
        return Answer(content_type="text/event-stream", pieces=self._watch(request.caller, after))

    async def _watch(self, caller: Caller, after: int | None) -> AsyncGenerator[str, None]:
        events = self._state.events
        watcher = events.watch(lambda event: self._may_see(caller, event), after=after)
        try:
            yield HEARTBEAT + "\n\n"
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_INTERVAL):
                        found = await watcher.next()
                except TimeoutError:
                    yield HEARTBEAT + "\n\n"
                else:
                    yield "".join(event.to_text() for event in found)
        finally:
            events.unwatch(watcher)

    def _may_see(self, caller: Caller, event: AgentEvent) -> bool:
        """Whether an event is about nothing the caller may not read."""
        access = self._state.resolver.access
        if caller.trusted or not access.is_restricted:
            return True
        fields = event.fields
        if event.name.startswith("secret.") and "path" in fields:
            return self._may_know(caller, str(fields.get("provider")), str(fields["path"]))
        if event.name.startswith("provider."):
            return not fields.get("message")  # which may name what others read
        return event.name.startswith(("reload.done", "agent."))

    async def logs(self, request: Request) -> Answer:
        """The last lines of the log, and those that follow."""
        query = request.query("lines", "since", "level", "follow")
        if not self._state.resolver.access.may_see_log(request.caller):
            raise RefusedError(
                codes.PERMISSION_DENIED,
                "with `access:` in dso.yaml only root may read the log, which names everybody's secrets",
                "sudo docker dso logs",
            )
        level = query.get("level", "debug")
        if level not in LEVELS:
            raise RefusedError(codes.INVALID_REQUEST, f"`level` is one of {', '.join(LEVELS)}")
        if query.get("follow", "0") not in ("0", "1"):
            raise RefusedError(codes.INVALID_REQUEST, "`follow` is 0 or 1")
        lines, since = int(_number(query, "lines", KEPT_LINES)), _number(query, "since", 0)
        if query.get("follow") == "1":
            return Answer(content_type=_LINES, pieces=self._follow(request.caller, lines, since, level))
        recent = self._state.book.recent(lines=lines, since=since, level=level)
        request.hold.grow(_LINE_FACTOR * sum(len(line.message) for line in recent))
        return Answer([part.encode() async for part in _in_parts(recent)], _LINES, is_held=True)

    async def _follow(self, caller: Caller, lines: int, since: float, level: str) -> AsyncGenerator[str, None]:
        book = self._state.book
        follower = book.follow(level)
        try:
            recent = book.recent(lines=lines, since=since, level=level)
            async for part in _in_parts(recent):
                yield part
            if not recent:
                yield "\n"
            while True:
                line = await follower.lines.get()
                if not self._state.resolver.access.may_see_log(caller):
                    return  # a new configuration says so
                yield _line(line)
        finally:
            book.unfollow(follower)


def _line(line: LogLine) -> str:
    return dumps(line.to_json()) + "\n"


async def _in_parts(lines: Sequence[LogLine]) -> AsyncGenerator[str, None]:
    """Lines as they are sent, some at a time; others have their turn meanwhile."""
    for start in range(0, len(lines), _LINES_AT_ONCE):
        if start:
            await others_first()
        yield "".join(map(_line, lines[start : start + _LINES_AT_ONCE]))


def _number(query: Mapping[str, str], name: str, default: float) -> float:
    try:
        number = float(query.get(name, default))
    except ValueError:
        number = math.nan
    if not 0 <= number < 1e12:  # noqa: PLR2004
        raise RefusedError(codes.INVALID_REQUEST, f"`{name}` is a number, 0 or more")
    return number
