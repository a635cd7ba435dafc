"""What a provider plugin is as a process: descriptors, signals, environment, log and memory."""

from __future__ import annotations

import os
import signal
import sys
import threading
from typing import TYPE_CHECKING, NoReturn

from dso.errors import DsoError
from dso.protocol.provider import PLUGIN_PREFIX
from dso.protocol.redaction import Redactor
from dso.providers.log import start_log
from dso.providers.serve import serve
from dso.system.hardening import forbid_dumping, lock_memory
from dso.system.memory import forbid_core_files
from dso.system.visible import visible
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType
    from typing import Any, BinaryIO

    from dso.providers.provider import Provider

DEFECT = 70
USAGE = 125


class _TerminatedError(BaseException):
    """SIGTERM came."""


def main(provider_class: type[Provider], argv: Sequence[str]) -> NoReturn:
    """Be the plugin of a provider until the agent ends it. Never returns: no thread is waited for."""
    try:
        code = _run(provider_class, argv)
    except _TerminatedError:
        code = 0
    except DsoError as error:
        code = error.code
        _report(f"{error.message}; {error.hint}" if error.hint else error.message)
    except BaseException as error:  # noqa: BLE001  # its text may hold a value, and the interpreter would print it
        code = DEFECT
        _report(f"the plugin failed in a way it should not: {type(error).__name__}")
    os._exit(code)


def _run(provider_class: type[Provider], argv: Sequence[str]) -> int:
    program = PLUGIN_PREFIX + provider_class.type
    if argv[1:] == ["--version"]:
        os.write(1, f"{program} {VERSION}\n".encode())
        return 0
    if argv[1:] or os.isatty(0):
        _report(f"{program} is a plugin of dso-agent, which starts it itself: see docs/provider-protocol.md")
        return USAGE
    _take_signals()
    _protect_memory()
    stdin, stdout = _take_streams()
    log = start_log(sys.stderr)

    def configured(config: Mapping[str, Any]) -> None:
        log.redact = Redactor(config, os.environ)

    return serve(provider_class, stdin, stdout, configured=configured)


def _take_signals() -> None:
    """^C and a terminal that closes are for the agent to deal with: it ends us when it is done with us."""
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _terminate)
    sys.excepthook = sys.unraisablehook = threading.excepthook = _say_nothing_of_values


def _terminate(number: int, _frame: FrameType | None) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # a second one does not ask
    raise _TerminatedError


def _protect_memory() -> None:
    forbid_core_files()
    forbid_dumping()
    lock_memory()


def _take_streams() -> tuple[BinaryIO, BinaryIO]:
    """The two ends of the conversation, out of reach of libraries and their children.

    What they print goes to stderr, and what they read is empty.
    """
    stdin, stdout = os.dup(0), os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    sys.stdin, sys.stdout = open(0, encoding="utf-8", closefd=False), sys.stderr  # noqa: SIM115
    return os.fdopen(stdin, "rb"), os.fdopen(stdout, "wb")


def _say_nothing_of_values(*details: Any) -> None:
    """For exceptions in threads and destructors, which nobody else catches."""
    first = details[0]
    kind = first if isinstance(first, type) else getattr(first, "exc_type", type(first))
    _report(f"the plugin failed in a way it should not: {kind.__name__}")


def _report(message: str) -> None:
    try:
        os.write(2, f"{visible(message)}\n".encode())
    except OSError:
        return  # there is nobody to tell
