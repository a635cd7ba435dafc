"""Signatures of Huawei Cloud's API gateway (SDK-HMAC-SHA256), verified from the specification and not by the SDK.

Source: "API Request Signing Guide" (support.huaweicloud.com/intl/en-us/devg-apisign), pages:

- api-sign-algorithm-002 "Constructing a Standard Request": method, URI with every segment percent-encoded and a `/` at
  its end, query sorted and encoded, the signed headers in lower case with their values stripped, their names, the
  body's SHA-256;
- api-sign-algorithm-003 "Creating a To-Be-Signed String", -004 "Calculating the Signature": HMAC-SHA256 with the SK;
- api-sign-algorithm-005 "Adding the Signature to the Request Header": `SDK-HMAC-SHA256 Access=AK, SignedHeaders=...,
  Signature=...`; `X-Sdk-Date` is always signed;
- api-sign-faq "Common Errors Related to IAM Authentication Information": the clock may be off by 15 minutes.

Stricter than the guide: `Host` has to be signed too, the names of the signed headers have to be sorted and none may
come twice, and the body's hash is always computed (`UNSIGNED-PAYLOAD` counts for nothing).
"""

from __future__ import annotations

import calendar
import hashlib
import hmac
import re
import time
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ALGORITHM = "SDK-HMAC-SHA256"
DATE = "%Y%m%dT%H%M%SZ"
SKEW = 900  # seconds
_HEADER = re.compile(r"SDK-HMAC-SHA256 Access=([^,\s]+), SignedHeaders=([a-z0-9;-]+), Signature=([0-9a-f]{64})")
_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~")
_MUST_BE_SIGNED = frozenset({"host", "x-sdk-date"})


class SignatureError(Exception):
    """A request is not signed as it should be; the text is what the gateway would say."""


class Message(NamedTuple):
    """What is signed; names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Authorization(NamedTuple):
    """The Authorization header, taken apart."""

    access_key: str
    signed: Sequence[str]
    signature: str


def authorization(message: Message) -> Authorization:
    """Who says that they signed this; SignatureError if nobody does."""
    header = message.headers.get("authorization", "")
    if not header:
        raise SignatureError("x-auth-token not found")
    found = _HEADER.fullmatch(header)
    names = found[2].split(";") if found else []
    if not found or names != sorted(set(names)) or not _MUST_BE_SIGNED.issubset(names):
        raise SignatureError("verify aksk signature fail")
    return Authorization(found[1], names, found[3])


def verify(message: Message, claimed: Authorization, secret_key: str, now: float) -> None:
    """SignatureError unless this key signed it, and not long ago."""
    if any(name not in message.headers for name in claimed.signed):
        raise SignatureError("verify aksk signature fail")
    date = message.headers["x-sdk-date"]
    if abs(now - _seconds(date)) > SKEW:
        raise SignatureError("calc ak sk signature fail:signature expired")
    expected = signature(canonical_request(message, claimed.signed), date, secret_key)
    if not hmac.compare_digest(expected, claimed.signature):
        raise SignatureError("verify aksk signature fail")


def canonical_request(message: Message, signed: Sequence[str]) -> str:
    """The request in the one form that is hashed."""
    path, _, query = message.path.partition("?")
    headers = [f"{name}:{message.headers[name].strip()}\n" for name in signed]
    body = hashlib.sha256(message.body).hexdigest()
    return "\n".join([message.method, _uri(path), _query(query), "".join(headers), ";".join(signed), body])


def string_to_sign(canonical: str, date: str) -> str:
    """What goes into the HMAC."""
    return f"{ALGORITHM}\n{date}\n{hashlib.sha256(canonical.encode()).hexdigest()}"


def signature(canonical: str, date: str, secret_key: str) -> str:
    """What a key makes of a request."""
    return hmac.new(secret_key.encode(), string_to_sign(canonical, date).encode(), hashlib.sha256).hexdigest()


def _seconds(date: str) -> float:
    try:
        return calendar.timegm(time.strptime(date, DATE))
    except ValueError:
        raise SignatureError("verify aksk signature fail") from None


def _uri(path: str) -> str:
    encoded = "/".join(_encode(unquote_to_bytes(segment)) for segment in path.split("/"))
    return encoded if encoded.endswith("/") else f"{encoded}/"


def _query(query: str) -> str:
    pairs = parse_qsl(query, keep_blank_values=True)
    return "&".join(sorted(f"{_encode(name.encode())}={_encode(value.encode())}" for name, value in pairs))


def _encode(text: bytes) -> str:
    return "".join(chr(byte) if byte in _UNRESERVED else f"%{byte:02X}" for byte in text)
