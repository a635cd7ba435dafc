"""A plugin's log: lines on stderr that the agent passes on, without tracebacks and credentials."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from dso.system.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TextIO

_MAX_LINE = 2000


class Redacting(logging.Formatter):
    """`LEVEL logger: message`, on one line; what `redact` takes for credentials is masked wherever it stands.

    Of an exception only the class is shown: its text, and the source lines of a traceback, may hold anything.
    """

    def __init__(self) -> None:
        super().__init__()
        self.redact: Callable[[str], str] = str

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001  # an object whose text cannot be made
            message = f"(a message that cannot be shown: {type(error).__name__})"
        message = self.redact(message)
        if record.exc_info and record.exc_info[0]:
            message += f" ({record.exc_info[0].__name__})"
        return f"{record.levelname} {record.name}: {visible(' '.join(message.split()))[:_MAX_LINE]}"


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
