"""The few native functions DSO needs, imported when they are called for and by the shortest way.

`cryptography`'s public modules import much that DSO has no use for (25 ms instead of 8 at
start-up), so the objects are taken from its native module, which is where the public path gets
them from; should a version arrange it differently, the public path is the fall-back. A test
asserts that both are the same objects.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType

    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.kdf.argon2 import Argon2id


def aesgcm() -> type[AESGCM]:
    """AES-GCM (NIST SP 800-38D)."""
    found: type[AESGCM]
    try:
        found = _openssl().aead.AESGCM
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM as found  # noqa: N811
    return found


def argon2id() -> type[Argon2id]:
    """Argon2id (RFC 9106)."""
    found: type[Argon2id]
    try:
        found = _openssl().kdf.Argon2id
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.kdf.argon2 import Argon2id as found  # noqa: N813
    return found


def x25519_private(raw: bytes) -> X25519PrivateKey:
    """The X25519 private key (RFC 7748) of 32 bytes."""
    try:
        key: X25519PrivateKey = _openssl().x25519.from_private_bytes(raw)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric import x25519

        key = x25519.X25519PrivateKey.from_private_bytes(raw)
    return key


def x25519_public(raw: bytes) -> X25519PublicKey:
    """The X25519 public key of 32 bytes."""
    try:
        key: X25519PublicKey = _openssl().x25519.from_public_bytes(raw)
    except (ImportError, AttributeError):
        from cryptography.hazmat.primitives.asymmetric import x25519

        key = x25519.X25519PublicKey.from_public_bytes(raw)
    return key


def blake2b_256(data: bytes, key: bytes = b"") -> bytes:
    """BLAKE2b with 32 bytes of output, keyed when a key (at most 64 bytes) is given (RFC 7693)."""
    try:
        from _blake2 import blake2b  # what hashlib exports, without loading OpenSSL's libcrypto as hashlib does
    except ImportError:
        from hashlib import blake2b
    digest: bytes = blake2b(data, key=key, digest_size=32).digest()
    return digest


def _openssl() -> ModuleType:
    from cryptography.hazmat.bindings._rust import openssl

    module: ModuleType = openssl
    return module
