"""What Huawei Cloud says when it gives no secret, in the words and codes of the provider protocol."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dso.protocol import codes
from dso.providers.huawei_config import HuaweiConfig, Keys
from dso.providers.huawei_errors import (
    about,
    agency_refused,
    expired,
    hides_state,
    iam_refused,
    is_missing,
    no_agency,
    no_project,
    not_csms,
    refused,
)
from dso.providers.huawei_http import RefusedError
from dso.providers.provider import Request

if TYPE_CHECKING:
    from dso.protocol.provider import ProviderError

CONFIG = HuaweiConfig(
    name="huawei-north",
    region="cn-north-4",
    project_id="7" * 32,
    endpoint="https://kms.cn-north-4.myhuaweicloud.com",
    has_endpoint=False,
    iam_endpoint="https://iam.cn-north-4.myhuaweicloud.com",
    keys=Keys("AKCANARY", "canary"),
    ca_cert=None,
)
TEMPORARY = CONFIG._replace(keys=Keys("AKCANARY", "canary", "canary"))
WANTED = Request("prod-db", "SYSPREVIOUS")


def told(status: int, code: str = "", said: str = "", state: str | None = None) -> ProviderError:
    found = refused(CONFIG, RefusedError(status, code, f"{said} canary AKCANARY"), WANTED, state)
    assert found.message.startswith("huawei-north: ")
    assert "canary" not in found.message.lower()
    assert "prod-db version SYSPREVIOUS" in about(found, WANTED).message
    return found


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "CSMS.0002", codes.INVALID_REQUEST),
        (400, "CSMS.0003", codes.INVALID_REQUEST),
        (400, "CSMS.0005", codes.NOT_FOUND),
        (400, "CSMS.0103", codes.NOT_FOUND),
        (400, "CSMS.0106", codes.NOT_FOUND),
        (404, "CSMS.0106", codes.NOT_FOUND),
        (404, "CSMS.9999", codes.NOT_FOUND),
        (400, "CSMS.0107", codes.NOT_FOUND),
        (403, "CSMS.0109", codes.NOT_FOUND),
        (403, "CSMS.0302", codes.PERMISSION_DENIED),
        (403, "CSMS.9999", codes.PERMISSION_DENIED),
        (400, "CSMS.0401", codes.PERMISSION_DENIED),
        (400, "CSMS.0301", codes.UNAUTHENTICATED),
        (400, "CSMS.9999", codes.INVALID_REQUEST),
        (500, "CSMS.0001", codes.UNAVAILABLE),
        (401, "APIGW.0301", codes.UNAUTHENTICATED),
        (401, "APIG.0301", codes.UNAUTHENTICATED),
        (401, "APIGW.0303", codes.UNAUTHENTICATED),
        (401, "APIGW.0305", codes.UNAUTHENTICATED),
        (401, "APIGW.0307", codes.UNAUTHENTICATED),
        (401, "CSMS.9999", codes.UNAUTHENTICATED),
        (403, "APIGW.0302", codes.PERMISSION_DENIED),
        (403, "APIGW.0306", codes.PERMISSION_DENIED),
        (403, "APIGW.0310", codes.INVALID_CONFIG),
        (403, "APIGW.0802", codes.INVALID_CONFIG),
        (404, "APIGW.0101", codes.INVALID_CONFIG),
        (429, "APIGW.0308", codes.THROTTLED),
        (429, "APIG.0308", codes.THROTTLED),
        (429, "", codes.THROTTLED),
        (500, "APIGW.0601", codes.UNAVAILABLE),
        (502, "", codes.UNAVAILABLE),
        (504, "APIGW.0201", codes.UNAVAILABLE),
        (404, "", codes.INVALID_CONFIG),
        (403, "", codes.INVALID_CONFIG),
        (401, "", codes.INVALID_CONFIG),
        (418, "", codes.INVALID_CONFIG),
    ],
)
def test_every_code_of_huawei_cloud_has_its_code(status: int, code: str, expected: str) -> None:
    found = told(status, code)
    assert found.code == expected
    assert (found.retry_after is not None) == (expected == codes.THROTTLED)


@pytest.mark.parametrize("code", ["canary", "CSMS.0106 AKCANARY", "0106", "", "CANARY.1x"])
def test_a_code_of_another_form_is_not_shown(code: str) -> None:
    assert RefusedError(400, code, "").reference == "status 400"


def test_secrets_that_must_not_be_delivered_are_told_apart() -> None:
    pending = told(400, "CSMS.0103")
    disabled = told(403, "CSMS.0109", state="DISABLED")
    frozen = told(403, "CSMS.0109", state="FROZEN")
    unclear = told(403, "CSMS.0109")
    late = expired(CONFIG, WANTED, "2020-02-12 11:39 UTC")
    assert {one.code for one in (pending, disabled, frozen, unclear, late)} == {codes.NOT_FOUND}
    for one, words in (
        (pending, "is scheduled for deletion in CSMS: cancel the deletion"),
        (disabled, "is disabled in CSMS: enable it"),
        (frozen, "is frozen in CSMS"),
        (unclear, "is disabled or frozen in CSMS (CSMS.0109)"),
        (late, "has expired in CSMS (2020-02-12 11:39 UTC): store a new version"),
    ):
        assert words in one.message


def test_the_state_explains_refusals_with_codes_nobody_knows() -> None:
    assert "is disabled" in told(400, "CSMS.9999", state="DISABLED").message
    assert "is scheduled for deletion" in told(403, "CSMS.9999", state="PENDING_DELETE").message
    assert told(403, "CSMS.9999", state="ENABLED").code == codes.PERMISSION_DENIED
    assert told(400, "CSMS.9999", state="SOMETHING").code == codes.INVALID_REQUEST


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "CSMS.9999", True),
        (403, "CSMS.0109", True),
        (403, "CSMS.0302", True),
        (400, "CSMS.0106", False),
        (400, "CSMS.0103", False),
        (400, "CSMS.0401", False),
        (500, "CSMS.0001", False),
        (429, "CSMS.0001", False),
        (401, "APIGW.0301", False),
        (404, "", False),
    ],
)
def test_the_state_is_asked_for_only_where_it_may_be_the_reason(status: int, code: str, expected: bool) -> None:
    assert hides_state(RefusedError(status, code, "")) == expected


def test_what_another_server_does_not_have_is_not_a_missing_secret() -> None:
    assert not is_missing(RefusedError(404, "", "not found"))
    assert not is_missing(RefusedError(404, "APIGW.0101", ""))


@pytest.mark.parametrize(
    ("said", "words", "temporary"),
    [
        ("verify aksk signature fail", "auth.secret_key is not that of auth.access_key", "or the temporary keys have"),
        ("Get secretKey failed,ak:X,err:ak not exist", "there is no such access key", "and auth.security_token"),
        ("ak X not exist", "set auth.security_token if it is a temporary one", "and auth.security_token"),
        ("calc aksk signature fail:signature expired, signature time:20211217T064303Z", "clock", "set the clock"),
        ("AK access failed to reach the limit,forbidden", "locked for 5 minutes", "locked for 5 minutes"),
        ("decrypt token fail", "set auth.security_token", "is wrong, or has expired"),
        ("token expires", "set auth.security_token", "is wrong, or has expired"),
        ("something new", "check auth.access_key, auth.secret_key, and this machine's clock", "clock"),
    ],
)
def test_bad_credentials_are_told_apart(said: str, words: str, temporary: str) -> None:
    said = f"Incorrect IAM authentication information: {said}"
    assert words in told(401, "APIGW.0301", said).message
    assert "clock" not in told(401, "APIGW.0301", "signature fail").message
    error = RefusedError(401, "APIGW.0301", said)
    assert temporary in refused(TEMPORARY, error, WANTED).message
    assert temporary in refused(CONFIG._replace(keys=None), error, WANTED).message


def test_messages_say_what_to_do() -> None:
    assert "csms:secretVersion:get" in told(403, "CSMS.0302").message
    assert "kms:dek:decrypt" in told(400, "CSMS.0401").message
    assert "check `project_id:` and `region:`" in told(403, "APIGW.0310").message
    assert "7" * 32 in told(403, "APIGW.0310").message
    assert "check `region:`" in told(404).message
    elsewhere = CONFIG._replace(endpoint="https://csms.example.com", has_endpoint=True)
    found = refused(elsewhere, RefusedError(404, "", ""), WANTED)
    assert "csms.example.com" in found.message
    assert "check `endpoint:`" in found.message


def test_a_name_that_could_mislead_a_terminal_is_escaped() -> None:
    found = refused(CONFIG, RefusedError(400, "CSMS.0106", ""), Request("a\x1b[31m"))
    assert "a\\x1b[31m" in found.message


@pytest.mark.parametrize(
    ("status", "code", "expected", "words"),
    [
        (401, "APIGW.0301", codes.UNAUTHENTICATED, "IAM at iam.cn-north-4.myhuaweicloud.com does not accept"),
        (403, "", codes.PERMISSION_DENIED, "set `project_id:` to the id of the project cn-north-4, or allow"),
        (429, "APIGW.0308", codes.THROTTLED, "set `project_id:`"),
        (503, "", codes.UNAVAILABLE, "set `project_id:`"),
        (404, "", codes.INVALID_CONFIG, "is no IAM: check `iam_endpoint:`"),
        (400, "APIGW.0201", codes.INVALID_CONFIG, "is no IAM: check `iam_endpoint:`"),
    ],
)
def test_a_project_that_iam_does_not_tell(status: int, code: str, expected: str, words: str) -> None:
    found = iam_refused(CONFIG, RefusedError(status, code, "canary", 7))
    assert (found.code, "canary" in found.message) == (expected, False)
    assert words in found.message
    assert found.retry_after == (7 if expected in (codes.THROTTLED, codes.UNAVAILABLE) else None)


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("Failed to get project id of region 'cn-north-4', X-IAM-Trace-Id=canary", "knows no project cn-north-4"),
        ("Multiple project ids found: [canary,canary]", "knows several projects cn-north-4: set `project_id:`"),
        ("canary", "is no IAM"),
    ],
)
def test_a_project_that_there_is_not(said: str, words: str) -> None:
    found = no_project(CONFIG, Exception(said))
    assert (found.code, "canary" in found.message) == (codes.INVALID_CONFIG, False)
    assert words in found.message


@pytest.mark.parametrize(
    ("status", "said", "expected", "words"),
    [
        (401, "please configure cloud service agency first", codes.UNAUTHENTICATED, "this ECS has no agency"),
        (401, "canary", codes.UNAUTHENTICATED, "gives no keys (status 401)"),
        (404, "canary", codes.UNAUTHENTICATED, "works on an ECS of Huawei Cloud that has an agency"),
        (500, "canary", codes.UNAVAILABLE, "gives no keys now (status 500)"),
        (429, "canary", codes.UNAVAILABLE, "gives no keys now (status 429)"),
    ],
)
def test_keys_that_the_machine_does_not_give(status: int, said: str, expected: str, words: str) -> None:
    found = agency_refused("huawei-north", status, said)
    assert (found.code, "canary" in found.message) == (expected, False)
    assert words in found.message


def test_what_is_no_csms_and_no_machine_of_huawei_cloud() -> None:
    assert "is no CSMS: check `region:`" in not_csms(CONFIG, WANTED, "status 404").message
    assert "169.254.169.254 cannot be reached" in no_agency("huawei-north", "cannot be reached").message
