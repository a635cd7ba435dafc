"""A command on a terminal: prompts, and the keys a user presses."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING, Self

import pexpect

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType


class Terminal:
    """A running command that owns a terminal; everything it shows is in `shown`.

    Leaving the `with` block hangs up and kills what is still running on the terminal.
    """

    def __init__(self, argv: Sequence[str], *, env: Mapping[str, str], cwd: str, timeout: float = 60) -> None:
        self.shown = b""
        self._child = pexpect.spawn(
            argv[0],
            list(argv[1:]),
            env={"TERM": "xterm", **env},
            cwd=cwd,
            timeout=timeout,
            dimensions=(50, 160),
            echo=True,  # so that a test can see whether a prompt hides what is typed
            # a shell starts background jobs with ^C ignored, and what ignores it when it starts cannot trap it
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        self._child.delaybeforesend = None

    @property
    def pid(self) -> int:
        return int(self._child.pid)

    def expect(self, text: str, timeout: float = 60) -> bytes:
        """Wait until the command shows `text`; returns what it showed before."""
        try:
            self._child.expect(re.escape(text.encode()), timeout=timeout)
        except (pexpect.TIMEOUT, pexpect.EOF) as error:
            waited = self.shown + (self._child.before or b"")
            raise AssertionError(f"the terminal never showed {text!r}, only: {waited!r}") from error
        before = bytes(self._child.before)
        self.shown += before + bytes(self._child.after)
        return before

    def line(self, text: str) -> None:
        """Type a line and press Enter."""
        self._child.send(text.encode() + b"\r")

    def press(self, keys: str) -> None:
        """Press keys, and no Enter behind them."""
        self._child.send(keys.encode())

    def control_c(self) -> None:
        """Press ^C: the terminal sends SIGINT to every process of the foreground group."""
        self._child.send(b"\x03")

    def control_d(self) -> None:
        """Press ^D at the start of a line: end of input."""
        self._child.send(b"\x04")

    def wait(self, timeout: float = 60) -> int:
        """Wait for the end; the exit code as a shell gives it (128 + n after signal n)."""
        try:
            self._child.expect(pexpect.EOF, timeout=timeout)
        except pexpect.TIMEOUT as error:
            raise AssertionError(f"still running after {timeout:g} s: {self.shown + self._child.before!r}") from error
        self.shown += bytes(self._child.before)
        self._child.wait()
        ended_by = self._child.signalstatus
        return 128 + int(ended_by) if ended_by is not None else int(self._child.exitstatus)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child.isalive():
            self._child.kill(signal.SIGHUP)
        self._child.close(force=True)
