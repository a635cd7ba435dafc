"""Taking JSON from another process apart: what is not as specified is one kind of error."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class MessageError(Exception):
    """A message is not what the protocol says; the text tells what and where, and holds no value."""


def read_object(body: object, what: str, known: set[str] | None = None) -> dict[str, Any]:
    """A JSON object, with no other fields than `known`; MessageError."""
    if not isinstance(body, dict):
        raise MessageError(f"{what} is no JSON object")
    unknown = sorted(set(body) - known) if known is not None else []
    if unknown:
        raise MessageError(f"{what} has an unknown field {unknown[0][:40]!r}")
    return body


def read_list(body: object, what: str) -> list[Any]:
    """A JSON array; MessageError."""
    if not isinstance(body, list):
        raise MessageError(f"`{what}` is no JSON array")
    return body


def read_texts(body: object, what: str) -> list[str]:
    """An array of strings; MessageError."""
    return [read_text(one, what) for one in read_list(body, what)]


def read_text(body: object, what: str) -> str:
    """A string; MessageError."""
    if not isinstance(body, str):
        raise MessageError(f"`{what}` is no string")
    return body


def read_count(body: object, what: str) -> int:
    """A whole number, 0 or more; MessageError."""
    if not isinstance(body, int) or isinstance(body, bool) or body < 0:
        raise MessageError(f"`{what}` is no whole number")
    return body
