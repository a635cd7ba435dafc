"""A plugin's standard error as lines for a log: none too long, none that misleads a terminal, not too many."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dso.system.visible import visible

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_LINE_BYTES = 4096
_MORE = 8192  # bytes held besides, so that a credential at the cut is seen whole
_BURST, _PER_SECOND = 500, 50  # lines


class LogLines:
    """Cuts what a plugin writes into lines and hands them to the log."""

    def __init__(
        self, log: Callable[[str], None], clock: Callable[[], float], redact: Callable[[str], str] = str
    ) -> None:
        """`redact` takes credentials out of a line, before it is cut."""
        self._log = log
        self._clock = clock
        self._redact = redact
        self._rest = b""
        self._is_cut = False  # the rest of the present line is left out
        self._allowed = float(_BURST)
        self._refilled = clock()
        self._left_out = 0

    def feed(self, data: bytes) -> None:
        """Take more of the output; holds no more than one line in memory.

        What comes after as many lines as are allowed is only counted.
        """
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            if not self._is_allowed():
                self._left_out += data.count(b"\n", start) - self._is_cut  # the one that is cut counts already
                self._rest, self._is_cut = b"", False
                start = data.rfind(b"\n") + 1
                break
            self._end_line(data[start:end])
            start = end + 1
        self._extend(data[start:])

    @property
    def is_flooded(self) -> bool:
        """Whether what comes next would be left out."""
        return self._is_cut or not self._is_allowed()

    def _is_allowed(self) -> bool:
        now = self._clock()
        self._allowed = min(_BURST, self._allowed + (now - self._refilled) * _PER_SECOND)
        self._refilled = now
        return self._allowed >= 1

    def close(self) -> None:
        """The output has ended."""
        if self._rest and not self._is_cut:
            self._end_line(b"")
        if self._left_out:
            self._tell_left_out()

    def _end_line(self, end: bytes) -> None:
        self._extend(end)
        if not self._is_cut:
            self._write(self._rest)
        self._rest, self._is_cut = b"", False

    def _extend(self, more: bytes) -> None:
        if self._is_cut:
            return
        self._rest += more[: MAX_LINE_BYTES + _MORE + 1]
        if len(self._rest) > MAX_LINE_BYTES + _MORE:
            self._write(self._rest, is_whole=False)
            self._rest, self._is_cut = b"", True

    def _write(self, line: bytes, *, is_whole: bool = True) -> None:
        if not self._is_allowed():
            self._left_out += 1
            return
        self._allowed -= 1  # also for one without text: to find that out takes as long
        text, end = self._redact(line.decode("utf-8", "replace").rstrip()), ""
        encoded = text.encode()
        if not is_whole or len(encoded) > MAX_LINE_BYTES:
            # The last bytes of what is no whole line may be the beginning of a credential.
            most = MAX_LINE_BYTES if is_whole else max(0, min(MAX_LINE_BYTES, len(encoded) - _MORE))
            text, end = encoded[:most].decode("utf-8", "ignore"), " [cut]"
        if not text and not end:
            return
        if self._left_out:
            self._tell_left_out()
        self._log(visible(text.replace("\t", " ")) + end)

    def _tell_left_out(self) -> None:
        self._log(f"[{self._left_out} lines left out: more than {_PER_SECOND} a second]")
        self._left_out = 0
