"""References to values: looks up what each means, checks who may read it, asks the cache, picks fields.

What was picked from a secret is remembered as long as the cache hands out the same secret, so that a
warm request costs little more than its answer's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from dso.agent.lookup import Located, Lookup
from dso.compose.references import container_path
from dso.compose.template import parse_template
from dso.errors import ReferenceSyntaxError, SecretFieldError
from dso.protocol import codes
from dso.protocol.agent import Fault, Resolved, ResolveResponse
from dso.protocol.fields import WHOLE_VALUE, field_of
from dso.protocol.provider import ProviderError
from dso.secret import ENV_SCHEME, MAX_REFERENCE_BYTES, SecretRef, SecretValue, mac

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from dso.agent.access import Access, Caller
    from dso.agent.cache import Cache, Cached, Key
    from dso.compose.template import Template
    from dso.config.model import CloudConfig
    from dso.protocol.agent import ResolveRequest, SecretEntry, VolumeFile, VolumeSpec
    from dso.protocol.provider import SecretData

MAX_ANSWER_BYTES = 64 * 1024 * 1024  # of values in one answer
_MAX_REMEMBERED = 20_000


class UnresolvedError(Exception):
    """References that cannot be resolved; `faults` has each of them, with names and never values."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.reference}: {fault.message}" for fault in faults))
        self.faults = faults


class Picked(NamedTuple):
    """What a reference yields of a secret."""

    value: SecretValue
    fingerprint: str


class Outcome(NamedTuple):
    """The answer to a request, and for the log whose secrets were given and which were refused."""

    response: ResolveResponse
    read: Sequence[str]
    refused: Sequence[str]


class Resolver:
    """Resolves references for callers, and renders files for volumes."""

    def __init__(self, config: CloudConfig, cache: Cache, mac_key: bytes, access: Access) -> None:
        self._cache = cache
        self._mac_key = mac_key
        self._references: dict[str, SecretRef | Fault] = {}
        self._picked: dict[tuple[Key, str | None, bool], tuple[SecretData, Picked | Fault]] = {}
        self.configure(config, access)

    def configure(self, config: CloudConfig, access: Access) -> None:
        """Take over a new configuration; requests that are under way end with the former one."""
        self.lookup = Lookup(config)
        self.access = access
        self._keeps = {name for name, provider in config.providers.items() if provider.cache_ttl > 0}
        self.forget()

    def forget(self) -> None:
        """Drop what was picked from secrets: it would outlive them."""
        self._picked.clear()

    async def resolve(self, request: ResolveRequest, caller: Caller) -> ResolveResponse:
        """The answer to a request; what is wrong with single references stands in it."""
        return (await self.outcome(request, caller)).response

    async def outcome(self, request: ResolveRequest, caller: Caller) -> Outcome:
        """As `resolve`, with what the log tells of it."""
        own = {entry.name: entry for entry in request.secrets}
        wanted = dict.fromkeys(request.values, True)
        for text in request.checks:
            wanted.setdefault(text, False)
        places: dict[str, tuple[SecretRef, Located]] = {}
        faults: dict[str, Fault] = {}
        for text in wanted:
            place = self._place(text, own, caller)
            if isinstance(place, Fault):
                faults[text] = place
            else:
                places[text] = place
        cached = await self._cache.get_many({located.key for _, located in places.values()})
        resolved: list[Resolved] = []
        room = MAX_ANSWER_BYTES
        for text, (reference, located) in places.items():
            one = self._resolved(text, reference, located.key, cached[located.key], wanted=wanted[text])
            if isinstance(one, Resolved) and one.value is not None:
                room -= one.size
                if room < 0:
                    one = _fault(codes.TOO_LARGE, "the values of one answer would exceed 64 MiB", text)
            if isinstance(one, Fault):
                faults[text] = one
            else:
                resolved.append(one)
        given = {places[one.reference][1].subject for one in resolved}
        refused = [
            _name_of(text)
            for text, fault in faults.items()
            if fault.code == codes.PERMISSION_DENIED and not fault.provider
        ]
        return Outcome(
            ResolveResponse(resolved, [faults[text] for text in wanted if text in faults]), sorted(given), refused
        )

    def find(self, name: str, caller: Caller) -> Key | Fault:
        """Where a name, or a reference, leads a caller."""
        text = name if "://" in name else f"{ENV_SCHEME}{name}"
        place = self._place(text, {}, caller)
        return place if isinstance(place, Fault) else place[1].key

    def _resolved(
        self, text: str, reference: SecretRef, key: Key, found: Cached | ProviderError, *, wanted: bool
    ) -> Resolved | Fault:
        if isinstance(found, ProviderError):
            return _provider_fault(found, text, key)
        picked = self._pick(reference, key, found.data)
        if isinstance(picked, Fault):
            return picked._replace(reference=text)
        value = picked.value
        return Resolved(
            text,
            value if wanted else None,
            len(value),
            picked.fingerprint,
            found.data.version,
            found.age,
            found.stale,
        )

    def _place(
        self, text: str, own: Mapping[str, SecretEntry], caller: Caller | None
    ) -> tuple[SecretRef, Located] | Fault:
        """Where a reference leads, if the caller (None: the Engine, whom `access:` does not bind) may read it."""
        reference = self._parse(text)
        if isinstance(reference, Fault):
            return reference
        located = self.lookup.locate(reference, own)
        if isinstance(located, Located):
            return (reference, located) if self._may_read(caller, located.subject) else _denied(text, caller)
        if located.code != codes.UNKNOWN_SECRET:
            return located._replace(reference=text)
        if not self._may_read(caller, reference.path):  # whether there is such a secret is none of its business
            return _denied(text, caller)
        hint = self.lookup.suggest(reference.path, own, lambda name: self._may_read(caller, name))
        return located._replace(hint=hint, reference=text)

    def _may_read(self, caller: Caller | None, subject: str) -> bool:
        return caller is None or self.access.may_read(caller, subject)

    def _parse(self, text: str) -> SecretRef | Fault:
        known = self._references.get(text)
        if known is not None:
            return known
        if len(text) > MAX_REFERENCE_BYTES:
            return _fault(codes.INVALID_REQUEST, f"it is longer than {MAX_REFERENCE_BYTES} bytes", text)
        try:
            found = SecretRef.parse(text)
        except ReferenceSyntaxError as error:
            return _fault(codes.INVALID_REQUEST, error.message, text, hint=error.hint)
        if len(self._references) >= _MAX_REMEMBERED:
            self._references.clear()
        self._references[text] = found
        return found

    def _pick(self, reference: SecretRef, key: Key, data: SecretData) -> Picked | Fault:
        what = (key, reference.field, reference.is_file)
        known = self._picked.get(what)
        if known is not None and known[0] is data:
            return known[1]
        picked: Picked | Fault
        try:
            value = _field(reference, data)
        except SecretFieldError as error:
            picked = _fault(codes.UNKNOWN_FIELD, error.message, "", hint=error.hint)
        else:
            context = ("secret", key.provider, key.path, reference.field or "", key.version or "")
            picked = Picked(value, mac(self._mac_key, value, *context))
        if key.provider in self._keeps:
            if len(self._picked) >= _MAX_REMEMBERED:
                self._picked.clear()
            self._picked[what] = (data, picked)
        return picked

    # Volumes.

    async def render(self, spec: VolumeSpec) -> list[tuple[VolumeFile, SecretValue]]:
        """The content of a volume's files; UnresolvedError with all that is wrong.

        `access:` does not come into it: whoever defined the volume was checked, and whoever may mount it is root.
        """
        templates = [_template(file) for file in spec.files]
        faults = [template for template in templates if isinstance(template, Fault)]
        places = self._places(templates, spec.secrets, None, faults)
        cached = await self._cache.get_many({located.key for _, located in places.values()})
        values: dict[SecretRef, bytes] = {}
        for reference, located in places.values():
            one = self._resolved(str(reference), reference, located.key, cached[located.key], wanted=True)
            if isinstance(one, Fault):
                faults.append(one)
            elif one.value is not None:
                values[reference] = one.value.reveal()
        if faults:
            raise UnresolvedError(faults)
        return [
            (file, SecretValue(_content(template, values)))
            for file, template in zip(spec.files, templates, strict=True)
            if not isinstance(template, Fault)
        ]

    def check_volume_access(self, spec: VolumeSpec, caller: Caller) -> list[str]:
        """The names of all secrets of a volume, if the caller may read them; else UnresolvedError."""
        templates = [_template(file) for file in spec.files]
        faults = [template for template in templates if isinstance(template, Fault)]
        places = self._places(templates, spec.secrets, caller, faults)
        if faults:
            raise UnresolvedError(faults)
        return sorted({located.subject for _, located in places.values()})

    def _places(
        self,
        templates: Iterable[Template | Fault],
        entries: Sequence[SecretEntry],
        caller: Caller | None,
        faults: list[Fault],
    ) -> dict[str, tuple[SecretRef, Located]]:
        """Where the references of templates lead; what is wrong with some is added to `faults`."""
        own = {entry.name: entry for entry in entries}
        places: dict[str, tuple[SecretRef, Located]] = {}
        for text in dict.fromkeys(str(each) for template in templates for each in _content_references(template)):
            place = self._place(text, own, caller)
            if isinstance(place, Fault):
                faults.append(place)
            else:
                places[text] = place
        return places


def _denied(text: str, caller: Caller | None) -> Fault:
    who = (caller.user or caller.uid) if caller else ""
    hint = "`access:` in the agent's dso.yaml says who may read what"
    return Fault(codes.PERMISSION_DENIED, f"user {who} may not read it", hint, text)


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


def _template(file: VolumeFile) -> Template | Fault:
    try:
        template = parse_template(file.template)
    except ReferenceSyntaxError as error:
        return _fault(codes.INVALID_REQUEST, f"file {file.name!r}: {error.message}", "", hint=error.hint)
    if template is None:
        return _fault(
            codes.INVALID_REQUEST,
            f"file {file.name!r} has no reference in its template",
            "",
            hint="plain content belongs into a Compose config, not into a secret volume",
        )
    return template


def _content_references(template: Template | Fault) -> tuple[SecretRef, ...]:
    """The references whose values are in a file; dsofile:// within a text stands for a path."""
    if isinstance(template, Fault):
        return ()
    whole = template.whole
    return (whole,) if whole else tuple(each for each in template.references if not each.is_file)


def _content(template: Template, values: Mapping[SecretRef, bytes]) -> bytes:
    return template.render(lambda each: values[each] if each in values else container_path(each).encode())


def _provider_fault(error: ProviderError, text: str, key: Key) -> Fault:
    return Fault(error.code, error.message, reference=text, provider=key.provider)


def _fault(code: str, message: str, reference: str, *, hint: str = "") -> Fault:
    return Fault(code, message, hint, reference)


def _name_of(text: str) -> str:
    """A reference without its scheme, for the log."""
    return text.partition("://")[2].partition("#")[0].partition("?")[0]
