"""azure-identity without cryptography, and with it where a certificate is used."""

from __future__ import annotations

import pytest

from tests.support.process import PYTHON, run

PREPARE = """
import sys
from dso.providers.azure_identity import identity
def loaded():
    return any(name.startswith("cryptography") for name in sys.modules)
"""


def python(code: str, *arguments: str) -> str:
    return run([PYTHON, "-c", PREPARE + code, *arguments]).out.strip()


def test_nothing_of_cryptography_is_loaded_until_a_certificate_is() -> None:
    code = """
identity.ClientSecretCredential("t", "c", "s")
identity.ManagedIdentityCredential()
identity.DefaultAzureCredential()
assert not loaded()
try:
    identity.CertificateCredential("t", "c", certificate_data=b"-----BEGIN no certificate")
except ValueError:
    print(loaded())
"""
    assert python(code) == "True"


@pytest.mark.parametrize("form", ["pem", "pkcs12"])
def test_a_certificate_is_read_as_it_is_without_stand_ins(form: str) -> None:
    """Key and certificate are made in a process that has cryptography from the start, and so has no stand-ins."""
    make = """
import base64, datetime as dt, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12
from dso.providers.azure_identity import identity
from azure.identity._credentials.certificate import get_client_credential
key = rsa.generate_private_key(65537, 2048)
name = x509.Name([])
day = dt.timedelta(days=1)
now = dt.datetime.now(dt.UTC)
builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now - day, now + day)
certificate = builder.sign(key, hashes.SHA256())
if sys.argv[1] == "pem":
    data = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate.public_bytes(Encoding.PEM)
else:
    data = pkcs12.serialize_key_and_certificates(b"x", key, certificate, None, NoEncryption())
print(base64.b64encode(data).decode(), get_client_credential(certificate_data=data)["thumbprint"])
"""
    data, thumbprint = run([PYTHON, "-c", make, form]).out.split()
    code = """
import base64
from azure.identity._credentials.certificate import get_client_credential
assert not loaded()
print(get_client_credential(certificate_data=base64.b64decode(sys.argv[1]))["thumbprint"])
"""
    assert python(code, data) == thumbprint
