"""Settings of an AWS provider, and what AWS's own files add."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from dso.protocol.codes import INVALID_CONFIG, UNAUTHENTICATED
from dso.protocol.provider import ProviderError
from dso.providers.aws import AwsProvider
from dso.providers.aws_session import make_client, make_session, read_settings
from dso.version import VERSION

if TYPE_CHECKING:
    from pathlib import Path

KEYS = {"access_key_id": "AKIDCANARY", "secret_access_key": "canary"}


@pytest.fixture(autouse=True)
def aws_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No settings of the tester's; the directory of those of the test."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


def refused(**config: Any) -> str:
    with pytest.raises(ProviderError) as failure:
        AwsProvider.open("aws-east", config, 10)
    assert failure.value.code == INVALID_CONFIG
    assert "aws-east" in failure.value.message
    assert "canary" not in failure.value.message.lower()
    return failure.value.message


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"regoin": "canary"}, "did you mean `region`"),
        ({"region": "Frankfurt canary"}, "`region` is no region such as"),
        ({"region": 5}, "`region` is no text"),
        ({"region": "eu-central-1", "endpoint_url": "canary"}, "`endpoint_url` is no address"),
        ({"region": "eu-central-1", "endpoint_url": "https://canary/?a=b"}, "`endpoint_url` is no address"),
        ({"region": "eu-central-1", "access_key_id": "canary"}, "`secret_access_key` is missing"),
        ({"region": "eu-central-1", "secret_access_key": "canary"}, "`access_key_id` is missing"),
        ({"region": "eu-central-1", "session_token": "canary"}, "`session_token` needs access_key_id"),
        ({"region": "eu-central-1", "profile": "canary", **KEYS}, "`profile` and access_key_id exclude each other"),
        ({"region": "eu-central-1", "external_id": "canary"}, "`external_id` needs role_arn"),
        ({"region": "eu-central-1", "sts_endpoint_url": "http://canary"}, "`sts_endpoint_url` needs role_arn"),
        ({"region": "eu-central-1", "session_name": "ca nary"}, "`session_name` has other characters"),
        ({"region": "eu-central-1", "tls": {"ca_cert": "/canary"}}, "`tls.ca_cert` names no file"),
        ({"region": "eu-central-1", "tls": {"ca-cert": "canary"}}, "did you mean `tls.ca_cert`"),
        ({}, "no AWS region is known"),
    ],
)
def test_settings_that_cannot_work_are_refused_at_once(config: dict[str, Any], words: str) -> None:
    assert words in refused(**config)


def test_an_unknown_profile_is_refused_with_those_that_are_there(aws_files: Path) -> None:
    (aws_files / "config").write_text("[default]\nregion = eu-west-1\n[profile prod]\nregion = eu-west-2\n")
    assert "there are: default, prod" in refused(profile="staging")


def test_files_of_aws_that_cannot_be_read_are_told(aws_files: Path) -> None:
    (aws_files / "config").write_text("no section\n")
    assert "~/.aws/config" in refused(region="eu-central-1")


def test_region_comes_from_dso_yaml_else_the_environment_else_the_profile(
    aws_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (aws_files / "config").write_text("[profile prod]\nregion = eu-west-2\n")

    def region(**config: Any) -> str:
        return str(make_session("aws-east", read_settings("aws-east", config), 10).region_name)

    assert region(profile="prod") == "eu-west-2"
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-3")
    assert region(profile="prod") == "eu-west-3"
    assert region(profile="prod", region="eu-central-1") == "eu-central-1"


def test_settings_show_no_credential() -> None:
    settings = read_settings("aws-east", {"region": "eu-central-1", **KEYS})
    assert "canary" not in f"{settings} {settings!r}".lower()


@pytest.mark.parametrize(("timeout", "attempts"), [(1, 1), (2, 2), (5, 3), (10, 4), (60, 4)])
def test_the_time_limit_decides_how_often_is_tried(timeout: float, attempts: int) -> None:
    settings = read_settings("aws-east", {"region": "eu-central-1", **KEYS})
    config = make_client(make_session("aws-east", settings, timeout), settings).meta.config
    assert (config.retries["total_max_attempts"], config.retries["mode"]) == (attempts, "standard")
    assert config.connect_timeout + config.read_timeout <= timeout


def test_requests_tell_aws_that_dso_sends_them_with_its_sdk() -> None:
    settings = read_settings("aws-east", {"region": "eu-central-1", **KEYS})
    agent = make_client(make_session("aws-east", settings, 10), settings).meta.config.user_agent
    assert agent.startswith(f"Boto3/{boto3.__version__} ")
    assert f"dso/{VERSION}" in agent.split()


def test_a_profile_that_wants_a_code_from_a_person_is_no_way_to_credentials(
    aws_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nobody is asked on the agent's terminal."""
    (aws_files / "config").write_text(
        "[profile prod]\nregion = eu-west-2\nrole_arn = arn:aws:iam::123456789012:role/r\nsource_profile = base\n"
        "mfa_serial = arn:aws:iam::123456789012:mfa/me\n[profile base]\n"
    )
    (aws_files / "credentials").write_text("[base]\naws_access_key_id = a\naws_secret_access_key = b\n")
    monkeypatch.setattr("getpass.getpass", lambda _prompt: pytest.fail("somebody was asked"))
    provider = AwsProvider.open("aws-east", {"profile": "prod"}, 10)
    with pytest.raises(ProviderError) as failure:
        provider.get("a", None)
    assert failure.value.code == UNAUTHENTICATED
