"""Requests to one plugin process that wait for their answers; no input or output happens here."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

from dso.protocol.codes import PLUGIN_OVERSIZED
from dso.protocol.provider import MAX_MESSAGE_BYTES, MAX_MESSAGE_VALUES, ProviderError, decode, encode
from dso.protocol.reading import MessageError
from dso.system.json_fast import Number, has_more_values

if TYPE_CHECKING:
    from collections.abc import Callable

BEGINNING = 256  # bytes of a line that tell whose answer it is
_MAX_ABANDONED = 10_000
# The beginning of an answer whose `id` comes first, as docs/provider-protocol.md asks for.
_BEGINNING = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*([0-9]{1,15})\s*,')


class Calls:
    """The requests in flight. `redact` takes credentials out of messages that the plugin wrote."""

    def __init__(self, redact: Callable[[str], str]) -> None:
        self._redact = redact
        self._last = 0
        self._waiting: dict[int, asyncio.Future[Any]] = {}
        self._abandoned: set[int] = set()
        self.answers = 0  # how many came, to tell a silent plugin from a slow one

    def __len__(self) -> int:
        return len(self._waiting)

    def begin(self, method: str, params: dict[str, Any]) -> tuple[int, bytes, asyncio.Future[Any]]:
        """A new request: its id, the line to send, and the future that gets the `result` or a ProviderError."""
        self._last += 1
        future: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting[self._last] = future
        line = encode({"jsonrpc": "2.0", "id": self._last, "method": method, "params": params})
        return self._last, line, future

    def abandon(self, number: int) -> None:
        """Nobody waits for this answer any more; should it still come, that is no fault."""
        if self._waiting.pop(number, None) and len(self._abandoned) < _MAX_ABANDONED:
            self._abandoned.add(number)

    def answer(self, line: bytes) -> None:
        """Hand a line to whoever waits for it.

        Raises:
            MessageError: it is no answer to anything that was asked, and not answered yet.
        """
        if has_more_values(line, MAX_MESSAGE_VALUES):
            if not self.oversized(line[:BEGINNING]):
                raise MessageError(f"an answer has more than {MAX_MESSAGE_VALUES} JSON values")
            return
        message = decode(line)
        if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
            raise MessageError("a line is no JSON-RPC 2.0 message")
        if ("result" in message) == ("error" in message):
            raise MessageError("an answer has not exactly one of `result` and `error`")
        number = message.get("id")
        if not isinstance(number, Number) or not number.isdecimal():
            raise MessageError("an answer has no `id` of a request")
        future = self._take(int(number[:18]))
        if future is None or future.done():
            return
        if "error" in message:
            future.set_exception(ProviderError.from_rpc(message["error"], self._redact))
        else:
            future.set_result(message["result"])

    def oversized(self, beginning: bytes) -> bool:
        """An answer is too large to be read: fail the request it belongs to, and tell whether that is known."""
        found = _BEGINNING.match(beginning)
        if found is None:
            return False
        try:
            future = self._take(int(found[1]))
        except MessageError:
            return False
        if future is not None and not future.done():
            future.set_exception(oversized_error())
        return True

    def fail(self, error: ProviderError) -> None:
        """Every request in flight fails with this."""
        waiting, self._waiting = self._waiting, {}
        for future in waiting.values():
            if not future.done():
                future.set_exception(ProviderError(error.code, error.message, retry_after=error.retry_after))

    def _take(self, number: int) -> asyncio.Future[Any] | None:
        """The future of a request; None when nobody waits for it any more."""
        future = self._waiting.pop(number, None)
        if future is not None:
            self.answers += 1
        elif number in self._abandoned:
            self._abandoned.discard(number)
            self.answers += 1
        else:
            raise MessageError("an answer has the `id` of no request, or of one that was answered before")
        return future


def oversized_error() -> ProviderError:
    """What whoever waits for an oversized answer gets."""
    return ProviderError(
        PLUGIN_OVERSIZED,
        f"the plugin's answer exceeds {MAX_MESSAGE_BYTES // 1024**2} MiB or {MAX_MESSAGE_VALUES} JSON values, the most "
        "that a message may have",
    )
