"""What happens at the agent and at the Engine, merged as it comes: for `docker dso watch`.

One `poll` waits for both connections, and for the end of whoever reads what is printed.
"""

from __future__ import annotations

from typing import NamedTuple

from dso import paths
from dso.errors import AgentProtocolError, AgentUnavailableError, DsoError, EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import Any, Protocol

    from dso.config.mode import Mode
    from dso.protocol.client import AgentClient
    from dso.system.http import LineStream

    class Source(Protocol):
        """Where events come from.

        `label` names it in messages; `silence` is how many seconds without a sign of life make it count as gone
        (None: any number); `passing` are the errors of `open` that another try may not meet.
        """

        label: str
        silence: float | None
        passing: tuple[type[DsoError], ...]

        def open(self) -> LineStream:
            """Connect; DsoError."""

        def news(self) -> str:
            """After another `open`: what is to be told of it."""

        def happenings(self, lines: Sequence[bytes]) -> Iterator[Happening]:
            """The events that these lines, the next of the stream, complete."""

        def close(self) -> None:
            """Disconnect."""


RETRY = 2.0  # seconds between two tries to connect

_ENGINE_EVENTS = (
    *("create", "start", "restart", "stop", "die", "oom", "destroy", "health_status", "pause", "unpause", "rename"),
    *("mount", "unmount"),
)
_SHOWN_ATTRIBUTES = {
    "name": "name",
    "image": "image",
    "com.docker.compose.project": "project",
    "com.docker.compose.service": "service",
    "exitCode": "exit_code",
    "oldName": "old_name",
    "driver": "driver",
    "container": "container",
}
_SHORT_ID = 12
_ROUNDING = 0.01  # seconds by which an agent may tell its age wrong


class Happening(NamedTuple):
    """One event: when (seconds since 1970), at whom (`agent` or `engine`), what, and to what."""

    time: float
    source: str
    event: str
    fields: Mapping[str, Any]


class AgentSource:
    """The agent's events (`GET /v1/events`); after a lost connection also those that were missed, as far as kept."""

    silence: float | None
    passing: tuple[type[DsoError], ...] = (AgentUnavailableError,)

    def __init__(self, mode: Mode) -> None:
        from dso.protocol.stream import HEARTBEAT_INTERVAL

        self.label = "the agent"
        self.silence = 3 * HEARTBEAT_INTERVAL
        self.driver = ""  # its volume driver's name
        self._mode = mode
        self._client: AgentClient | None = None
        self._block: list[str] = []
        self._last: int | None = None  # the number of the last event
        self._up_since = 0.0  # by our clock; no later than this
        self._news = ""

    def open(self) -> LineStream:
        """Connect, ask which agent it is, and for its events."""
        from time import monotonic

        from dso.cli.project_config import connect
        from dso.protocol.agent import EVENTS

        self.close()
        self._client = client = connect(self._mode)
        self.label = f"the agent at {client.path}"
        before = monotonic()
        status = client.status()
        self.driver = status.info.volume_driver.name if status.info.volume_driver.available else ""
        # Both clocks are the machine's own: an agent that started later than the former one can have is another.
        is_another = before - status.uptime > self._up_since + _ROUNDING
        self._news = f"dso-agent {status.info.version}" + (", restarted" if is_another else "")
        after = self._last
        if is_another and after is not None:
            after = 0  # it counts anew, and all it has to tell is new
        self._up_since, self._block = monotonic() - status.uptime, []
        headers = None if after is None else {"Last-Event-ID": str(after)}
        self._last = after or 0
        return client.follow(EVENTS, headers)

    def news(self) -> str:
        """Which agent it is."""
        return self._news

    def happenings(self, lines: Sequence[bytes]) -> Iterator[Happening]:
        """The events of whole blocks of lines; AgentProtocolError."""
        from dso.protocol.reading import MessageError
        from dso.protocol.stream import read_events

        for line in lines:
            self._block.append(line.decode("utf-8", "replace").rstrip("\r"))
            if self._block[-1]:
                continue
            block, self._block = self._block, []
            try:
                for event in read_events(block):
                    self._last = event.number
                    yield Happening(event.time, "agent", event.name, event.fields)
            except MessageError as error:
                raise AgentProtocolError(f"the agent's events are not what the API says: {error}") from None

    def close(self) -> None:
        """Disconnect."""
        if self._client is not None:
            self._client.close()
            self._client = None


class EngineSource:
    """The Engine's events, as far as they are of containers with DSO's labels, or of the agent's volumes."""

    silence: float | None = None
    passing: tuple[type[DsoError], ...] = (DsoError,)  # without it there is the agent still

    def __init__(self, docker_args: Sequence[str], driver: Callable[[], str]) -> None:
        """`driver` gives the name of the agent's volume driver, "" if there is none."""
        from dso.delivery.engine import Engine

        self.label = "the Docker Engine"
        self._engine = Engine.from_docker_args(docker_args)
        self._driver = driver

    def open(self) -> LineStream:
        """Ask for events."""
        self._engine.close()
        return self._engine.events({"type": ("container", "volume"), "event": _ENGINE_EVENTS})

    def news(self) -> str:
        """Nothing."""
        return ""

    def happenings(self, lines: Sequence[bytes]) -> Iterator[Happening]:
        """The events among these lines; EngineError."""
        from dso.system.json_fast import loads

        for line in filter(None, lines):
            try:
                found = loads(line.decode("utf-8", "replace"))
                event = self._read(found if isinstance(found, dict) else {})
            except (ValueError, TypeError, AttributeError, RecursionError):
                raise EngineError("the Docker Engine sent an event that is not what its API says") from None
            if event is not None:
                yield event

    def _read(self, found: Mapping[str, Any]) -> Happening | None:
        """Source: Engine API, EventMessage; a container's labels are among its attributes, a volume's are not."""
        kind, actor = str(found.get("Type", "")), found.get("Actor") or {}
        attributes: Mapping[str, Any] = actor.get("Attributes") or {}
        if kind == "volume":
            is_ours = bool(self._driver()) and attributes.get("driver") == self._driver()
        else:
            is_ours = paths.LABEL_DIGEST in attributes or paths.LABEL_ROLE in attributes
        if not is_ours:
            return None
        actor_id = str(actor.get("ID", ""))  # a volume's is its name
        fields = {"id": actor_id[:_SHORT_ID]} if kind == "container" else {"name": actor_id}
        fields |= {shown: str(attributes[name]) for name, shown in _SHOWN_ATTRIBUTES.items() if name in attributes}
        if "container" in fields:
            fields["container"] = fields["container"][:_SHORT_ID]
        if paths.LABEL_ROLE in attributes:
            fields["role"] = str(attributes[paths.LABEL_ROLE])
            fields["project"] = str(attributes.get(paths.LABEL_PROJECT, ""))
        when = int(found.get("timeNano") or 0) / 1e9 or float(found.get("time") or 0)
        return Happening(round(when, 3), "engine", f"{kind}.{found.get('Action', '')}", fields)

    def close(self) -> None:
        """Disconnect."""
        self._engine.close()


class _Connection:
    """A source, and how things stand with it: its stream, or when to try again."""

    __slots__ = ("heard", "is_lost", "retry", "source", "stream")

    def __init__(self, source: Source) -> None:
        self.source = source
        self.stream: LineStream | None = None
        self.is_lost = False
        self.retry = 0.0
        self.heard = 0.0

    def wake(self) -> float | None:
        """When to look at it although nothing came."""
        if self.stream is None:
            return self.retry
        return None if self.source.silence is None else self.heard + self.source.silence


class Happenings:
    """Everything that happens, from several sources.

    The first of them has to answer at once; what is unreachable later, and the others, are tried
    again, and `tell` says so.
    """

    def __init__(self, sources: Sequence[Source], tell: Callable[[str], object], *, output: int | None = None) -> None:
        """`output` is a descriptor: BrokenPipeError as soon as nobody reads there any more."""
        from time import monotonic

        self._connections = [_Connection(source) for source in sources]
        self._tell = tell
        self._output = output
        self._clock = monotonic

    def __iter__(self) -> Iterator[Happening]:
        """The events, without end; DsoError when the first source cannot be had at the start, or sends garbage."""
        try:
            for index, connection in enumerate(self._connections):
                self._open(connection, must=index == 0)
            while True:
                for connection in self._connections:
                    if connection.stream is None and connection.retry <= self._clock():
                        self._open(connection, must=False)
                    yield from self._arrived(connection)
                self._wait()
        finally:
            for connection in self._connections:
                connection.source.close()

    def _open(self, connection: _Connection, *, must: bool) -> None:
        source = connection.source
        try:
            connection.stream = source.open()
        except source.passing as error:
            if must:
                raise
            connection.retry = self._clock() + RETRY
            if not connection.is_lost:
                self._tell(f"{source.label} cannot be reached yet: {error.message}")
            connection.is_lost = True
            return
        connection.heard = self._clock()
        if connection.is_lost:
            news = source.news()
            self._tell(f"{source.label} answers again" + (f" ({news})" if news else ""))
        connection.is_lost = False

    def _lost(self, connection: _Connection, why: str) -> None:
        connection.source.close()
        connection.stream, connection.is_lost = None, True
        connection.retry = self._clock() + RETRY
        self._tell(f"{connection.source.label} {why}; waiting for it")

    def _arrived(self, connection: _Connection) -> Iterator[Happening]:
        """The events that are whole by now."""
        from dso.system.http import WireError

        stream = connection.stream
        if stream is None:
            return
        try:
            yield from connection.source.happenings(stream.lines())
        except WireError as error:
            self._lost(connection, f"does not keep to HTTP ({error})")
        else:
            if stream.is_over:
                self._lost(connection, "ended its events")

    def _wait(self) -> None:
        """Wait until something comes, or it is time to look at a source."""
        from select import POLLERR, POLLHUP, POLLIN, poll

        watch = poll()
        by_descriptor = {}
        for connection in self._connections:
            if connection.stream is not None:
                by_descriptor[connection.stream.fileno()] = connection
                watch.register(connection.stream.fileno(), POLLIN)
        if self._output is not None:
            watch.register(self._output, 0)  # POLLERR, POLLHUP: the other end of the pipe is closed
        wakes = [wake for connection in self._connections if (wake := connection.wake()) is not None]
        timeout = max(min(wakes) - self._clock(), 0) * 1000 + 1 if wakes else None
        for descriptor, happened in watch.poll(timeout):
            if descriptor in by_descriptor:
                self._receive(by_descriptor[descriptor])
            elif happened & (POLLERR | POLLHUP):
                raise BrokenPipeError
        for connection in self._connections:
            silence = connection.source.silence
            if connection.stream is not None and silence and self._clock() - connection.heard > silence:
                self._lost(connection, f"has said nothing for {silence:.0f} seconds")

    def _receive(self, connection: _Connection) -> None:
        stream = connection.stream
        if stream is None:
            return
        try:
            is_there = stream.receive()
        except OSError:
            is_there = False
        if is_there:
            connection.heard = self._clock()
        else:
            self._lost(connection, "closed the connection")
