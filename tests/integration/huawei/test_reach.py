"""What the Huawei provider says when it does not reach CSMS: no way there, no trust, other places, other answers."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dso.protocol.codes import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    NOT_FOUND,
    UNAVAILABLE,
)
from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError
from tests.support.certificates import Certificates
from tests.support.http_proxy import Reply
from tests.support.huawei import OTHER_REGION, PRIVATE, REGION, HuaweiCloud, fault, provider, read, refused

if TYPE_CHECKING:
    from pathlib import Path

    from dso.providers.huawei import HuaweiProvider

JSON = {"Content-Type": "application/json"}


# Not there


def test_nobody_who_listens_is_unavailable(huawei: HuaweiCloud, name: str) -> None:
    error = refused(huawei, name, endpoint="https://127.0.0.1:9")
    assert error.code == UNAVAILABLE
    assert "127.0.0.1:9" in error.message
    assert "endpoint" in error.message
    assert name in error.message


def test_name_without_an_address_is_unavailable_or_refused_by_the_proxy(huawei: HuaweiCloud, name: str) -> None:
    error = refused(huawei, name, endpoint="https://kms.nowhere.invalid")
    assert error.code == UNAVAILABLE
    assert "kms.nowhere.invalid" in error.message
    with provider(huawei.settings(endpoint="https://kms.nowhere.invalid"), {"HTTPS_PROXY": ""}) as found:
        error = fault(lambda: found.get(name, None))
    assert error.code == UNAVAILABLE
    assert "endpoint" in error.message


def test_proxy_that_is_not_there_is_named(huawei: HuaweiCloud, name: str) -> None:
    with provider(huawei.settings(), {"HTTPS_PROXY": "http://127.0.0.1:9"}) as found:
        error = fault(lambda: found.get(name, None))
    assert error.code == UNAVAILABLE
    assert "HTTPS_PROXY" in error.message


def test_server_that_vanishes_and_comes_back(huawei: HuaweiCloud, opened: HuaweiProvider, name: str) -> None:
    assert read(opened, name) == b"value"
    huawei.proxy.cut(f"kms.{REGION}.myhuaweicloud.com")
    error = fault(lambda: opened.get(name, None))
    assert error.code == UNAVAILABLE
    assert name in error.message
    huawei.proxy.mend()
    assert read(opened, name) == b"value"


def test_connection_that_was_closed_while_idle_costs_no_secret(
    huawei: HuaweiCloud, opened: HuaweiProvider, name: str
) -> None:
    assert read(opened, name) == b"value"
    huawei.fail(Reply(None), times=1)
    assert read(opened, name) == b"value"


def test_server_that_hangs_up_is_unavailable_and_the_proxy_not_blamed(huawei: HuaweiCloud, name: str) -> None:
    huawei.fail(Reply(None))
    error = refused(huawei, name)
    assert error.code == UNAVAILABLE
    assert name in error.message
    assert "proxy" not in error.message.lower()


def test_answer_that_does_not_come_is_not_waited_for_longer_than_there_is_time(huawei: HuaweiCloud, name: str) -> None:
    huawei.server.delay = 8
    error = refused(huawei, name, timeout=1)
    assert error.code == UNAVAILABLE
    assert "within 1 s" in error.message
    assert "timeout" in error.message


# Not CSMS


@pytest.mark.parametrize(
    "reply",
    [
        Reply(200, b""),
        Reply(200, b"{}", JSON),
        Reply(200, b"[]", JSON),
        Reply(200, b"null", JSON),
        Reply(200, b"<html>hello</html>", {"Content-Type": "text/html"}),
        Reply(200, b"\xff\xfe", JSON),
        Reply(200, b'{"version": null}', JSON),
        Reply(200, b'{"version": "x"}', JSON),
        Reply(200, b'{"version": {"secret_string": "CANARY"}}', JSON),
        Reply(200, b'{"version": {"version_metadata": {}, "secret_string": "CANARY"}}', JSON),
        Reply(200, b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": "CANARY\xff"}}', JSON),
        Reply(200, b'{"version": {"version_metadata": {"id": "v1"}, "secret_string": "CANARY"', JSON),
        Reply(200, b"[" * 100_000, JSON),
        Reply(302, b"", {"Location": "https://example.com/"}),
        Reply(404, b"<html>nothing here</html>", {"Content-Type": "text/html"}),
        Reply(403, b"<html>go away</html>", {"Content-Type": "text/html"}),
    ],
    ids=range(16),
)
def test_answer_that_is_none_of_csms_is_no_secret(huawei: HuaweiCloud, name: str, reply: Reply) -> None:
    huawei.fail(reply)
    error = refused(huawei, name)
    assert error.code in (INVALID_CONFIG, UNAVAILABLE), error.message
    assert "CANARY" not in error.message
    assert name in error.message


def test_answer_that_is_too_long_is_told_as_that(huawei: HuaweiCloud, name: str) -> None:
    version = {"version_metadata": {"id": "v1"}, "secret_string": "x" * (MAX_MESSAGE_BYTES + 1)}
    huawei.fail(Reply(200, json.dumps({"version": version}).encode(), JSON))
    error = refused(huawei, name)
    assert error.oversized
    assert error.code == INVALID_REQUEST


# Wrong region, endpoint, project


def test_region_nobody_knows_is_refused_by_its_name_with_the_nearest(huawei: HuaweiCloud) -> None:
    with pytest.raises(ProviderError) as caught, provider(huawei.settings(region="cn-nort-4"), huawei.environment()):
        raise AssertionError("opened")
    assert caught.value.code == INVALID_CONFIG
    assert "region" in caught.value.message
    assert "cn-north-4" in caught.value.message
    with provider(huawei.settings(region="my-own-1", endpoint=f"https://kms.{PRIVATE}"), huawei.environment()) as found:
        found.check()


def test_secret_of_another_region_or_project_is_not_read(huawei: HuaweiCloud, name: str) -> None:
    error = refused(huawei, name, region=OTHER_REGION)
    assert error.code == INVALID_CONFIG
    assert "project_id" in error.message
    assert "region" in error.message
    error = refused(huawei, name, region=OTHER_REGION, project_id=huawei.iam.projects[OTHER_REGION])
    assert error.code == NOT_FOUND
    assert OTHER_REGION in error.message
    error = refused(huawei, name, project_id="0" * 32)
    assert error.code == INVALID_CONFIG
    assert "project_id" in error.message


def test_endpoint_of_another_service_is_a_matter_of_settings(huawei: HuaweiCloud, name: str) -> None:
    error = refused(huawei, name, endpoint=f"https://iam.{REGION}.myhuaweicloud.com")
    assert error.code == INVALID_CONFIG
    assert "endpoint" in error.message


# TLS


def test_certificate_of_an_authority_nobody_trusts_is_a_matter_of_settings(
    huawei: HuaweiCloud, name: str, tmp_path: Path
) -> None:
    other = Certificates(str(tmp_path / "other")).path("ca.pem")
    error = refused(huawei, name, tls={"ca_cert": other})
    assert error.code == INVALID_CONFIG
    assert "ca_cert" in error.message
    with provider(huawei.settings(tls={}), huawei.environment()) as found:
        assert fault(lambda: found.get(name, None)).code == INVALID_CONFIG
        assert fault(found.check).code == INVALID_CONFIG
    assert huawei.requests() == [], "nothing was sent to who is not trusted"


def test_authority_of_the_environment_is_trusted(huawei: HuaweiCloud, name: str) -> None:
    for variable in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE"):
        environment = {**huawei.environment(), variable: huawei.ca_cert}
        with provider(huawei.settings(tls={}), environment) as found:
            assert read(found, name) == b"value"


def test_certificate_for_other_names_is_refused(huawei: HuaweiCloud, name: str) -> None:
    server = huawei.server.address.removeprefix("https://").partition(":")
    huawei.proxy.add("kms.elsewhere.example.com", (server[0], int(server[2])))
    error = refused(huawei, name, endpoint="https://kms.elsewhere.example.com")
    assert error.code == INVALID_CONFIG
    assert "certificate" in error.message


def test_ca_file_that_is_not_there_is_refused_when_opened(huawei: HuaweiCloud) -> None:
    with (
        pytest.raises(ProviderError) as caught,
        provider(huawei.settings(tls={"ca_cert": "/nonexistent/ca.pem"}), huawei.environment()),
    ):
        raise AssertionError("opened")
    assert caught.value.code == INVALID_CONFIG
    assert "ca_cert" in caught.value.message
