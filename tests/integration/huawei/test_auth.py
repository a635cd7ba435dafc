"""Who the Huawei provider is: access keys, security tokens, the project they belong to, and when they are refused."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from dso.protocol.codes import INVALID_CONFIG, PERMISSION_DENIED, THROTTLED, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.huawei_iam import LIST_PROJECTS, READ, Keys, throttled
from tests.support.http_proxy import Reply
from tests.support.huawei import IAM, OTHER_REGION, PRIVATE, REGION, HuaweiCloud, fault, provider, read
from tests.support.plugin import HANG, Plugin, plugin_argv


def config(huawei: HuaweiCloud, keys: Keys, **more: Any) -> dict[str, Any]:
    """Settings without the project's id."""
    found = huawei.settings(keys, **more)
    del found["project_id"]
    return found


def refusal(huawei: HuaweiCloud, config: dict[str, Any], name: str) -> ProviderError:
    """What `get` and `check` both end with. No credential is in it."""
    with provider(config, huawei.environment()) as found:
        error = fault(lambda: found.get(name, None))
        checked = fault(found.check)
        assert (checked.code, type(checked)) == (error.code, type(error))
        for key, value in config["auth"].items():
            if key != "method":
                assert value not in error.message + checked.message
    return error


# Keys


def test_permanent_and_temporary_keys_read(huawei: HuaweiCloud, name: str) -> None:
    for keys in (huawei.iam.user(*READ), huawei.iam.temporary(*READ)):
        with provider(huawei.settings(keys), huawei.environment()) as found:
            found.check()
            assert read(found, name) == b"value"


def test_each_request_is_signed_anew_with_the_token_and_the_project_in_it(huawei: HuaweiCloud, name: str) -> None:
    keys = huawei.iam.temporary(*READ)
    with provider(huawei.settings(keys), huawei.environment()) as found:
        read(found, name)
        read(found, name, "v1")
    headers = [seen.headers for seen in huawei.server.seen]
    assert len(headers) == 2
    for each in headers:
        assert each["authorization"].startswith(f"SDK-HMAC-SHA256 Access={keys.access}, SignedHeaders=")
        assert "x-security-token" in each["authorization"]
        assert each["x-security-token"] == keys.token
        assert "cookie" not in each
    assert headers[0]["authorization"] != headers[1]["authorization"]


def wrong(huawei: HuaweiCloud, which: str) -> Keys:
    permanent, temporary = huawei.iam.user(*READ), huawei.iam.temporary(*READ)
    expired = huawei.iam.temporary(*READ, seconds=-1)
    return {
        "access_key": permanent._replace(access="NOBODYKNOWSTHISKEY00"),
        "secret_key": permanent._replace(secret="wrong-secret-key-of-somebody-else-entirely"),
        "no token": temporary._replace(token=""),
        "another token": temporary._replace(token=expired.token),
        "token without need": permanent._replace(token=temporary.token),
        "expired": expired,
        "temporary secret_key": temporary._replace(secret="wrong-secret-key-of-somebody-else-entirely"),
    }[which]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        ("access_key", "access_key"),
        ("secret_key", "secret_key"),
        ("no token", "security_token"),
        ("another token", "token"),
        ("token without need", "token"),
        ("expired", "expired"),
        ("temporary secret_key", "secret_key"),
    ],
)
def test_wrong_credentials_are_told_apart_and_sent_once(huawei: HuaweiCloud, name: str, which: str, words: str) -> None:
    error = refusal(huawei, huawei.settings(wrong(huawei, which)), name)
    assert error.code == UNAUTHENTICATED
    assert words in error.message
    assert len(huawei.requests()) == 2, "one for `get`, one for `check`: locked accounts come from trying again"


def test_clock_that_is_wrong_is_named_as_the_reason(huawei: HuaweiCloud, name: str) -> None:
    for offset in (1000, -1000):
        huawei.iam.clock_offset = offset
        error = refusal(huawei, huawei.settings(), name)
        assert error.code == UNAUTHENTICATED
        assert "clock" in error.message


def test_keys_that_expire_while_they_are_used_are_refused(huawei: HuaweiCloud, name: str) -> None:
    keys = huawei.iam.temporary(*READ)
    with provider(huawei.settings(keys), huawei.environment()) as found:
        assert read(found, name) == b"value"
        huawei.iam.expire(keys)
        assert fault(lambda: found.get(name, None)).code == UNAUTHENTICATED


def test_nothing_of_the_environment_or_of_files_takes_part(huawei: HuaweiCloud, name: str, tmp_path: Any) -> None:
    other = huawei.iam.user()
    variables = {
        "HUAWEICLOUD_SDK_AK": other.access,
        "HUAWEICLOUD_SDK_SK": other.secret,
        "HUAWEICLOUD_SDK_PROJECT_ID": "0" * 32,
        "HUAWEICLOUD_SDK_IAM_ENDPOINT": "https://127.0.0.1:9",
        "HUAWEICLOUD_SDK_REGION_CSMS_CN_NORTH_4": "https://127.0.0.1:9",
        "HOME": str(tmp_path),
    }
    argv = plugin_argv("dso-provider-huawei", "source")
    with Plugin(argv, {**huawei.environment(), **variables}) as plugin:
        plugin.initialize(config(huawei, huawei.keys), timeout=30)
        assert isinstance(plugin.get(name), SecretData)
    assert list(tmp_path.iterdir()) == [], "the SDK writes its own id to ~/.huaweicloud"


# The project


def test_project_is_asked_for_once_and_only_when_a_secret_is(huawei: HuaweiCloud, name: str) -> None:
    with provider(config(huawei, huawei.keys), huawei.environment()) as found:
        assert huawei.requests() == []
        for _ in range(3):
            assert read(found, name) == b"value"
    assert huawei.requests(IAM) == [f"iam GET /v3/projects?name={REGION}"]
    assert len(huawei.reads()) == 3
    assert set(huawei.proxy.hosts()) == {f"iam.{REGION}.myhuaweicloud.com", f"kms.{REGION}.myhuaweicloud.com"}


def test_project_is_asked_for_once_by_gets_that_overlap(huawei: HuaweiCloud, name: str) -> None:
    with provider(config(huawei, huawei.keys), huawei.environment()) as found, ThreadPoolExecutor(20) as pool:
        start = threading.Barrier(20, timeout=HANG)

        def get(_number: int) -> bytes:
            start.wait()
            return read(found, name)

        assert list(pool.map(get, range(20))) == [b"value"] * 20
    assert len(huawei.requests(IAM)) == 1


def test_project_is_asked_for_with_temporary_keys_too(huawei: HuaweiCloud, name: str) -> None:
    keys = huawei.iam.temporary(*READ, LIST_PROJECTS)
    with provider(config(huawei, keys), huawei.environment()) as found:
        assert read(found, name) == b"value"


def test_project_that_is_given_is_not_asked_for(huawei: HuaweiCloud, name: str) -> None:
    with provider(huawei.settings(huawei.iam.user(*READ)), huawei.environment()) as found:
        assert read(found, name) == b"value"
    assert huawei.requests(IAM) == []


def test_projects_of_two_regions_with_the_same_keys_are_not_confused(huawei: HuaweiCloud, name: str) -> None:
    huawei.regions[OTHER_REGION].put(name, "elsewhere")
    for region, expected in ((REGION, b"value"), (OTHER_REGION, b"elsewhere"), (REGION, b"value")):
        with provider(config(huawei, huawei.keys, region=region), huawei.environment()) as found:
            assert read(found, name) == expected


def test_project_is_asked_for_again_after_a_failure(huawei: HuaweiCloud, name: str) -> None:
    huawei.fail(Reply(400, b'{"error": {"code": 400, "message": "no", "title": "no"}}'), times=1, at=IAM)
    with provider(config(huawei, huawei.keys), huawei.environment()) as found:
        fault(lambda: found.get(name, None))
        assert read(found, name) == b"value"


def test_who_may_not_list_projects_is_told_to_set_it(huawei: HuaweiCloud, name: str) -> None:
    error = refusal(huawei, config(huawei, huawei.iam.user(*READ)), name)
    assert error.code == PERMISSION_DENIED
    assert "project_id" in error.message
    assert LIST_PROJECTS in error.message


def test_account_without_a_project_in_the_region_says_so(huawei: HuaweiCloud, name: str) -> None:
    error = refusal(
        huawei, config(huawei, huawei.keys, region="la-south-2", iam_endpoint=f"https://iam.{PRIVATE}"), name
    )
    assert error.code == INVALID_CONFIG
    assert "la-south-2" in error.message
    assert "project_id" in error.message


def test_account_with_two_projects_of_that_name_is_told_to_choose(huawei: HuaweiCloud, name: str) -> None:
    huawei.iam.extra_projects.append((REGION, "1" * 32))
    error = refusal(huawei, config(huawei, huawei.keys), name)
    assert error.code == INVALID_CONFIG
    assert "several" in error.message
    assert "project_id" in error.message


def test_iam_refuses_wrong_keys_as_csms_does(huawei: HuaweiCloud, name: str) -> None:
    for which in ("access_key", "secret_key", "no token", "expired"):
        assert refusal(huawei, config(huawei, wrong(huawei, which)), name).code == UNAUTHENTICATED
    assert huawei.reads() == []


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (throttled().reply(), THROTTLED),
        (throttled(Retry_After="7").reply(), THROTTLED),
        (Reply(503, b"busy"), UNAVAILABLE),
        (Reply(500, b'{"error_code": "APIGW.0601", "error_msg": "Internal server error."}'), UNAVAILABLE),
        (Reply(200, b"<html>"), INVALID_CONFIG),
        (Reply(200, b"[]"), INVALID_CONFIG),
        (Reply(200, b'{"projects": [{}]}'), INVALID_CONFIG),
        (Reply(404, b"not here"), INVALID_CONFIG),
    ],
    ids=range(8),
)
def test_iam_that_fails_is_told_with_what_to_do(huawei: HuaweiCloud, name: str, reply: Reply, code: str) -> None:
    huawei.fail(reply, at=IAM)
    error = refusal(huawei, config(huawei, huawei.keys), name)
    assert error.code == code, error.message
    assert "IAM" in error.message
    assert "project_id" in error.message
    assert huawei.reads() == []


def test_iam_that_hangs_up_is_unavailable(huawei: HuaweiCloud, name: str) -> None:
    huawei.fail(Reply(None), at=IAM)
    error = refusal(huawei, config(huawei, huawei.keys), name)
    assert error.code == UNAVAILABLE
    assert "IAM" in error.message
    assert "proxy" not in error.message, "the proxy did its part"


def test_iam_that_cannot_be_reached_is_told_with_what_to_do(huawei: HuaweiCloud, name: str) -> None:
    error = refusal(huawei, config(huawei, huawei.keys, iam_endpoint="https://127.0.0.1:9"), name)
    assert error.code == UNAVAILABLE
    assert "iam_endpoint" in error.message


# Endpoints of one's own


def test_endpoints_of_an_installation_of_ones_own(huawei: HuaweiCloud, name: str) -> None:
    own = {"endpoint": f"https://kms.{PRIVATE}", "iam_endpoint": f"https://iam.{PRIVATE}/"}
    with provider(config(huawei, huawei.keys, **own), huawei.environment()) as found:
        assert read(found, name) == b"value"
    assert set(huawei.proxy.hosts()) == {f"kms.{PRIVATE}", f"iam.{PRIVATE}"}


# Frozen


def test_frozen_plugin_signs_with_temporary_keys_for_the_project_it_was_told_by_iam(
    huawei: HuaweiCloud, name: str, variant: str
) -> None:
    keys = huawei.iam.temporary(*READ, LIST_PROJECTS)
    with Plugin(plugin_argv("dso-provider-huawei", variant), huawei.environment()) as plugin:
        plugin.initialize(config(huawei, keys), timeout=30)
        found = plugin.get(name)
        assert isinstance(found, SecretData), found
        assert plugin.call("check").error is None
        huawei.iam.expire(keys)
        refused = plugin.get(name)
        assert isinstance(refused, ProviderError)
        assert refused.code == UNAUTHENTICATED
        shown = plugin.stderr + refused.message.encode()
        assert not [part for part in keys if part.encode() in shown]
    assert len(huawei.requests(IAM)) == 1
