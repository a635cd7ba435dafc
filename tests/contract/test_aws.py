"""`dso-provider-aws` keeps the contract, on moto over HTTP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.contract.backend import Backend
from tests.contract.provider_contract import OwnPlugin
from tests.support.aws import Moto, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

READ = ("secretsmanager:GetSecretValue", "secretsmanager:BatchGetSecretValue")


class Aws(Backend):
    """A moto server that checks keys and permissions."""

    type = "aws"
    kinds = ("text", "binary")
    largest = 65536  # the quota of Secrets Manager
    odd_names = ("/a_b+c=d.e@f-g", "/..a/b..")
    env = {"AWS_EC2_METADATA_DISABLED": "true"}  # noqa: RUF012

    def __init__(self, moto: Moto) -> None:
        self._moto = moto
        reader = moto.user("reader", *READ)
        self._admin = moto.user("admin", "*")
        moto.check_credentials()
        wrong = ("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
        self.config = settings(moto, reader)
        self.unreachable = settings(moto, reader, endpoint_url="http://127.0.0.1:9")
        self.bad_credentials = [settings(moto, wrong), settings(moto, (reader[0], wrong[1]))]
        self.credentials = [*reader, *wrong]

    def put(self, path: str, content: bytes, kind: str) -> str:
        return self._moto.put(path, content.decode() if kind == "text" else content, self._admin)


@pytest.fixture(scope="module")
def backend() -> Iterator[Backend]:
    with Moto() as moto:
        yield Aws(moto)


class TestAws(OwnPlugin):
    program = "dso-provider-aws"
