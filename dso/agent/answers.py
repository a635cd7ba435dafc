"""Answers to requests: of what was found for each reference, or, where all is warm, of text that is remembered."""

from __future__ import annotations

import asyncio
import json
from itertools import chain, islice
from typing import TYPE_CHECKING, NamedTuple

from dso.agent.picking import AT_ONCE, started
from dso.agent.store import Cached
from dso.protocol.agent import ResolveResponse

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dso.agent.picking import Line, Picked
    from dso.protocol.agent import Fault


class Given(NamedTuple):
    """The answer to a request, as far as it could be given.

    `resolved` has the references with what they yield, and whether the value is part of the answer; `errors`
    what is wrong with the rest. `read` and `refused` are for the log: the names of the secrets that were
    given, and of those that the caller may not read.
    """

    resolved: Sequence[tuple[str, Picked, Cached, bool]]
    errors: Sequence[Fault]
    read: Sequence[str]
    refused: Sequence[str]

    @property
    def found(self) -> int:
        """How many references are resolved."""
        return len(self.resolved)

    def response(self) -> ResolveResponse:
        """The answer as a message."""
        found = [picked.resolved(text, cached, wanted=wanted) for text, picked, cached, wanted in self.resolved]
        return ResolveResponse(found, self.errors)

    async def encode(self) -> bytes:
        """`response().to_json()` as the body; others have their turn meanwhile."""
        parts: list[str] = []
        tails: dict[tuple[float, bool], str] = {}
        for at, (text, picked, cached, wanted) in enumerate(self.resolved, 1):
            age = cached.age, cached.stale
            tail = tails.get(age) or tails.setdefault(age, _tail(cached.age, stale=cached.stale))
            parts.append(started(text) + (picked.heads[wanted] or picked.head(wanted=wanted)) + tail)
            if not at % AT_ONCE:
                await asyncio.sleep(0)
        errors = json.dumps([fault.to_json() for fault in self.errors], separators=(",", ":"))
        return _body(parts, errors)


class WarmGiven:
    """The same where every reference has its line, and its secret is fresh; `values` are those the cache keeps.

    It is put together by loops in C, a column of the lines at a time: nothing is made for a single reference.
    """

    __slots__ = ("_heads", "_lines", "_starts", "ages", "read", "sizes", "values")

    errors: Sequence[Fault] = ()
    refused: Sequence[str] = ()

    def __init__(self, lines: Sequence[Line]) -> None:
        """Of at least one line; `ages` of the secrets, in seconds, are still to be set."""
        self._lines = lines
        self._starts, self._heads, self.sizes, subjects, self.values, *_ = zip(*lines, strict=True)
        self.read = list(dict.fromkeys(subjects))
        self.ages: Sequence[float] = ()

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

    async def encode(self) -> bytes:
        """`response().to_json()` as the body; others have their turn meanwhile."""
        tails = {age: _tail(age, stale=False) for age in set(self.ages)}
        texts = zip(self._starts, self._heads, map(tails.__getitem__, self.ages), strict=True)
        parts: list[str] = []
        while batch := list(chain.from_iterable(islice(texts, AT_ONCE))):
            if parts:
                await asyncio.sleep(0)
            parts += batch
        return _body(parts, "[]")


def _tail(age: float, *, stale: bool) -> str:
    """What ends a reference's part, which is all that changes from one request to the next."""
    return f',"age":{age:.3f},"stale":{"true" if stale else "false"}}},'


def _body(parts: list[str], errors: str) -> bytes:
    """The answer of the references' parts, each of which ends with a comma; `parts` is used up."""
    if parts:
        parts[-1] = parts[-1][:-1]
    return "".join(['{"resolved":[', *parts, f'],"errors":{errors}}}\n']).encode("ascii")
