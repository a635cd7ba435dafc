"""Asking the person at the terminal for something that must not be shown."""

from __future__ import annotations

import os

from dso.errors import UsageError
from dso.system.visible import visible_lines

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_LINE_LIMIT = 4095  # what the terminal driver keeps of one line (termios(3), "Canonical and noncanonical mode")


def ask_hidden(prompt: str) -> bytes | None:
    """One line typed at the controlling terminal, not shown, without its newline; None when there is no terminal.

    Standard input and output stay untouched, so it works in a pipeline.

    Raises:
        UsageError: the line is longer than a terminal can take (4094 bytes).
        KeyboardInterrupt: ^C; the terminal is as it was before.
    """
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        return _read_hidden(terminal, prompt)
    finally:
        os.close(terminal)


def ask_twice(prompt: str, again: str, ask: Callable[[str], bytes | None] = ask_hidden) -> bytes | None:
    """`ask_hidden`, and once more to catch a typing error; raises UsageError when the two differ."""
    first = ask(prompt)
    if first is None:
        return None
    if ask(again) != first:
        raise UsageError("the two entries differ", hint="nothing was changed; try again")
    return first


def confirm(question: str) -> bool:
    """Ask on the terminal; only `y` or `yes` agrees. False when there is no terminal."""
    return bool(_agreed(question, fresh=False))


def agreed(question: str) -> bool | None:
    """As `confirm`, but what was typed before the question does not answer it.

    None when nobody can be asked: there is no terminal, or this process is in its background, where reading stops it.
    """
    return _agreed(question, fresh=True)


def _agreed(question: str, *, fresh: bool) -> bool | None:
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if _is_background(terminal):
            return None
        if fresh:
            import termios

            termios.tcflush(terminal, termios.TCIFLUSH)
        _show(terminal, f"{question} [y/N] ")
        return _read_line(terminal).strip().lower() in (b"y", b"yes")
    finally:
        os.close(terminal)


def ask_line(prompt: str) -> str | None:
    """One line typed at the controlling terminal, shown as it is typed, without blanks around it; None: no terminal."""
    try:
        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        _show(terminal, prompt)
        return _read_line(terminal).decode("utf-8", "replace").strip()
    finally:
        os.close(terminal)


def has_terminal() -> bool:
    """Whether there is somebody who could be asked."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _is_background(terminal: int) -> bool:
    try:
        return os.tcgetpgrp(terminal) != os.getpgrp()
    except OSError:
        return False


def _show(terminal: int, prompt: str) -> None:
    os.write(terminal, visible_lines(prompt).encode())


def _read_hidden(terminal: int, prompt: str) -> bytes:
    import termios

    before = termios.tcgetattr(terminal)
    hidden = termios.tcgetattr(terminal)
    hidden[3] &= ~termios.ECHO
    hidden[3] |= termios.ICANON | termios.ISIG
    try:
        # TCSAFLUSH drops what was typed before the prompt, which is not meant for it.
        termios.tcsetattr(terminal, termios.TCSAFLUSH, hidden)
        _show(terminal, prompt)
        line = _read_line(terminal)
    finally:
        termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
        os.write(terminal, b"\n")
    if len(line) >= _LINE_LIMIT:
        raise UsageError(
            "the terminal cuts such a long line short", hint="give it on standard input, or use --from-file FILE"
        )
    return line


def _read_line(terminal: int) -> bytes:
    line = b""
    while not line.endswith(b"\n"):
        piece = os.read(terminal, _LINE_LIMIT + 1)
        if not piece:  # ^D
            break
        line += piece
    return line.removesuffix(b"\n")
