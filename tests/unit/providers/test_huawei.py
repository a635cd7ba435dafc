"""What is asked of CSMS for a secret, and what is made of the answers."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol import codes
from dso.providers.huawei import HuaweiProvider
from dso.version import VERSION
from tests.support.huawei_script import (
    CONFIG,
    CREATED,
    PROJECT,
    error,
    failure,
    reads,
    scripted,
    stage,
    version,
)
from tests.support.plugin import HANG
from tests.support.scripted_session import Script

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def provider(script: Script) -> Iterator[HuaweiProvider]:
    with scripted(script) as provider:
        yield provider


# One request


def test_without_a_version_the_latest_is_read_with_one_request(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", version())
    found = provider.get("prod-db", None)
    assert found.content.reveal() == b"canary"
    assert (found.version, found.created_at) == ("v2", CREATED)
    assert reads(script) == ["prod-db/versions/latest"]


def test_requests_are_signed_and_say_who_sends_them(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", version())
    provider.get("prod-db", None)
    headers = script.seen[0].headers
    assert str(headers["Authorization"]).startswith("SDK-HMAC-SHA256 Access=AKCANARY, SignedHeaders=content-type;host;")
    assert headers["X-Project-Id"] == PROJECT
    assert str(headers["User-Agent"]).endswith(f"; dso/{VERSION}")
    assert "X-Security-Token" not in headers


def test_a_security_token_is_sent_and_signed(script: Script) -> None:
    auth = {**CONFIG["auth"], "security_token": "temporary"}  # type: ignore[dict-item]
    provider = HuaweiProvider.open("huawei-north", {**CONFIG, "auth": auth}, HANG)
    script.play(provider._session)
    script.on("/versions/latest", version())
    provider.get("prod-db", None)
    assert script.seen[0].headers["X-Security-Token"] == "temporary"
    assert "x-security-token" in str(script.seen[0].headers["Authorization"])


def test_another_address_is_used(script: Script) -> None:
    provider = HuaweiProvider.open("huawei-north", {**CONFIG, "endpoint": "https://csms.example.com:8443"}, HANG)
    script.play(provider._session)
    script.on("/versions/latest", version())
    provider.get("prod-db", None)
    assert script.asked() == [f"GET https://csms.example.com:8443/v1/{PROJECT}/secrets/prod-db/versions/latest"]


# Versions and stages


@pytest.mark.parametrize("number", ["v1", "v2147483647", "latest"])
def test_a_versions_id_is_read_with_one_request(provider: HuaweiProvider, script: Script, number: str) -> None:
    script.on(f"/versions/{number}", version(number))
    assert provider.get("prod-db", number).version == number
    assert reads(script) == [f"prod-db/versions/{number}"]


@pytest.mark.parametrize("name", ["SYSCURRENT", "SYSPREVIOUS", "mine", "v", "v1-rc", "V1", "Latest", "1"])
def test_anything_else_is_a_stage_and_takes_two(provider: HuaweiProvider, script: Script, name: str) -> None:
    script.on(f"/stages/{name}", stage("v7"))
    script.on("/versions/v7", version("v7"))
    assert provider.get("prod-db", name).version == "v7"
    assert reads(script) == [f"prod-db/stages/{name}", "prod-db/versions/v7"]


def test_a_stage_may_be_called_like_a_version_that_there_is_not(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/v9", error("CSMS.0005"), status=400)
    script.on("/stages/v9", stage("v2"))
    script.on("/versions/v2", version("v2"))
    assert provider.get("prod-db", "v9").version == "v2"
    assert reads(script) == ["prod-db/versions/v9", "prod-db/stages/v9", "prod-db/versions/v2"]


@pytest.mark.parametrize("code", ["CSMS.0005", "CSMS.0302"])
def test_a_version_that_there_is_not(provider: HuaweiProvider, script: Script, code: str) -> None:
    """Whether there is a stage of that name is nothing one has to be allowed to know."""
    script.on("/versions/v9", error("CSMS.0005"), status=400)
    script.on("/stages/v9", error(code), status=403)
    found = failure(provider, number="v9")
    assert found.code == codes.NOT_FOUND
    assert "prod-db version v9 does not exist" in found.message


def test_a_missing_secret_is_not_looked_for_among_stages(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", error("CSMS.0106"), status=400)
    assert failure(provider).code == codes.NOT_FOUND
    assert failure(provider, number="latest").code == codes.NOT_FOUND
    assert reads(script) == ["prod-db/versions/latest"] * 2


def test_a_refused_version_is_not_looked_for_among_stages(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/v1", error("CSMS.0103"), status=400)
    assert "scheduled for deletion" in failure(provider, number="v1").message
    assert reads(script) == ["prod-db/versions/v1"]


@pytest.mark.parametrize("number", [None, "", "../x", "latest/..", 5])
def test_a_stage_without_a_version(provider: HuaweiProvider, script: Script, number: Any) -> None:
    script.on("/stages/mine", stage(number))
    found = failure(provider, number="mine")
    assert found.code == codes.INVALID_CONFIG
    assert "is no CSMS" in found.message


# Names


@pytest.mark.parametrize(
    "path",
    [*["a b", "ä", "a" * 65, ".", "..", "a\n", "a?b", "a%2fb", "a:b"], *["/", "/a", "a/", "a//b", "../a", "a/./b"]],
)
def test_a_name_that_csms_cannot_have_is_not_sent(provider: HuaweiProvider, script: Script, path: str) -> None:
    found = failure(provider, path)
    assert found.code == codes.INVALID_REQUEST
    assert "these have letters, digits, `_`, `-` and `.`, 64 at most" in found.message
    assert script.seen == []


@pytest.mark.parametrize(("path", "name"), [("prod/db", "prod-db"), ("a/b/c_d.e", "a-b-c_d.e"), ("...a", "...a")])
def test_a_slash_is_a_hyphen_in_csms(provider: HuaweiProvider, script: Script, path: str, name: str) -> None:
    script.on("/stages/mine", stage("v1"))
    script.on("/versions/v1", version("v1"))
    provider.get(path, "mine")
    assert reads(script) == [f"{name}/stages/mine", f"{name}/versions/v1"]


def test_a_path_that_has_another_name_is_told_with_both(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", error("CSMS.0106"), status=400)
    assert "prod/db (in CSMS: prod-db) does not exist" in failure(provider, "prod/db").message


def test_two_paths_of_one_name_are_told_and_both_work(
    provider: HuaweiProvider, script: Script, caplog: pytest.LogCaptureFixture
) -> None:
    script.on("/versions/latest", version())
    for path in ("prod/db", "prod-db", "prod/db", "prod-db", "Prod-db"):  # CSMS tells letters apart
        provider.get(path, None)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "prod-db and prod/db are one secret, prod-db in CSMS" in record.getMessage()


def test_a_path_that_leads_to_no_secret_keeps_nobody_from_the_right_one(
    provider: HuaweiProvider, script: Script
) -> None:
    script.on("/prod-db-x/versions/latest", error("CSMS.0106"), status=400)
    script.on("/prod-db/versions/latest", version())
    for junk in ("prod/db-x", "prod-db/x", "prod-db-x"):
        assert failure(provider, junk).code == codes.NOT_FOUND
    for path in ("prod-db", "prod/db"):
        provider.get(path, None)


@pytest.mark.parametrize("number", [".", "..", "a/b", "a" * 65, "a\n"])
def test_a_version_that_csms_cannot_have_is_not_sent(provider: HuaweiProvider, script: Script, number: str) -> None:
    assert failure(provider, number=number).code == codes.INVALID_REQUEST
    assert script.seen == []


def test_what_means_something_in_an_address_is_escaped(provider: HuaweiProvider, script: Script) -> None:
    script.on("/stages/", stage("v1"))
    script.on("/versions/v1", version("v1"))
    provider.get("prod-db", "a?b#c%d ä")
    assert reads(script)[0] == "prod-db/stages/a%3Fb%23c%25d%20%C3%A4"


# Contents


@pytest.mark.parametrize(
    "text", ["", "ä€😀", '{"password": "x"}', "a\r\nb\0", "\ud83d", "1.10", "x" * 65536], ids=range(7)
)
def test_text_is_delivered_as_it_is(provider: HuaweiProvider, script: Script, text: str) -> None:
    script.on("/versions/latest", version(secret_string=text, secret_binary=None))
    assert provider.get("prod-db", None).content.reveal() == text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("content_type", ["application/json", "application/json; charset=latin-1", "text/plain", ""])
def test_text_is_utf_8_whatever_the_headers_say(provider: HuaweiProvider, script: Script, content_type: str) -> None:
    answer = json.dumps(version(secret_string="äöü"), ensure_ascii=False)
    script.on("/versions/latest", answer.encode(), Content_Type=content_type)
    assert provider.get("prod-db", None).content.reveal() == "äöü".encode()


@pytest.mark.parametrize("content", [b"\0\xff\xfe", bytes(range(256)), b"a"])
def test_binary_secrets_are_decoded(provider: HuaweiProvider, script: Script, content: bytes) -> None:
    encoded = base64.b64encode(content).decode()
    script.on("/versions/latest", version(secret_binary=encoded, secret_string=None), times=1)
    script.on("/versions/latest", version(secret_binary=encoded, secret_string=""), times=1)
    assert provider.get("prod-db", None).content.reveal() == content
    assert provider.get("prod-db", None).content.reveal() == content


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [
        (CREATED * 1000, CREATED),
        (CREATED * 1000 + 250, CREATED + 0.25),
        (CREATED, CREATED),
        (None, None),
        (0, None),
        (10**400, None),
    ],
)
def test_times_are_in_milliseconds_or_in_seconds(
    provider: HuaweiProvider, script: Script, moment: int | None, seconds: float | None
) -> None:
    script.on("/versions/latest", version(create_time=moment))
    assert provider.get("prod-db", None).created_at == seconds


@pytest.mark.parametrize("moment", [CREATED * 1000, CREATED])
def test_an_expired_version_is_not_delivered(provider: HuaweiProvider, script: Script, moment: int) -> None:
    script.on("/versions/latest", version(expire_time=moment))
    found = failure(provider)
    assert found.code == codes.NOT_FOUND
    assert "has expired in CSMS (2020-02-12 11:39 UTC)" in found.message


def test_a_version_that_will_expire_is_delivered(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", version(expire_time=int(time.time() + 3600) * 1000))
    assert provider.get("prod-db", None).content.reveal() == b"canary"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>canary</html>",
        b"[]",
        b"null",
        b'"canary"',
        b"5",
        b"{}",
        b'{"version": null}',
        b'{"version": "canary"}',
        b'{"version": []}',
        b'{"version": {"secret_string": "canary"}}',
        b'{"version": {"version_metadata": {}, "secret_string": "canary"}}',
        b'{"version": {"version_metadata": {"id": "v1"}}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_binary": "canary!"}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": "canary\xff"}}',
        b'{"version": {"version_metadata": {"id": 5}, "secret_string": "canary"}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": ["canary"]}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": {"canary": "canary"}}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": 5555}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": 0, "secret_binary": "AP8="}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": false}}',
        b'{"version": {"version_metadata": {"id": "v1"}, "secret_binary": 5555}}',
        b'{"version": {"version_metadata": {"id": "v1", "expire_time": [1]}, "secret_string": "canary"}}',
        b'{"version": {"version_metadata": {"id": "v1", "expire_time": "soon"}, "secret_string": "canary"}}',
        b"[" * 100_000,
    ],
    ids=range(25),
)
def test_an_answer_without_a_secret_is_no_csms(provider: HuaweiProvider, script: Script, body: bytes) -> None:
    script.on("/versions/latest", body)
    found = failure(provider)
    assert found.code == codes.INVALID_CONFIG
    assert "is no CSMS: check `region:`" in found.message


@pytest.mark.parametrize("content_type", ["application/bson", "application/xml"])
def test_an_answer_in_a_format_that_is_left_out(provider: HuaweiProvider, script: Script, content_type: str) -> None:
    script.on("/versions/latest", b"<a>canary</a>", Content_Type=content_type)
    assert failure(provider).code == codes.INVALID_CONFIG
