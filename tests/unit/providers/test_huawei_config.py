"""Settings of a Huawei Cloud provider."""

from __future__ import annotations

from typing import Any

import pytest

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import ProviderError
from dso.providers.huawei import HuaweiProvider
from dso.providers.huawei_config import HuaweiConfig

AUTH = {"method": "aksk", "access_key": "AKCANARY", "secret_key": "canary"}
AGENCY = {"method": "agency"}


def refused(**config: Any) -> str:
    with pytest.raises(ProviderError) as failure:
        HuaweiProvider.open("huawei-north", config, 10)
    assert failure.value.code == INVALID_CONFIG
    assert "huawei-north" in failure.value.message
    assert "canary" not in failure.value.message.lower()
    return failure.value.message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"auth": AUTH}, "`region` is missing"),
        ({"region": "Beijing canary", "auth": AUTH}, "`region` is no region such as"),
        ({"region": 4, "auth": AUTH}, "`region` is no text"),
        ({"region": "cn-north-44", "auth": AUTH}, "set `endpoint:` too; did you mean cn-north-4?"),
        ({"region": "mars-1", "auth": AUTH}, "is no region where this version knows CSMS"),
        ({"region": "cn-north-4"}, "`auth.method` is missing: it is one of aksk, agency"),
        ({"region": "cn-north-4", "auth": {"method": "canary"}}, "`auth.method` is none of aksk, agency"),
        ({"region": "cn-north-4", "auth": {"method": "aksk", "secret_key": "canary"}}, "`auth.access_key` is missing"),
        ({"region": "cn-north-4", "auth": {"method": "aksk", "access_key": "canary"}}, "`auth.secret_key` is missing"),
        ({"region": "cn-north-4", "auth": {**AUTH, "access_key": "canary, canary"}}, "`auth.access_key` has a char"),
        ({"region": "cn-north-4", "auth": {**AUTH, "secret_key": "canary "}}, "`auth.secret_key` has a character"),
        ({"region": "cn-north-4", "auth": {**AUTH, "secret_key": "cän"}}, "`auth.secret_key` has a character"),
        ({"region": "cn-north-4", "auth": {**AUTH, "security_token": "a\ncanary"}}, "`auth.security_token` has a char"),
        ({"region": "cn-north-4", "auth": {**AGENCY, "access_key": "canary"}}, "`auth.access_key` is no setting"),
        ({"region": "cn-north-4", "auth": {**AUTH, "secret-key": "canary"}}, "did you mean `auth.secret_key`"),
        ({"region": "cn-north-4", "auth": AUTH, "project_id": "canary/.."}, "`project_id` is no id"),
        ({"region": "cn-north-4", "auth": AUTH, "projectid": "canary"}, "did you mean `project_id`"),
        ({"region": "cn-north-4", "auth": AUTH, "endpoint": "http://canary"}, "`endpoint` is no address"),
        ({"region": "cn-north-4", "auth": AUTH, "endpoint": "https://a/canary"}, "`endpoint` is no address"),
        ({"region": "cn-north-4", "auth": AUTH, "endpoint": "https://u:canary@a"}, "`endpoint` is no address"),
        ({"region": "cn-north-4", "auth": AUTH, "endpoint": "https://a:canary"}, "`endpoint` is no address"),
        ({"region": "cn-north-4", "auth": AUTH, "iam_endpoint": "canary"}, "`iam_endpoint` is no address"),
        ({"region": "cn-north-4", "auth": AUTH, "tls": {"ca_cert": "/none"}}, "ca_cert"),
        ({"region": "cn-north-4", "auth": AUTH, "tls": {"skip_verify": "canary"}}, "`tls.skip_verify` is no setting"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(config: dict[str, Any], words: str) -> None:
    assert words in refused(**config)


def read(**config: Any) -> HuaweiConfig:
    return HuaweiConfig.read("huawei-north", {"region": "cn-north-4", "auth": AUTH, **config})


def test_addresses_are_those_of_the_region() -> None:
    config = read()
    assert config.endpoint == "https://kms.cn-north-4.myhuaweicloud.com"
    assert config.iam_endpoint == "https://iam.cn-north-4.myhuaweicloud.com"
    assert config.setting == "`region:`"


def test_addresses_may_be_others() -> None:
    config = read(endpoint="https://CSMS.example.com:8443/", iam_endpoint="https://iam.example.com")
    assert (config.host, config.iam_host) == ("csms.example.com:8443", "iam.example.com")
    assert config.setting == "`endpoint:`"


def test_with_an_address_a_region_need_not_be_known() -> None:
    config = read(region="eu-west-999", endpoint="https://kms.example.com")
    assert config.endpoint == "https://kms.example.com"
    assert config.iam_endpoint == "https://iam.myhuaweicloud.com"


def test_nothing_comes_from_the_environment_and_the_users_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    expected = read()
    home = tmp_path_factory.mktemp("home")
    (home / ".huaweicloud").mkdir()
    (home / ".huaweicloud" / "credentials").write_text("[basic]\nak = other\nsk = other\n")
    (home / ".huaweicloud" / "regions.yaml").write_text("CSMS:\n- id: cn-north-4\n  endpoint: https://other\n")
    monkeypatch.setenv("HOME", str(home))
    variables = ("AK", "SK", "SECURITY_TOKEN", "PROJECT_ID", "IAM_ENDPOINT", "REGION_CSMS_CN_NORTH_4")
    for name in variables:
        monkeypatch.setenv(f"HUAWEICLOUD_SDK_{name}", "https://other")
    assert read() == expected


def test_keys_show_themselves_to_nobody() -> None:
    config = read(auth={**AUTH, "security_token": "canary"})
    assert config.keys is not None
    assert config.keys.security_token == "canary"
    assert "canary" not in f"{config!r} {config} {config.keys!r}".lower()


def test_an_agency_has_no_keys_of_its_own_in_the_settings() -> None:
    assert read(auth=AGENCY).keys is None
