"""What a text has to look like to be a name, a path or an address."""

from __future__ import annotations

from dso.paths import PRIVATE_VARIABLES
from dso.protocol.backend_path import path_fault
from dso.secret import MAX_REFERENCE_BYTES, is_segment

_MAX_TYPE = 40
_LOWER = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-")
_LETTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz_")
_WORD = _LETTERS | frozenset("0123456789")


def is_name(text: str) -> bool:
    """Whether text can be the path of a reference: `shop/db_password`."""
    return len(text) <= MAX_REFERENCE_BYTES and all(map(is_segment, text.split("/")))


def is_public_variable(text: str) -> bool:
    """Whether text can be a variable's name, and is not that of one which no other program gets."""
    return is_variable(text) and text not in PRIVATE_VARIABLES


def is_variable(text: str) -> bool:
    """Whether text can name an environment variable."""
    return bool(text) and text[0] in _LETTERS and _WORD.issuperset(text)


def is_backend_path(text: str) -> bool:
    """Whether text can be a secret's path or version in a provider: see `dso.protocol.backend_path`."""
    return path_fault(text) is None


def is_absolute(text: str) -> bool:
    """Whether text is an absolute path of something, in its plain form."""
    return text.startswith("/") and text.isprintable() and not {"", ".", ".."} & set(text[1:].split("/"))


def is_type(text: str) -> bool:
    """Whether text can name a type of provider, which is part of a file's name: dso-provider-TYPE."""
    return len(text) <= _MAX_TYPE and bool(text.strip("-")) and text[0] != "-" and _LOWER.issuperset(text)


def is_url(text: str) -> bool:
    """Whether text is the address of an HTTP server, and holds no credentials: those would be shown in messages."""
    scheme, separator, rest = text.partition("://")
    if scheme.lower() not in ("http", "https") or not separator or not text.isprintable():
        return False
    host = rest.partition("/")[0]
    return bool(host) and not set(text) & set("@?# \\")


def is_https_url(text: str) -> bool:
    """As is_url, and encrypted."""
    return is_url(text) and text.lower().startswith("https")


def is_region(text: str) -> bool:
    """Whether text can name a region: `us-east-1`."""
    return _LOWER.issuperset(text)
