"""What the Huawei provider does when CSMS refuses, throttles, fails or does not answer; `check`."""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Any

import pytest
import requests.exceptions

from dso.protocol import codes
from dso.protocol.provider import ProviderError
from dso.providers import huawei as huawei_module
from dso.providers.deadline import current
from dso.providers.http_session import OversizedError
from dso.providers.huawei import ABSENT, TRIES, HuaweiProvider
from dso.providers.provider import Request
from tests.support.huawei_script import (
    CONFIG,
    error,
    failure,
    reads,
    scripted,
    version,
)
from tests.support.plugin import HANG
from tests.support.scripted_session import Script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.protocol.provider import SecretData


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
def provider(script: Script) -> Iterator[HuaweiProvider]:
    with scripted(script) as provider:
        yield provider


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long the provider waited, which takes no time."""
    found: list[float] = []
    monkeypatch.setattr(huawei_module, "sleep", found.append)
    return found


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


def test_the_question_for_the_state_leaves_time_to_tell_the_refusal(
    provider: HuaweiProvider, script: Script, monkeypatch: pytest.MonkeyPatch
) -> None:
    script.on("/versions/latest", error("CSMS.0109"), status=403)
    script.on("/secrets/prod-db", error=requests.exceptions.ReadTimeout("canary"))
    left: list[float] = []
    send = provider._session.send

    def note(request: Any, **settings: Any) -> Any:
        deadline = current()
        assert deadline is not None
        left.append(deadline.left())
        return send(request, **settings)

    monkeypatch.setattr(provider._session, "send", note)
    assert "is disabled or frozen in CSMS (CSMS.0109)" in failure(provider).message
    first, second = left
    assert second <= first / 2


@pytest.mark.parametrize(
    ("status", "code", "expected"), [(429, "APIGW.0308", codes.THROTTLED), (500, "APIGW.0601", codes.UNAVAILABLE)]
)
def test_a_version_that_may_be_a_stage_is_not_missing_while_nobody_can_tell(
    provider: HuaweiProvider, script: Script, pauses: list[float], status: int, code: str, expected: str
) -> None:
    script.on("/versions/v9", error("CSMS.0005"), status=400)
    script.on("/stages/v9", error(code), status=status)
    assert failure(provider, number="v9").code == expected


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


def test_keys_of_an_agency_that_expire_while_requests_are_throttled_are_replaced(
    script: Script, pauses: list[float]
) -> None:
    provider = HuaweiProvider.open("huawei-north", {**CONFIG, "auth": {"method": "agency"}}, HANG)
    script.play(provider._session)
    script.on("/api/token", status=404)
    for name in ("one", "two"):
        keys = {"access": f"AK{name}", "secret": "canary", "securitytoken": "canary"}
        script.on("/securitykey", {"credential": {**keys, "expires_at": "2099-01-01T00:00:00.000000Z"}}, times=1)
    script.on("/versions/latest", error("APIGW.0308"), status=429, times=1)
    script.on("/versions/latest", error("APIGW.0301"), status=401, times=1)
    script.on("/versions/latest", version())
    assert provider.get("prod-db", None).version == "v2"


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
