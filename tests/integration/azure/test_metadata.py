"""Managed identities of virtual machines: the metadata service at its real address, in a network of the test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self
from urllib.parse import unquote

import pytest

from dso.protocol.codes import PERMISSION_DENIED, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.azure_metadata import IMDS_PATH
from tests.support.azure import METADATA, AzureCloud
from tests.support.cloud_machine import CloudMachine
from tests.support.connect_proxy import ConnectProxy
from tests.support.http_proxy import Reply
from tests.support.network import OwnNetwork
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Iterator

NAME = "metadata-secret"


class VirtualMachine(CloudMachine[AzureCloud]):
    """One of Azure's, with a secret in a vault of the same cloud."""

    def __init__(self) -> None:
        super().__init__(lambda proxy: AzureCloud(proxy=proxy))

    def __enter__(self) -> Self:
        super().__enter__()
        self.azure.put(NAME, "x")
        return self

    @property
    def azure(self) -> AzureCloud:
        return self.cloud

    def plugin(self, environment: dict[str, str] | None = None, *, variant: str = "source") -> Plugin:
        """A plugin that runs there."""
        return self.inside("dso-provider-azure", environment, variant=variant)


@pytest.fixture(scope="module")
def shared() -> Iterator[VirtualMachine]:
    with VirtualMachine() as found:
        yield found


@pytest.fixture
def machine(shared: VirtualMachine) -> Iterator[VirtualMachine]:
    shared.azure.clear()
    shared.service.clear()
    yield shared
    shared.azure.recover()
    shared.azure.metadata.system = None
    shared.azure.metadata.users.clear()


def config(machine: VirtualMachine, method: str = "managed_identity", **parameters: Any) -> dict[str, Any]:
    return machine.azure.settings(auth={"method": method, **parameters})


def refusal(plugin: Plugin) -> ProviderError:
    """What it says to `get` and `check` alike."""
    found = plugin.get(NAME)
    assert isinstance(found, ProviderError)
    assert plugin.call("check").code == found.code
    assert "tested" in found.message
    return found


@pytest.mark.parametrize("variant", ["source", "frozen"])
def test_identity_of_the_machine(machine: VirtualMachine, variant: str):
    machine.azure.metadata.system = machine.azure.reader()
    with machine.plugin(variant=variant) as plugin:
        plugin.initialize(config(machine))
        for _ in range(3):
            found = plugin.get(NAME)
            assert isinstance(found, SecretData), found
            assert found.content.reveal() == b"x"
    asked = machine.service.requests(f"GET {IMDS_PATH}")
    assert len(asked) == 1
    assert unquote(asked[0]).endswith("&resource=https://vault.azure.net")


def test_metadata_service_is_never_asked_through_a_proxy(machine: VirtualMachine):
    """`HTTP_PROXY` and `ALL_PROXY` name one as well."""
    machine.azure.metadata.system = machine.azure.reader()
    proxies = dict.fromkeys(["HTTP_PROXY", "http_proxy", "ALL_PROXY"], machine.azure.proxy.address)
    with machine.plugin(proxies) as plugin:
        plugin.initialize(config(machine))
        assert isinstance(plugin.get(NAME), SecretData)
    assert set(machine.azure.proxy.hosts()) == {machine.azure.vault.url.removeprefix("https://")}


def test_identity_that_was_assigned_is_picked_by_its_client_id(machine: VirtualMachine):
    azure = machine.azure
    reader, other = azure.reader(), azure.entra.register()
    azure.metadata.users += [reader, other]
    with machine.plugin() as plugin:
        plugin.initialize(config(machine, client_id=reader.client_id))
        assert isinstance(plugin.get(NAME), SecretData)
    with machine.plugin() as plugin:
        plugin.initialize(config(machine, client_id=other.client_id))
        found = plugin.get(NAME)
        assert isinstance(found, ProviderError)
        assert found.code == PERMISSION_DENIED
    asked = machine.service.requests(f"GET {IMDS_PATH}")
    assert f"client_id={reader.client_id}" in asked[0]


def test_machine_without_an_identity_says_so(machine: VirtualMachine):
    with machine.plugin() as plugin:
        plugin.initialize(config(machine))
        error = refusal(plugin)
    assert error.code == UNAUTHENTICATED
    assert "managed identity" in error.message


def test_identity_the_machine_does_not_have_is_refused(machine: VirtualMachine):
    machine.azure.metadata.system = machine.azure.reader()
    with machine.plugin() as plugin:
        plugin.initialize(config(machine, client_id="00000000-1111-2222-3333-444444444444"))
        error = refusal(plugin)
    assert error.code == UNAUTHENTICATED
    assert "client_id" in error.message


def test_identity_that_was_assigned_later_is_found(machine: VirtualMachine):
    with machine.plugin() as plugin:
        plugin.initialize(config(machine))
        assert refusal(plugin).code == UNAUTHENTICATED
        machine.azure.metadata.system = machine.azure.reader()
        assert isinstance(plugin.get(NAME), SecretData)


def test_metadata_service_that_is_busy_for_a_moment_is_asked_again(machine: VirtualMachine):
    machine.azure.metadata.system = machine.azure.reader()
    machine.azure.fail(Reply(429, b"{}", {"Retry-After": "0"}), times=2, at=METADATA)
    with machine.plugin() as plugin:
        plugin.initialize(config(machine), timeout=30)
        assert isinstance(plugin.get(NAME), SecretData)
    assert len(machine.service.requests(f"GET {IMDS_PATH}")) == 3


def test_without_a_metadata_service_it_is_said_what_is_missing():
    """No machine of Azure's: nothing answers at the address."""
    with (
        OwnNetwork() as network,
        ConnectProxy(listener=network.listen("127.0.0.1")) as proxy,
        AzureCloud(proxy=proxy) as azure,
    ):
        argv = network.inside(plugin_argv("dso-provider-azure", "source"))
        messages = []
        for method in ("managed_identity", "default"):
            with Plugin(argv, azure.environment()) as plugin:
                plugin.initialize(azure.settings(auth={"method": method}), timeout=5)
                error = refusal(plugin)
                assert error.code in (UNAUTHENTICATED, UNAVAILABLE)
                messages.append(error.message)
    assert all("identity" in message for message in messages)
    assert "AZURE_" in messages[1]


def test_metadata_service_that_hangs_is_not_taken_for_a_vault_that_does():
    with VirtualMachine() as machine:
        machine.service.delay = 60.0
        with machine.plugin() as plugin:
            plugin.initialize(config(machine), timeout=2)
            error = refusal(plugin)
    assert error.code in (UNAUTHENTICATED, UNAVAILABLE)
    assert "managed identity" in error.message
    assert "Key Vault" not in error.message


def test_default_falls_through_to_the_identity_of_the_machine(machine: VirtualMachine):
    machine.azure.metadata.system = machine.azure.reader()
    with machine.plugin() as plugin:
        plugin.initialize(config(machine, "default"))
        found = plugin.get(NAME)
        assert isinstance(found, SecretData), found


def test_default_prefers_what_the_environment_names(machine: VirtualMachine):
    azure = machine.azure
    azure.metadata.system = azure.entra.register()  # may not read
    variables = {
        "AZURE_TENANT_ID": azure.entra.tenant,
        "AZURE_CLIENT_ID": azure.application.client_id,
        "AZURE_CLIENT_SECRET": azure.client_secret,
    }
    with machine.plugin(variables) as plugin:
        plugin.initialize(config(machine, "default"))
        assert isinstance(plugin.get(NAME), SecretData)
    assert machine.service.requests() == []
