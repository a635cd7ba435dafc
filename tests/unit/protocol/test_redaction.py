"""What counts as a credential, and is masked."""

from __future__ import annotations

import json

import pytest

from dso.agent.environment import redactor_of
from dso.config.model import ProviderConfig, Settings
from dso.protocol.redaction import Redactor


@pytest.mark.parametrize(
    "settings",
    [
        {"auth": {"method": "token", "token": "canary-1"}},
        {"auth": {"method": "approle", "role_id": "canary-1", "secret_id": "canary-1"}},
        {"auth": {"password": "canary-1"}},
        {"auth": ["canary-1"]},
        {"client_secret": "canary-1"},
        {"access_key": "canary-1"},
        {"deep": [{"session_token": "canary-1"}]},
        {"address": "https://user:canary-1@host/"},
    ],
)
def test_credentials_are_masked(settings: dict[str, object]) -> None:
    assert "canary" not in Redactor(settings)("before canary-1, canary-1 after")


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"auth": {"method": "userpass", "username": "deploy"}}, "userpass deploy"),
        ({"auth": {"token_file": "/etc/dso/token"}}, "/etc/dso/token"),
        ({"address": "https://host:8200", "mount": "secret"}, "https://host:8200 secret"),
        ({"auth": {"pin": "123"}}, "123456"),
        ({}, "anything"),
    ],
)
def test_what_is_no_credential_can_be_read(settings: dict[str, object], word: str) -> None:
    assert Redactor(settings)(word) == word


def test_variables_count_by_their_names() -> None:
    redact = Redactor({}, {"AWS_SECRET_ACCESS_KEY": "canary-1", "HTTPS_PROXY": "http://u:canary-2@p", "HOME": "/root"})
    assert redact("canary-1 canary-2 /root") == "******** ******** /root"


def test_longer_one_is_masked_whole() -> None:
    assert Redactor({"token": "abcd", "password": "abcd-efgh"})("abcd-efgh abcd") == "******** ********"


def test_special_characters_are_themselves() -> None:
    assert Redactor({"token": "a.c+[d"})("a.c+[d abc") == "******** abc"


def test_a_provider_s_credentials_are_also_those_its_plugin_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary-1")
    monkeypatch.setenv("OTHER_TOKEN", "canary-2")
    monkeypatch.setenv("NAMED_TOKEN", "canary-3")
    provider = ProviderConfig("p", "aws", Settings({"auth": {"x": "canary-4"}}), env=("NAMED_TOKEN",))
    said = redactor_of(provider)("canary-1 canary-2 canary-3 canary-4")
    assert said == "******** canary-2 ******** ********"  # the second is no business of the plugin's


PEM = "-----BEGIN KEY-----\nMIIcanary+line/one==\nMIIcanary+line/two==\n}\n-----END KEY-----\n"


@pytest.mark.parametrize("said", [PEM, PEM.strip(), repr(PEM), json.dumps({"k": PEM}), *PEM.splitlines()[1:3]])
def test_a_credential_of_several_lines_is_masked_line_by_line_and_quoted(said: str) -> None:
    assert "canary" not in Redactor({"auth": {"private_key": PEM}})(f"before {said} after")
    assert Redactor({"auth": {"private_key": PEM}})("a } b") == "a } b"  # a short line is no credential


def test_quoted_credentials_are_masked() -> None:
    redact = Redactor({"password": 'ca"nary\u00fc'})
    for quoted in (json.dumps('ca"nary\u00fc'), json.dumps('ca"nary\u00fc', ensure_ascii=False)):
        assert redact(quoted) == '"********"'
