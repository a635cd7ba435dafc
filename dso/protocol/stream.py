"""What the agent tells line by line: its events (`GET /v1/events`) and its log (`GET /v1/logs`). Never values.

Specified in docs/agent-api.md.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.protocol.reading import MessageError, read_object, read_text

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

LEVELS = ("debug", "info", "warning", "error")
LOST = "events.lost"  # the event that tells how many a slow reader missed: `count`
HEARTBEAT = ": still here"  # a comment of the event stream, every HEARTBEAT_INTERVAL seconds
HEARTBEAT_INTERVAL = 15.0


class LogLine(NamedTuple):
    """A line of the agent's log; `time` in seconds since 1970. In the answer it is one JSON object, one a line."""

    time: float
    level: str
    message: str

    def to_json(self) -> dict[str, Any]:
        """As JSON has it."""
        return self._asdict()

    @classmethod
    def from_text(cls, line: str) -> LogLine:
        """Read a line of the answer; MessageError."""
        found = read_object(_json(line), "a line of the log")
        return cls(_seconds(found.get("time")), read_text(found.get("level"), "level"), str(found.get("message", "")))


class AgentEvent(NamedTuple):
    """Something that happened, such as `secret.changed`; `fields` say to what: docs/agent-api.md lists them."""

    name: str
    time: float
    fields: Mapping[str, Any]
    number: int = 0

    def to_text(self) -> str:
        """The event as the stream has it, with the empty line that ends it."""
        from dso.system.json_fast import dumps

        data = dumps({"event": self.name, "time": self.time, **self.fields})
        return f"id: {self.number}\nevent: {self.name}\ndata: {data}\n\n"


def read_events(lines: Iterable[str]) -> Iterator[AgentEvent]:
    """The events of a stream of lines, as they come; comments and what is no event are passed over. MessageError."""
    number, data = 0, ""
    for line in lines:
        key, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if key == "id" and value.isascii() and value.isdigit():
            number = int(value)
        elif key == "data":
            data += value
        elif not line and data:
            found = read_object(_json(data), "an event")
            name, time = read_text(found.pop("event", None), "event"), _seconds(found.pop("time", None))
            yield AgentEvent(name, time, found, number)
            data = ""


def _json(text: str) -> object:
    from dso.system.json_fast import loads

    try:
        return loads(text)
    except (ValueError, RecursionError):
        raise MessageError("a line is not JSON") from None


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise MessageError("`time` is no number")
    return float(value)
