"""Azure's clouds, and the JSON Web Tokens that Entra issues and takes."""

from __future__ import annotations

import base64
import hashlib
import json
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

if TYPE_CHECKING:
    from collections.abc import Mapping


class Cloud(NamedTuple):
    """The host names of one of Azure's clouds.

    https://learn.microsoft.com/entra/identity-platform/authentication-national-cloud for Entra's,
    https://learn.microsoft.com/azure/key-vault/general/about-keys-secrets-certificates for Key Vault's.
    """

    login: str
    vault: str
    issuer: str

    @property
    def resource(self) -> str:
        """What a token for Key Vault is for."""
        return f"https://{self.vault}"


PUBLIC = Cloud("login.microsoftonline.com", "vault.azure.net", "sts.windows.net")
CHINA = Cloud("login.chinacloudapi.cn", "vault.azure.cn", "sts.chinacloudapi.cn")
US_GOVERNMENT = Cloud("login.microsoftonline.us", "vault.usgovcloudapi.net", "sts.windows.net")
CLOUDS = (PUBLIC, CHINA, US_GOVERNMENT)


class TokenError(Exception):
    """A token cannot be accepted."""


class Jwt(NamedTuple):
    """A token taken apart, its signature not yet verified."""

    header: dict[str, Any]
    claims: dict[str, Any]
    signed: bytes
    signature: bytes

    @classmethod
    def parse(cls, text: str) -> Jwt:
        """TokenError if it is none."""
        try:
            header, claims, signature = text.split(".")
            parts = json.loads(_decode(header)), json.loads(_decode(claims))
            return cls(*parts, f"{header}.{claims}".encode(), _decode(signature))
        except ValueError:
            raise TokenError("malformed") from None

    def verify(self, key: rsa.RSAPublicKey, *algorithms: str) -> None:
        """TokenError unless it was signed with this key in one of these ways, and holds now."""
        algorithm = self.header.get("alg")
        if algorithm not in algorithms:
            raise TokenError(f"signed with {algorithm}")
        # The salt of PS256 has the length of the hash: RFC 7518, section 3.5.
        pss = padding.PSS(padding.MGF1(hashes.SHA256()), hashes.SHA256.digest_size)
        try:
            how = pss if algorithm == "PS256" else padding.PKCS1v15()
            key.verify(self.signature, self.signed, how, hashes.SHA256())
        except InvalidSignature:
            raise TokenError("not signed with this key") from None

    @property
    def is_valid_now(self) -> bool:
        """Whether this moment lies between `nbf` and `exp`."""
        return bool(int(self.claims.get("nbf", 0)) <= time.time() + 60 and self.claims.get("exp", 0) > time.time())


class SigningKey:
    """An issuer's RSA key, and tokens signed with it (RS256)."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(65537, 2048)
        self.public = self._key.public_key()
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        public = self.public.public_bytes(serialization.Encoding.DER, form)
        self.id = encode(hashlib.sha256(public).digest()[:20])

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A token with these claims."""
        header = {"typ": "JWT", "alg": "RS256", "x5t": self.id, "kid": self.id}
        content = ".".join(encode(json.dumps(part).encode()) for part in (header, claims))
        return f"{content}.{encode(self._key.sign(content.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def encode(raw: bytes) -> str:
    """Base64url as tokens have it."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
