"""The audit log: every name, in lines that nothing cuts and nobody can forge."""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.events import Events
from dso.agent.logbook import MAX_LINE, Logbook
from dso.agent.web.audit import MAX_PART, MAX_TOLD, audit
from tests.support.loop import Turns, in_loop

if TYPE_CHECKING:
    from collections.abc import Sequence

WHO = {"uid": 1000, "pid": 7}


class Written:
    """A log that is written to a pipe's worth of file."""

    def __init__(self, tmp_path: Any, form: str = "text") -> None:
        self.path = tmp_path / "log"
        self.book = Logbook(stream=os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), form=form)
        self.events = Events(self.book)

    @property
    def lines(self) -> list[str]:
        with open(self.path, encoding="utf-8") as file:
            return file.read().splitlines()


def names_of(line: str) -> list[str]:
    """The names in `secrets=`, read as a program would read them."""
    rest = line.partition(" secrets=")[2]
    found = []
    while rest:
        if rest.startswith('"'):
            name, end = json.JSONDecoder().raw_decode(rest)
        else:
            end = re.match(r"[^,]*", rest).end()
            name = rest[:end]
        found.append(name)
        rest = rest[end:].removeprefix(",")
    return found


@pytest.mark.parametrize(
    "names",
    [
        [f"shop/secret-{number:05d}" for number in range(10_000)],
        [f"shop/{number:04d}-" + "x" * 500 for number in range(1000)],
        [f"häuser/{number}/" + "ü" * 400 for number in range(300)],
        ['with "quotes"/\\' + "\\" * 400 for _ in range(30)],
    ],
)
def test_every_name_is_logged_in_numbered_lines_none_of_which_is_cut(tmp_path: Any, names: Sequence[str]) -> None:
    log = Written(tmp_path)

    @in_loop
    async def check() -> None:
        await audit(log.events, "secrets.read", WHO, secrets=names)

    check()
    lines = log.lines
    assert [name for line in lines for name in names_of(line)] == list(names)
    assert max(map(len, lines)) < MAX_LINE
    numbers = [re.search(r" part=(\d+)/(\d+) ", line).groups() for line in lines]
    assert numbers == [(str(at), str(len(lines))) for at in range(1, len(lines) + 1)]
    assert len({re.search(r" batch=(\d+) ", line).group(1) for line in lines}) == 1
    assert all(" uid=1000 pid=7 " in line for line in lines)


@in_loop
async def test_a_few_names_are_one_line_without_a_number() -> None:
    book = Logbook(stream=-1)
    await audit(Events(book), "secrets.read", WHO, secrets=["a/b", "c"])
    assert [line.message for line in book.recent()] == ["secrets.read uid=1000 pid=7 secrets=a/b,c"]


def test_no_name_passes_for_two_or_for_another_field(tmp_path: Any) -> None:
    hostile = ["a,b", "x uid=0", 'y" uid=0 secrets="z', "new\nline", "\x1b[31m", "\u202egpj", "plain", "a\\", ""]
    log = Written(tmp_path)

    @in_loop
    async def check() -> None:
        await audit(log.events, "access.refused", WHO, secrets=hostile)

    check()
    (line,) = log.lines
    assert line.isprintable()
    assert names_of(line) == hostile  # what could mislead a terminal is an escape


def test_as_json_a_name_with_a_comma_is_told_from_two_names(tmp_path: Any) -> None:
    log = Written(tmp_path, "json")

    @in_loop
    async def check() -> None:
        await audit(log.events, "secrets.read", WHO, secrets=["a,b", "c"])
        await audit(log.events, "secrets.read", WHO, secrets=["a", "b", "c"])

    check()
    one, two = (json.loads(line)["secrets"] for line in log.lines)
    assert one != two
    assert two == "a,b,c"


@in_loop
async def test_those_who_watch_are_told_of_the_first_names_and_how_many_more() -> None:
    events = Events(Logbook(stream=-1))
    watcher = events.watch(lambda _: True)
    await audit(events, "secrets.read", WHO, secrets=[f"secret-{number}" for number in range(10_000)])
    (event,) = await watcher.next()
    assert len(event.fields["secrets"]) == MAX_TOLD
    assert event.fields["more"] == 10_000 - MAX_TOLD
    await audit(events, "secrets.read", WHO, secrets=["x" * 1500, "y" * 1500])
    (event,) = await watcher.next()
    assert event.fields["secrets"] == ["x" * 1500]
    assert event.fields["more"] == 1


@in_loop
async def test_others_have_their_turn_while_thousands_of_names_are_logged() -> None:
    names = [f"shop/secret-{number:05d}-" + "x" * 100 for number in range(10_000)]
    async with Turns() as turns:
        await audit(Events(Logbook(stream=-1)), "secrets.read", WHO, secrets=names)
    assert turns.count >= 10_000 * 120 // MAX_PART // 4 - 2


def test_what_the_log_keeps_in_memory_has_a_bound_in_characters() -> None:
    book = Logbook(stream=-1)
    for number in range(3000):
        book.info(f"{number} " + "x" * 8000)
    assert sum(len(line.message) for line in book.recent()) <= 4 * 1024 * 1024
    assert book.recent()[-1].message.startswith("2999 ")
