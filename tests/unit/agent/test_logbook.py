"""The agent's log."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import threading

import pytest

from dso.agent import logbook
from dso.agent.logbook import MAX_LINE, Logbook, take_over_logging, where
from tests.support.loop import in_loop


@pytest.fixture
def stream(tmp_path):
    path = tmp_path / "log"
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_APPEND)
    yield descriptor, path.read_text
    os.close(descriptor)


def test_a_line_has_time_level_message_and_fields(stream):
    descriptor, read = stream
    book = Logbook(stream=descriptor, clock=lambda: 1700000000.25)
    book.info("secrets.read", uid=7, secrets=["a/b", "c"], empty="", spaced="a b", yes=True, part=1.5)
    assert read() == (
        '2023-11-14T22:13:20.250Z INFO    secrets.read uid=7 secrets=a/b,c spaced="a b" yes=yes part=1.5\n'
    )


def test_as_json_each_field_is_a_member(stream):
    descriptor, read = stream
    book = Logbook(stream=descriptor, form="json", clock=lambda: 1700000000.25)
    book.warning("x", uid=7, secrets=["a", "b"], level="no override")
    assert json.loads(read()) == {
        "time": "2023-11-14T22:13:20.250Z",
        "level": "warning",
        "message": "x",
        "uid": 7,
        "secrets": "a,b",
    }


def test_the_journal_gets_the_level_and_keeps_the_time_itself(stream, monkeypatch):
    descriptor, read = stream
    monkeypatch.setattr(logbook, "logs_to_journal", lambda: True)
    book = Logbook(stream=2)
    monkeypatch.setattr(book, "_stream", descriptor)
    book.error("broken")
    book.info("works")
    assert read() == "<3>broken\n<6>works\n"


def test_what_is_below_the_level_is_neither_printed_nor_kept(stream):
    descriptor, read = stream
    book = Logbook(stream=descriptor, level="warning")
    book.info("quiet")
    book.warning("loud")
    assert "quiet" not in read()
    assert [line.message for line in book.recent()] == ["loud"]
    book.configure("debug", "text")
    book.debug("now")
    assert [line.message for line in book.recent()] == ["loud", "now"]


def test_nobody_can_break_a_line_or_steer_a_terminal(stream):
    descriptor, read = stream
    book = Logbook(stream=descriptor)
    book.info("a\nERROR forged \x1b[2J", name="x\ny\u202e")
    assert read().count("\n") == 1
    assert "\x1b" not in read()
    assert "\u202e" not in read()
    assert r"a\nERROR forged \x1b[2J" in read()


def test_credentials_are_masked_wherever_they_stand(stream):
    descriptor, read = stream
    for form in ("text", "json"):
        book = Logbook(stream=descriptor, form=form)
        book.redact(lambda text: text.replace("hunter2", "********"))
        book.info("it is hunter2", token="hunter2", many=["hunter2", "b"])
        assert "hunter2" not in book.recent()[0].message
    assert "hunter2" not in read()


def test_credentials_are_masked_before_a_line_is_quoted_or_cut(stream):
    descriptor, read = stream
    secret = 'hunter "2"\nhunter 3'
    book = Logbook(stream=descriptor)
    book.redact(lambda text: text.replace(secret, "********"))
    book.info("quoted", token=f"a {secret}")
    book.info("x" * (MAX_LINE - 5) + secret)
    assert "hunter" not in read()


def test_the_last_lines_are_kept_and_told_by_number_time_and_level(stream):
    now = [0.0]
    book = Logbook(stream=stream[0], clock=lambda: now[0])
    for number in range(logbook.KEPT_LINES + 10):
        now[0] = number
        (book.warning if number % 2 else book.info)(f"line {number}")
    assert len(book.recent()) == logbook.KEPT_LINES
    assert [line.message for line in book.recent(lines=2)] == ["line 2008", "line 2009"]
    assert book.recent(lines=0) == []
    assert [line.time for line in book.recent(since=2008)] == [2008, 2009]
    assert [line.time for line in book.recent(lines=2, level="warning")] == [2007, 2009]


@in_loop
async def test_a_follower_gets_what_comes_and_loses_the_oldest_when_it_is_slow():
    book = Logbook(stream=os.open(os.devnull, os.O_WRONLY))
    follower = book.follow("warning")
    book.info("not for it")
    for number in range(logbook.MAX_FOLLOWERS_LAG + 5):
        book.warning(str(number))
    assert (await follower.lines.get()).message == "5"
    book.unfollow(follower)
    book.warning("gone")
    assert follower.lines.qsize() == logbook.MAX_FOLLOWERS_LAG - 1
    os.close(book._stream)


def test_a_log_that_cannot_be_written_is_no_failure():
    book = Logbook(stream=-1)
    book.info("nobody reads this")
    assert len(book.recent()) == 1


@in_loop
async def test_what_libraries_log_is_in_the_log_without_the_text_of_exceptions():
    loop = asyncio.get_running_loop()
    book = Logbook(stream=-1, level="debug")
    handler = take_over_logging(book, loop)
    try:
        logging.getLogger("dso.agent.x").debug("number %d", 5)
        logging.getLogger("aiohttp.server").info("not interesting")
        logging.getLogger("asyncio").error("wrong %s arguments", *["one", "two"])
        try:
            int("hunter2")
        except ValueError:
            logging.getLogger("aiohttp.server").exception("it failed")
        thread = threading.Thread(target=logging.getLogger("dso.other").warning, args=("from a thread",))
        thread.start()
        thread.join()
        await asyncio.sleep(0)
    finally:
        logging.getLogger().removeHandler(handler)
    lines = [(line.level, line.message) for line in book.recent()]
    assert lines[0] == ("debug", "number 5")
    assert lines[1][0] == "error"
    assert lines[2][1].startswith("it failed: ValueError at test_logbook.py:")
    assert lines[3:] == [("warning", "from a thread")]
    assert "hunter2" not in repr(lines)


def test_where_names_places_and_no_text():
    def fail() -> None:
        raise KeyError("hunter2")

    try:
        fail()
    except KeyError as error:
        told = where(error)
    assert told.startswith("KeyError at test_logbook.py:")
    assert "fail" in told
    assert "hunter2" not in told
    assert where(ValueError("hunter2")) == "ValueError"
