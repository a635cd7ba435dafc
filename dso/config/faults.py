"""What can be wrong with a dso.yaml, gathered so that one error tells all of it.

Messages name files, lines, keys and variables. They never hold the value of a variable, nor anything
that stands in `providers:` and could be a credential.
"""

from __future__ import annotations

from typing import NamedTuple

from dso.errors import ConfigError
from dso.system.visible import visible_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

REFERENCE_PAGE = "docs/dso-yaml.md describes every key"
_MAX_SHOWN_FAULTS = 40
_MAX_SHOWN_CHARACTERS = 60


class Fault(NamedTuple):
    """One thing that is wrong: where (a line, and the key as `providers.vault.address`), what, and what to do."""

    line: int
    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" if self.place else self.message


class Unfit(Exception):  # noqa: N818  # never leaves the package: whoever reads the value turns it into a Fault
    """A value is not what its key takes."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def error_of(path: str, faults: Iterable[Fault]) -> ConfigError:
    """The one error for all that is wrong with a file, in the order of its lines."""
    ordered = sorted(dict.fromkeys(faults), key=lambda fault: fault.line)
    if len(ordered) == 1:
        fault = ordered[0]
        where = f"{path}, line {fault.line}" if fault.line else path
        return ConfigError(f"{where}: {fault}", hint=fault.hint or REFERENCE_PAGE)
    lines = [
        f"  line {fault.line}: {fault}" + (f" ({fault.hint})" if fault.hint else "")
        for fault in ordered[:_MAX_SHOWN_FAULTS]
    ]
    if len(ordered) > _MAX_SHOWN_FAULTS:
        lines.append(f"  and {len(ordered) - _MAX_SHOWN_FAULTS} more")
    return ConfigError(f"{path} has {len(ordered)} faults:\n" + "\n".join(lines), hint=REFERENCE_PAGE)


def shown(text: str) -> str:
    """A name or value for a message: what cannot be printed escaped, what is long cut."""
    return visible_name(text, _MAX_SHOWN_CHARACTERS)


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`; did you mean X?` with the nearest of the known names, or nothing when none is near."""
    from difflib import get_close_matches

    folded = {one.lower(): one for one in known}
    near = get_close_matches(name[:_MAX_SHOWN_CHARACTERS].lower(), list(folded), n=1, cutoff=0.6)
    return f"; did you mean {folded[near[0]]}?" if near else ""
