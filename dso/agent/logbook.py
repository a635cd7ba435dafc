"""The agent's log: lines on standard error, and the last of them in memory for `GET /v1/logs`.

A line never holds a value: nobody gives it one. As a last line of defence the providers' credentials are
replaced by a mask in everything that is logged, and of an exception only its class and place are told, since its
text could hold anything.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections import deque
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from dso.protocol.stream import LEVELS, LogLine
from dso.system.systemd import logs_to_journal
from dso.system.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

KEPT_LINES = 2000
KEPT_CHARACTERS = 4 * 1024 * 1024
MAX_LINE = 8192
MAX_FOLLOWERS_LAG = 1000  # lines a follower may be behind before it misses some
_MAX_REDACTORS = 256
_STDERR = 2

_RANK = {level: rank for rank, level in enumerate(LEVELS)}
_PRIORITY = {"debug": "<7>", "info": "<6>", "warning": "<4>", "error": "<3>"}  # sd-daemon(3)
_PLAIN = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-/:,@*#+%~"
_PRINTABLE = bytes(range(0x20, 0x7F))


class Follower:
    """Somebody who reads the log as it goes on: `lines` is a queue, whose oldest are dropped when it is full."""

    __slots__ = ("lines", "minimum")

    def __init__(self, minimum: int) -> None:
        self.lines: asyncio.Queue[LogLine] = asyncio.Queue(MAX_FOLLOWERS_LAG)
        self.minimum = minimum

    def add(self, line: LogLine) -> None:
        """Hand it a line."""
        if self.lines.full():
            self.lines.get_nowait()
        self.lines.put_nowait(line)


class Logbook:
    """Where everything the agent has to say goes. For the event loop's thread only; `Handler` takes any thread."""

    def __init__(
        self,
        *,
        level: str = "info",
        form: str = "text",
        stream: int = _STDERR,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`form` is "text" or "json", `stream` a descriptor."""
        self._clock = clock
        self._stream = stream
        self._journal = stream == _STDERR and logs_to_journal()
        self._lines: deque[LogLine] = deque()
        self._size = 0  # of those, in characters
        self._followers: set[Follower] = set()
        self._redactors: tuple[Callable[[str], str], ...] = ()
        self.configure(level, form)

    def configure(self, level: str, form: str) -> None:
        """Set what is logged and how it looks."""
        self._minimum = _RANK.get(level, 1)
        self._form = form

    def redact(self, redactor: Callable[[str], str]) -> None:
        """Have one more function take credentials out of lines, from now on and for good."""
        self._redactors = (*self._redactors[-_MAX_REDACTORS:], redactor)

    def logs(self, level: str) -> bool:
        """Whether lines of a level are logged."""
        return _RANK[level] >= self._minimum

    def debug(self, message: str, **fields: Any) -> None:
        """For those who look into a problem."""
        self.write("debug", message, fields)

    def info(self, message: str, **fields: Any) -> None:
        """As it should be."""
        self.write("info", message, fields)

    def warning(self, message: str, **fields: Any) -> None:
        """Something is not as it should be, and the agent lives with it."""
        self.write("warning", message, fields)

    def error(self, message: str, **fields: Any) -> None:
        """Something does not work."""
        self.write("error", message, fields)

    def write(self, level: str, message: str, fields: Mapping[str, Any] | None = None) -> int:
        """One line; fields follow the message as `name=value`, empty ones left out, or are members of its JSON.

        Returns the characters of the line: 0 for one that is not logged.
        """
        rank = _RANK[level]
        if rank < self._minimum:
            return 0
        text = message
        for name, value in (fields or {}).items():
            if value != "":
                text += f" {name}={_shown(value, self._redacted)}"
        line = LogLine(self._clock(), level, self._cleaned(text))
        self._keep(line)
        for follower in self._followers:
            if rank >= follower.minimum:
                follower.add(line)
        self._print(line, message, fields or {})
        return len(line.message)

    def _keep(self, line: LogLine) -> None:
        self._lines.append(line)
        self._size += len(line.message)
        while len(self._lines) > KEPT_LINES or self._size > KEPT_CHARACTERS:
            self._size -= len(self._lines.popleft().message)

    def _cleaned(self, text: str) -> str:
        text = self._redacted(text)
        if len(text) > MAX_LINE:
            text = text[:MAX_LINE] + "..."
        return text if _is_printable(text) else visible(text)

    def _redacted(self, text: str) -> str:
        for redact in self._redactors:
            text = redact(text)
        return text

    def _print(self, line: LogLine, message: str, fields: Mapping[str, Any]) -> None:
        if self._form == "json":
            printed = self._document(line, message, fields)
        elif self._journal:
            printed = line.message
        else:
            printed = f"{_iso(line.time)} {line.level.upper():7} {line.message}"
        if self._journal:
            printed = _PRIORITY[line.level] + printed
        try:
            os.write(self._stream, printed.encode("utf-8", "backslashreplace") + b"\n")
        except OSError:
            return  # nobody reads it; it is in memory still

    def _document(self, line: LogLine, message: str, fields: Mapping[str, Any]) -> str:
        """A line as one JSON object: time, level, message, and each field as a member."""
        document: dict[str, Any] = {"time": _iso(line.time), "level": line.level, "message": self._cleaned(message)}
        for name, value in fields.items():
            plain = value is None or isinstance(value, int | float)
            document.setdefault(name, value if plain else self._cleaned(_listed(value)))
        return json.dumps(document, ensure_ascii=False)

    def recent(self, *, lines: int = KEPT_LINES, since: float = 0, level: str = "debug") -> list[LogLine]:
        """The last lines of a level and above, the oldest first."""
        minimum = _RANK[level]
        found = [line for line in self._lines if line.time >= since and _RANK[line.level] >= minimum]
        return found[max(len(found) - lines, 0) :]

    def follow(self, level: str = "debug") -> Follower:
        """Be handed every line from now on; `unfollow` ends it."""
        follower = Follower(_RANK[level])
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: Follower) -> None:
        """See `follow`."""
        self._followers.discard(follower)


class Handler(logging.Handler):
    """Takes over what libraries and other modules log by `logging`; from any thread."""

    def __init__(self, book: Logbook, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._book = book
        self._loop = loop

    def emit(self, record: logging.LogRecord) -> None:
        """One record."""
        level = LEVELS[min(max(record.levelno // 10 - 1, 0), len(LEVELS) - 1)]
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001  # arguments that do not fit its text
            message = f"{record.msg!s} ({type(error).__name__} in its arguments)"
        if record.exc_info and record.exc_info[0] is not None:
            message += ": " + where(record.exc_info[1])
        try:
            here = asyncio.get_running_loop() is self._loop
        except RuntimeError:
            here = False
        if here:
            self._book.write(level, message)
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._book.write, level, message)


def take_over_logging(book: Logbook, loop: asyncio.AbstractEventLoop) -> Handler:
    """Send what is logged by `logging` to the logbook: of DSO's own everything, of libraries warnings and errors."""
    handler = Handler(book, loop)
    root = logging.getLogger()
    root.addHandler(handler)
    root.setLevel(logging.WARNING)
    logging.getLogger("dso").setLevel(logging.DEBUG)
    logging.raiseExceptions = False
    return handler


def where(error: BaseException | None) -> str:
    """The class of an exception and the places it passed, without its text."""
    if error is None:
        return "unknown"
    places = []
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        places.append(f"{os.path.basename(code.co_filename)}:{trace.tb_lineno} {code.co_name}")
        trace = trace.tb_next
    return f"{type(error).__name__} at {' < '.join(reversed(places[-8:]))}" if places else type(error).__name__


def _iso(seconds: float) -> str:
    whole = int(seconds)
    return f"{_iso_second(whole)}.{int((seconds - whole) * 1000):03}Z"


@lru_cache(4)
def _iso_second(whole: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))


def _shown(value: object, redact: Callable[[str], str]) -> str:
    """A value as a line has it: quoted if it is no plain word, and without credentials, which quoting could hide.

    Of a list each element: no name can pass for two.
    """
    text = _text(value)
    if not isinstance(value, list | tuple | set | frozenset):
        return text if _is_plain(text) else json.dumps(redact(text), ensure_ascii=False)
    if _is_plain(text) and text.count(",") == len(value) - 1:
        return text
    return ",".join(
        each if _is_plain(each) and "," not in each else json.dumps(redact(each), ensure_ascii=False)
        for each in map(_text, value)
    )


def _listed(value: object) -> str:
    """A value as JSON has it: a list like in a line, anything else as it is."""
    return _shown(value, str) if isinstance(value, list | tuple | set | frozenset) else _text(value)


def _is_plain(text: str) -> bool:
    return bool(text) and text.isascii() and not text.encode().translate(None, _PLAIN)


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3f}".rstrip("0").rstrip(".")
    if isinstance(value, list | tuple | set | frozenset):
        try:
            return ",".join(value)  # nearly always: lists of names
        except TypeError:
            return ",".join(map(_text, value))
    return str(value)


def _is_printable(text: str) -> bool:
    """What `text.isprintable()` says, sooner for a long line of ASCII."""
    return not text.encode().translate(None, _PRINTABLE) if text.isascii() else text.isprintable()
