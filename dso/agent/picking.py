"""What references yield of secrets, remembered as long as the cache hands out the same secret.

A warm request for fifty references costs little more than its answer's text: fields are not parsed, fingerprints not
computed, values not encoded again.
"""

from __future__ import annotations

import asyncio
import json
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, NamedTuple

from dso.errors import SecretFieldError
from dso.protocol import codes
from dso.protocol.agent import Fault, Resolved, ResolveResponse
from dso.protocol.fields import WHOLE_VALUE, field_of, members_of
from dso.secret import SecretValue, mac

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from dso.agent.cache import Cached, Key
    from dso.protocol.provider import SecretData
    from dso.secret import SecretRef

    _Read = Callable[[SecretValue], Mapping[str, object] | None]

_MAX_REMEMBERED = 16 * 1024 * 1024  # bytes
_MAX_PARSED = 16 * 1024 * 1024  # bytes of secrets whose fields one request holds
_MAX_ENCODED = 4096  # bytes of a value whose text in the answer is remembered too
_MAX_ESCAPED = 6  # characters of JSON for one byte
_OVERHEAD = 1024  # bytes of memory for each pick, without its value
AT_ONCE = 200  # references, before others have their turn


class Picked:
    """What a reference yields of one state of a secret: a value with its fingerprint, or why there is none.

    `names` are those of the secret's fields, where it is picked as a whole. `path` is the reference's, for messages.
    """

    __slots__ = ("data", "fault", "fingerprint", "heads", "names", "path", "size", "value")

    def __init__(
        self,
        data: SecretData,
        path: str,
        value: SecretValue,
        fingerprint: str,
        *,
        fault: Fault | None = None,
        names: tuple[str, ...] | None = None,
    ) -> None:
        self.data = data
        self.path = path
        self.value = value
        self.size = len(value)
        self.fingerprint = fingerprint
        self.fault = fault
        self.names = names
        self.heads = ["", ""]  # of the answer without the value, and with it

    def resolved(self, text: str, found: Cached, *, wanted: bool) -> Resolved:
        """The answer for a reference."""
        value, names = (self.value, None) if wanted else (None, self.names)
        data = found.data
        told = (self.size, self.fingerprint, data.version, found.age, found.stale, names, data.name)
        return Resolved(text, value, *told)

    def head(self, found: Cached, *, wanted: bool) -> str:
        """The answer as JSON, without the reference and what changes from one request to the next."""
        document = self.resolved("", found, wanted=wanted).to_json()
        del document["reference"], document["age"], document["stale"]
        head = json.dumps(document, separators=(",", ":"))[1:-1]
        if self.size <= _MAX_ENCODED or not wanted:
            self.heads[wanted] = head
        return head

    def weight(self) -> int:
        """The bytes of memory it may come to take."""
        encoded = self.size * (1 + _MAX_ESCAPED) if self.size <= _MAX_ENCODED else self.size
        names = 0 if self.names is None else len(self.data.content) * (1 + _MAX_ESCAPED)
        fault = 0 if self.fault is None else len(self.fault.message) + len(self.fault.hint)
        return _OVERHEAD + encoded + names + fault


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

    async def encode(self) -> bytes:
        """`response().to_json()` as the body; others have their turn meanwhile."""
        parts: list[str] = []
        age, stale, tail = -1.0, False, ""
        for at, (text, picked, cached, wanted) in enumerate(self.resolved, 1):
            if cached.age != age or cached.stale != stale:  # secrets that were fetched together are of one age
                age, stale = cached.age, cached.stale
                tail = f',"age":{age:.3f},"stale":{"true" if stale else "false"}}}'
            head = picked.heads[wanted] or picked.head(cached, wanted=wanted)
            parts.append(f'{{"reference":{encode_basestring_ascii(text)},{head}{tail}')
            if not at % AT_ONCE:
                await asyncio.sleep(0)
        resolved = ",".join(parts)
        errors = json.dumps([fault.to_json() for fault in self.errors], separators=(",", ":"))
        return f'{{"resolved":[{resolved}],"errors":{errors}}}\n'.encode("ascii")


class Picker:
    """Picks what references mean from secrets, and remembers it for as long as nothing tells it to forget."""

    def __init__(self, mac_key: bytes) -> None:
        self._mac_key = mac_key
        self._kept: frozenset[str] = frozenset()
        self._known: dict[tuple[Key, str | None, bool], Picked] = {}
        self._weight = 0
        self._generation = 0

    def configure(self, kept: Iterable[str]) -> None:
        """`kept`: the providers whose secrets may be remembered at all."""
        self._kept = frozenset(kept)
        self.forget()

    def forget(self) -> None:
        """Drop everything: it may have outlived its secret."""
        self._known.clear()
        self._weight = 0
        self._generation += 1

    def begin(self) -> Picks:
        """For one request, when it has its secrets."""
        return Picks(self, self._generation)

    def pick(self, reference: SecretRef, key: Key, data: SecretData, picks: Picks) -> Picked:
        """What a reference yields."""
        place = (key, reference.field, reference.is_file)
        known = self._known.get(place)
        if known is not None and known.data is data and (known.fault is None or known.path == reference.path):
            return known
        picked = self._pick(reference, key, data, picks.members_of)
        if key.provider in self._kept and picks.generation == self._generation:
            self._remember(place, picked)
        return picked

    def _remember(self, place: tuple[Key, str | None, bool], picked: Picked) -> None:
        former = self._known.pop(place, None)
        if former is not None:
            self._weight -= former.weight()
        weight = picked.weight()
        if weight > _MAX_REMEMBERED // 4:
            return  # it would drive out what is asked for more often
        if self._weight + weight > _MAX_REMEMBERED:
            self._known.clear()
            self._weight = 0
        self._known[place] = picked
        self._weight += weight

    def _pick(self, reference: SecretRef, key: Key, data: SecretData, read: _Read) -> Picked:
        try:
            value = _field(reference, data, read)
        except SecretFieldError as error:
            fault = Fault(codes.UNKNOWN_FIELD, error.message, error.hint)
            return Picked(data, reference.path, SecretValue(b""), "", fault=fault)
        context = ("secret", key.provider, key.path, reference.field or "", key.version or "")
        members = read(data.content) if reference.field == WHOLE_VALUE else None  # for a check
        names = None if members is None else tuple(members)
        return Picked(data, reference.path, value, mac(self._mac_key, value, *context), names=names)


class Picks:
    """What one request picks: it parses no secret twice, as far as it may hold their fields."""

    __slots__ = ("_parsed", "_picker", "_size", "generation")

    def __init__(self, picker: Picker, generation: int) -> None:
        self._picker = picker
        self.generation = generation
        self._parsed: dict[int, tuple[SecretValue, Mapping[str, object] | None]] = {}  # by identity, which it keeps
        self._size = 0

    def pick(self, reference: SecretRef, key: Key, data: SecretData) -> Picked:
        """What a reference yields."""
        return self._picker.pick(reference, key, data, self)

    def members_of(self, content: SecretValue) -> Mapping[str, object] | None:
        """The fields of a secret."""
        known = self._parsed.get(id(content))
        if known is None:
            if self._size + len(content) > _MAX_PARSED:
                self._parsed.clear()
                self._size = 0
            known = self._parsed[id(content)] = (content, members_of(content))
            self._size += len(content)
        return known[1]


def _field(reference: SecretRef, data: SecretData, read: _Read) -> SecretValue:
    """What a reference yields; the fields a backend itself knows are no text that a file could get as it is."""
    as_file = reference.is_file and not data.is_fields
    try:
        return field_of(data.content, reference.field, name=reference.path, as_file=as_file, read=read)
    except SecretFieldError as error:
        if reference.field is None and data.is_fields:
            scheme = "dsofile" if reference.is_file else "dso"
            hint = f"{scheme}://{reference.path}#FIELD is one of them, #{WHOLE_VALUE} all of them as JSON"
            raise SecretFieldError(error.message, hint=hint) from None
        raise
