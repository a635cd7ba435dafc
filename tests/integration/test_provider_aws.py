"""The AWS provider on moto over HTTP: how many calls it makes, and what it does when AWS is not as usual."""

from __future__ import annotations

import json
import os
import secrets
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.codes import (
    INVALID_REQUEST,
    NOT_FOUND,
    PERMISSION_DENIED,
    THROTTLED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from dso.protocol.provider import ProviderError, SecretData
from dso.providers.aws import BATCH_AGAIN_AFTER, AwsProvider
from dso.providers.provider import Request
from tests.support.aws import REGION, Moto, settings
from tests.support.certificates import Certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Open = Callable[..., AwsProvider]

GET, BATCH = "GetSecretValue", "BatchGetSecretValue"
MANY = 10**6


@pytest.fixture(scope="module")
def server() -> Iterator[Moto]:
    with Moto() as server:
        yield server


@pytest.fixture
def moto(server: Moto) -> Iterator[Moto]:
    server.reset()
    yield server
    server.accept_everybody()
    server.reset()


@pytest.fixture
def aws_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The directory of AWS's own files; there are no other settings."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return tmp_path


@pytest.fixture
def open_provider(moto: Moto, aws_files: Path) -> Iterator[Open]:
    opened: list[AwsProvider] = []

    def begin(config: dict[str, Any] | None = None, *, timeout: float = 30) -> AwsProvider:
        opened.append(AwsProvider.open("aws-east", settings(moto) if config is None else config, timeout))
        return opened[-1]

    yield begin
    for provider in opened:
        provider.close()


@pytest.fixture
def provider(open_provider: Open) -> AwsProvider:
    return open_provider()


@pytest.fixture
def name() -> str:
    return f"test/{secrets.token_hex(6)}"


def fill(moto: Moto, name: str, count: int) -> list[Request]:
    """So many secrets, whose values are their names."""
    paths = [f"{name}/{number}" for number in range(count)]
    for path in paths:
        moto.put(path, path)
    moto.reset()
    return [Request(path) for path in paths]


def values(found: list[SecretData | ProviderError]) -> list[str]:
    """Values, and the codes of errors."""
    return [one.code if isinstance(one, ProviderError) else one.content.reveal().decode() for one in found]


def failure(provider: AwsProvider, path: str, version: str | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as raised:
        provider.get(path, version)
    return raised.value


# How many calls


def test_50_secrets_take_3_calls_side_by_side(moto: Moto, provider: AwsProvider, name: str) -> None:
    requests = fill(moto, name, 50)
    moto.fail(delay=1)
    assert values(provider.get_many(requests)) == [request.path for request in requests]
    assert moto.calls() == [BATCH] * 3
    assert moto.most_at_once() == 3


def test_one_secret_and_pinned_versions_are_read_by_themselves(moto: Moto, provider: AwsProvider, name: str) -> None:
    first = moto.put(name, "old")
    moto.put(name, "new")
    fill(moto, f"{name}/x", 2)
    assert values(provider.get_many([Request(name)])) == ["new"]
    assert moto.calls() == [GET]
    wanted = [Request(name, first), Request(f"{name}/x/0"), Request(name), Request(f"{name}/x/1")]
    assert values(provider.get_many(wanted)) == ["old", f"{name}/x/0", "new", f"{name}/x/1"]
    assert sorted(moto.calls()[1:]) == [BATCH, GET]


def test_a_secret_asked_for_twice_is_read_once(moto: Moto, provider: AwsProvider, name: str) -> None:
    fill(moto, name, 1)
    assert values(provider.get_many([Request(f"{name}/0")] * 5)) == [f"{name}/0"] * 5
    assert moto.calls() == [GET]


def test_many_pinned_versions_are_read_side_by_side(moto: Moto, provider: AwsProvider, name: str) -> None:
    versions = [moto.put(f"{name}/{number}", f"v{number}") for number in range(30)]
    moto.reset()
    moto.fail(delay=1)
    found = provider.get_many([Request(f"{name}/{number}", version) for number, version in enumerate(versions)])
    assert values(found) == [f"v{number}" for number in range(30)]
    assert moto.most_at_once() == 30


def test_without_the_permission_for_batches_secrets_are_read_one_by_one_for_a_while(
    moto: Moto, open_provider: Open, name: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests = fill(moto, name, 3)
    keys = moto.user(f"single-{secrets.token_hex(4)}", "secretsmanager:GetSecretValue")
    moto.check_credentials()
    moto.reset()
    provider = open_provider(settings(moto, keys))
    assert values(provider.get_many(requests)) == [request.path for request in requests]
    assert sorted(moto.calls()) == [BATCH, *[GET] * 3]
    provider.get_many(requests)
    assert sorted(moto.calls()) == [BATCH, *[GET] * 6]
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "secretsmanager:BatchGetSecretValue" in caplog.text

    now = time.monotonic
    monkeypatch.setattr("dso.providers.aws.time.monotonic", lambda: now() + BATCH_AGAIN_AFTER + 1)
    moto.accept_everybody()
    moto.reset()
    provider.get_many(requests)
    assert moto.calls() == [BATCH], "the permission may have been granted since"


# What a batch may hold


def test_errors_of_single_secrets_in_a_batch_stay_theirs(moto: Moto, provider: AwsProvider, name: str) -> None:
    """moto knows `ResourceNotFoundException` here only; the others are put in its mouth."""
    arn = f"arn:aws:secretsmanager:{REGION}:123456789012:secret:{name}/a-AbCdEf"
    listed = [
        {"SecretId": f"{name}/b", "ErrorCode": "AccessDeniedException", "Message": "m"},
        {"SecretId": f"{name}/c", "ErrorCode": "DecryptionFailure", "Message": "m"},
        {"SecretId": f"{name}/d", "ErrorCode": "InvalidRequestException", "Message": "was marked for deletion"},
        {"SecretId": f"{name}/e", "ErrorCode": "ResourceNotFoundException", "Message": "m"},
    ]
    secret = {"ARN": arn, "Name": f"{name}/a", "VersionId": "v", "SecretString": "value", "CreatedDate": 1.5}
    hollow = {"ARN": f"{arn}x", "Name": f"{name}/f"}
    moto.fail({"operation": BATCH, "body": {"SecretValues": [hollow, secret], "Errors": listed}})
    found = provider.get_many([Request(f"{name}/{letter}") for letter in "edcbaf"])
    assert values(found) == [NOT_FOUND, NOT_FOUND, PERMISSION_DENIED, PERMISSION_DENIED, "value", UNAVAILABLE]
    assert isinstance(found[4], SecretData)
    assert (found[4].version, found[4].created_at) == ("v", 1.5)
    assert [request for request in "edcb" if f"{name}/{request}" not in str(found["edcb".index(request)])] == []
    assert moto.calls() == [BATCH]


def test_all_pages_of_a_batch_are_read(moto: Moto, provider: AwsProvider, name: str) -> None:
    """moto never answers a list of names in pages."""
    pages = [{"SecretValues": [{"Name": f"{name}/{each}", "ARN": "x", "SecretString": each}]} for each in "ab"]
    moto.fail({"operation": BATCH, "body": {**pages[0], "NextToken": "more"}}, {"operation": BATCH, "body": pages[1]})
    assert values(provider.get_many([Request(f"{name}/{each}") for each in "ba"])) == ["b", "a"]
    assert moto.calls() == [BATCH, BATCH]


def test_a_secret_that_a_batch_leaves_out_is_read_by_itself(moto: Moto, provider: AwsProvider, name: str) -> None:
    requests = fill(moto, name, 2)
    moto.fail({"operation": BATCH, "body": {"SecretValues": [], "Errors": []}})
    assert values(provider.get_many(requests)) == [request.path for request in requests]
    assert sorted(moto.calls()) == [BATCH, GET, GET]


def test_a_malformed_name_spoils_nobody_elses(moto: Moto, provider: AwsProvider, name: str) -> None:
    requests = fill(moto, name, 2)
    moto.fail(
        {"operation": f".{BATCH}", "status": 400, "body": {"__type": "InvalidParameterException"}},
        {"operation": f".{GET}", "status": 400, "body": {"__type": "ValidationException"}},
    )
    found = values(provider.get_many([*requests, Request("bad name")]))
    # Which of the three meets the one refusal is left to chance; moto does not find fault with a space itself.
    assert found.count(INVALID_REQUEST) == 1
    assert sorted(moto.calls()) == [BATCH, *[GET] * 3]
    assert values(provider.get_many(requests)) == [request.path for request in requests]
    assert moto.calls()[-1] == BATCH  # that one batch failed is no reason to give up batches


def test_names_arns_and_arns_without_their_end_are_all_understood(moto: Moto, provider: AwsProvider, name: str) -> None:
    fill(moto, name, 2)
    arn = moto.client().describe_secret(SecretId=f"{name}/0")["ARN"]
    for path in (f"{name}/0", arn):
        assert values(provider.get_many([Request(path), Request(f"{name}/1")])) == [f"{name}/0", f"{name}/1"]
    moto.fail({"operation": BATCH, "body": {"SecretValues": [{"Name": "n", "ARN": arn, "SecretString": "short"}]}})
    assert values(provider.get_many([Request(arn[:-7]), Request(f"{name}/1")])) == ["short", f"{name}/1"]


# Versions


def test_versions_are_ids_and_labels(moto: Moto, provider: AwsProvider, name: str) -> None:
    first = moto.put(name, "one")
    second = moto.put(name, "two")
    long_label = "label-of-more-than-32-characters-in-all"
    for label in ("blue", long_label):
        moto.client().update_secret_version_stage(SecretId=name, VersionStage=label, MoveToVersionId=first)
    expected = {
        first: "one",
        second: "two",
        "blue": "one",
        long_label: "one",
        "AWSPREVIOUS": "one",
        "AWSCURRENT": "two",
    }
    assert {version: provider.get(name, version).content.reveal().decode() for version in expected} == expected
    assert provider.get(name, "blue").version == first


def test_a_secret_that_awaits_deletion_is_not_found(moto: Moto, provider: AwsProvider, name: str) -> None:
    fill(moto, name, 2)
    moto.client().delete_secret(SecretId=f"{name}/0")
    assert "scheduled for deletion" in failure(provider, f"{name}/0").message
    assert values(provider.get_many([Request(f"{name}/0"), Request(f"{name}/1")])) == [NOT_FOUND, f"{name}/1"]


# Faults


def test_a_throttle_that_passes_is_waited_for(moto: Moto, provider: AwsProvider, name: str) -> None:
    fill(moto, name, 1)
    moto.refuse("ThrottlingException", times=2)
    assert provider.get(f"{name}/0", None).content.reveal().decode() == f"{name}/0"
    assert moto.calls() == [GET] * 3


def test_a_throttle_that_lasts_is_told_with_its_patience(moto: Moto, open_provider: Open, name: str) -> None:
    moto.fail(
        {"status": 400, "body": {"__type": "ThrottlingException"}, "headers": {"Retry-After": "7"}, "times": MANY}
    )
    error = failure(open_provider(timeout=10), name)
    assert (error.code, error.retry_after) == (THROTTLED, 7)
    assert moto.calls() == [GET] * 4


def test_a_throttled_batch_is_told_for_each_secret_and_not_made_worse(
    moto: Moto, open_provider: Open, name: str
) -> None:
    moto.refuse("ThrottlingException", times=MANY)
    found = open_provider(timeout=2).get_many([Request(f"{name}/{number}") for number in range(40)])
    assert values(found) == [THROTTLED] * 40
    assert set(moto.calls()) == {BATCH}


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_failing_service_is_tried_again_and_then_unavailable(
    moto: Moto, open_provider: Open, name: str, status: int
) -> None:
    fill(moto, name, 1)
    moto.refuse("InternalServiceError", status=status, times=1)
    assert open_provider().get(f"{name}/0", None)
    moto.refuse("InternalServiceError", status=status, times=MANY)
    assert failure(open_provider(timeout=1), name).code == UNAVAILABLE


def test_no_request_takes_longer_than_its_time(moto: Moto, open_provider: Open, name: str) -> None:
    fill(moto, name, 1)
    provider = open_provider(timeout=2)
    assert provider.get(f"{name}/0", None)
    moto.fail(delay=8)
    error = failure(provider, f"{name}/0")
    assert moto.under_way(), "the answer was waited for"
    assert error.code == UNAVAILABLE
    assert f"for {name}/0 within 2 s" in error.message


def test_an_answer_that_is_no_answer_of_aws_is_unavailable(moto: Moto, open_provider: Open, name: str) -> None:
    moto.fail({"status": 200, "body": {}, "times": MANY})
    provider = open_provider(timeout=2)
    assert failure(provider, name).code == UNAVAILABLE
    assert values(provider.get_many([Request("a"), Request("b")])) == [UNAVAILABLE] * 2


# Credentials


def write_keys(aws_files: Path, keys: tuple[str, str], profile: str = "default") -> None:
    text = f"[{profile}]\naws_access_key_id = {keys[0]}\naws_secret_access_key = {keys[1]}\n"
    (aws_files / "credentials").write_text(text)


def test_renewed_credentials_are_noticed(moto: Moto, open_provider: Open, aws_files: Path, name: str) -> None:
    fill(moto, name, 1)
    good = moto.user(f"renewed-{secrets.token_hex(4)}", "secretsmanager:GetSecretValue")
    moto.check_credentials()
    write_keys(aws_files, ("AKIAOLDOLDOLDOLDOLD0", "expired"))
    provider = open_provider({"region": REGION, "endpoint_url": moto.endpoint})
    moto.reset()
    assert failure(provider, f"{name}/0").code == UNAUTHENTICATED
    assert moto.calls() == [GET], "the same credentials are not tried again"
    write_keys(aws_files, good)
    assert provider.get(f"{name}/0", None).content.reveal().decode() == f"{name}/0"


def test_credentials_may_come_later(moto: Moto, open_provider: Open, aws_files: Path, name: str) -> None:
    fill(moto, name, 1)
    provider = open_provider({"region": REGION, "endpoint_url": moto.endpoint})
    assert failure(provider, f"{name}/0").code == UNAUTHENTICATED
    write_keys(aws_files, ("testing", "testing"))
    assert provider.get(f"{name}/0", None)


def test_the_profile_decides_which_keys_are_used(moto: Moto, open_provider: Open, aws_files: Path, name: str) -> None:
    fill(moto, name, 1)
    keys = moto.user(f"profile-{secrets.token_hex(4)}", "secretsmanager:GetSecretValue")
    moto.check_credentials()
    write_keys(aws_files, keys, "prod")
    config = {"region": REGION, "endpoint_url": moto.endpoint}
    assert open_provider({**config, "profile": "prod"}).get(f"{name}/0", None)
    assert failure(open_provider(config), f"{name}/0").code == UNAUTHENTICATED


def test_a_role_is_assumed_once_with_its_names(moto: Moto, open_provider: Open, name: str) -> None:
    requests = fill(moto, name, 25)
    role = "arn:aws:iam::123456789012:role/reader"
    more = {"role_arn": role, "external_id": "ours", "session_name": "dso-prod", "sts_endpoint_url": moto.endpoint}
    provider = open_provider(settings(moto, **more))
    assert moto.calls() == []
    assert values(provider.get_many(requests)) == [request.path for request in requests]
    asked = [call for call in moto.calls() if call.startswith("sts.")]
    assert len(asked) == 1
    assert asked[0].startswith("sts.AssumeRole?ExternalId=ours&RoleArn=arn%3Aaws%3Aiam")
    assert asked[0].endswith("&RoleSessionName=dso-prod")


def test_a_role_that_may_not_be_assumed_is_told(moto: Moto, open_provider: Open, name: str) -> None:
    keys = moto.user(f"norole-{secrets.token_hex(4)}", "secretsmanager:GetSecretValue")
    moto.check_credentials()
    role = "arn:aws:iam::123456789012:role/forbidden"
    error = failure(open_provider(settings(moto, keys, role_arn=role, sts_endpoint_url=moto.endpoint)), name)
    assert error.code == UNAUTHENTICATED
    assert role in error.message


def test_the_token_of_a_kubernetes_service_account_is_exchanged(
    moto: Moto, open_provider: Open, aws_files: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(moto, name, 1)
    (aws_files / "token").write_text("a.web.token")
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(aws_files / "token"))
    monkeypatch.setenv("AWS_ROLE_ARN", "arn:aws:iam::123456789012:role/pod")
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", moto.endpoint)
    assert open_provider({"region": REGION, "endpoint_url": moto.endpoint}).get(f"{name}/0", None)
    assert [call.partition("?")[0] for call in moto.calls()] == ["sts.AssumeRoleWithWebIdentity", GET]


def test_a_program_may_give_the_credentials(moto: Moto, open_provider: Open, aws_files: Path, name: str) -> None:
    fill(moto, name, 1)
    keys = moto.user(f"program-{secrets.token_hex(4)}", "secretsmanager:GetSecretValue")
    moto.check_credentials()
    answer = json.dumps({"Version": 1, "AccessKeyId": keys[0], "SecretAccessKey": keys[1]})
    (aws_files / "answer").write_text(answer)
    command = f"{sys.executable} -c \"print(open('{aws_files}/answer').read())\""
    (aws_files / "config").write_text(f"[profile prod]\nregion = {REGION}\ncredential_process = {command}\n")
    assert open_provider({"profile": "prod", "endpoint_url": moto.endpoint}).get(f"{name}/0", None)


def test_check_takes_no_permission_but_good_credentials(moto: Moto, open_provider: Open) -> None:
    nothing = moto.user(f"nothing-{secrets.token_hex(4)}")
    moto.check_credentials()
    open_provider(settings(moto, nothing)).check()
    with pytest.raises(ProviderError) as raised:
        open_provider(settings(moto, (nothing[0], "wrong"))).check()
    assert raised.value.code == UNAUTHENTICATED
    moto.reset()
    open_provider(settings(moto, nothing)).check()
    assert moto.calls() == [GET]


# TLS


def test_certificates_are_checked_against_the_authorities_that_are_named(open_provider: Open, tmp_path: Path) -> None:
    made = Certificates(str(tmp_path / "tls"))
    with Moto(made.path("server-cert.pem"), made.path("server-key.pem")) as secure:
        strange = failure(open_provider(settings(secure), timeout=2), "a")
        assert strange.code == UNAVAILABLE
        assert "tls: {ca_cert: FILE}" in strange.message
        trusted = open_provider(settings(secure, tls={"ca_cert": made.path("ca.pem")}))
        assert failure(trusted, "a").code == NOT_FOUND
