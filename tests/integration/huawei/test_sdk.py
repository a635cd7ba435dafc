"""The tests' Huawei Cloud and Huawei Cloud's own SDK, unmodified, understand each other."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

import pytest

from tests.servers.huawei_iam import READ, Keys
from tests.support.huawei import IAM, REGION, HuaweiCloud
from tests.support.process import PYTHON, environment

if TYPE_CHECKING:
    from collections.abc import Iterator

# A process of its own: DSO's provider leaves parts of the SDK out, for the whole of its process.
CLIENT = """
import json, sys
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException
from huaweicloudsdkcsms.v1 import CsmsClient
from huaweicloudsdkcsms.v1.model import (
    ListSecretsRequest, ListSecretVersionsRequest, ShowSecretRequest, ShowSecretStageRequest, ShowSecretVersionRequest)
from huaweicloudsdkcsms.v1.region.csms_region import CsmsRegion

region, project, access, secret, token = json.load(sys.stdin)
credentials = BasicCredentials(access, secret, project)
if token:
    credentials.with_security_token(token)
try:
    builder = CsmsClient.new_builder().with_credentials(credentials)
    client = builder.with_region(CsmsRegion.value_of(region)).build()
    answers = [
        client.show_secret_version(ShowSecretVersionRequest(secret_name="text", version_id="latest")),
        client.show_secret_version(ShowSecretVersionRequest(secret_name="binary", version_id="v1")),
        client.show_secret_stage(ShowSecretStageRequest(secret_name="text", stage_name="SYSCURRENT")),
        client.show_secret(ShowSecretRequest(secret_name="text")),
        client.list_secrets(ListSecretsRequest(limit="1", marker="text")),
        client.list_secret_versions(ListSecretVersionsRequest(secret_name="text")),
    ]
    print(json.dumps([answer.to_dict() for answer in answers]))
except ServiceResponseException as error:
    print(json.dumps([error.status_code, error.error_code]))
"""
EVERYTHING = (*READ, "csms:secret:list", "csms:secret:get", "csms:secretVersion:list", "iam:projects:listProjects")


@pytest.fixture
def huawei() -> Iterator[HuaweiCloud]:
    with HuaweiCloud() as huawei:
        huawei.put("text", 'välue ☃ "1"', "blue")
        huawei.put("binary", b"\x00\xff")
        yield huawei


def run(huawei: HuaweiCloud, keys: Keys, project: str | None = None) -> list[Any]:
    """What the SDK makes of the answers to a client with these keys; it asks IAM for the project if it is told none."""
    asked = json.dumps([REGION, project, *keys])
    argv = [PYTHON, "-W", "ignore", "-c", CLIENT]
    with tempfile.TemporaryDirectory() as home:  # the SDK leaves a file in it
        env = environment(home, {**huawei.environment(), "REQUESTS_CA_BUNDLE": huawei.ca_cert})
        done = subprocess.run(argv, input=asked, env=env, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert isinstance(found, list)
    return found


@pytest.mark.parametrize("kind", ["permanent", "temporary"])
def test_the_sdk_reads_all_there_is_with_its_own_signatures(huawei: HuaweiCloud, kind: str) -> None:
    keys = huawei.iam.user(*EVERYTHING) if kind == "permanent" else huawei.iam.temporary(*EVERYTHING)
    text, binary, stage, secret, listed, versions = run(huawei, keys)
    assert text["version"]["secret_string"] == 'välue ☃ "1"'
    assert text["version"]["version_metadata"]["version_stages"] == ["SYSCURRENT", "blue"]
    assert binary["version"]["secret_binary"] == "AP8="
    assert stage["stage"]["version_id"] == "v1"
    assert secret["secret"]["state"] == "ENABLED"
    assert [each["name"] for each in listed["secrets"]] == ["text"]
    assert [each["id"] for each in versions["version_metadatas"]] == ["v1"]
    assert len(huawei.requests(IAM)) == 1
    assert huawei.reads()[0] == "text/versions/latest"


def test_the_sdk_with_a_wrong_key_is_refused(huawei: HuaweiCloud) -> None:
    keys = huawei.iam.user(*EVERYTHING)._replace(secret="wrong")
    assert run(huawei, keys, huawei.iam.projects[REGION]) == [401, "APIGW.0301"]
