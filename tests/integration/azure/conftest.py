"""What the tests of the Azure provider share: a cloud in which there is a secret called as the module's NAME says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.azure import VALUE, AzureCloud

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def shared(request: pytest.FixtureRequest) -> Iterator[AzureCloud]:
    with AzureCloud() as found:
        found.put(request.module.NAME, VALUE)
        yield found


@pytest.fixture
def azure(shared: AzureCloud) -> Iterator[AzureCloud]:
    """The module's cloud, as it usually answers; it has forgotten what it was asked before."""
    shared.clear()
    yield shared
    shared.recover()
    shared.proxy.mend()
    shared.proxy.credentials = ""
    shared.server.delay = 0.0
    shared.vault.readers.add(shared.application.object_id)
    shared.vault.claims = ""
    shared.vault.authorization = shared.entra.authority
    shared.entra.lifetime = 3600
    shared.metadata.system = None
    shared.metadata.users.clear()
