"""The fields of secrets: each secret is parsed once, and that is remembered for as long as it is the same one."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dso.agent.fairness.turns import SLICE
from dso.protocol.fields import NOT_READ, may_be_object, members_of
from dso.system.json_fast import marks

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dso.secret import SecretValue

_MAX_REMEMBERED = 8 * 1024 * 1024  # bytes, about
_OVERHEAD = 512  # bytes of memory for each secret
_OF_VALUE = 128  # bytes of memory for a JSON value, about
_AS_LONG = 512  # bytes that are copied in the time that one JSON value takes
_WIDEST = 4  # bytes that a character takes in a text that has any beyond Latin-1


def effort(text: bytes) -> int:
    """What it costs to parse or write a JSON text, in bytes that take as long to copy into an answer.

    It is done in one step. One that is as long as several slices costs as many times more: others notice it, so that
    it has to be rare.
    """
    work = len(text) + _AS_LONG * marks(text)
    return work * max(1, work // SLICE)


class _Known(NamedTuple):
    content: SecretValue  # which it keeps, so that its identity is its own
    members: Mapping[str, object] | None
    weight: int

    @classmethod
    def of(cls, content: SecretValue, members: Mapping[str, object] | None) -> _Known:
        """`weight`: the bytes of memory it takes, about, the secret's own included, which may outlive the cache's."""
        raw = content.reveal()
        weight = _OVERHEAD + len(raw)
        if members:
            width = 1 if raw.isascii() and b"\\u" not in raw else _WIDEST
            weight += width * len(raw) + _OF_VALUE * marks(raw)
        return cls(content, members, weight)


class Members:
    """What was parsed, within bounds in memory: the longest known goes first."""

    def __init__(self) -> None:
        self._known: dict[int, _Known] = {}  # by the identity of the secret
        self._weight = 0

    def clear(self) -> None:
        """Drop everything."""
        self._known.clear()
        self._weight = 0

    def get(self, content: SecretValue) -> _Known | None:
        """What is known of a secret."""
        return self._known.get(id(content))

    def put(self, known: _Known) -> None:
        """Remember it, unless it would drive out most of what is asked for more often."""
        if known.weight > _MAX_REMEMBERED // 2:
            return
        self._known[id(known.content)] = known
        self._weight += known.weight
        while self._weight > _MAX_REMEMBERED:
            self._weight -= self._known.pop(next(iter(self._known))).weight


class Reading:
    """Reads the fields of secrets for one request; `work` is what that took, as in `effort`.

    Whoever asks for all of one secret before the next has each parsed once, however large they are.
    """

    __slots__ = ("_known", "_last", "work")

    def __init__(self, known: Members) -> None:
        self._known = known
        self._last: _Known | None = None
        self.work = 0

    def members_of(self, content: SecretValue, *, may_remember: bool) -> Mapping[str, object] | None:
        """The fields of a secret; NOT_READ if it is too large."""
        if not may_be_object(content):
            return None
        if self._last is not None and self._last.content is content:
            return self._last.members
        known = self._known.get(content)
        if known is None:
            members = members_of(content)
            self.work += len(content) if members is NOT_READ else effort(content.reveal())
            known = _Known.of(content, members)
            if may_remember:
                self._known.put(known)
        self._last = known
        return known.members
