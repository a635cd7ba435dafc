"""What references yield of secrets, remembered as long as the cache hands out the same secret.

A warm request for fifty references costs little more than its answer's text: fields are not parsed, fingerprints not
computed, values not encoded again.
"""

from __future__ import annotations

import json
from functools import partial
from json.encoder import encode_basestring_ascii
from typing import TYPE_CHECKING, NamedTuple

from dso.agent.members import Members, Reading, effort
from dso.agent.store import Cached
from dso.errors import SecretFieldError
from dso.protocol import codes
from dso.protocol.agent import Fault, Resolved
from dso.protocol.fields import WHOLE_VALUE, field_of
from dso.secret import SecretValue, mac

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Self

    from dso.agent.store import Key, Value
    from dso.protocol.provider import SecretData
    from dso.secret import SecretRef

    _Read = Callable[[SecretValue], Mapping[str, object] | None]

_MAX_REMEMBERED = 16 * 1024 * 1024  # bytes
_MAX_HELD = 24 * 1024 * 1024  # bytes of the secrets that these are of, most of which the cache has anyway
_MAX_ENCODED = 4096  # bytes of a value whose text in the answer is remembered too
_MAX_ESCAPED = 6  # characters of JSON for one byte
_MAX_LINES = 20_000
_OVERHEAD = 1024  # bytes of memory for each pick, without its value
AT_ONCE = 50  # references, before others have their turn
MAX_KNOWN_TEXT = 256  # characters of a reference that is remembered: of longer ones nobody has many


class Picked:
    """What a reference yields of one state of a secret: a value with its fingerprint, or why there is none.

    `names` are those of the secret's fields, where it is picked as a whole. `path` is the reference's, for messages.
    """

    __slots__ = ("data", "fault", "fingerprint", "heads", "is_remembered", "names", "path", "size", "value")

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
        self.is_remembered = False

    def resolved(self, text: str, found: Cached, *, wanted: bool) -> Resolved:
        """The answer for a reference."""
        value, names = (self.value, None) if wanted else (None, self.names)
        data = found.data
        told = (self.size, self.fingerprint, data.version, found.age, found.stale, names, data.name)
        return Resolved(text, value, *told)

    def shown(self, *, wanted: bool) -> int:
        """The bytes of the secret that are in the answer, names of fields taken for as much as their values."""
        return self.size if wanted or self.names else 0

    def head(self, *, wanted: bool) -> str:
        """The answer as JSON, without the reference and what changes from one request to the next."""
        document = self.resolved("", Cached(self.data, 0, stale=False), wanted=wanted).to_json()
        del document["reference"], document["age"], document["stale"]
        head = json.dumps(document, separators=(",", ":"))[1:-1]
        if self.has_short_head(wanted=wanted):
            self.heads[wanted] = head
        return head

    def has_short_head(self, *, wanted: bool) -> bool:
        """Whether its head is short enough to be remembered."""
        return self.size <= _MAX_ENCODED or not wanted

    def weight(self) -> int:
        """The bytes of memory it may come to take."""
        encoded = self.size * (1 + _MAX_ESCAPED) if self.size <= _MAX_ENCODED else self.size
        names = 0 if self.names is None else len(self.data.content) * (1 + _MAX_ESCAPED)
        fault = 0 if self.fault is None else len(self.fault.message) + len(self.fault.hint)
        return _OVERHEAD + encoded + names + fault


class Line(NamedTuple):
    """What a reference has in answers for as long as the cache keeps `value`, its secret.

    A tuple, since answers take lines apart by column. `start` and `head` are text of the answer, `size` is
    how much of the secret is in it, `subject` its name for `access:`.
    """

    start: str
    head: str
    size: int
    subject: str
    value: Value
    picked: Picked
    text: str
    wanted: bool

    @classmethod
    def of(cls, text: str, subject: str, picked: Picked, value: Value, *, wanted: bool) -> Self:
        """The line of a reference, whose pick has its head."""
        size = picked.shown(wanted=wanted)
        return cls(started(text), picked.heads[wanted], size, subject, value, picked, text, wanted)


def started(text: str) -> str:
    """How a reference's part of an answer begins."""
    return f'{{"reference":{encode_basestring_ascii(text)},'


class Picker:
    """Picks what references mean from secrets, and remembers it for as long as nothing tells it to forget."""

    def __init__(self, mac_key: bytes) -> None:
        self._mac_key = mac_key
        self._kept: frozenset[str] = frozenset()
        self._known: dict[tuple[Key, str | None, bool], Picked] = {}
        self._lines: dict[tuple[str, bool], Line] = {}
        self._weight = 0
        self._held: dict[int, int] = {}  # by identity, how many picks keep a secret, which may outlive the cache's
        self._held_bytes = 0
        self._members = Members()
        self.generation = 0

    def configure(self, kept: Iterable[str]) -> None:
        """`kept`: the providers whose secrets may be remembered at all."""
        self._kept = frozenset(kept)
        self.forget()

    def forget(self) -> None:
        """Drop everything: it may have outlived its secret."""
        self._clear()
        self._members.clear()
        self.generation += 1

    def _clear(self) -> None:
        self._known.clear()
        self._weight = 0
        self._held.clear()
        self._held_bytes = 0
        self._lines.clear()

    def lines(self, wanted: Mapping[str, bool]) -> list[Line] | None:
        """The lines of all these references, or None; whether their secrets are still kept is for the cache to say."""
        try:
            return list(map(self._lines.__getitem__, wanted.items()))
        except KeyError:
            return None

    def begin(self) -> Picks:
        """For one request, when it has its secrets."""
        return Picks(self, self.generation, Reading(self._members))

    def pick(self, reference: SecretRef, key: Key, data: SecretData, picks: Picks) -> Picked:
        """What a reference yields."""
        place = (key, reference.field, reference.is_file)
        known = self._known.get(place)
        if known is not None and known.data is data and (known.fault is None or known.path == reference.path):
            return known
        may_remember = key.provider in self._kept and picks.generation == self.generation
        read = partial(picks.reading.members_of, may_remember=may_remember)
        picked = self._pick(reference, key, data, read)
        picks.reading.work += effort(picked.value.reveal()) if reference.field else picked.size
        if may_remember:
            self._remember(place, picked)
        return picked

    def remember(self, line: Line) -> None:
        """Know a reference's line."""
        if len(self._lines) >= _MAX_LINES:
            self._lines.clear()
        self._lines[line.text, line.wanted] = line

    def _remember(self, place: tuple[Key, str | None, bool], picked: Picked) -> None:
        former = self._known.pop(place, None)
        if former is not None:
            self._weight -= former.weight()
            self._let_go(former.data)
            self._lines.clear()  # some have what the secret was before
        weight = picked.weight()
        if weight > _MAX_REMEMBERED // 4:
            return  # it would drive out what is asked for more often
        if self._weight + weight > _MAX_REMEMBERED or self._held_bytes + len(picked.data.content) > _MAX_HELD:
            self._clear()
        self._known[place] = picked
        self._weight += weight
        self._hold(picked.data)
        picked.is_remembered = True

    def _hold(self, data: SecretData) -> None:
        count = self._held[id(data)] = self._held.get(id(data), 0) + 1
        if count == 1:
            self._held_bytes += len(data.content)

    def _let_go(self, data: SecretData) -> None:
        self._held[id(data)] -= 1
        if not self._held[id(data)]:
            del self._held[id(data)]
            self._held_bytes -= len(data.content)

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
    """What one request picks. No secret is parsed twice for it if all that it wants of one comes before the next."""

    __slots__ = ("_picked", "_picker", "_too_long", "generation", "reading")

    def __init__(self, picker: Picker, generation: int, reading: Reading) -> None:
        self._picker = picker
        self.generation = generation
        self.reading = reading
        self._picked: dict[tuple[Key, str | None, bool], Picked] = {}
        self._too_long: set[tuple[Picked, bool]] = set()

    def pick(self, reference: SecretRef, key: Key, data: SecretData) -> Picked:
        """What a reference yields; the same object for the same field of a secret, by whatever name."""
        place = key, reference.field, reference.is_file
        known = self._picked.get(place)
        if known is None or (known.fault is not None and known.path != reference.path):
            known = self._picked[place] = self._picker.pick(reference, key, data, self)
        return known

    def head(self, picked: Picked, room: int, *, wanted: bool) -> str | None:
        """The text of a pick in the answer; None if that is longer than `room`, which only becomes less."""
        if picked.shown(wanted=wanted) > room or (picked, wanted) in self._too_long:
            return None
        head = picked.heads[wanted] or picked.head(wanted=wanted)
        if len(head) > room:
            self._too_long.add((picked, wanted))
            return None
        return head

    def remember(self, text: str, subject: str, picked: Picked, found: Cached, *, wanted: bool) -> None:
        """Have the reference's line known, where it has one; `found` is what the cache had of its secret."""
        if found.kept is None or not picked.is_remembered or self.generation != self._picker.generation:
            return
        if len(text) > MAX_KNOWN_TEXT:
            return
        if picked.has_short_head(wanted=wanted) and (picked.heads[wanted] or picked.head(wanted=wanted)):
            self._picker.remember(Line.of(text, subject, picked, found.kept, wanted=wanted))

    def take_work(self) -> int:
        """What was done since this was last asked, in bytes that take as long to copy into an answer."""
        work, self.reading.work = self.reading.work, 0
        return work


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
