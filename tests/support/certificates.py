"""A test CA with a server's and a client's certificate, as PEM files the way Docker wants them."""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import secrets
import ssl
from typing import TYPE_CHECKING

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

if TYPE_CHECKING:
    from collections.abc import Sequence

_DAY = dt.timedelta(days=1)


class Certificates:
    """`directory` gets ca.pem, cert.pem, key.pem (the client's, for DOCKER_CERT_PATH) and server-*.pem.

    The server's certificate is one for 127.0.0.1, and for host `names` such as *.example.com.
    """

    def __init__(self, directory: str, names: Sequence[str] = ()) -> None:
        self.directory = directory
        self._names = names
        os.makedirs(directory)
        self._ca_key = ec.generate_private_key(ec.SECP256R1())
        name = f"dso test CA {secrets.token_hex(4)}"  # among several in one bundle they are told apart by their names
        self._ca_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._write("ca.pem", self._sign(name, self._ca_key.public_key(), ca=True))
        self._issue("", "client", ExtendedKeyUsageOID.CLIENT_AUTH)
        self._issue("server-", "127.0.0.1", ExtendedKeyUsageOID.SERVER_AUTH)

    def path(self, name: str) -> str:
        return os.path.join(self.directory, name)

    def public_context(self) -> ssl.SSLContext:
        """For a server that lets in everybody."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.path("server-cert.pem"), self.path("server-key.pem"))
        return context

    def server_context(self) -> ssl.SSLContext:
        """For a server that lets in nobody without a certificate of this CA."""
        context = self.public_context()
        context.load_verify_locations(self.path("ca.pem"))
        context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _issue(self, prefix: str, name: str, usage: x509.ObjectIdentifier) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        plain = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._write(f"{prefix}key.pem", plain)
        self._write(f"{prefix}cert.pem", self._sign(name, key.public_key(), usage=usage))

    def _sign(
        self, name: str, key: ec.EllipticCurvePublicKey, *, ca: bool = False, usage: x509.ObjectIdentifier | None = None
    ) -> bytes:
        now = dt.datetime.now(dt.UTC)
        subject = self._ca_name if ca else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._ca_name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + _DAY)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        if usage is not None:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
        if usage == ExtendedKeyUsageOID.SERVER_AUTH:
            hosts = [x509.IPAddress(ipaddress.ip_address(name)), *map(x509.DNSName, self._names)]
            builder = builder.add_extension(x509.SubjectAlternativeName(hosts), critical=False)
        return builder.sign(self._ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _write(self, name: str, content: bytes) -> None:
        with open(self.path(name), "xb") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(content)


def self_signed() -> tuple[x509.Certificate, bytes]:
    """A certificate that an application logs in with, and the PEM file of its RSA key and it."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dso tests")])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now - _DAY, now + _DAY)
    certificate = builder.sign(key, hashes.SHA256())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    plain = key.private_bytes(encoding, form, serialization.NoEncryption())
    return certificate, plain + certificate.public_bytes(encoding)
