"""`dso-provider-huawei` keeps the contract, with a server that verifies its signatures, under the production names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.backend import Backend
from tests.contract.provider_contract import OwnPlugin
from tests.servers.huawei_csms import LARGEST
from tests.servers.huawei_iam import READ
from tests.support.huawei import HuaweiCloud

if TYPE_CHECKING:
    from collections.abc import Iterator


class Huawei(Backend):
    """CSMS, read by a user who may read values and nothing else."""

    type = "huawei"
    kinds = ("text", "binary")
    largest = LARGEST
    odd_names = ("/a_b.c-d", "/..a")

    def __init__(self, huawei: HuaweiCloud) -> None:
        self._huawei = huawei
        self.env = huawei.environment()
        reader, temporary = huawei.iam.user(*READ), huawei.iam.temporary(*READ)
        unknown = reader._replace(access="NOBODYKNOWSTHISKEY00")
        wrong = reader._replace(secret="wrong-wrong-wrong-wrong-wrong-wrong-wrong")
        expired = huawei.iam.temporary(*READ, seconds=-1)
        tokenless = temporary._replace(token="")
        bad = [unknown, wrong, expired, tokenless, temporary._replace(token=expired.token)]
        self.config = huawei.settings(reader)
        self.unreachable = huawei.settings(reader, endpoint="https://127.0.0.1:9")
        self.bad_credentials = [huawei.settings(keys) for keys in bad]
        self.credentials = sorted({part for keys in [reader, *bad] for part in keys if part})

    def put(self, path: str, content: bytes, kind: str) -> str:
        return self._huawei.put(path, content.decode() if kind == "text" else content)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with HuaweiCloud() as huawei:
        yield Huawei(huawei)


class TestHuawei(OwnPlugin):
    program = "dso-provider-huawei"
