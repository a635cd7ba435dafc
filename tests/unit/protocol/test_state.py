"""What the agent says of itself survives the way over the socket; anything else is told, not guessed."""

from __future__ import annotations

import json

import pytest

from dso.config.model import Inject, SecretConfig, Targets
from dso.protocol.reading import MessageError
from dso.protocol.state import (
    AgentInfo,
    AgentStatus,
    CachedSecret,
    ProviderInfo,
    SecretInfo,
    SecretList,
    VolumeDriverState,
)

DRIVER = VolumeDriverState("dso", available=False, reason="not root", volumes=2, mounted=1)
INFO = AgentInfo(1, "1.2.3", 0, DRIVER)
ENTRY = SecretConfig(
    "tls",
    "vault",
    "kv/tls",
    "7",
    Inject("file", "/etc/key", 5, None, 0o400),
    (("key", "KEY_FILE"),),
    Targets(("api",), (("tier", "x"),)),
)


def test_lists_of_secrets_read_back_as_they_were() -> None:
    cached = CachedSecret("vault", "kv/tls", None, "7", 1.5, stale=True)
    sent = SecretList(INFO, [ENTRY.info(), SecretInfo("plain", "aws", "plain")], [cached])
    assert SecretList.from_json(json.loads(json.dumps(sent.to_json()))) == sent


def test_status_reads_back_as_it_was() -> None:
    providers = [ProviderInfo("v", "vault", "failed", "sealed")]
    sent = AgentStatus(INFO, 3.5, "/etc/dso/dso.yaml", providers, "line 3: no such key", ["agent.socket"])
    assert AgentStatus.from_json(json.loads(json.dumps(sent.to_json()))) == sent


def test_more_than_this_release_knows_is_no_fault() -> None:
    body = {**AgentStatus(INFO, 1, "", []).to_json(), "new": {"thing": 1}}
    assert AgentStatus.from_json(body).info == INFO


def test_of_another_api_only_its_version_is_read() -> None:
    assert SecretList.from_json({"agent": {"api": 2, "version": "9"}, "entries": 5}).agent.api == 2
    assert AgentStatus.from_json({"api": 2, "version": "9", "providers": "none"}).info.version == "9"


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"agent": {"api": "1"}},
        {"agent": {"api": True}},
        {"agent": {"api": 1, "uid": 0}, "secrets": []},
        {"agent": INFO.to_json()},
        {"agent": INFO.to_json(), "secrets": [{"name": "a"}]},
        {"agent": INFO.to_json(), "secrets": [{"name": "a", "provider": "p", "path": "a", "mappings": {"f": 1}}]},
        {"agent": INFO.to_json(), "secrets": [{"name": "a", "provider": "p", "path": "a", "inject": {"uid": "x"}}]},
        {"agent": INFO.to_json(), "secrets": [{"name": "a", "provider": "p", "path": "a", "inject": {"mode": -1}}]},
        {"agent": INFO.to_json(), "secrets": [], "cached": [{"provider": "p", "path": "a", "age": "old"}]},
    ],
)
def test_what_is_not_as_specified_is_a_message_error(body: object) -> None:
    with pytest.raises(MessageError):
        SecretList.from_json(body)
