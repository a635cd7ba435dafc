"""Every way to log in to Azure, refused ones too, and what becomes of the token."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import pkcs12

from dso.protocol.codes import INVALID_CONFIG, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from tests.servers.azure_entra import Federation
from tests.servers.azure_tokens import SigningKey
from tests.support.azure import VALUE, AzureCloud, fault, provider, read
from tests.support.azure_identity import (
    PASSWORD,
    SUBJECT,
    Identity,
    certificate_auth,
    kubernetes,
    self_signed,
    with_auth,
)
from tests.support.plugin import Plugin, plugin_argv

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from tests.servers.azure_entra import Application

NAME = "auth-secret"


def assert_reads(azure: AzureCloud, config: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
    with provider(config, {**azure.environment(), **(environment or {})}) as opened:
        opened.check()
        assert read(opened, NAME) == VALUE.encode()


def assert_refused(
    azure: AzureCloud, config: Mapping[str, Any], *words: str, environment: Mapping[str, str] | None = None
) -> ProviderError:
    """Reading and checking must both say that the credentials are wrong, with these words."""
    with provider(config, {**azure.environment(), **(environment or {})}) as opened:
        for call in (lambda: opened.get(NAME, None), opened.check):
            error = fault(call)
            assert error.code == UNAUTHENTICATED, error.message
            assert [word for word in words if word not in error.message] == [], error.message
    return error


# client_secret


def test_client_secret(azure: AzureCloud):
    assert_reads(azure, azure.settings())
    assert set(azure.proxy.hosts()) == {"login.microsoftonline.com", azure.vault.url.removeprefix("https://")}


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        ("client_secret", ["7000215", "client_secret"]),
        ("client_id", ["700016", "client_id"]),
        ("tenant_id", ["tenant"]),
    ],
)
def test_client_secret_refused(azure: AzureCloud, parameter: str, words: list[str]):
    auth = {**azure.settings()["auth"], parameter: "00000000-1111-2222-3333-444444444444"}
    error = assert_refused(azure, azure.settings(auth=auth), *words)
    assert azure.client_secret not in error.message
    if parameter == "client_secret":
        assert auth["client_secret"] not in error.message


def test_vault_of_another_tenant():
    other = "11111111-2222-3333-4444-555555555555"
    with AzureCloud() as azure:
        azure.vault.authorization = f"https://{azure.cloud.login}/{other}"
        assert_refused(azure, azure.settings(), "auth.tenant_id", other)
        assert azure.logins() == 0


def test_tenant_may_be_given_as_one_of_its_domains(azure: AzureCloud):
    azure.entra.domains.append("tests.onmicrosoft.com")
    auth = {**azure.settings()["auth"], "tenant_id": "tests.onmicrosoft.com"}
    assert_reads(azure, azure.settings(auth=auth))


# client_certificate


@pytest.fixture(scope="module")
def identity() -> Identity:
    return Identity.new()


@pytest.fixture
def certified(azure: AzureCloud, identity: Identity) -> Application:
    """An application that may log in with the certificate."""
    found = azure.reader()
    found.certificates.append(identity.certificate)
    return found


@pytest.mark.parametrize("form", ["pem", "pem with password", "pkcs12", "pkcs12 with password"])
def test_client_certificate(azure: AzureCloud, certified: Application, identity: Identity, tmp_path: Path, form: str):
    """Entra verifies the signature with the registered certificate: tests/servers/azure_entra.py."""
    password = PASSWORD if "password" in form else ""
    path = tmp_path / "identity"
    if form == "pkcs12":
        bare = serialization.NoEncryption()
        path.write_bytes(pkcs12.serialize_key_and_certificates(b"x", identity.key, identity.certificate, None, bare))
    else:
        path.write_bytes(identity.pem(password) if form.startswith("pem") else identity.pkcs12(password))
    assert_reads(azure, certificate_auth(azure, certified, path, password))
    (login,) = [seen for seen in azure.server.seen if seen.path.endswith("/token")]
    assert b"client_secret" not in login.body
    assert PASSWORD.encode() not in login.body


def test_frozen_plugin_logs_in_by_certificate_and_by_federated_token(
    azure: AzureCloud,
    certified: Application,
    identity: Identity,
    workload: Application,
    federation: Federation,
    tmp_path: Path,
):
    """What these need of cryptography is in the program."""
    (tmp_path / "pem").write_bytes(identity.pem(PASSWORD))
    (tmp_path / "pfx").write_bytes(identity.pkcs12(PASSWORD))
    (tmp_path / "token").write_text(federation.token())
    parameters = {"tenant_id": azure.entra.tenant, "client_id": workload.client_id}
    for config in (
        certificate_auth(azure, certified, tmp_path / "pem", PASSWORD),
        certificate_auth(azure, certified, tmp_path / "pfx", PASSWORD),
        with_auth(azure, "workload_identity", **parameters, token_file=str(tmp_path / "token")),
    ):
        with Plugin(plugin_argv("dso-provider-azure", "frozen"), azure.environment()) as plugin:
            plugin.initialize(config)
            found = plugin.get(NAME)
            assert isinstance(found, SecretData), found


def test_certificate_that_the_application_does_not_have_is_refused(azure: AzureCloud, tmp_path: Path):
    application = azure.reader()
    application.certificates.append(Identity.new().certificate)
    (tmp_path / "identity").write_bytes(Identity.new().pem())
    assert_refused(azure, certificate_auth(azure, application, tmp_path / "identity"), "700027", "certificate")


def test_certificate_with_a_key_that_is_not_its_own_is_refused(
    azure: AzureCloud, certified: Application, identity: Identity, tmp_path: Path
):
    """The thumbprint is that of a registered certificate, the signature is not."""
    (tmp_path / "identity").write_bytes(Identity(identity.certificate, Identity.new().key).pem())
    assert_refused(azure, certificate_auth(azure, certified, tmp_path / "identity"), "700027")


BAD_FILES: dict[str, Any] = {
    "missing": lambda _identity: None,
    "empty": lambda _identity: b"",
    "text": lambda _identity: b"certificate",
    "without a key": lambda identity: identity.certificate.public_bytes(serialization.Encoding.PEM),
    "without a certificate": lambda identity: identity.pem().partition(b"-----BEGIN CERT")[0],
    "with another password": lambda identity: identity.pkcs12("another"),
    "with a key of another kind": lambda _identity: elliptic(),
}


def elliptic() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    form = serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    return plain + self_signed(key).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("what", BAD_FILES)
def test_certificate_file_that_cannot_be_used_is_a_fault_of_the_settings(
    azure: AzureCloud, certified: Application, identity: Identity, tmp_path: Path, what: str
):
    path = tmp_path / "identity"
    content = BAD_FILES[what](identity)
    if content is not None:
        path.write_bytes(content)
    error = fault(lambda: provider(certificate_auth(azure, certified, path, PASSWORD), {}).__enter__())
    assert error.code == INVALID_CONFIG
    assert str(path) in error.message
    assert PASSWORD not in error.message


def test_certificate_that_is_replaced_is_used_for_the_next_login(
    azure: AzureCloud, certified: Application, identity: Identity, tmp_path: Path
):
    path = tmp_path / "identity"
    path.write_bytes(identity.pem())
    azure.entra.lifetime = 60  # so that each request logs in
    renewed = Identity.new()
    with provider(certificate_auth(azure, certified, path), azure.environment()) as opened:
        assert read(opened, NAME) == VALUE.encode()
        certified.certificates[:] = [renewed.certificate]
        path.write_bytes(renewed.pem())
        assert read(opened, NAME) == VALUE.encode()


# workload_identity


@pytest.fixture
def federation(azure: AzureCloud) -> Federation:
    return Federation("https://oidc.cluster.example", SUBJECT, SigningKey())


@pytest.fixture
def workload(azure: AzureCloud, federation: Federation) -> Application:
    found = azure.reader()
    found.federations.append(federation)
    return found


def test_workload_identity(azure: AzureCloud, workload: Application, federation: Federation, tmp_path: Path):
    file = tmp_path / "token"
    file.write_text(federation.token())
    parameters = {"tenant_id": azure.entra.tenant, "client_id": workload.client_id, "token_file": str(file)}
    assert_reads(azure, with_auth(azure, "workload_identity", **parameters))
    assert_reads(azure, with_auth(azure, "workload_identity"), kubernetes(azure, workload, file))


@pytest.mark.parametrize(
    ("claims", "number"),
    [
        ({"sub": "system:serviceaccount:shop:other"}, "700213"),
        ({"iss": "https://other.example"}, "700211"),
        ({"aud": "dso"}, "700212"),
        ({"exp": 1_000_000_000}, "700024"),
    ],
)
def test_workload_identity_refused(
    azure: AzureCloud,
    workload: Application,
    federation: Federation,
    tmp_path: Path,
    claims: dict[str, Any],
    number: str,
):
    file = tmp_path / "token"
    file.write_text(federation.token(**claims))
    environment = kubernetes(azure, workload, file)
    error = assert_refused(azure, with_auth(azure, "workload_identity"), number, environment=environment)
    assert file.read_text() not in error.message


def test_workload_token_that_somebody_else_has_signed_is_refused(
    azure: AzureCloud, workload: Application, federation: Federation, tmp_path: Path
):
    file = tmp_path / "token"
    file.write_text(federation._replace(key=SigningKey()).token())
    assert_refused(azure, with_auth(azure, "workload_identity"), environment=kubernetes(azure, workload, file))


def test_workload_token_file_is_read_again_for_each_login(
    azure: AzureCloud, workload: Application, federation: Federation, tmp_path: Path
):
    file = tmp_path / "token"
    with provider(
        with_auth(azure, "workload_identity"), {**azure.environment(), **kubernetes(azure, workload, file)}
    ) as opened:
        error = fault(lambda: opened.get(NAME, None))
        assert str(file) in error.message
        assert error.code in (UNAUTHENTICATED, UNAVAILABLE)
        file.write_text(federation.token(exp=1_000_000_000))
        assert fault(lambda: opened.get(NAME, None)).code == UNAUTHENTICATED
        file.write_text(federation.token())
        assert read(opened, NAME) == VALUE.encode()


def test_workload_identity_without_its_variables_is_a_fault_of_the_settings(azure: AzureCloud):
    error = fault(lambda: provider(with_auth(azure, "workload_identity"), {}).__enter__())
    assert error.code == INVALID_CONFIG
    assert "AZURE_TENANT_ID" in error.message


# managed_identity in App Service; on a virtual machine: tests/integration/azure/test_metadata.py


def test_identity_of_an_app_service(azure: AzureCloud):
    azure.metadata.system = azure.reader()
    assert_reads(azure, with_auth(azure, "managed_identity"), azure.app_service())
    assert azure.logins() == 0
    assert set(azure.proxy.hosts()) == {azure.vault.url.removeprefix("https://")}


def test_identity_that_was_assigned_to_an_app_service_is_picked_by_its_client_id(azure: AzureCloud):
    azure.metadata.users += [azure.reader(), azure.entra.register(), azure.reader()]
    for identity, may_read in zip(azure.metadata.users, [True, False, True], strict=True):
        config = with_auth(azure, "managed_identity", client_id=identity.client_id)
        with provider(config, {**azure.environment(), **azure.app_service()}) as opened:
            if may_read:
                assert read(opened, NAME) == VALUE.encode()
            else:
                assert identity.object_id not in azure.vault.readers
                assert fault(lambda opened=opened: opened.get(NAME, None)).code == "permission_denied"  # type: ignore[misc]


def test_app_service_refuses(azure: AzureCloud):
    environment = azure.app_service()
    assert_refused(azure, with_auth(azure, "managed_identity"), "managed identity", environment=environment)
    azure.metadata.system = azure.reader()
    config = with_auth(azure, "managed_identity", client_id="00000000-1111-2222-3333-444444444444")
    assert_refused(azure, config, "client_id", environment=environment)
    wrong = {**environment, "IDENTITY_HEADER": "wrong-header-6a1e"}
    error = assert_refused(azure, with_auth(azure, "managed_identity"), environment=wrong)
    assert "wrong-header-6a1e" not in error.message


# default


def test_default_takes_a_client_secret_of_the_environment(azure: AzureCloud):
    environment = {
        "AZURE_TENANT_ID": azure.entra.tenant,
        "AZURE_CLIENT_ID": azure.application.client_id,
        "AZURE_CLIENT_SECRET": azure.client_secret,
    }
    assert_reads(azure, with_auth(azure, "default"), environment)
    config = {key: value for key, value in azure.settings().items() if key != "auth"}
    assert_reads(azure, config, environment)
    wrong = {**environment, "AZURE_CLIENT_SECRET": "Q~wrong-1f3c"}
    error = assert_refused(azure, with_auth(azure, "default"), "7000215", environment=wrong)
    assert "Q~wrong-1f3c" not in error.message


def test_default_takes_a_certificate_of_the_environment(
    azure: AzureCloud, certified: Application, identity: Identity, tmp_path: Path
):
    (tmp_path / "identity.pem").write_bytes(identity.pem(PASSWORD))
    environment = {
        "AZURE_TENANT_ID": azure.entra.tenant,
        "AZURE_CLIENT_ID": certified.client_id,
        "AZURE_CLIENT_CERTIFICATE_PATH": str(tmp_path / "identity.pem"),
        "AZURE_CLIENT_CERTIFICATE_PASSWORD": PASSWORD,
    }
    assert_reads(azure, with_auth(azure, "default"), environment)


def test_default_takes_a_workload_identity(
    azure: AzureCloud, workload: Application, federation: Federation, tmp_path: Path
):
    (tmp_path / "token").write_text(federation.token())
    assert_reads(azure, with_auth(azure, "default"), kubernetes(azure, workload, tmp_path / "token"))


def test_default_takes_the_identity_of_an_app_service(azure: AzureCloud):
    azure.metadata.system = azure.reader()
    assert_reads(azure, with_auth(azure, "default"), azure.app_service())
