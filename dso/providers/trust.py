"""TLS trust, the same for every provider that leaves it to us: whose certificates are good, and why one is not.

`tls: {ca_cert: FILE}` of dso.yaml counts, else REQUESTS_CA_BUNDLE, else SSL_CERT_FILE and SSL_CERT_DIR, else the
machine's own list. What one of them names takes the place of all that follow.
"""

from __future__ import annotations

import os
import ssl
from typing import TYPE_CHECKING

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import ProviderError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_CA_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_TRUST_IS_MISSING = {2, 7, 18, 19, 20, 21}  # X509_V_ERR_*: no issuer found, another one's signature, self-signed
_EXPIRED = {9, 10}
_KEPT_IN = ("reason", "inner_exception")  # attributes with another exception: of urllib3's, of Azure's


def verifying_context(provider: str, ca_cert: str | None) -> ssl.SSLContext:
    """One for all connections of a provider: reading the machine's CAs takes longer than a request.

    ProviderError `invalid_config` if the file cannot be used.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    path = authorities(ca_cert)
    try:
        if path is None:
            context.load_default_certs()
        elif os.path.isdir(path):
            context.load_verify_locations(capath=path)
        else:
            context.load_verify_locations(cafile=path)
    except OSError as error:
        key = "tls.ca_cert" if ca_cert or not os.environ.get("REQUESTS_CA_BUNDLE") else "REQUESTS_CA_BUNDLE"
        raise certificate_file_fault(provider, key, path or "", error) from None
    return context


def authorities(ca_cert: str | None) -> str | None:
    """The file or directory with the CAs to trust; None: OpenSSL knows, from its own variables."""
    return ca_cert or os.environ.get("REQUESTS_CA_BUNDLE") or _machine_bundle()


def _machine_bundle() -> str | None:
    """The CAs this machine trusts. A frozen interpreter's own idea of their place may be another machine's."""
    if "SSL_CERT_FILE" in os.environ or "SSL_CERT_DIR" in os.environ:
        return None  # OpenSSL heeds them
    return next((path for path in _CA_BUNDLES if os.path.exists(path)), None)


def signatures(paths: Iterable[str | None]) -> list[tuple[int, int, int] | None]:
    """What tells that a file was replaced."""
    found: list[tuple[int, int, int] | None] = []
    for path in paths:
        try:
            status = os.stat(path) if path else None
        except OSError:
            status = None
        found.append(status and (status.st_mtime_ns, status.st_ino, status.st_size))
    return found


def certificate_file_fault(provider: str, key: str, path: str, error: Exception) -> ProviderError:
    """A PEM file of `tls:` cannot be used."""
    if isinstance(error, OSError) and not isinstance(error, ssl.SSLError):
        reason = error.strerror or "cannot be read"
    elif isinstance(error, ssl.SSLError):
        reason = "no certificate in PEM, or one that does not fit its key"
    else:
        reason = "its key is encrypted, which only a person could open"
    return ProviderError(INVALID_CONFIG, f"provider {provider}: {key} ({path}): {reason}")


def is_untrusted(error: ssl.SSLCertVerificationError) -> bool:
    """Whether a certificate was refused because of who issued it."""
    return error.verify_code in _TRUST_IS_MISSING


def is_out_of_date(error: ssl.SSLCertVerificationError) -> bool:
    """Whether a certificate was refused because it is not valid any more, or not yet."""
    return error.verify_code in _EXPIRED


def tls_error(error: BaseException) -> ssl.SSLError | None:
    """The failure of TLS inside another exception."""
    return next((one for one in causes(error) if isinstance(one, ssl.SSLError)), None)


def causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and all inside it, outermost first: HTTP libraries keep them among the arguments or as the cause."""
    seen: set[int] = set()
    inside: list[BaseException] = [error]
    while inside:
        one = inside.pop(0)
        if id(one) not in seen:
            seen.add(id(one))
            yield one
            kept = [getattr(one, name, None) for name in _KEPT_IN]
            parts = (*one.args, *kept, one.__cause__, one.__context__)
            inside.extend(part for part in parts if isinstance(part, BaseException))
