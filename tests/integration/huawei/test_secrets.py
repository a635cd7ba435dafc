"""What the Huawei provider makes of the secrets of CSMS: names, versions, stages, states and contents."""

from __future__ import annotations

import json
import logging
import secrets
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from dso.protocol.codes import INVALID_REQUEST, NOT_FOUND
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.huawei_csms import DISABLED, ENABLED, FROZEN, LARGEST, PENDING_DELETE
from tests.servers.huawei_iam import DECRYPT
from tests.support.http_proxy import Reply
from tests.support.huawei import HuaweiCloud, fault, provider, read
from tests.support.plugin import HANG, Plugin, plugin_argv

if TYPE_CHECKING:
    from dso.providers.huawei import HuaweiProvider

DAY = 86400


@pytest.fixture
def name() -> str:
    return f"db_{secrets.token_hex(6)}.x"


# Versions and stages


def test_newest_version_is_read_and_called_by_its_id(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.put(name, "old")
    huawei.put(name, "new")
    found = opened.get(name, None)
    assert (found.content.reveal(), found.version) == (b"new", "v2")
    assert found.created_at is not None
    assert abs(found.created_at - time.time()) < DAY, "in seconds, although CSMS says milliseconds"


def test_version_is_an_id_a_stage_or_latest(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.put(name, "one", "blue", "v-green", "Grün 2")
    huawei.put(name, "two")
    huawei.put(name, "three")
    expected = {
        "v1": "one",
        "v2": "two",
        "v3": "three",
        "latest": "three",
        "SYSCURRENT": "three",
        "SYSPREVIOUS": "two",
        "blue": "one",
        "v-green": "one",
        "Grün 2": "one",
    }
    assert {version: read(opened, name, version).decode() for version in expected} == expected
    assert opened.get(name, "SYSPREVIOUS").version == "v2"


def test_stage_that_moves_is_followed(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.put(name, "one", "blue")
    assert read(opened, name, "blue") == b"one"
    huawei.put(name, "two", "blue")
    assert read(opened, name, "blue") == b"two"


def test_stage_that_is_called_like_a_version_is_found_where_no_version_is(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str
) -> None:
    huawei.put(name, "one", "v7")
    assert read(opened, name, "v7") == b"one"
    for number in range(2, 8):
        huawei.put(name, f"value {number}")
    assert read(opened, name, "v7") == b"value 7"


@pytest.mark.parametrize("version", ["v9", "absent", "v", "v01", "V1", "987654"])
def test_version_or_stage_that_is_not_there_is_not_found(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, version: str
) -> None:
    huawei.put(name, "x")
    error = fault(lambda: opened.get(name, version))
    assert error.code == NOT_FOUND
    assert name in error.message
    assert version in error.message


@pytest.mark.parametrize("version", ["..", "../v1", "a/b", "x" * 65, "a\nb"])
def test_version_that_cannot_be_one_is_not_asked_for(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, version: str
) -> None:
    huawei.put(name, "x")
    error = fault(lambda: opened.get(name, version))
    assert error.code == INVALID_REQUEST
    assert name in error.message
    assert huawei.requests() == []


# Names


@pytest.mark.parametrize(
    "hostile", ["a b", "x" * 65, "ä", "..", ".", "../stages", "a?x=y", "a%2fb", "a\nb", "/a", "a//b"]
)
def test_name_that_csms_cannot_have_is_not_asked_for(huawei: HuaweiCloud, opened: HuaweiProvider, hostile: str) -> None:
    error = fault(lambda: opened.get(hostile, None))
    assert error.code == INVALID_REQUEST
    assert "\n" not in error.message
    assert huawei.requests() == []


def test_names_of_other_case_are_other_secrets(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.put(name, "lower")
    huawei.put(name.upper(), "upper")
    assert read(opened, name) == b"lower"
    assert read(opened, name.upper()) == b"upper"


def test_slash_stands_for_a_hyphen_and_is_named_with_what_it_is_in_csms(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    huawei.csms.put(f"prod-{name}-db", "value")
    with caplog.at_level(logging.DEBUG, "dso"):
        for _ in range(2):
            assert read(opened, f"prod/{name}/db") == b"value"
    translated = [record.getMessage() for record in caplog.records if f"prod-{name}-db" in record.getMessage()]
    assert len(translated) == 1, "said once"
    assert f"prod/{name}/db" in translated[0]
    message = fault(lambda: opened.get(f"{name}/absent", None)).message
    assert f"{name}/absent" in message
    assert f"{name}-absent" in message


def test_two_paths_of_one_name_are_told_by_both_names_and_both_work(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever junk was asked for before: it keeps nobody from the right path."""
    assert fault(lambda: opened.get(f"{name}-db", None)).code == NOT_FOUND
    huawei.put(f"{name}/db", "value")
    with caplog.at_level(logging.WARNING, "dso"):
        for path in (f"{name}/db", f"{name}-db", f"{name}/db", f"{name}-db"):
            assert read(opened, path) == b"value"
    (told,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert f"{name}/db" in told
    assert f"{name}-db" in told


# Contents


@pytest.mark.parametrize(
    "content",
    [
        "plain",
        " spaces around and a newline\n",
        'pässwörd ☃ 𝄞 \u2028 "quoted" \\ \t \u0001',
        '{"user": "app",  "port": 1.10, "ünicode": "☃"}',
        'text {"json": "in part"',
        "null",
        "0042",
        "AP8=",
        "a" * (32 * 1024),
        "☃" * (LARGEST // 3),
    ],
    ids=range(10),
)
def test_text_arrives_as_it_was_stored(huawei: HuaweiCloud, opened: HuaweiProvider, name: str, content: str) -> None:
    huawei.put(name, content)
    found = opened.get(name, None)
    assert found.content.reveal() == content.encode()
    assert not found.is_fields


@pytest.mark.parametrize("content", [b"\x00", bytes(range(256)), b"\xff" * 30000, b'{"a": "b"}'], ids=range(4))
def test_bytes_arrive_as_they_were_stored(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, content: bytes
) -> None:
    huawei.put(name, content)
    found = opened.get(name, None)
    assert found.content.reveal() == content
    assert not found.is_fields


@pytest.mark.parametrize(
    "value",
    [
        {"secret_binary": "not base64!"},
        {"secret_binary": "AP8"},
        {"secret_binary": 5},
        {"secret_string": None},
        {},
    ],
    ids=range(5),
)
def test_answer_without_a_usable_value_is_none(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, value: dict[str, object]
) -> None:
    body = {"version": {"version_metadata": {"id": "v1", "secret_name": name}, **value}}
    huawei.fail(Reply(200, json.dumps(body).encode(), {"Content-Type": "application/json"}))
    error = fault(lambda: opened.get(name, None))
    assert name in error.message
    assert "base64" not in error.message


# States


@pytest.mark.parametrize(
    ("state", "words"), [(DISABLED, "disabled"), (FROZEN, "frozen"), (PENDING_DELETE, "scheduled for deletion")]
)
@pytest.mark.parametrize("version", [None, "v1", "SYSCURRENT"])
def test_secret_that_is_not_enabled_is_never_handed_out_and_its_state_named(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, state: str, words: str, version: str | None
) -> None:
    huawei.put(name, "x")
    assert read(opened, name) == b"x"
    huawei.csms.set_state(name, state)
    error = fault(lambda: opened.get(name, version))
    assert error.code == NOT_FOUND
    assert name in error.message
    assert words in error.message
    huawei.csms.set_state(name, ENABLED)
    assert read(opened, name, version) == b"x"


@pytest.mark.parametrize(("state", "words"), [(DISABLED, "disabled"), (FROZEN, "frozen")])
def test_who_may_see_the_state_is_told_which_it_is(huawei: HuaweiCloud, name: str, state: str, words: str) -> None:
    huawei.put(name, "x")
    huawei.csms.set_state(name, state)
    keys = huawei.iam.user("csms:secretVersion:get", "csms:secret:get", DECRYPT)
    with provider(huawei.settings(keys), huawei.environment()) as found:
        message = fault(lambda: found.get(name, None)).message
    others = {"disabled", "frozen"} - {words}
    assert words in message
    assert not [other for other in others if other in message]


def test_secret_that_was_deleted_is_not_found(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.put(name, "x")
    assert read(opened, name) == b"x"
    huawei.csms.remove(name)
    assert fault(lambda: opened.get(name, None)).code == NOT_FOUND


# How many requests


def test_a_secret_costs_one_request_and_a_stage_one_more(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str
) -> None:
    huawei.put(name, "x")
    for _ in range(3):
        read(opened, name)
    assert huawei.reads() == [f"{name}/versions/latest"] * 3
    huawei.clear()
    read(opened, name, "v1")
    assert huawei.reads() == [f"{name}/versions/v1"]
    huawei.clear()
    read(opened, name, "SYSCURRENT")
    assert huawei.reads() == [f"{name}/stages/SYSCURRENT", f"{name}/versions/v1"]
    assert huawei.requests("iam ") == []


def test_what_does_not_exist_costs_one_request(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    assert fault(lambda: opened.get(name, None)).code == NOT_FOUND
    assert huawei.reads() == [f"{name}/versions/latest"]


def test_check_costs_one_request_and_needs_no_permission(huawei: HuaweiCloud) -> None:
    with provider(huawei.settings(huawei.iam.user()), huawei.environment()) as found:
        found.check()
    assert len(huawei.requests()) == 1
    with provider(huawei.settings(), huawei.environment()) as found:
        found.check()
    assert len(huawei.requests()) == 2


def test_gets_overlap(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    """All 20 requests meet at the server: none waits for another's answer."""
    for number in range(20):
        huawei.put(f"{name}{number}", f"value {number}")
    huawei.server.together = threading.Barrier(20, timeout=HANG)
    with ThreadPoolExecutor(20) as pool:
        found = list(pool.map(lambda number: read(opened, f"{name}{number}").decode(), range(20)))
    assert found == [f"value {number}" for number in range(20)]
    assert huawei.server.most == 20


def test_frozen_plugin_reads_versions_stages_and_bytes(huawei: HuaweiCloud, name: str, variant: str) -> None:
    huawei.put(name, "wört ☃")
    huawei.put(name, b"\x00\xff", "blue")
    with Plugin(plugin_argv("dso-provider-huawei", variant), huawei.environment()) as plugin:
        plugin.initialize(huawei.settings(), timeout=30)
        found = {version: plugin.get(name, version) for version in (None, "v1", "blue", "SYSPREVIOUS", "absent")}
        contents = {
            version: each.code if isinstance(each, ProviderError) else each.content.reveal()
            for version, each in found.items()
        }
        assert contents == {
            None: b"\x00\xff",
            "v1": "wört ☃".encode(),
            "blue": b"\x00\xff",
            "SYSPREVIOUS": "wört ☃".encode(),
            "absent": NOT_FOUND,
        }
        huawei.csms.set_state(name, DISABLED)
        refused = plugin.get(name)
        assert isinstance(refused, ProviderError)
        assert (refused.code, "disabled" in refused.message) == (NOT_FOUND, True)
        huawei.csms.set_state(name, ENABLED)
        assert isinstance(plugin.get(name), SecretData)
