"""What is asked of CSMS for a secret, and what is made of the answers."""

from __future__ import annotations

import base64
import json
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
import requests.exceptions

from dso.protocol import codes
from dso.protocol.provider import ProviderError
from dso.providers import huawei as huawei_module
from dso.providers.http_session import OversizedError
from dso.providers.huawei import ABSENT, TRIES, HuaweiProvider
from dso.providers.provider import Request
from dso.version import VERSION
from tests.support.plugin import HANG
from tests.support.scripted_session import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.protocol.provider import SecretData

PROJECT = "p" * 32
HOST = "https://kms.cn-north-4.myhuaweicloud.com"
CREATED = 1_581_507_580
CONFIG = {
    "region": "cn-north-4",
    "project_id": PROJECT,
    "auth": {"method": "aksk", "access_key": "AKCANARY", "secret_key": "canary"},
}


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def provider(script: Script) -> Iterator[HuaweiProvider]:
    provider = HuaweiProvider.open("huawei-north", CONFIG, HANG)
    script.play(provider._session)
    yield provider
    provider.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the provider waited, which takes no time."""
    found: list[float] = []
    monkeypatch.setattr(huawei_module, "sleep", found.append)
    return found


def version(number: str = "v2", **value: Any) -> dict[str, Any]:
    """An answer of ShowSecretVersion."""
    metadata = {"id": number, "create_time": CREATED * 1000, "expire_time": None, "secret_name": "prod-db"}
    metadata |= {key: value.pop(key) for key in ("create_time", "expire_time") if key in value}
    return {"version": {"version_metadata": metadata, **(value or {"secret_string": "canary"})}}


def stage(number: Any = "v1") -> dict[str, Any]:
    """An answer of ShowSecretStage."""
    return {"stage": {"name": "SYSPREVIOUS", "secret_name": "prod-db", "version_id": number}}


def error(code: str) -> dict[str, str]:
    return {"error_code": code, "error_msg": "canary AKCANARY"}


def failure(provider: HuaweiProvider, path: str = "prod-db", number: str | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as found:
        provider.get(path, number)
    assert found.value.message.startswith("huawei-north: ")
    assert "canary" not in found.value.message.lower()
    return found.value


def reads(script: Script) -> list[str]:
    """What was asked of CSMS, without where it is."""
    beginning = f"GET {HOST}/v1/{PROJECT}/secrets/"
    assert all(asked.startswith(beginning) for asked in script.asked())
    return [asked.removeprefix(beginning) for asked in script.asked()]


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


def test_two_paths_of_one_name_are_refused(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", version())
    provider.get("prod/db", None)
    found = failure(provider, "prod-db")
    assert found.code == codes.INVALID_REQUEST
    assert "prod-db and prod/db would both be the secret prod-db of CSMS" in found.message
    provider.get("prod/db", None)
    provider.get("Prod-db", None)  # CSMS tells letters apart


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
    [(CREATED * 1000, CREATED), (CREATED * 1000 + 250, CREATED + 0.25), (CREATED, CREATED), (None, None), (0, None)],
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
        b"[" * 100_000,
    ],
    ids=range(16),
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


# Refusals


def test_the_state_of_a_secret_is_asked_for_only_to_explain_a_refusal(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", error("CSMS.0109"), status=403)
    script.on("/secrets/prod-db", {"secret": {"name": "prod-db", "state": "DISABLED"}})
    assert "is disabled in CSMS" in failure(provider).message
    assert reads(script) == ["prod-db/versions/latest", "prod-db"]


@pytest.mark.parametrize("body", [error("CSMS.0302"), {}, {"secret": None}, "canary"])
def test_without_a_permission_for_the_state_the_refusal_is_told_as_it_is(
    provider: HuaweiProvider, script: Script, body: Any
) -> None:
    script.on("/versions/latest", error("CSMS.0109"), status=403)
    script.on("/secrets/prod-db", body, status=403 if "error_code" in body else 200)
    assert "is disabled or frozen in CSMS (CSMS.0109)" in failure(provider).message


def test_throttled_requests_are_tried_again(provider: HuaweiProvider, script: Script, pauses: list[float]) -> None:
    script.on("/versions/latest", error("APIGW.0308"), status=429, times=TRIES - 1)
    script.on("/versions/latest", version())
    assert provider.get("prod-db", None).version == "v2"
    assert len(pauses) == TRIES - 1
    assert sum(pauses) < 5


def test_throttling_that_lasts_is_told_with_when_to_try_again(
    provider: HuaweiProvider, script: Script, pauses: list[float]
) -> None:
    script.on("/versions/latest", error("APIGW.0308"), status=429)
    found = failure(provider)
    assert (found.code, found.retry_after) == (codes.THROTTLED, 1)
    assert "(prod-db was not read)" in found.message
    assert (len(script.seen), len(pauses)) == (TRIES, TRIES - 1)


def test_retry_after_is_waited_for_if_there_is_time(
    provider: HuaweiProvider, script: Script, pauses: list[float]
) -> None:
    script.on("/versions/latest", error("APIGW.0308"), status=429, times=1, Retry_After="7")
    script.on("/versions/latest", version())
    provider.get("prod-db", None)
    assert pauses == [7]


def test_retry_after_that_would_take_too_long_is_left_to_the_agent(
    provider: HuaweiProvider, script: Script, pauses: list[float]
) -> None:
    script.on("/versions/latest", error("APIGW.0308"), status=429, Retry_After="200")
    found = failure(provider)
    assert (found.code, found.retry_after) == (codes.THROTTLED, 200)
    assert pauses == []


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_failures_of_csms_are_tried_again(
    provider: HuaweiProvider, script: Script, pauses: list[float], status: int
) -> None:
    script.on("/versions/latest", b"canary", status=status, times=1)
    script.on("/versions/latest", version())
    assert provider.get("prod-db", None).version == "v2"
    script.clear()
    script.on("/versions/latest", b"canary", status=status)
    assert failure(provider).code == codes.UNAVAILABLE
    assert len(script.seen) == TRIES


@pytest.mark.parametrize(("status", "code"), [(400, "CSMS.0106"), (403, "CSMS.0302"), (401, "APIGW.0301")])
def test_refusals_are_not_tried_again(
    provider: HuaweiProvider, script: Script, pauses: list[float], status: int, code: str
) -> None:
    script.on("/versions/latest", error(code), status=status)
    script.on("/secrets/prod-db", error("CSMS.0302"), status=403)
    failure(provider)
    assert reads(script).count("prod-db/versions/latest") == 1
    assert pauses == []


@pytest.mark.parametrize(
    ("cause", "code", "words"),
    [
        (requests.exceptions.ConnectionError(OSError("canary")), codes.UNAVAILABLE, "closed the connection"),
        (requests.exceptions.ReadTimeout("canary"), codes.UNAVAILABLE, "did not answer within"),
        (requests.exceptions.ConnectTimeout("canary"), codes.UNAVAILABLE, "did not answer within"),
        (OversizedError(), codes.INVALID_REQUEST, "more than a secret can be"),
    ],
)
def test_csms_that_does_not_answer(
    provider: HuaweiProvider, script: Script, cause: Exception, code: str, words: str
) -> None:
    script.on("/versions/latest", error=cause)
    found = failure(provider)
    assert (found.code, found.oversized) == (code, code == codes.INVALID_REQUEST)
    assert words in found.message
    assert "prod-db" in found.message


def test_whoever_waits_gives_up_in_time(script: Script, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even while something does not know of the time limit, such as a name server."""
    provider = HuaweiProvider.open("huawei-north", CONFIG, 0.2)
    held = threading.Event()
    monkeypatch.setattr(provider, "_read", lambda _request: held.wait(HANG))
    try:
        found = failure(provider)
    finally:
        held.set()
    assert found.code == codes.UNAVAILABLE
    assert "did not answer within 0.2 s" in found.message


# Credentials of an agency


def test_refused_keys_of_an_agency_are_replaced_once(script: Script) -> None:
    provider = HuaweiProvider.open("huawei-north", {**CONFIG, "auth": {"method": "agency"}}, HANG)
    script.play(provider._session)
    script.on("/api/token", status=404)
    for name in ("one", "two"):
        keys = {"access": f"AK{name}", "secret": "canary", "securitytoken": "canary"}
        answer = {"credential": {**keys, "expires_at": "2099-01-01T00:00:00.000000Z"}}
        script.on("/securitykey", answer, times=1)
    script.on("/versions/latest", error("APIGW.0301"), status=401, times=1)
    script.on("/versions/latest", version(), times=1)
    assert provider.get("prod-db", None).version == "v2"
    script.on("/securitykey", answer)
    script.on("/versions/latest", error("APIGW.0301"), status=401)
    assert failure(provider).code == codes.UNAUTHENTICATED
    sent = [request for request in script.seen if "/versions/" in str(request.url)]
    assert ["AKtwo" in str(request.headers["Authorization"]) for request in sent] == [False, True, True]


# Check


@pytest.mark.parametrize(("status", "code"), [(400, "CSMS.0106"), (404, "CSMS.0005"), (403, "CSMS.0302")])
def test_a_check_asks_for_a_secret_that_does_not_exist(
    provider: HuaweiProvider, script: Script, status: int, code: str
) -> None:
    script.on(f"/secrets/{ABSENT}/versions/latest", error(code), status=status)
    provider.check()
    assert len(script.seen) == 1


@pytest.mark.parametrize(
    ("status", "body", "code"),
    [
        (401, error("APIGW.0301"), codes.UNAUTHENTICATED),
        (403, error("APIGW.0310"), codes.INVALID_CONFIG),
        (404, b"canary", codes.INVALID_CONFIG),
        (403, b"canary", codes.INVALID_CONFIG),
        (500, b"canary", codes.UNAVAILABLE),
    ],
)
def test_a_check_tells_what_is_wrong(
    provider: HuaweiProvider, script: Script, pauses: list[float], status: int, body: Any, code: str
) -> None:
    script.on(ABSENT, body, status=status)
    with pytest.raises(ProviderError) as found:
        provider.check()
    assert found.value.code == code
    assert "canary" not in found.value.message.lower()


def test_a_check_fails_when_iam_does_not_tell_the_project(script: Script) -> None:
    provider = HuaweiProvider.open("huawei-north", {**CONFIG, "project_id": None}, HANG)
    script.play(provider._session)
    script.on("/v3/projects", b"", status=403)
    with pytest.raises(ProviderError, match="set `project_id:`") as found:
        provider.check()
    assert found.value.code == codes.PERMISSION_DENIED


# Of its own accord


def test_opening_reaches_nothing() -> None:
    script = Script()
    provider = HuaweiProvider.open("huawei-north", CONFIG, HANG)
    script.play(provider._session)
    provider.close()
    assert script.seen == []


def test_there_is_no_call_for_many(provider: HuaweiProvider) -> None:
    assert HuaweiProvider.batch == 0
    with pytest.raises(ProviderError, match="one secret at a time"):
        provider.get_many([Request("prod-db")])


def test_the_sdk_writes_nothing(
    provider: HuaweiProvider,
    script: Script,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    pauses: list[float],
) -> None:
    with caplog.at_level(logging.DEBUG):
        script.on("/versions/v1", version("v1"))
        provider.get("prod-db", "v1")
        script.on("/versions/v2", b"canary", status=500)
        failure(provider, number="v2")
        script.on("/versions/v3", error=requests.exceptions.ConnectionError("canary"))
        failure(provider, number="v3")
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


def test_a_secret_shows_itself_to_nobody(provider: HuaweiProvider, script: Script) -> None:
    script.on("/versions/latest", version())
    found: SecretData = provider.get("prod-db", None)
    assert "canary" not in f"{found!r} {found}"
