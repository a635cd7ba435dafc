"""`docker dso export`: the variables of dso.yaml, all or none, in formats that read back."""

from __future__ import annotations

import json
import os
import stat
from typing import TYPE_CHECKING

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from dso import paths
from dso.cli.cmd_export import _as_env, _as_json, _as_yaml
from dso.config.dotenv import parse
from dso.protocol.agent import Fault
from dso.protocol.state import SecretInfo
from tests.support.fake_agent import FakeAgent

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import User

EXPORT = ("export", "--mode=cloud")
TRICKY = 'it\'s "$x" \\ \n#é'
VALUES = {"prod/db": json.dumps({"password": TRICKY, "port": 5432}).encode(), "prod/api": b"key", "tls": b"pem"}
ENTRIES = [
    SecretInfo("prod/db", "v", "db", mappings=(("password", "DB_PASSWORD"), ("port", "DB_PORT"))),
    SecretInfo("prod/api", "v", "api", mappings=(("value", "API_KEY"),)),
    SecretInfo("tls", "v", "tls", kind="file", mappings=(("value", "TLS_KEY_FILE"),)),
    SecretInfo("bare", "v", "bare"),
]
ALL = {"DB_PASSWORD": TRICKY, "DB_PORT": "5432", "API_KEY": "key"}


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    monkeypatch.chdir(tmp_path)
    with FakeAgent(tmp_path, VALUES, entries=ENTRIES) as found:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, found.socket)
        yield found


def test_everything_mapped_is_exported_in_one_request(user: User, agent: FakeAgent) -> None:
    done = user.ok(*EXPORT)
    assert parse(done.out) == ALL
    assert "left out" in done.err
    assert "tls" in done.err
    assert agent.asked() == ["GET /v1/secrets", "POST /v1/resolve"]


def test_json_and_yaml_are_one_object(user: User, agent: FakeAgent) -> None:
    assert json.loads(user.ok(*EXPORT, "--format=json").out) == ALL
    assert yaml.safe_load(user.ok(*EXPORT, "--format=yaml").out) == ALL


def test_named_entries_only(user: User, agent: FakeAgent) -> None:
    assert user.ok(*EXPORT, "prod/api", "dso://prod/api").out == "API_KEY=key\n"


def test_file_is_for_its_owner_and_warned_of(user: User, agent: FakeAgent, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done = user.ok(*EXPORT, "-o", "out.env")
    finally:
        os.umask(before)
    assert done.out == ""
    assert parse((tmp_path / "out.env").read_text()) == ALL
    assert stat.S_IMODE((tmp_path / "out.env").stat().st_mode) == 0o600
    assert "wrote 3 variables to out.env" in done.err
    assert "plaintext" in done.err
    assert not list(tmp_path.glob("*.tmp"))


def test_existing_file_is_kept_without_force(user: User, agent: FakeAgent, tmp_path: Path) -> None:
    (tmp_path / "out.env").write_text("mine")
    done = user.dso(*EXPORT, "-o", "out.env")
    assert done.code == 57
    assert (tmp_path / "out.env").read_text() == "mine"
    user.ok(*EXPORT, "-o", "out.env", "--force", "prod/api")
    assert (tmp_path / "out.env").read_text() == "API_KEY=key\n"


def test_failure_leaves_no_file(user: User, agent: FakeAgent, tmp_path: Path) -> None:
    agent.faults["prod/api"] = Fault("unavailable", "it is down")
    done = user.dso(*EXPORT, "-o", "out.env")
    assert done.code == 46
    assert "dso://prod/api#value (variable API_KEY): it is down" in done.err
    assert not (tmp_path / "out.env").exists()


def test_variable_of_two_secrets_is_an_error_that_names_both(user: User, agent: FakeAgent) -> None:
    agent.entries = [*ENTRIES, SecretInfo("old", "v", "old", mappings=(("p", "API_KEY"), ("q", "DB_PORT")))]
    done = user.dso(*EXPORT)
    assert done.code == 44
    assert "API_KEY: dso://prod/api#value, dso://old#p" in done.err
    assert "DB_PORT: dso://prod/db#port, dso://old#q" in done.err
    assert agent.asked() == ["GET /v1/secrets"]


@pytest.mark.parametrize(
    ("words", "code", "text"),
    [
        (["prod/dbb"], 21, "did you mean prod/db?"),
        (["tls"], 44, "its variables hold paths"),
        (["bare"], 44, "no `mappings`"),
        (["--format=xml"], 125, "xml"),
    ],
)
def test_mistakes_are_errors_of_their_class(
    user: User, agent: FakeAgent, words: list[str], code: int, text: str
) -> None:
    done = user.dso(*EXPORT, *words)
    assert done.code == code
    assert text in done.err
    assert done.out == ""


def test_nothing_mapped_is_an_error(user: User, agent: FakeAgent) -> None:
    agent.entries = [SecretInfo("bare", "v", "bare")]
    assert user.dso(*EXPORT).code == 21


@pytest.mark.parametrize("form", ["env", "json", "yaml"])
@pytest.mark.parametrize("value", [b"\xff", b"a\x00b"])
def test_values_that_a_format_cannot_hold_are_all_named(user: User, agent: FakeAgent, form: str, value: bytes) -> None:
    agent.values["prod/api"] = value
    done = user.dso(*EXPORT, f"--format={form}", "prod/api")
    if form != "env" and value == b"a\x00b":
        assert done.code == 0
        return
    assert done.code == 24
    assert "API_KEY (dso://prod/api#value)" in done.err
    assert done.out == ""


def test_local_mode_names_its_own_command(owner: User) -> None:
    done = owner.dso("export", "--mode=local")
    assert done.code == 125
    assert "docker dso env export" in done.err


NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_]{0,8}\Z")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]))


@given(st.dictionaries(NAMES, TEXTS))
def test_any_text_reads_back_from_json_and_yaml(texts: dict[str, str]) -> None:
    assert json.loads(_as_json(texts)) == texts
    assert (yaml.safe_load(_as_yaml(texts)) or {}) == texts


@given(st.dictionaries(NAMES, st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))))
def test_any_text_reads_back_from_env(texts: dict[str, str]) -> None:
    assert parse(_as_env(texts)) == texts


@pytest.mark.parametrize("name", ["NO", "y", "On", "NULL"])
def test_yaml_words_stay_names(name: str) -> None:
    assert yaml.safe_load(_as_yaml({name: "1"})) == {name: "1"}
