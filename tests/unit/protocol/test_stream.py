"""Events and log lines: what the agent writes, clients read."""

from __future__ import annotations

import pytest

from dso.protocol.reading import MessageError
from dso.protocol.stream import AgentEvent, LogLine, read_events
from dso.system.json_fast import dumps


def test_events_come_out_as_they_went_in():
    sent = [
        AgentEvent("secret.changed", 12.5, {"provider": "a", "path": "x/y", "version": "2"}, 7),
        AgentEvent("provider.state", 13.0, {"message": "two\nlines: and a colon"}, 8),
    ]
    text = ": still here\n\n" + "".join(event.to_text() for event in sent)
    assert list(read_events(text.split("\n"))) == sent


def test_an_event_that_is_cut_off_is_none():
    text = AgentEvent("secret.changed", 1.0, {}, 1).to_text()
    assert list(read_events(text.rstrip("\n").split("\n"))) == []


@pytest.mark.parametrize(
    "data", ["{", "[]", '{"event": 1, "time": 1}', '{"event": "x"}', '{"event": "x", "time": true}']
)
def test_what_is_no_event_is_an_error(data):
    with pytest.raises(MessageError):
        list(read_events([f"data: {data}", ""]))


def test_a_log_line_comes_out_as_it_went_in():
    line = LogLine(1.25, "warning", "ünüsual \x1b text")
    assert LogLine.from_text(dumps(line.to_json())) == line


@pytest.mark.parametrize("text", ["", "x", "[]", "{}", '{"time": "1", "level": "info"}'])
def test_what_is_no_log_line_is_an_error(text):
    with pytest.raises(MessageError):
        LogLine.from_text(text)
