"""Keys of a machine's agency, their renewal, and the project's id."""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests.exceptions

from dso.protocol import codes
from dso.protocol.provider import ProviderError
from dso.providers import huawei_credentials
from dso.providers.deadline import Deadline, current, within
from dso.providers.http_session import ProviderSession
from dso.providers.huawei_config import HuaweiConfig
from dso.providers.huawei_credentials import Credentials
from dso.providers.huawei_http import Transport
from tests.support.plugin import HANG
from tests.support.scripted_session import Script

TOKEN, KEYS, PROJECTS = "/meta-data/latest/api/token", "/openstack/latest/securitykey", "/v3/projects"
STARTED = float(int(time.time()))  # the SDK's own looks at the clock are for days, not for hours
HOUR = 3600.0
AGENCY = {"method": "agency"}
AKSK = {"method": "aksk", "access_key": "AKPERMANENT", "secret_key": "canary"}


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now = STARTED

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(huawei_credentials, "time", clock)
    return clock


@pytest.fixture
def script() -> Script:
    return Script()


def credentials(script: Script, **config: Any) -> Credentials:
    read = HuaweiConfig.read("huawei-north", {"region": "cn-north-4", "project_id": "p" * 32, "auth": AGENCY, **config})
    session = ProviderSession("huawei-north", None, HANG)
    script.play(session)
    return Credentials(read, Transport(session, HANG), session, HANG)


def temporary(name: str, until: float) -> dict[str, Any]:
    ends = time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(until))
    keys = {"access": f"AK{name}", "secret": f"SK{name}", "securitytoken": f"token{name}"}
    return {"credential": {**keys, "expires_at": ends}}


@pytest.fixture
def machine(script: Script, clock: Clock) -> Script:
    """Without tokens for the metadata service, and with keys for an hour."""
    script.on(TOKEN, status=404)
    script.on(KEYS, temporary("one", clock.now + HOUR), times=1)
    return script


def failure(call: Any) -> ProviderError:
    with pytest.raises(ProviderError) as found:
        call()
    assert found.value.message.startswith("huawei-north: ")
    assert "canary" not in found.value.message.lower()
    return found.value


# Keys of dso.yaml


def test_keys_of_dso_yaml_take_no_request(script: Script) -> None:
    found = credentials(script, auth={**AKSK, "security_token": "t"}).get()
    assert (found.ak, found.sk, found.security_token, found.project_id) == ("AKPERMANENT", "canary", "t", "p" * 32)
    assert script.seen == []


def test_keys_of_dso_yaml_that_were_refused_are_not_asked_for_again(script: Script) -> None:
    source = credentials(script, auth=AKSK)
    assert source.renew(source.get()) is None
    assert script.seen == []


# Keys of the agency


def test_keys_of_the_agency_are_asked_for_once(machine: Script) -> None:
    source = credentials(machine)
    for _ in range(3):
        found = source.get()
        assert (found.ak, found.sk, found.security_token, found.project_id) == ("AKone", "SKone", "tokenone", "p" * 32)
    assert machine.asked() == [f"PUT http://169.254.169.254{TOKEN}", f"GET http://169.254.169.254{KEYS}"]


def test_overlapping_requests_wait_for_one_answer(script: Script, clock: Clock) -> None:
    held = threading.Event()
    script.on(TOKEN, status=404)
    source = credentials(script)
    fetch = source._fetch

    def slow() -> Any:
        script.on(KEYS, temporary("one", clock.now + HOUR))
        held.wait(HANG)
        return fetch()

    source._fetch = slow  # type: ignore[method-assign]
    with ThreadPoolExecutor(8) as threads:
        waiting = [threads.submit(source.get) for _ in range(8)]
        held.set()
        assert {future.result(HANG).ak for future in waiting} == {"AKone"}
    assert len([asked for asked in script.asked() if asked.endswith(KEYS)]) == 1


def test_a_token_for_the_metadata_service_is_used_and_replaced_when_it_is_refused(script: Script, clock: Clock) -> None:
    script.on(TOKEN, "first", times=1)
    script.on(KEYS, temporary("one", clock.now + HOUR), times=1)
    source = credentials(script)
    source.get()
    script.on(KEYS, status=401, times=1)
    script.on(TOKEN, "second", times=1)
    script.on(KEYS, temporary("two", clock.now + 2 * HOUR))
    clock.now += HOUR
    assert source.get().ak == "AKtwo"
    tokens = [request.headers.get("X-Metadata-Token") for request in script.seen if request.method == "GET"]
    assert tokens == ["first", "first", "second"]


def test_new_keys_are_asked_for_ten_minutes_before_the_former_expire(machine: Script, clock: Clock) -> None:
    source = credentials(machine)
    source.get()
    machine.on(KEYS, temporary("two", clock.now + 2 * HOUR))
    clock.now = STARTED + HOUR - huawei_credentials.RENEW_BEFORE - 1
    assert source.get().ak == "AKone"
    clock.now += 1
    assert source.get().ak == "AKtwo"


def test_former_keys_serve_on_while_there_are_no_new_ones(
    machine: Script, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    source = credentials(machine)
    source.get()
    machine.on(KEYS, status=503)
    clock.now = STARTED + HOUR - 300
    with caplog.at_level(logging.WARNING, "dso.huawei"):
        assert [source.get().ak for _ in range(3)] == ["AKone"] * 3
    assert len(machine.seen) == 3, "one try, and not one for each request"
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "SKone" not in caplog.text
    clock.now += huawei_credentials.RENEW_AGAIN_AFTER
    source.get()
    assert len(machine.seen) == 4


def test_a_renewal_leaves_time_to_use_the_former_keys(machine: Script, clock: Clock) -> None:
    source = credentials(machine)
    source.get()
    clock.now = STARTED + HOUR - 300
    left: list[float] = []

    def fetch() -> Any:
        deadline = current()
        assert deadline is not None
        left.append(deadline.left())
        raise ProviderError(codes.UNAVAILABLE, "no")

    source._fetch = fetch  # type: ignore[method-assign]
    with within(Deadline(HANG)):
        assert source.get().ak == "AKone"
        clock.now = STARTED + HOUR
        with pytest.raises(ProviderError):
            source.get()
    assert left[0] <= HANG / 2 < left[1], "without keys all the time there is may be used"


def test_expired_keys_are_not_used(machine: Script, clock: Clock) -> None:
    source = credentials(machine)
    source.get()
    machine.on(KEYS, status=503)
    clock.now = STARTED + HOUR
    assert failure(source.get).code == codes.UNAVAILABLE
    assert failure(source.get).code == codes.UNAVAILABLE


def test_refused_keys_are_replaced_by_new_ones(machine: Script, clock: Clock) -> None:
    source = credentials(machine)
    refused = source.get()
    machine.on(KEYS, temporary("two", clock.now + HOUR), times=1)
    renewed = source.renew(refused)
    assert renewed is not None
    assert renewed.ak == "AKtwo"
    assert source.renew(refused) is renewed, "another thread was refused the same keys"
    assert source.get() is renewed


def test_refused_keys_that_the_machine_still_hands_out_are_not_tried_again(machine: Script, clock: Clock) -> None:
    source = credentials(machine)
    refused = source.get()
    machine.on(KEYS, temporary("one", clock.now + HOUR), times=1)
    assert source.renew(refused) is None
    machine.on(KEYS, status=500)
    assert source.renew(source.get()) is None


@pytest.mark.parametrize("zone", ["UTC", "Asia/Shanghai", "America/New_York"])
def test_the_time_of_expiry_is_in_utc_wherever_the_machine_is(
    machine: Script, clock: Clock, monkeypatch: pytest.MonkeyPatch, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        source = credentials(machine)
        source.get()
        clock.now = STARTED + HOUR - huawei_credentials.RENEW_BEFORE - 1
        assert source.get().ak == "AKone"
        machine.on(KEYS, temporary("two", clock.now + 2 * HOUR))
        clock.now += 1
        assert source.get().ak == "AKtwo"
    finally:
        monkeypatch.undo()
        time.tzset()


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (401, "Please configure Cloud Service Agency first", codes.UNAUTHENTICATED, "this ECS has no agency"),
        (404, "canary", codes.UNAUTHENTICATED, "gives no keys (status 404)"),
        (302, "canary", codes.UNAUTHENTICATED, "gives no keys (status 302)"),
        (503, "canary", codes.UNAVAILABLE, "gives no keys now (status 503)"),
        (200, "canary", codes.UNAUTHENTICATED, "answers with no temporary keys"),
        (200, b"\xff\xfe", codes.UNAUTHENTICATED, "answers with no temporary keys"),
        (200, [], codes.UNAUTHENTICATED, "answers with no temporary keys"),
        (200, {"credential": {"access": "canary"}}, codes.UNAUTHENTICATED, "answers with no temporary keys"),
    ],
)
def test_a_machine_that_gives_no_keys(script: Script, status: int, body: Any, expected: str, words: str) -> None:
    script.on(TOKEN, status=404)
    script.on(KEYS, body, status=status)
    found = failure(credentials(script).get)
    assert found.code == expected
    assert words in found.message


@pytest.mark.parametrize("status", [403, 500])
def test_a_metadata_service_that_refuses_to_give_a_token(script: Script, status: int) -> None:
    script.on(TOKEN, "canary", status=status)
    assert f"status {status}" in failure(credentials(script).get).message


@pytest.mark.parametrize(
    "error", [requests.exceptions.ConnectTimeout("canary"), requests.exceptions.ConnectionError(OSError("canary"))]
)
def test_a_machine_that_is_no_ecs(script: Script, error: Exception) -> None:
    script.on(TOKEN, error=error)
    found = failure(credentials(script).get)
    assert found.code == codes.UNAUTHENTICATED
    assert "cannot be reached; `auth: {method: agency}` works on an ECS of Huawei Cloud" in found.message


@pytest.mark.parametrize(
    "error", [requests.exceptions.ConnectTimeout("canary"), requests.exceptions.ConnectionError(OSError("canary"))]
)
def test_an_ecs_whose_metadata_service_falls_silent_may_have_keys_again(
    machine: Script, clock: Clock, error: Exception
) -> None:
    """`unavailable` lets the agent serve what it has; after `unauthenticated` it does not."""
    source = credentials(machine)
    source.get()
    machine.on(KEYS, error=error, times=1)
    machine.on(KEYS, temporary("two", clock.now + 2 * HOUR))
    clock.now += HOUR
    found = failure(source.get)
    assert found.code == codes.UNAVAILABLE
    assert "the metadata service of this machine, at 169.254.169.254, does not answer any more" in found.message
    assert source.get().ak == "AKtwo"


# The project


def projects(*ids: str) -> dict[str, Any]:
    return {"projects": [{"id": one, "name": "cn-north-4"} for one in ids]}


def test_iam_is_asked_once_for_the_project_of_the_region(script: Script) -> None:
    script.on(PROJECTS, projects("q" * 32))
    source = credentials(script, auth=AKSK, project_id=None)
    assert [source.get().project_id for _ in range(3)] == ["q" * 32] * 3
    assert script.asked() == [f"GET https://iam.cn-north-4.myhuaweicloud.com{PROJECTS}?name=cn-north-4"]
    assert str(script.seen[0].headers["Authorization"]).startswith("SDK-HMAC-SHA256 Access=AKPERMANENT,")


def test_new_keys_need_no_new_answer_about_the_project(machine: Script, clock: Clock) -> None:
    machine.on(PROJECTS, projects("q" * 32), times=1)
    source = credentials(machine, project_id=None)
    source.get()
    machine.on(KEYS, temporary("two", clock.now + 2 * HOUR))
    clock.now += HOUR
    found = source.get()
    assert (found.ak, found.project_id) == ("AKtwo", "q" * 32)


def test_another_provider_asks_for_itself(script: Script) -> None:
    """The SDK would keep the answer for all of the process, by access key and region."""
    for one in ("a" * 32, "b" * 32):
        script.on(PROJECTS, projects(one), times=1)
        assert credentials(script, auth=AKSK, project_id=None).get().project_id == one


@pytest.mark.parametrize(
    ("status", "body", "expected", "words"),
    [
        (200, {"projects": []}, codes.INVALID_CONFIG, "IAM knows no project cn-north-4 of this account"),
        (200, projects("canary", "canary2"), codes.INVALID_CONFIG, "IAM knows several projects cn-north-4"),
        (200, "canary", codes.INVALID_CONFIG, "is no IAM"),
        (200, projects("../canary"), codes.INVALID_CONFIG, "is no IAM"),
        (200, {"projects": [{"id": 5}]}, codes.INVALID_CONFIG, "is no IAM"),
        (200, [], codes.INVALID_CONFIG, "is no IAM"),
        (302, "canary", codes.INVALID_CONFIG, "is no IAM"),
        (403, {"error": {"code": 403, "message": "canary"}}, codes.PERMISSION_DENIED, "set `project_id:`"),
        (401, {"error_code": "APIGW.0301", "error_msg": "canary"}, codes.UNAUTHENTICATED, "(APIGW.0301)"),
        (429, {"error_code": "APIGW.0308", "error_msg": "canary"}, codes.THROTTLED, "(APIGW.0308)"),
        (500, b"\xff canary", codes.UNAVAILABLE, "(status 500)"),
    ],
)
def test_a_project_that_iam_does_not_tell(script: Script, status: int, body: Any, expected: str, words: str) -> None:
    script.on(PROJECTS, body, status=status)
    found = failure(credentials(script, auth=AKSK, project_id=None).get)
    assert found.code == expected
    assert words in found.message


def test_iam_that_cannot_be_reached(script: Script) -> None:
    script.on(PROJECTS, error=requests.exceptions.ConnectionError(OSError("canary")))
    found = failure(credentials(script, auth=AKSK, project_id=None).get)
    assert found.code == codes.UNAVAILABLE
    assert "IAM at iam.cn-north-4.myhuaweicloud.com" in found.message


def test_a_failure_is_not_remembered(script: Script) -> None:
    script.on(PROJECTS, status=500, times=1)
    script.on(PROJECTS, projects("q" * 32))
    source = credentials(script, auth=AKSK, project_id=None)
    failure(source.get)
    assert source.get().project_id == "q" * 32
