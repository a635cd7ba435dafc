"""What a failing test shows besides its assertion: the logs of whatever runs for it at that moment.

    evidence.of(self)       # in a stand-in's constructor; it has a method `evidence() -> dict[title, text]`

tests/conftest.py asks when a test has failed. What a `with` inside the test has ended by then says its last words
itself, with `last_words`: pytest shows them as the test's output.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

LINES = 80  # the last ones of each


class Witness(Protocol):
    """Something that runs for a test."""

    def evidence(self) -> Mapping[str, str]:
        """Titles, and what is to be read below them."""


_witnesses: weakref.WeakSet[Witness] = weakref.WeakSet()


def of(witness: Witness) -> None:
    """Ask it when a test fails, for as long as it is there."""
    _witnesses.add(witness)


def told(*witnesses: Witness) -> list[tuple[str, str]]:
    """What these, or all, have to say: title and text. One that can say nothing any more is left out."""
    found: list[tuple[str, str]] = []
    for witness in witnesses or list(_witnesses):
        try:
            said = witness.evidence()
        except Exception as error:  # noqa: BLE001  # it must not take the place of the test's own failure
            said = {} if isinstance(error, FileNotFoundError) else {type(witness).__name__: f"cannot say: {error!r}"}
        found += [(title, "\n".join(text.splitlines()[-LINES:])) for title, text in said.items() if text.strip()]
    return found


def last_words(witness: Witness, error: BaseException | None) -> None:
    """Print what it has to say if it ends because of an error."""
    if error is not None:
        for title, text in told(witness):
            print(f"--- {title} ---\n{text}")
