"""Steps that are all done, or all undone."""

from __future__ import annotations

from dso.errors import DsoError, SetupFailedError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import FrameType


class Step:
    """One change of the machine.

    Attributes:
        title: what it does, for the user: "create the group dso".
        apply: does it; raises DsoError or OSError.
        undo: takes it back, also when `apply` got half-way only; None: it changes nothing.
    """

    __slots__ = ("apply", "title", "undo")

    def __init__(self, title: str, apply: Callable[[], None], undo: Callable[[], None] | None = None) -> None:
        self.title = title
        self.apply = apply
        self.undo = undo


class InterruptedStepError(Exception):
    """A signal asked us to end."""


def perform(steps: Sequence[Step], say: Callable[[str], None]) -> None:
    """Do every step, or none: when one fails, or a signal comes, what was done is undone, the last first.

    A second signal does not interrupt the undoing, nor does it matter whether anybody hears `say`: a terminal that
    hangs up takes that with it. Against SIGKILL and a power cut there is no help: to run the whole again then goes
    on with what is missing.

    Raises:
        SetupFailedError: a step failed; says whether everything could be undone.
    """
    from signal import SIGHUP, SIGINT, SIGTERM, signal

    done: list[Step] = []
    before = {number: signal(number, _interrupt) for number in (SIGINT, SIGTERM, SIGHUP)}
    try:
        for step in steps:
            done.append(step)
            _say(say, step.title)
            step.apply()
    except BaseException as error:
        _ignore_signals()
        left = _undo(done, say)
        raise _failure(done[-1] if done else None, error, left) from error
    finally:
        for number, handler in before.items():
            signal(number, handler)


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    _ignore_signals()  # at once: a second one must not find us on the way to the undoing
    raise InterruptedStepError


def _ignore_signals() -> None:
    from signal import SIG_IGN, SIGHUP, SIGINT, SIGTERM, signal

    for number in (SIGINT, SIGTERM, SIGHUP):
        signal(number, SIG_IGN)


def _say(say: Callable[[str], None], text: str) -> None:
    try:
        say(text)
    except OSError:  # EPIPE, EIO: nobody reads on
        return


def _undo(done: list[Step], say: Callable[[str], None]) -> list[str]:
    """Undo steps; returns what could not be undone."""
    left = []
    for step in reversed(done):
        if step.undo is None:
            continue
        _say(say, f"undoing: {step.title}")
        try:
            step.undo()
        except (DsoError, OSError) as error:
            left.append(f"could not undo `{step.title}`: {_what(error)}")
    return left


def _failure(step: Step | None, error: BaseException, left: Sequence[str]) -> SetupFailedError:
    where = f"could not {step.title}" if step else "failed"
    what = "it was interrupted" if isinstance(error, InterruptedStepError) else _what(error)
    end = "\n".join(left) if left else "what was there before is there again"
    hint = error.hint if isinstance(error, DsoError) else ""
    return SetupFailedError(f"{where}: {what}\n{end}", hint=hint)


def _what(error: BaseException) -> str:
    if isinstance(error, DsoError):
        return error.message
    if isinstance(error, OSError):
        return f"{error.strerror or type(error).__name__}" + (f": {error.filename}" if error.filename else "")
    return f"DSO failed in a way it should not: {type(error).__name__}"
