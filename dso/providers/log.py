"""A plugin's log: lines on stderr that the agent passes on, without tracebacks and credentials."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from dso.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import TextIO

_SENSITIVE = ("token", "secret", "password", "key", "jwt", "credential")
_HARMLESS = ("_file", "_path")  # where a credential is, not what it is
_SHORTEST = 4  # of what is masked: a shorter one would mask half of every line
_MAX_LINE = 2000


class Redacting(logging.Formatter):
    """`LEVEL logger: message`, on one line; the values given to `hide` are masked wherever they stand.

    Of an exception only the class is shown: its text, and the source lines of a traceback, may hold anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self._hidden: list[str] = []

    def hide(self, values: Iterator[str]) -> None:
        """Mask these from now on."""
        found = {value for value in values if len(value) >= _SHORTEST}
        self._hidden = sorted(found.union(self._hidden), key=len, reverse=True)

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001  # an object whose text cannot be made
            message = f"(a message that cannot be shown: {type(error).__name__})"
        for value in self._hidden:
            message = message.replace(value, MASK)
        if record.exc_info and record.exc_info[0]:
            message += f" ({record.exc_info[0].__name__})"
        return f"{record.levelname} {record.name}: {' '.join(message.split())[:_MAX_LINE]}"


def start_log(stream: TextIO) -> Redacting:
    """Send this process's log to a stream: all of our own, that of libraries from WARNING on.

    The agent leaves out what is below its `log_level`.
    """
    formatter = Redacting()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    logging.basicConfig(handlers=[handler], level=logging.WARNING, force=True)
    logging.getLogger("dso").setLevel(logging.DEBUG)
    logging.raiseExceptions = False  # a line that cannot be written is no reason to print its arguments
    logging.captureWarnings(capture=True)
    return formatter


def credentials_in(settings: Mapping[str, Any], *, below: bool = False) -> Iterator[str]:
    """The texts in a provider's settings that are credentials, as their keys tell."""
    for key, value in settings.items():
        name = str(key).lower()
        sensitive = below or (any(word in name for word in _SENSITIVE) and not name.endswith(_HARMLESS))
        if isinstance(value, dict):
            yield from credentials_in(value, below=sensitive)
        elif sensitive and isinstance(value, str):
            yield value
