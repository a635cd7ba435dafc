"""What the Huawei provider says when CSMS cannot be had, or will not give: which code, and what there is to do."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from dso.protocol.codes import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    NOT_FOUND,
    PERMISSION_DENIED,
    THROTTLED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.huawei_csms import DISABLED, FROZEN, PENDING_DELETE
from tests.servers.huawei_iam import DECRYPT, READ, CloudError, throttled
from tests.support.canary import Canary
from tests.support.http_proxy import Reply
from tests.support.huawei import OTHER_REGION, PRIVATE, REGION, HuaweiCloud, fault, provider, read, refused
from tests.support.plugin import HANG, Plugin, plugin_argv

if TYPE_CHECKING:
    from dso.providers.huawei import HuaweiProvider

JSON = {"Content-Type": "application/json"}


# What CSMS says of a secret


@pytest.mark.parametrize(
    ("status", "code"),
    [(400, "CSMS.0005"), (400, "CSMS.0106"), (404, "CSMS.0005"), (404, "CSMS.0106"), (404, "CSMS.9999")],
)
def test_missing_secret_is_not_found_however_csms_puts_it(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str, status: int, code: str
) -> None:
    huawei.fail(CloudError(status, code, "The resource does not exist."))
    error = fault(lambda: opened.get(name, None))
    assert error.code == NOT_FOUND
    assert name in error.message
    assert REGION in error.message
    opened.check()


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "CSMS.0103", NOT_FOUND),
        (400, "CSMS.0107", NOT_FOUND),
        (403, "CSMS.0109", NOT_FOUND),
        (400, "CSMS.0401", PERMISSION_DENIED),
        (403, "CSMS.0302", PERMISSION_DENIED),
        (403, "PDP.0001", PERMISSION_DENIED),
        (403, "APIGW.0302", PERMISSION_DENIED),
        (403, "APIGW.0306", PERMISSION_DENIED),
        (403, "APIGW.0310", INVALID_CONFIG),
        (403, "APIGW.0802", INVALID_CONFIG),
        (400, "CSMS.0002", INVALID_REQUEST),
        (400, "CSMS.0003", INVALID_REQUEST),
        (400, "CSMS.0301", UNAUTHENTICATED),
        (401, "CSMS.0301", UNAUTHENTICATED),
        (401, "APIGW.0301", UNAUTHENTICATED),
        (401, "APIG.0301", UNAUTHENTICATED),
        (401, "APIGW.0307", UNAUTHENTICATED),
        (404, "APIGW.0101", INVALID_CONFIG),
        (429, "APIGW.0308", THROTTLED),
        (429, "APIG.0308", THROTTLED),
        (429, "CSMS.9999", THROTTLED),
        (500, "APIGW.0601", UNAVAILABLE),
        (502, "APIGW.0201", UNAVAILABLE),
        (504, "APIGW.0201", UNAVAILABLE),
        (500, "CSMS.9999", UNAVAILABLE),
    ],
)
def test_each_documented_code_has_its_meaning(
    huawei: HuaweiCloud, name: str, status: int, code: str, expected: str
) -> None:
    canary = f"CANARY{secrets.token_hex(8)}"
    huawei.fail(CloudError(status, code, f"prose that may quote anything: {canary} {huawei.keys.secret}"))
    error = refused(huawei, name)
    assert error.code == expected, error.message
    assert code in error.message or expected == NOT_FOUND
    assert name in error.message
    assert canary not in error.message
    assert huawei.keys.secret not in error.message


def test_no_permission_names_the_one_that_is_missing(huawei: HuaweiCloud, name: str) -> None:
    with provider(huawei.settings(huawei.iam.user(DECRYPT)), huawei.environment()) as found:
        error = fault(lambda: found.get(name, None))
        found.check()
    assert error.code == PERMISSION_DENIED
    assert "csms:secretVersion:get" in error.message
    with provider(huawei.settings(huawei.iam.user("csms:secretVersion:get")), huawei.environment()) as found:
        error = fault(lambda: found.get(name, None))
    assert error.code == PERMISSION_DENIED
    assert DECRYPT in error.message
    with provider(huawei.settings(huawei.iam.user("csms:secretVersion:get", DECRYPT)), huawei.environment()) as found:
        assert read(found, name) == b"value"
        error = fault(lambda: found.get(name, "SYSCURRENT"))
    assert error.code == PERMISSION_DENIED
    assert "csms:secretStage:get" in error.message


# Throttled, failing


def test_throttle_that_passes_is_waited_for(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.fail(throttled(), times=2)
    assert read(opened, name) == b"value"
    assert len(huawei.reads()) == 3


def test_throttle_that_asks_for_patience_gets_it(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.fail(throttled(Retry_After="1"), times=1)
    assert read(opened, name) == b"value"
    assert len(huawei.reads()) == 2


def test_throttle_that_lasts_longer_than_there_is_time_is_told_at_once(huawei: HuaweiCloud, name: str) -> None:
    huawei.fail(throttled(Retry_After="77"))
    error = refused(huawei, name)
    assert (error.code, error.retry_after) == (THROTTLED, 77)
    assert name in error.message
    assert len(huawei.reads()) == 1


def test_throttle_without_a_time_is_told_with_one_and_not_made_worse(huawei: HuaweiCloud, name: str) -> None:
    huawei.fail(throttled())
    error = refused(huawei, name)
    assert error.code == THROTTLED
    assert error.retry_after
    assert error.retry_after > 0
    assert len(huawei.reads()) <= 4


@pytest.mark.parametrize("value", ["soon", "-1", "Wed, 21 Oct 2015 07:28:00 GMT", "1e9", "9" * 400])
def test_patience_that_is_no_number_of_seconds_does_no_harm(huawei: HuaweiCloud, name: str, value: str) -> None:
    huawei.fail(throttled(Retry_After=value))
    error = refused(huawei, name)
    assert error.code == THROTTLED
    assert error.retry_after
    assert 0 < error.retry_after < 10**6


def test_failure_that_passes_is_tried_again(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    huawei.fail(CloudError(500, "APIGW.0601", "Internal server error."), times=1)
    huawei.fail(Reply(502, b"<html>Bad Gateway</html>", {"Content-Type": "text/html"}), times=1)
    assert read(opened, name) == b"value"
    assert len(huawei.reads()) == 3


# Nothing shows


class Trouble(NamedTuple):
    """Something goes wrong, and the code it must have."""

    label: str
    code: str
    settings: dict[str, Any]
    reply: Reply | None = None
    state: str | None = None


def troubles(huawei: HuaweiCloud, canary: str) -> list[Trouble]:
    """One of each class of error; answers hold the canary wherever they can."""
    good = huawei.settings()
    nobody = huawei.keys._replace(access="NOBODYKNOWSTHISKEY00")
    value = {"version": {"version_metadata": {"id": "v1"}, "secret_string": canary}}
    other_port = {**good, "endpoint": "https://127.0.0.1:9"}
    half = json.dumps(value).encode()[:-3]
    unfit = CloudError(400, "CSMS.0002", f"no good: {canary}").reply()
    return [
        Trouble("missing", NOT_FOUND, good, CloudError(400, "CSMS.0106", canary).reply()),
        Trouble("disabled", NOT_FOUND, good, state=DISABLED),
        Trouble("frozen", NOT_FOUND, good, state=FROZEN),
        Trouble("pending deletion", NOT_FOUND, good, state=PENDING_DELETE),
        Trouble("no permission", PERMISSION_DENIED, huawei.settings(huawei.iam.user())),
        Trouble("no key", PERMISSION_DENIED, huawei.settings(huawei.iam.user("csms:secretVersion:get"))),
        Trouble("unknown key", UNAUTHENTICATED, huawei.settings(nobody)),
        Trouble("wrong key", UNAUTHENTICATED, huawei.settings(huawei.keys._replace(secret=f"{canary}-key"))),
        Trouble("expired", UNAUTHENTICATED, huawei.settings(huawei.iam.temporary(*READ, seconds=-1))),
        Trouble("throttled", THROTTLED, good, throttled(Retry_After="99").reply()),
        Trouble("failing", UNAVAILABLE, good, Reply(500, canary.encode())),
        Trouble("refused", INVALID_REQUEST, good, unfit),
        Trouble("half an answer", INVALID_CONFIG, good, Reply(200, half, JSON)),
        Trouble("unreachable", UNAVAILABLE, other_port),
        Trouble("wrong region", INVALID_CONFIG, {**good, "region": OTHER_REGION}),
        Trouble("wrong URL", INVALID_CONFIG, {**good, "endpoint": f"https://iam.{PRIVATE}"}),
        Trouble("not trusted", INVALID_CONFIG, {**good, "tls": {}}),
    ]


def test_no_value_and_no_credential_shows_in_any_of_it(huawei: HuaweiCloud, variant: str) -> None:
    """Every class of error, on the real program: code, message and log."""
    canary = Canary.new()
    token = canary.token.decode()
    for number, trouble in enumerate(troubles(huawei, token)):
        name = f"sweep-{number}"
        huawei.put(name, token)
        if trouble.state:
            huawei.csms.set_state(name, trouble.state)
        if trouble.reply:
            huawei.fail(trouble.reply)
        with Plugin(plugin_argv("dso-provider-huawei", variant), huawei.environment()) as plugin:
            plugin.initialize(trouble.settings, name="huawei-main", timeout=30)
            found = plugin.get(name)
            checked = plugin.call("check")
            plugin.call("shutdown")
            plugin.process.wait(HANG)
            shown = plugin.stderr + json.dumps(plugin.received, default=str).encode()
        assert isinstance(found, ProviderError), trouble.label
        assert found.code == trouble.code, f"{trouble.label}: {found.message}"
        assert found.message.startswith("huawei-main: "), trouble.label
        assert name in found.message, f"{trouble.label}: {found.message}"
        shown += found.message.encode() + (checked.error.message.encode() if checked.error else b"")
        assert canary.find(shown) is None, trouble.label
        credentials = [value for key, value in trouble.settings["auth"].items() if key != "method"]
        assert not [each for each in credentials if each.encode() in shown], trouble.label
        huawei.recover()


def test_frozen_plugin_recovers_from_everything(huawei: HuaweiCloud, name: str, variant: str) -> None:
    with Plugin(plugin_argv("dso-provider-huawei", variant), huawei.environment()) as plugin:
        plugin.initialize(huawei.settings(), timeout=30)
        for reply in (Reply(500, b"x"), Reply(None), Reply(200, b"{"), throttled(Retry_After="99").reply()):
            huawei.fail(reply)
            assert isinstance(plugin.get(name), ProviderError)
            huawei.recover()
            assert isinstance(plugin.get(name), SecretData)
