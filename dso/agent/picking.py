"""What references yield of secrets, remembered as long as the cache hands out the same secret.

A warm request for fifty references costs little more than its answer's text: fields are not parsed, fingerprints not
computed, values not encoded again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NamedTuple

from dso.errors import SecretFieldError
from dso.protocol import codes
from dso.protocol.agent import Fault, Resolved, ResolveResponse
from dso.protocol.fields import WHOLE_VALUE, field_names, field_of
from dso.secret import SecretValue, mac

if TYPE_CHECKING:
    from collections.abc import Iterable

    from dso.agent.cache import Cached, Key
    from dso.protocol.provider import SecretData
    from dso.secret import SecretRef

_MAX_REMEMBERED = 20_000
_MAX_ENCODED = 4096  # bytes of a value whose text in the answer is remembered too


class Picked:
    """What a reference yields of one state of a secret: a value with its fingerprint, or why there is none."""

    __slots__ = ("data", "fault", "fingerprint", "heads", "key", "size", "value")

    def __init__(self, key: Key, data: SecretData, value: SecretValue, fingerprint: str, fault: Fault | None) -> None:
        self.key = key
        self.data = data
        self.value = value
        self.size = len(value)
        self.fingerprint = fingerprint
        self.fault = fault
        self.heads = ["", ""]  # of the answer without the value, and with it

    def resolved(self, text: str, found: Cached, *, wanted: bool) -> Resolved:
        """The answer for a reference."""
        value = self.value if wanted else None
        names = None if wanted or not _is_of_whole(text) else field_names(self.data.content)
        return Resolved(text, value, self.size, self.fingerprint, found.data.version, found.age, found.stale, names)

    def head(self, text: str, found: Cached, *, wanted: bool) -> str:
        """The answer for a reference as JSON, without what changes from one request to the next."""
        document = self.resolved(text, found, wanted=wanted).to_json()
        del document["age"], document["stale"]
        head = json.dumps(document, separators=(",", ":"))[:-1]
        if self.size <= _MAX_ENCODED:
            self.heads[wanted] = head
        return head


class Given(NamedTuple):
    """The answer to a request, as far as it could be given.

    `resolved` has the references with what they yield, and whether the value is part of the answer; `errors`
    what is wrong with the rest. `read` and `refused` are for the log: the names of the secrets that were
    given, and of those that the caller may not read.
    """

    resolved: list[tuple[str, Picked, Cached, bool]]
    errors: list[Fault]
    read: list[str]
    refused: list[str]

    def response(self) -> ResolveResponse:
        """The answer as a message."""
        found = [picked.resolved(text, cached, wanted=wanted) for text, picked, cached, wanted in self.resolved]
        return ResolveResponse(found, self.errors)

    def encode(self) -> bytes:
        """`response().to_json()` as the body."""
        parts: list[str] = []
        age, stale, tail = -1.0, False, ""
        for text, picked, cached, wanted in self.resolved:
            if cached.age != age or cached.stale != stale:  # secrets that were fetched together are of one age
                age, stale = cached.age, cached.stale
                tail = f',"age":{age:.3f},"stale":{"true" if stale else "false"}}}'
            parts.append((picked.heads[wanted] or picked.head(text, cached, wanted=wanted)) + tail)
        resolved = ",".join(parts)
        errors = json.dumps([fault.to_json() for fault in self.errors], separators=(",", ":"))
        return f'{{"resolved":[{resolved}],"errors":{errors}}}\n'.encode("ascii")


class Picker:
    """Picks what references mean from secrets, and remembers it by the reference's text."""

    def __init__(self, mac_key: bytes) -> None:
        self._mac_key = mac_key
        self._kept: frozenset[str] = frozenset()
        self._known: dict[str, Picked] = {}

    def configure(self, kept: Iterable[str]) -> None:
        """`kept`: the providers whose secrets may be remembered at all."""
        self._kept = frozenset(kept)
        self.forget()

    def forget(self) -> None:
        """Drop everything: it may have outlived its secret."""
        self._known.clear()

    def pick(self, text: str, reference: SecretRef, key: Key, data: SecretData) -> Picked:
        """What a reference yields; `text` is the reference as it was written."""
        known = self._known.get(text)
        if known is not None and known.data is data and known.key == key:
            return known
        picked = self._pick(reference, key, data)
        if key.provider in self._kept:
            if len(self._known) >= _MAX_REMEMBERED:
                self._known.clear()
            self._known[text] = picked
        return picked

    def _pick(self, reference: SecretRef, key: Key, data: SecretData) -> Picked:
        try:
            value = _field(reference, data)
        except SecretFieldError as error:
            return Picked(key, data, SecretValue(b""), "", Fault(codes.UNKNOWN_FIELD, error.message, error.hint))
        context = ("secret", key.provider, key.path, reference.field or "", key.version or "")
        return Picked(key, data, value, mac(self._mac_key, value, *context), None)


def _is_of_whole(text: str) -> bool:
    """Whether a reference means the whole secret: the answer to a check of it names the fields."""
    return text.partition("?")[0].endswith(f"#{WHOLE_VALUE}")


def _field(reference: SecretRef, data: SecretData) -> SecretValue:
    """What a reference yields; the fields a backend itself knows are no text that a file could get as it is."""
    as_file = reference.is_file and not data.is_fields
    try:
        return field_of(data.content, reference.field, name=reference.path, as_file=as_file)
    except SecretFieldError as error:
        if reference.field is None and data.is_fields:
            scheme = "dsofile" if reference.is_file else "dso"
            hint = f"{scheme}://{reference.path}#FIELD is one of them, #{WHOLE_VALUE} all of them as JSON"
            raise SecretFieldError(error.message, hint=hint) from None
        raise
