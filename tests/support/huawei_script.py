"""A Huawei provider whose session answers from a script, and the answers of CSMS."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from dso.protocol.provider import ProviderError
from dso.providers.huawei import HuaweiProvider
from tests.support.plugin import HANG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.scripted_session import Script

PROJECT = "p" * 32
HOST = "https://kms.cn-north-4.myhuaweicloud.com"
CREATED = 1_581_507_580
CONFIG = {
    "region": "cn-north-4",
    "project_id": PROJECT,
    "auth": {"method": "aksk", "access_key": "AKCANARY", "secret_key": "canary"},
}


@contextmanager
def scripted(script: Script) -> Iterator[HuaweiProvider]:
    """A provider that asks the script."""
    provider = HuaweiProvider.open("huawei-north", CONFIG, HANG)
    script.play(provider._session)
    yield provider
    provider.close()


def version(number: str = "v2", **value: Any) -> dict[str, Any]:
    """An answer of ShowSecretVersion."""
    metadata = {"id": number, "create_time": CREATED * 1000, "expire_time": None, "secret_name": "prod-db"}
    metadata |= {key: value.pop(key) for key in ("create_time", "expire_time") if key in value}
    return {"version": {"version_metadata": metadata, **(value or {"secret_string": "canary"})}}


def stage(number: Any = "v1") -> dict[str, Any]:
    """An answer of ShowSecretStage."""
    return {"stage": {"name": "SYSPREVIOUS", "secret_name": "prod-db", "version_id": number}}


def error(code: str) -> dict[str, str]:
    return {"error_code": code, "error_msg": "canary AKCANARY"}


def failure(provider: HuaweiProvider, path: str = "prod-db", number: str | None = None) -> ProviderError:
    with pytest.raises(ProviderError) as found:
        provider.get(path, number)
    assert found.value.message.startswith("huawei-north: ")
    assert "canary" not in found.value.message.lower()
    return found.value


def reads(script: Script) -> list[str]:
    """What was asked of CSMS, without where it is."""
    beginning = f"GET {HOST}/v1/{PROJECT}/secrets/"
    assert all(asked.startswith(beginning) for asked in script.asked())
    return [asked.removeprefix(beginning) for asked in script.asked()]
