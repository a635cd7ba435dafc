"""Profiles of AWS that need a home directory are refused where the plugin has none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import USER_VARIABLE, ProviderError
from dso.providers.aws_profile import check_profile

if TYPE_CHECKING:
    from pathlib import Path

AT_HOME = ("sso_session", "sso_start_url", "login_session", "credential_process")


@pytest.fixture(autouse=True)
def _own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(USER_VARIABLE, "dso-aws")


def refusal(profiles: dict[str, Any], profile: str = "prod", *, needs_credentials: bool = True) -> str:
    with pytest.raises(ProviderError) as raised:
        check_profile("aws-east", profile, profiles, needs_credentials=needs_credentials)
    assert raised.value.code == INVALID_CONFIG
    return raised.value.message


@pytest.mark.parametrize("key", AT_HOME)
def test_logins_at_home_and_programs_are_refused_by_name_with_what_works(key: str) -> None:
    message = refusal({"prod": {key: "canary"}})
    for word in (f"`{key}`", "profile prod", "dso-aws", "access_key_id", "AWS_WEB_IDENTITY_TOKEN_FILE"):
        assert word in message
    assert "canary" not in message


@pytest.mark.parametrize("key", AT_HOME)
def test_so_are_those_of_the_profile_that_credentials_are_taken_from(key: str) -> None:
    profiles = {"prod": {"role_arn": "arn", "source_profile": "base"}, "base": {key: "x", "source_profile": "prod"}}
    assert f"profile base has `{key}`" in refusal(profiles)


@pytest.mark.parametrize("key", AT_HOME)
def test_they_are_no_matter_where_they_do_not_count(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    check_profile("aws-east", "prod", {"prod": {key: "x"}}, needs_credentials=False)
    check_profile("aws-east", "prod", {"prod": {key: "x", "aws_access_key_id": "k"}}, needs_credentials=True)
    check_profile("aws-east", "default", {"prod": {key: "x"}}, needs_credentials=True)
    monkeypatch.delenv(USER_VARIABLE)
    check_profile("aws-east", "prod", {"prod": {key: "x"}}, needs_credentials=True)


@pytest.mark.parametrize(
    ("key", "instead"), [("web_identity_token_file", "AWS_WEB_IDENTITY_TOKEN_FILE"), ("ca_bundle", "ca_cert")]
)
def test_files_that_the_plugin_cannot_read_are_refused_with_the_setting_that_hands_them_over(
    key: str, instead: str, tmp_path: Path
) -> None:
    assert instead in refusal({"prod": {key: str(tmp_path / "none")}})
    (tmp_path / "there").write_text("x")
    check_profile("aws-east", "prod", {"prod": {key: str(tmp_path / "there")}}, needs_credentials=True)
