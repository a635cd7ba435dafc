"""Answers to requests: of what was found for each reference, or, where all is warm, of text that is remembered."""

from __future__ import annotations

import json
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from dso.agent.fairness.budgets import MAX_ANSWER
from dso.agent.fairness.turns import others_first
from dso.agent.picking import AT_ONCE, started
from dso.agent.store import Cached
from dso.protocol.agent import ResolveResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.agent.picking import Line, Picked
    from dso.protocol.agent import Fault

TAIL = 48  # bytes of a reference's part that tell its age
_SHORT = 100  # characters of an error's message, where there is no room for all of it
_PART = 256 * 1024  # bytes of an answer that are put together at a time
_BEGINNING = '{"resolved":['


class Given(NamedTuple):
    """The answer to a request, as far as it could be given.

    `resolved` has the references with what they yield, and whether the value is part of the answer; `errors`
    what is wrong with the rest. `read` and `refused` are for the log: the names of the secrets that were
    given, and of those that the caller may not read. `heads` is the text of the answer for each of `resolved`.
    """

    resolved: Sequence[tuple[str, Picked, Cached, bool]]
    errors: Sequence[Fault]
    read: Sequence[str]
    refused: Sequence[str]
    heads: Sequence[str]

    @property
    def found(self) -> int:
        """How many references are resolved."""
        return len(self.resolved)

    def response(self) -> ResolveResponse:
        """The answer as a message."""
        found = [picked.resolved(text, cached, wanted=wanted) for text, picked, cached, wanted in self.resolved]
        return ResolveResponse(found, self.errors)

    async def encode(self) -> list[bytes]:
        """`response().to_json()` as the body, in parts; others have their turn meanwhile."""
        tails: dict[tuple[float, bool], str] = {}
        body = _Body()
        for (text, _, cached, _), head in zip(self.resolved, self.heads, strict=True):
            age = cached.age, cached.stale
            tail = tails.get(age) or tails.setdefault(age, _tail(cached.age, stale=cached.stale))
            if body.add(started(text), head, tail):
                await others_first()
        body.end_values()
        for fault in self.errors:
            if body.size > MAX_ANSWER:  # a provider may have much to say of each
                fault = fault._replace(message=fault.message[:_SHORT], hint="")  # noqa: PLW2901
            if body.add(json.dumps(fault.to_json(), separators=(",", ":")), ","):
                await others_first()
        return body.end()


class WarmGiven:
    """The same where every reference has its line, and its secret is fresh; `values` are those the cache keeps.

    It is put together by loops in C, a column of the lines at a time: nothing is made for a single reference.
    """

    __slots__ = ("_heads", "_lines", "_starts", "ages", "read", "sizes", "values", "weight")

    errors: Sequence[Fault] = ()
    refused: Sequence[str] = ()

    def __init__(self, lines: Sequence[Line]) -> None:
        """Of at least one line; `ages` of the secrets, in seconds, are still to be set."""
        self._lines = lines
        self._starts, self._heads, self.sizes, subjects, self.values, *_ = zip(*lines, strict=True)
        self.read = list(dict.fromkeys(subjects))
        self.ages: Sequence[float] = ()
        # The bytes of the answer, or a few more.
        self.weight = sum(map(len, self._starts)) + sum(map(len, self._heads)) + len(lines) * TAIL

    @property
    def found(self) -> int:
        """How many references are resolved: all of them."""
        return len(self._lines)

    def response(self) -> ResolveResponse:
        """The answer as a message."""
        found = []
        for line, age in zip(self._lines, self.ages, strict=True):
            cached = Cached(line.picked.data, age, stale=False)
            found.append(line.picked.resolved(line.text, cached, wanted=line.wanted))
        return ResolveResponse(found, [])

    async def encode(self) -> list[bytes]:
        """`response().to_json()` as the body, in parts; others have their turn meanwhile."""
        tails = {age: _tail(age, stale=False) for age in set(self.ages)}
        texts = zip(self._starts, self._heads, map(tails.__getitem__, self.ages), strict=True)
        found: list[str] = []
        while batch := "".join(chain.from_iterable(islice(texts, AT_ONCE))):
            if found:
                await others_first()
            found.append(batch)
        found[0] = _BEGINNING + found[0]
        found[-1] = found[-1][:-1] + '],"errors":[]}\n'
        return [text.encode("ascii") for text in found]


def _tail(age: float, *, stale: bool) -> str:
    """What ends a reference's part, which is all that changes from one request to the next."""
    return f',"age":{age:.3f},"stale":{"true" if stale else "false"}}},'


class _Body:
    """The answer's text as it grows, in parts that are not looked at again."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._texts = [_BEGINNING]
        self._since_cut = self._count = 0
        self.size = 0

    def add(self, *texts: str) -> bool:
        """Add an element, whose last text ends with a comma; whether others should have their turn."""
        self._texts += texts
        self._count += 1
        size = sum(map(len, texts))
        self.size += size
        self._since_cut += size
        if self._since_cut < _PART and self._count % AT_ONCE:
            return False
        self._cut(leave=1)
        return True

    def end_values(self) -> None:
        """What is added from now on are errors."""
        self._end_list()
        self._texts.append('],"errors":[')

    def end(self) -> list[bytes]:
        """The parts, all of them."""
        self._end_list()
        self._texts.append("]}\n")
        self._cut()
        return self._parts

    def _end_list(self) -> None:
        self._texts[-1] = self._texts[-1].removesuffix(",")

    def _cut(self, leave: int = 0) -> None:
        end = len(self._texts) - leave
        self._parts.append("".join(self._texts[:end]).encode("ascii"))
        del self._texts[:end]
        self._since_cut = 0
