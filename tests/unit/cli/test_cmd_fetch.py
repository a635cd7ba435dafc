"""`docker dso fetch`: what there is, masked unless revealed, and values to the byte."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.protocol.agent import Fault
from dso.protocol.state import CachedSecret, SecretInfo
from tests.support.fake_agent import FakeAgent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import User

CANARY = "canary-pw"
VALUES = {
    "prod/db": b'{"password": "canary-pw", "port": 1.10, "gone": null, "odd name": "canary-odd"}',
    "one": b'{"token": "canary-one\\n"}',
    "plain": b"canary-plain\n",
    "bin": b"\x00\xff\x1b",
    "hidden": b'{"value": "canary-v", "odd name": "canary-o", "b": "canary-b", "none": null}',
    "empty": b"{}",
    "pem": b'{"key": "-----BEGIN\\nx", "cert": "c"}',
}
FETCH = ("fetch", "--mode=cloud")


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    found = FakeAgent(
        tmp_path,
        VALUES,
        entries=[SecretInfo("prod/db", "v", "kv/db"), SecretInfo("old", "v", "kv/old", "3")],
        cached=[
            CachedSecret("v", "kv/db", None, "7", 12.0, stale=False),
            CachedSecret("a", "x", "3", "3", 7300, stale=True),
        ],
    )
    with found:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, found.socket)
        yield found


# The list


def test_list_has_entries_and_what_is_in_memory_besides(user: User, agent: FakeAgent) -> None:
    lines = [line.split() for line in user.ok(*FETCH).out.splitlines()]
    assert lines == [
        ["NAME", "PROVIDER", "PATH", "VERSION", "AGE"],
        ["old", "v", "kv/old?version=3", "-", "-"],
        ["prod/db", "v", "kv/db", "7", "12", "s"],
        ["a/x?version=3", "a", "x?version=3", "3", "2", "h", "STALE:", "the", "provider", "does", "not", "answer"],
    ]
    assert agent.asked() == ["GET /v1/secrets"]


def test_list_as_json_is_as_documented(user: User, agent: FakeAgent) -> None:
    state = {"version": None, "age": None, "stale": None}
    assert json.loads(user.ok(*FETCH, "--format=json").out) == [
        {"name": "old", "entry": True, "provider": "v", "path": "kv/old", "pin": "3", **state},
        {
            "name": "prod/db",
            "entry": True,
            "provider": "v",
            "path": "kv/db",
            "pin": None,
            "version": "7",
            "age": 12.0,
            "stale": False,
        },
        {
            "name": "a/x?version=3",
            "entry": False,
            "provider": "a",
            "path": "x",
            "pin": "3",
            "version": "3",
            "age": 7300,
            "stale": True,
        },
    ]


def test_quiet_list_is_names(user: User, agent: FakeAgent) -> None:
    assert user.ok(*FETCH, "-q").out == "old\nprod/db\na/x?version=3\n"


def test_empty_list_says_so(user: User, agent: FakeAgent) -> None:
    agent.entries, agent.cached = [], []
    assert "no secret that this user may read" in user.ok(*FETCH).err


def test_names_of_others_cannot_steer_the_terminal(user: User, agent: FakeAgent) -> None:
    agent.entries = [SecretInfo("evil", "v", "a\x1b[2Jb")]
    assert "a\\x1b[2Jb" in user.ok(*FETCH).out


def test_projects_own_entries_are_listed_and_sent(user: User, agent: FakeAgent, tmp_path: Path) -> None:
    config = tmp_path / "dso.yaml"
    config.write_text("version: 1\nsecrets:\n  - {name: mine, provider: v, path: kv/mine}\n")
    assert "mine\n" in user.ok("fetch", "-c", str(config), "-q").out
    agent.values["mine"] = b"x"
    assert user.ok("fetch", "-c", str(config), "mine", "--reveal").stdout == b"x"
    assert agent.requests[-1].json()["secrets"] == [{"name": "mine", "provider": "v", "path": "kv/mine"}]


# One secret, masked


@pytest.mark.parametrize(
    "name", ["prod/db", "dso://prod/db", "prod/db#password", "plain", "bin", "dsofile://one", "hidden"]
)
@pytest.mark.parametrize("flags", [[], ["--format=json"], ["-q"]])
def test_without_reveal_no_value_is_even_asked_for(user: User, agent: FakeAgent, name: str, flags: list[str]) -> None:
    done = user.ok(*FETCH, name, *flags)
    assert "canary" not in done.out + done.err
    asked = [request.json() for request in agent.requests if request.method == "POST"]
    assert asked
    assert all(request["values"] == [] for request in asked)


def test_masked_secret_shows_fields_version_size_and_age(user: User, agent: FakeAgent) -> None:
    assert user.ok(*FETCH, "prod/db").out.splitlines() == [
        "Name:     prod/db",
        "Source:   v, kv/db",
        "Version:  1",
        f"Size:     {len(VALUES['prod/db'])} B",
        "Age:      0 s",
        "",
        "FIELD      VALUE",
        "password   ********",
        "port       ********",
        "gone       ********",
        "odd name   ********",
    ]


def test_quiet_is_the_fields_names(user: User, agent: FakeAgent) -> None:
    assert user.ok(*FETCH, "prod/db", "-q").out == "password\nport\ngone\nodd name\n"
    assert user.ok(*FETCH, "plain", "-q").out == "value\n"


def test_masked_json_is_as_documented(user: User, agent: FakeAgent) -> None:
    assert json.loads(user.ok(*FETCH, "prod/db?version=2", "--format=json").out) == {
        "reference": "dso://prod/db?version=2",
        "provider": "v",
        "path": "kv/db",
        "version": "1",
        "size": len(VALUES["prod/db"]),
        "age": 0.5,
        "stale": False,
        "fields": dict.fromkeys(("password", "port", "gone", "odd name")),
        "base64": False,
    }


def test_secret_without_fields_says_so(user: User, agent: FakeAgent) -> None:
    assert "Fields:   none" in user.ok(*FETCH, "empty").out


# Revealed


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("prod/db#password", b"canary-pw"),
        ("dso://prod/db#port", b"1.10"),
        ("prod/db#value", VALUES["prod/db"]),
        ("dsofile://prod/db", VALUES["prod/db"]),
        ("one", b"canary-one\n"),
        ("plain", b"canary-plain\n"),
        ("plain#value", b"canary-plain\n"),
        ("bin", b"\x00\xff\x1b"),
        ("dsofile://bin", b"\x00\xff\x1b"),
    ],
)
def test_single_value_is_written_to_the_byte(user: User, agent: FakeAgent, name: str, value: bytes) -> None:
    done = user.ok(*FETCH, name, "--reveal")
    assert done.stdout == value
    assert done.err == ""


def test_several_fields_are_a_table_in_which_no_value_breaks_a_line(user: User, agent: FakeAgent) -> None:
    shown = user.ok(*FETCH, "prod/db", "--reveal").out
    assert "password   canary-pw\n" in shown
    assert "port       1.10\n" in shown
    assert "gone       null\n" in shown
    assert 'key     "-----BEGIN\\nx"\n' in user.ok(*FETCH, "pem", "--reveal").out


def test_revealed_json_has_texts_as_references_give_them(user: User, agent: FakeAgent) -> None:
    found = json.loads(user.ok(*FETCH, "prod/db", "--reveal", "--format=json").out)
    assert found["fields"] == {"password": "canary-pw", "port": "1.10", "gone": None, "odd name": "canary-odd"}
    found = json.loads(user.ok(*FETCH, "plain", "--reveal", "--format=json").out)
    assert found["fields"] == {"value": "canary-plain\n"}


def test_binary_in_json_is_base64_and_says_so(user: User, agent: FakeAgent) -> None:
    found = json.loads(user.ok(*FETCH, "bin", "--reveal", "--format=json").out)
    assert (found["fields"], found["base64"]) == ({"value": "AP8b"}, True)


def test_field_called_value_hides_no_other(user: User, agent: FakeAgent) -> None:
    done = user.ok(*FETCH, "hidden", "--reveal", "--format=json")
    found = json.loads(done.out)
    assert found["fields"] == {"value": "canary-v", "b": "canary-b", "none": None}
    assert found["size"] is None
    assert "'odd name'" in done.err


def test_stale_value_is_shown_with_a_warning(user: User, agent: FakeAgent) -> None:
    agent.ages["plain"] = 7300
    done = user.ok(*FETCH, "plain", "--reveal")
    assert done.stdout == VALUES["plain"]
    assert "2 h old" in done.err


@pytest.mark.parametrize(("value", "shows"), [(b"text\t\n\xc3\xa9", True), (b"\xff", False), (b"a\x1b[2J", False)])
def test_terminal_gets_text_only(
    user: User, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch, value: bytes, shows: bool
) -> None:
    agent.values["x"] = value
    monkeypatch.setattr("os.isatty", lambda descriptor: descriptor == 1)
    done = user.dso(*FETCH, "x", "--reveal")
    if shows:
        assert done.stdout == value + b"\n"
    else:
        assert (done.code, done.stdout) == (24, b"")
        assert "hint: docker dso fetch x --reveal > FILE" in done.err


# What can be wrong


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["nope"], 21, "Error: nope: there is no nope"),
        (["prod/db#nope"], 23, "no field 'nope'"),
        (["prod/db#nope", "--reveal"], 23, "no field 'nope'"),
        (["a b"], 20, "malformed reference"),
        (["--reveal"], 125, "--reveal needs the NAME"),
        (["prod/db", "--reveal", "-q"], 125, "contradict"),
    ],
)
def test_mistakes_are_errors_of_their_class(
    user: User, agent: FakeAgent, words: list[str], code: int, text: str
) -> None:
    done = user.dso(*FETCH, *words)
    assert done.code == code
    assert text in done.err
    assert done.out == ""


@pytest.mark.parametrize(("code", "expected"), [("permission_denied", 45), ("unavailable", 46), ("not_found", 21)])
def test_agents_faults_keep_their_class(user: User, agent: FakeAgent, code: str, expected: int) -> None:
    agent.faults["plain"] = Fault(code, "it says no")
    done = user.dso(*FETCH, "plain", "--reveal")
    assert done.code == expected
    assert "Error: plain: it says no" in done.err


def test_one_field_that_is_null_is_an_error(user: User, agent: FakeAgent) -> None:
    agent.values["n"] = b'{"a": null}'
    done = user.dso(*FETCH, "n", "--reveal")
    assert done.code == 23
    assert "null" in done.err


def test_agent_that_does_not_run_is_named(user: User, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(paths.SOCKET_VARIABLE, f"{tmp_path}/none.sock")
    assert user.dso(*FETCH).code == 40


def test_local_mode_names_its_own_command(owner: User) -> None:
    done = owner.dso("fetch", "--mode=local")
    assert done.code == 125
    assert "docker dso secret get" in done.err
