"""JSON Web Tokens for logins: ES256 and nothing else."""

from __future__ import annotations

import base64
import json
import time
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Mapping


def signed(claims: Mapping[str, Any], key: ec.EllipticCurvePrivateKey) -> str:
    """A token with these claims, issued a minute ago."""
    claims = {"iat": int(time.time()) - 60, **claims}
    parts = [_encode(json.dumps(part).encode()) for part in ({"alg": "ES256", "typ": "JWT"}, claims)]
    r, s = decode_dss_signature(key.sign(".".join(parts).encode(), ec.ECDSA(hashes.SHA256())))
    return ".".join([*parts, _encode(r.to_bytes(32, "big") + s.to_bytes(32, "big"))])


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
