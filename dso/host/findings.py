"""What `docker dso system doctor` finds."""

from __future__ import annotations

from typing import NamedTuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

OK = "ok"
NOTE = "note"  # worth knowing, nothing to do
WARNING = "warning"  # works, and will bite one day
ERROR = "error"  # does not work
STATES = (OK, NOTE, WARNING, ERROR)


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        check: what was looked at, a word that stays the same in every release: "engine", "units".
        state: OK, NOTE, WARNING or ERROR.
        what: what was found.
        cause: why it is so, or why it matters.
        remedy: what to do, a command wherever there is one.
        fix: does it, where that is safe; raises DsoError or OSError.
    """

    check: str
    state: str
    what: str
    cause: str = ""
    remedy: str = ""
    fix: Callable[[], None] | None = None


def is_fault(finding: Finding) -> bool:
    """Whether there is something to do."""
    return finding.state in (WARNING, ERROR)
