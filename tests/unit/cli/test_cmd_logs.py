"""`docker dso logs`: the journal where systemd runs the agent, else what the agent remembers."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlsplit

import pytest

from dso import paths
from dso.cli import cmd_logs, journal
from dso.protocol.agent import Fault
from dso.protocol.stream import LEVELS, LogLine
from dso.system.json_fast import dumps
from tests.support.fake_agent import FakeAgent, refusal

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import User

LOGS = ("logs", "--mode=cloud")
LINES = [LogLine(1_700_000_000.5, "info", "dso-agent starts"), LogLine(1_700_000_001.0, "warning", "a\x1b[2Jb")]


def answer(lines: list[LogLine]) -> bytes:
    body = "".join(dumps(line.to_json()) + "\n" for line in lines).encode() or b"\n"
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.setattr(journal, "BOOTED", f"{tmp_path}/not-booted")
    with FakeAgent(tmp_path) as found:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, found.socket)
        found.answers["/v1/logs"] = answer(LINES)
        yield found


def query(agent: FakeAgent) -> dict[str, list[str]]:
    (request,) = agent.requests
    return parse_qs(urlsplit(request.target).query)


def test_agents_own_log_is_shown_with_time_level_and_message(
    user: User, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = user.ok(*LOGS).out.splitlines()
    assert [line.split(maxsplit=1)[1] for line in shown] == ["INFO    dso-agent starts", "WARNING a\\x1b[2Jb"]
    assert shown[0].startswith("2023-11-1")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], {"level": ["debug"], "lines": ["100"]}),
        (["-n", "3", "--level", "error"], {"level": ["error"], "lines": ["3"]}),
        (["-n", "all"], {"level": ["debug"]}),
        (["--since", "1700000000"], {"level": ["debug"], "since": ["1700000000.000"]}),
        (["--since=1700000000", "-n0"], {"level": ["debug"], "since": ["1700000000.000"], "lines": ["0"]}),
    ],
)
def test_flags_reach_the_agent(user: User, agent: FakeAgent, flags: list[str], expected: dict[str, list[str]]) -> None:
    user.ok(*LOGS, *flags)
    assert query(agent) == expected


@pytest.mark.parametrize(
    "flags", [["-n", "x"], ["-n", "-1"], ["--since", "soon"], ["--level", "loud"], ["-n", "9" * 20], ["extra"]]
)
def test_flags_that_make_no_sense_are_usage_errors(user: User, agent: FakeAgent, flags: list[str]) -> None:
    assert user.dso(*LOGS, *flags).code == 125
    assert agent.requests == []


def test_log_that_this_user_may_not_read(user: User, agent: FakeAgent) -> None:
    agent.answers["/v1/logs"] = refusal(
        403, Fault("permission_denied", "only root may read it", "sudo docker dso logs")
    )
    done = user.dso(*LOGS)
    assert done.code == 41
    assert "hint: sudo docker dso logs" in done.err


def test_garbage_is_a_protocol_error(user: User, agent: FakeAgent) -> None:
    agent.answers["/v1/logs"] = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello\n"
    assert user.dso(*LOGS).code == 43


def test_agent_that_does_not_run(user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(journal, "BOOTED", f"{tmp_path}/not-booted")
    monkeypatch.setenv(paths.SOCKET_VARIABLE, f"{tmp_path}/none.sock")
    assert user.dso(*LOGS).code == 40


def test_following_goes_on_with_the_next_agent_where_it_was(
    user: User, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stream ends as if the agent had; the second time somebody presses ^C while waiting."""
    waits = []

    def sleep(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("time.sleep", sleep)
    done = user.dso(*LOGS, "-f", "-n5")
    assert done.code == 130
    assert waits == [cmd_logs.RETRY] * 2
    assert [request.target for request in agent.requests] == [
        "/v1/logs?level=debug&lines=5&follow=1",
        "/v1/logs?level=debug&since=1700000001.001&follow=1",
    ]
    assert "is gone; waiting for it" in done.err
    assert "answers again" in done.err


def test_local_mode_points_at_the_stacks_log(owner: User) -> None:
    done = owner.dso("logs", "--mode=local")
    assert done.code == 125
    assert "docker dso compose logs" in done.err


def test_levels_are_those_of_the_protocol() -> None:
    assert cmd_logs.LEVELS == LEVELS
    assert journal.PRIORITIES.keys() == set(LEVELS)


# The journal. `journalctl` here tells how it was called; the real one is met in tests/integration.


@pytest.fixture
def systemd(agent: FakeAgent, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose systemd has the unit, and a journal that can be read."""
    machine = tmp_path / "machine"
    for directory in ("booted", "units", "journal/0123", "bin"):
        (machine / directory).mkdir(parents=True)
    (machine / "units" / journal.UNIT).touch()
    (machine / "journal" / "0123" / "system.journal").touch()
    (machine / "bin" / "journalctl").write_text('#!/bin/sh\necho "$@"\nexit 7\n')
    (machine / "bin" / "journalctl").chmod(0o755)
    monkeypatch.setattr(journal, "BOOTED", str(machine / "booted"))
    monkeypatch.setattr(journal, "UNIT_DIRECTORIES", (str(machine / "units"),))
    monkeypatch.setattr(journal, "JOURNAL_DIRECTORIES", (str(machine / "none"), str(machine / "journal")))
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", agent.socket)
    monkeypatch.setenv("PATH", f"{machine}/bin:{os.environ['PATH']}")
    monkeypatch.setattr(journal, "_listener", lambda _socket: None)  # it does not run: its log tells why
    return machine


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "--priority=7 --lines=100"),
        (["-f", "-n", "3", "--level=warning"], "--priority=4 --lines=3 --follow"),
        (["--since=1700000000.5", "--level=error"], "--priority=3 --lines=all --since=@1700000000"),
    ],
)
def test_journal_is_asked_with_the_same_flags(
    user: User, agent: FakeAgent, systemd: Path, flags: list[str], expected: str
) -> None:
    done = user.dso(*LOGS, *flags)
    assert done.out == f"--unit=dso-agent.service --no-pager --output=short-iso {expected}\n"
    assert done.code == 7
    assert agent.requests == []


def test_without_leave_to_read_the_journal_it_is_the_agents_memory(user: User, agent: FakeAgent, systemd: Path) -> None:
    (systemd / "journal" / "0123" / "system.journal").unlink()
    done = user.ok(*LOGS)
    assert "dso-agent starts" in done.out
    assert "systemd-journal and adm" in done.err


def test_agent_at_another_socket_is_asked_itself(
    user: User, agent: FakeAgent, systemd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", "/elsewhere")
    assert "dso-agent starts" in user.ok(*LOGS).out


def test_agent_that_somebody_started_by_hand_is_asked_itself(
    user: User, agent: FakeAgent, systemd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(user.home))
    monkeypatch.setenv(paths.SOCKET_VARIABLE, agent.socket)
    monkeypatch.setattr(journal, "BOOTED", str(systemd))
    monkeypatch.setattr(journal, "UNIT_DIRECTORIES", (str(systemd / "units"),))
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", agent.socket)
    assert "dso-agent starts" in user.ok(*LOGS).out


@pytest.mark.parametrize("missing", ["booted", "units/dso-agent.service", "bin/journalctl"])
def test_whatever_is_missing_for_the_journal_it_is_the_agents_memory(
    user: User, agent: FakeAgent, systemd: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    path = systemd / missing
    path.rmdir() if path.is_dir() else path.unlink()
    monkeypatch.setenv("PATH", f"{systemd}/bin")
    assert "dso-agent starts" in user.ok(*LOGS).out
