"""Credentials for the tests of Azure: certificates, and settings and variables that name them."""

from __future__ import annotations

import datetime as dt
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import pkcs12
from cryptography.x509.oid import NameOID

if TYPE_CHECKING:
    from pathlib import Path

    from tests.servers.azure_entra import Application
    from tests.support.azure import AzureCloud

PASSWORD = "p ässwörd-4b7f"  # of certificates
SUBJECT = "system:serviceaccount:shop:dso"


class Identity(NamedTuple):
    """A certificate that an application logs in with, and its key."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey

    @classmethod
    def new(cls) -> Identity:
        key = rsa.generate_private_key(65537, 2048)
        return cls(self_signed(key), key)

    def pem(self, password: str = "") -> bytes:
        how: serialization.KeySerializationEncryption = serialization.NoEncryption()
        if password:
            how = serialization.BestAvailableEncryption(password.encode())
        key = self.key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, how)
        return key + self.certificate.public_bytes(serialization.Encoding.PEM)

    def pkcs12(self, password: str) -> bytes:
        how = serialization.BestAvailableEncryption(password.encode())
        return pkcs12.serialize_key_and_certificates(b"dso", self.key, self.certificate, None, how)


def self_signed(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dso tests")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    day = dt.timedelta(days=1)
    return builder.not_valid_before(now - day).not_valid_after(now + day).sign(key, hashes.SHA256())


def with_auth(azure: AzureCloud, method: str, **parameters: Any) -> dict[str, Any]:
    return azure.settings(auth={"method": method, **parameters})


def certificate_auth(azure: AzureCloud, application: Application, path: Path, password: str = "") -> dict[str, Any]:
    parameters = {"tenant_id": azure.entra.tenant, "client_id": application.client_id, "certificate_path": str(path)}
    more = {"certificate_password": password} if password else {}
    return with_auth(azure, "client_certificate", **parameters, **more)


def kubernetes(azure: AzureCloud, workload: Application, token_file: Path) -> dict[str, str]:
    """The variables that Kubernetes sets."""
    return {
        "AZURE_TENANT_ID": azure.entra.tenant,
        "AZURE_CLIENT_ID": workload.client_id,
        "AZURE_FEDERATED_TOKEN_FILE": str(token_file),
        "AZURE_AUTHORITY_HOST": "https://login.microsoftonline.com/",
    }
