"""The fields of a secret whose value is a JSON object."""

from __future__ import annotations

from dso.errors import SecretFieldError
from dso.secret import SecretValue
from dso.system.visible import visible_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_MAX_SHOWN = 50
_MAX_SHOWN_LENGTH = 128
MAX_BYTES = 1024 * 1024  # of a value that is looked into: as much as a vault keeps, and more than clouds do
MAX_VALUES = 5_000  # in it: a JSON object of 1 MiB could have 500,000, take 100 MiB of memory, and hold up others
NOT_READ: dict[str, object] = {}  # stands for the members of a value that is too large to look into
WHOLE_VALUE = "value"  # the field that every value has


def field_of(
    value: SecretValue,
    field: str | None,
    *,
    name: str,
    as_file: bool,
    read: Callable[[SecretValue], Mapping[str, object] | None] | None = None,
) -> SecretValue:
    """What a reference to a secret yields.

    With a field it is that member of the JSON object: a string as it is, a number with the digits
    it was written with, `true` or `false`, an object or array as compact JSON. The field `value` is
    the whole text of a value that has no member of that name. Without a field, a file gets the bytes untouched; a
    variable gets the member of an object with exactly one, and anything else untouched. What begins like an
    object and is larger than MAX_BYTES, or has more than MAX_VALUES values, can be had as a whole only.

    Args:
        value: the secret.
        field: the field asked for, or None.
        name: the secret's name, for messages.
        as_file: whether it is to become a file.
        read: stands in for `members_of`, for callers that read many fields of one value.

    Raises:
        SecretFieldError: there is no such field, it is null, there are several and none is chosen, or the value is too
            large to look into.
    """
    if field is None and as_file:
        return value
    members = (read or members_of)(value)
    if field == WHOLE_VALUE and WHOLE_VALUE not in (members or ()):
        return value
    if members is NOT_READ:
        raise SecretFieldError(
            f"{name} is too large to have fields: it exceeds {MAX_BYTES // 1024**2} MiB or {MAX_VALUES} JSON values",
            hint=f"dso://{name}#{WHOLE_VALUE} or dsofile://{name} is the whole of it",
        )
    if members is None:
        if field is None:
            return value
        raise SecretFieldError(
            f"{name} has no field {field!r}: its value is no JSON object", hint=f"leave out #{field} to get the value"
        )
    if field is None:
        if not members:
            return value
        if len(members) > 1:
            raise SecretFieldError(
                f"{name} has several fields ({_listed(members)}) and the reference picks none",
                hint=f"write dso://{name}#FIELD for one, dso://{name}#{WHOLE_VALUE} or dsofile://{name} for the whole",
            )
        field = next(iter(members))
    if field not in members:
        raise SecretFieldError(f"{name} has no field {field!r}", hint=f"it has: {_listed(members) or 'none'}")
    return SecretValue(_text_of(members[field], field, name))


def is_object(value: SecretValue) -> bool:
    """Whether a value is a JSON object, which has fields."""
    return members_of(value) is not None


def field_names(value: SecretValue) -> tuple[str, ...] | None:
    """The names of a value's fields, in their order; None if it is no JSON object."""
    members = members_of(value)
    return None if members is None else tuple(members)


def fields_of(value: SecretValue, *, name: str) -> dict[str, SecretValue | None] | None:
    """All fields of a value as `field_of` yields each, None for one that is null; None if it is no JSON object.

    Raises:
        SecretFieldError: a field has no form in UTF-8.
    """
    members = members_of(value)
    if members is None:
        return None
    return {
        field: None if member is None else SecretValue(_text_of(member, field, name))
        for field, member in members.items()
    }


def may_be_object(value: SecretValue) -> bool:
    """Whether a value begins like a JSON object."""
    return value.reveal().lstrip(b" \t\r\n").startswith(b"{")


def members_of(value: SecretValue) -> dict[str, object] | None:
    """The JSON object that the value is, or None; NOT_READ for what is too large to tell.

    A plain value is told apart without parsing.
    """
    if not may_be_object(value):
        return None
    from dso.system.json_fast import has_more_values, loads_literal

    raw = value.reveal()
    if len(raw) > MAX_BYTES or has_more_values(raw, MAX_VALUES):
        return NOT_READ
    try:
        parsed = loads_literal(raw.decode())
    except (ValueError, RecursionError):
        return None
    return parsed if isinstance(parsed, dict) else None


def _text_of(member: object, field: str, name: str) -> bytes:
    from dso.system.json_fast import dumps

    if member is None:
        raise SecretFieldError(f"field {field!r} of {name} is null", hint="give it a value, or refer to another field")
    try:
        if isinstance(member, str):  # a string, or a number as it was written
            return str(member).encode()
        return dumps(member).encode()
    except (UnicodeEncodeError, RecursionError):
        raise SecretFieldError(f"field {field!r} of {name} is text that has no form in UTF-8") from None


def _listed(members: Mapping[str, object]) -> str:
    """The names of fields for a message, as many as somebody would read."""
    names = [visible_name(field[:_MAX_SHOWN_LENGTH]) for field, _ in zip(members, range(_MAX_SHOWN), strict=False)]
    return ", ".join(names) + (", ..." if len(members) > _MAX_SHOWN else "")
