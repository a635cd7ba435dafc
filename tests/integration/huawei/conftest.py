"""What the tests of the Huawei provider share: a cloud, a provider that reads it, a secret."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

import pytest

from tests.support.huawei import HuaweiCloud, provider

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dso.providers.huawei import HuaweiProvider


@pytest.fixture(scope="module")
def shared() -> Iterator[HuaweiCloud]:
    with HuaweiCloud() as found:
        yield found


@pytest.fixture
def huawei(shared: HuaweiCloud) -> Iterator[HuaweiCloud]:
    """The module's cloud, as it usually answers; it has forgotten what it was asked before."""
    shared.clear()
    yield shared
    shared.recover()
    shared.proxy.mend()
    shared.iam.extra_projects.clear()


@pytest.fixture
def opened(huawei: HuaweiCloud) -> Iterator[HuaweiProvider]:
    with provider(huawei.settings(), huawei.environment()) as found:
        yield found


@pytest.fixture
def name(huawei: HuaweiCloud) -> str:
    """A secret that is there."""
    found = f"db-{secrets.token_hex(6)}"
    huawei.put(found, "value")
    return found
