"""The audit log: who was given what, and who was refused it. Every name is logged, in as many lines as that takes."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

from dso.agent.fairness.turns import others_first

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from dso.agent.events import Events

MAX_PART = 4000  # characters of names in a line: with all that may be escaped still less than the log cuts off
MAX_TOLD, MAX_TOLD_SIZE = 50, 2000  # names, and their characters, in an event for those who watch
_LINES_AT_ONCE = 4
_BATCHES = count(1)


async def audit(events: Events, event: str, who: Mapping[str, Any], **names: Sequence[str]) -> int:
    """Log an event with every name of some lists; others have their turn meanwhile. The characters that took.

    Several lines are numbered: `batch` is what they have in common, `part` is 2/3 in the second of three.
    """
    if (size := _of_one_line(names)) is not None:
        events(event, **who, **names)
        return size
    parts = [part async for part in _parts(names)]
    about = {**who, "batch": next(_BATCHES)} if len(parts) > 1 else {**who}
    size = 0
    for at, part in enumerate(parts, 1):
        number = {"part": f"{at}/{len(parts)}"} if len(parts) > 1 else {}
        size += events.log(event, {**about, **number, **part})
        if not at % _LINES_AT_ONCE:
            await others_first()
    events.tell(event, {**who, **_told(names)})
    return size


def _of_one_line(names: Mapping[str, Sequence[str]]) -> int | None:
    """The characters of names that need no more than a line and an event, as nearly all do; None for others."""
    size = 0
    for found in names.values():
        text = ",".join(found)
        size += len(text) if text.isascii() and text.isprintable() else MAX_TOLD_SIZE + 1
        if size > MAX_TOLD_SIZE or len(found) > MAX_TOLD:
            return None
    return size


async def _parts(names: Mapping[str, Sequence[str]]) -> Any:
    """The names as lines have them."""
    part: dict[str, list[str]] = {}
    size = 0
    for at, (field, name) in enumerate(_each(names), 1):
        if not at % 1000:
            await others_first()
        length = most_characters(name)
        if size and size + length > MAX_PART:
            yield part
            part, size = {}, 0
        part.setdefault(field, []).append(name)
        size += length
    yield part


def _each(names: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, str]]:
    for field, found in names.items():
        for name in found:
            yield field, name


def most_characters(name: str) -> int:
    """How many characters a name may take in a line, with its quotes, escapes and comma."""
    if not name.isprintable():
        return 10 * len(name) + 3
    return len(name) + 3 + name.count('"') + name.count("\\")


def _told(names: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """As much of the names as an event has; `more` says how many are left out."""
    found: dict[str, Any] = {}
    size = left_out = 0
    for field, all_of_them in names.items():
        told: list[str] = []
        for name in all_of_them:
            size += len(name)
            if len(told) >= MAX_TOLD or size > MAX_TOLD_SIZE:
                break
            told.append(name)
        left_out += len(all_of_them) - len(told)
        found[field] = told
    return {**found, "more": left_out} if left_out else found
