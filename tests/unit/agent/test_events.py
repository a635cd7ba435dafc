"""Events: logged, counted, told to those who watch."""

from __future__ import annotations

import asyncio

import pytest

from dso.agent.events import KEPT_EVENTS, MAX_WAITING, Events
from dso.agent.logbook import Logbook
from dso.protocol.stream import LOST, AgentEvent
from tests.support.loop import in_loop


@pytest.fixture
def book() -> Logbook:
    return Logbook(stream=-1, level="debug")


def everything(_event: object) -> bool:
    return True


def test_an_event_is_a_line_of_the_log_as_loud_as_it_is(book):
    emit = Events(book)
    emit("secret.fetched", path="a")
    emit("secret.stale", path="a")
    emit("volume.failed", volume="v")
    emit("provider.state", state="waiting", level="warning")
    assert [(line.level, line.message) for line in book.recent()] == [
        ("debug", "secret.fetched path=a"),
        ("warning", "secret.stale path=a"),
        ("error", "volume.failed volume=v"),
        ("warning", "provider.state state=waiting"),
    ]
    assert emit.counts["secret.fetched"] == 1


@in_loop
async def test_a_watcher_sees_what_it_wants_in_order():
    emit = Events(Logbook(stream=-1))
    watcher = emit.watch(lambda event: event.name != "b")
    waiting = asyncio.ensure_future(watcher.next())
    await asyncio.sleep(0)
    for name in "abc":
        emit(name, field=name, level="info")
    found = await waiting
    assert [(event.name, event.fields, event.number) for event in found] == [
        ("a", {"field": "a"}, 1),
        ("c", {"field": "c"}, 3),
    ]


@in_loop
async def test_a_slow_watcher_misses_the_oldest_and_is_told_how_many():
    emit = Events(Logbook(stream=-1))
    watcher = emit.watch(everything)
    for _ in range(MAX_WAITING + 10):
        emit("x")
    lost, first, *rest = await watcher.next()
    assert (lost.name, lost.fields) == (LOST, {"count": 10})
    assert first.number == 11
    while len(rest) < MAX_WAITING - 1:
        rest += await watcher.next()  # some at a time, so that a reader who stops has little text waiting
    assert rest[-1].number == MAX_WAITING + 10
    emit("y")
    assert [event.name for event in await watcher.next()] == ["y"]


@in_loop
async def test_a_watcher_that_lost_its_connection_goes_on_behind_the_last_event_it_saw():
    emit = Events(Logbook(stream=-1))
    for _ in range(KEPT_EVENTS + 5):
        emit("x")
    late = emit.watch(everything, after=KEPT_EVENTS + 3)
    assert [event.number for event in await late.next()] == [KEPT_EVENTS + 4, KEPT_EVENTS + 5]
    ancient = emit.watch(everything, after=0)
    assert (await ancient.next())[0].number == 6


@in_loop
async def test_who_does_not_watch_any_more_is_handed_nothing():
    emit = Events(Logbook(stream=-1))
    watcher = emit.watch(everything)
    emit.unwatch(watcher)
    emit("x")
    assert not watcher._waiting


def test_listeners_are_called_with_every_event(book):
    emit = Events(book)
    heard: list[AgentEvent] = []
    emit.listen(heard.append)
    emit("a", one=1)
    assert [(event.name, event.fields) for event in heard] == [("a", {"one": 1})]
