"""References to values: looks up what each means, checks who may read it, asks the cache, picks fields."""

from __future__ import annotations

from itertools import chain, islice
from operator import itemgetter
from typing import TYPE_CHECKING

from dso.agent.answers import TAIL, Given, WarmGiven
from dso.agent.fairness.budgets import MAX_ANSWER
from dso.agent.fairness.fetching import Fetching
from dso.agent.fairness.turns import SLICE, AtOnce, others_after, others_first
from dso.agent.lookup import Located, Lookup
from dso.agent.picking import AT_ONCE, MAX_KNOWN_TEXT, Picker
from dso.agent.volume.checks import MAX_TEMPLATE
from dso.compose.references import container_path
from dso.compose.template import parse_template
from dso.errors import ReferenceSyntaxError
from dso.protocol import codes
from dso.protocol.agent import Fault
from dso.protocol.provider import ProviderError
from dso.secret import ENV_SCHEME, MAX_REFERENCE_BYTES, SecretRef, SecretValue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dso.agent.access import Access, Caller
    from dso.agent.cache import Cache, Cached, Key
    from dso.agent.picking import Picked
    from dso.compose.template import Template
    from dso.config.model import CloudConfig
    from dso.protocol.agent import ResolveRequest, ResolveResponse, SecretEntry, VolumeFile, VolumeSpec

    Place = tuple[SecretRef, Located]

_MAX_SUGGESTIONS = 5  # of one request
_MAX_REMEMBERED = 20_000
_OF_PICK = SLICE // AT_ONCE  # work for each reference, besides what it leads to


class UnresolvedError(Exception):
    """References that cannot be resolved; `faults` has each of them, with names and never values.

    `refused` are for the log: those that the caller may not read.
    """

    def __init__(self, faults: Sequence[Fault], refused: Sequence[str] = ()) -> None:
        super().__init__("; ".join(f"{fault.reference}: {fault.message}" for fault in faults))
        self.faults = faults
        self.refused = refused


class Resolver:
    """Resolves references for callers, and renders files for volumes."""

    def __init__(self, config: CloudConfig, cache: Cache, mac_key: bytes, access: Access) -> None:
        self._cache = cache
        self._picker = Picker(mac_key)
        self._known: dict[str, Place] = {}
        self.fetching = Fetching()
        self._picking = AtOnce(1)
        self.configure(config, access)

    def configure(self, config: CloudConfig, access: Access) -> None:
        """Take over a new configuration; requests that are under way end with the former one."""
        self.lookup = Lookup(config)
        self.access = access
        self._known.clear()
        self._picker.configure(name for name, provider in config.providers.items() if provider.cache_ttl > 0)

    def forget(self) -> None:
        """Drop what was picked from secrets: it would outlive them."""
        self._picker.forget()

    async def resolve(self, request: ResolveRequest, caller: Caller) -> ResolveResponse:
        """The answer to a request; what is wrong with single references stands in it."""
        return (await self.answer(request, caller)).response()

    async def answer(
        self, request: ResolveRequest, caller: Caller, hold: Callable[[int], None] = lambda _: None
    ) -> Given | WarmGiven:
        """As `resolve`, with what the log tells of it.

        `hold` is told of each piece of the answer's text before the next one is made.

        Raises:
            BusyError: the caller has providers asked for more than one user may, or `hold` says so.
        """
        wanted = dict.fromkeys(request.values, True)
        for text in request.checks:
            wanted.setdefault(text, False)
        if not request.secrets and (warm := self._warm(wanted, caller)) is not None:
            hold(warm.weight)
            return warm
        own = {entry.name: entry for entry in request.secrets}
        places, faults = await self._located_in_turns(wanted, own, caller)
        refused: list[str] = []
        for text in [text for text, fault in faults.items() if fault.code == codes.PERMISSION_DENIED]:
            refused.append(self._known_as(text, own))
            if not len(refused) % AT_ONCE:
                await others_first()
        allowance = None if caller.trusted else self.fetching.of(caller.uid)
        cached = await self._cache.get_many([located.key for _, located in places.values()], allowance)
        async with self._picking.of(caller.uid):
            return await self._given(wanted, places, faults, refused, cached, hold, may_remember=not own)

    async def _given(  # what `answer` has found so far
        self,
        wanted: Mapping[str, bool],
        places: Mapping[str, Place],
        faults: dict[str, Fault],
        refused: Sequence[str],
        cached: Mapping[Key, Cached | ProviderError],
        hold: Callable[[int], None],
        *,
        may_remember: bool,
    ) -> Given:
        given: list[tuple[int, tuple[str, Picked, Cached, bool], str]] = []
        room = MAX_ANSWER
        picks = self._picker.begin()
        held = work = 0
        for done, (at, text, reference, (key, subject)) in enumerate(_by_secret(places)):
            if not (done + 1) % AT_ONCE or held + work > SLICE:
                hold(held)
                await others_after(held + work)
                held = work = 0
            found, is_wanted = cached[key], wanted[text]
            if isinstance(found, ProviderError):
                faults[text] = _provider_fault(text, key, found)
                continue
            picked = picks.pick(reference, key, found.data)
            work += picks.take_work()
            if SLICE < (size := picked.shown(wanted=is_wanted)) <= room:
                hold(size)  # its text is no shorter: what there is no room for is not even made
                held -= size
                work += size
            if picked.fault is not None:
                faults[text] = picked.fault._replace(reference=text)
            elif (head := picks.head(picked, room, wanted=is_wanted)) is None:
                work += picked.size
                faults[text] = Fault(codes.TOO_LARGE, "the answer would exceed 16 MiB", reference=text)
            else:
                size = len(head) + len(text) + TAIL
                room -= size
                held += size
                given.append((at, (text, picked, found, is_wanted), head))
                if may_remember:
                    picks.remember(text, subject, picked, found, wanted=is_wanted)
        hold(held)
        given.sort(key=itemgetter(0))
        resolved, heads = [one for _, one, _ in given], [head for _, _, head in given]
        read = list(dict.fromkeys(places[text][1].subject for text, *_ in resolved))
        return Given(resolved, [faults[text] for text in wanted if text in faults], read, refused, heads)

    def _warm(self, wanted: Mapping[str, bool], caller: Caller) -> WarmGiven | None:
        """The answer, if every reference has a line, a fresh secret, and one that the caller may read."""
        lines = self._picker.lines(wanted)
        if not lines:
            return None
        warm = WarmGiven(lines)
        if warm.weight > MAX_ANSWER:
            return None
        if not self._may_read_all(caller) and not all(self.access.may_read(caller, name) for name in warm.read):
            return None
        ages = self._cache.use_fresh(warm.values)
        if ages is None:
            return None
        warm.ages = ages
        return warm

    async def _located_in_turns(
        self, texts: Iterable[str], own: Mapping[str, SecretEntry], caller: Caller | None
    ) -> tuple[dict[str, Place], dict[str, Fault]]:
        """Where references lead that the caller may read, and what is wrong with the others.

        Others have their turn meanwhile. Each reference is looked up and allowed in one.
        """
        places: dict[str, Place] = {}
        faults: dict[str, Fault] = {}
        rest = iter(texts)
        while batch := list(islice(rest, AT_ONCE)):
            if places or faults:
                await others_first()
            self._locate(batch, own, caller, places, faults)
        await self._suggest(faults, own, caller)
        return places, faults

    def _locate(
        self,
        texts: Iterable[str],
        own: Mapping[str, SecretEntry],
        caller: Caller | None,
        places: dict[str, Place],
        faults: dict[str, Fault],
    ) -> None:
        may_read_all = self._may_read_all(caller)
        for text in texts:
            known = self._known.get(text)
            if known is not None and may_read_all and not own:  # all there is to it, when it is warm
                places[text] = known
                continue
            place = self._place(text, own, caller)
            if isinstance(place, Fault):
                faults[text] = place
            else:
                places[text] = place

    async def _suggest(self, faults: dict[str, Fault], own: Mapping[str, SecretEntry], caller: Caller | None) -> None:
        unknown = [text for text, fault in faults.items() if fault.code == codes.UNKNOWN_SECRET]
        for text in unknown[:_MAX_SUGGESTIONS]:
            faults[text] = self._with_suggestion(faults[text], own, caller)
            await others_first()

    def find(self, name: str, caller: Caller) -> Key | Fault:
        """Where a name, or a reference, leads a caller."""
        place = self._place(_reference(name), {}, caller)
        if not isinstance(place, Fault):
            return place[1].key
        return self._with_suggestion(place, {}, caller) if place.code == codes.UNKNOWN_SECRET else place

    def _with_suggestion(self, fault: Fault, own: Mapping[str, SecretEntry], caller: Caller | None) -> Fault:
        """What an unknown reference could have meant; comparing names takes long, so not for thousands."""
        path = SecretRef.parse(fault.reference).path
        return fault._replace(hint=self.lookup.suggest(path, own, lambda name: self._may_read(caller, name)))

    def _place(self, text: str, own: Mapping[str, SecretEntry], caller: Caller | None) -> Place | Fault:
        """Where a reference leads, if the caller (None: the Engine, whom `access:` does not bind) may read it."""
        known = self._known.get(text)
        if known is not None and known[0].path not in own:
            return known if self._may_read(caller, known[1].subject) else _denied(text, caller)
        reference = _parsed(text)
        if isinstance(reference, Fault):
            return reference
        located = self.lookup.locate(reference, own)
        if isinstance(located, Located):
            if reference.path not in own:
                if len(self._known) >= _MAX_REMEMBERED:
                    self._known.clear()
                if len(text) <= MAX_KNOWN_TEXT:
                    self._known[text] = (reference, located)
            return (reference, located) if self._may_read(caller, located.subject) else _denied(text, caller)
        if located.code != codes.UNKNOWN_SECRET:
            return located._replace(reference=text)
        if not self._may_read(caller, reference.path):  # whether there is such a secret is none of its business
            return _denied(text, caller)
        return located._replace(reference=text)

    def known_as(self, name: str) -> str:
        """A name, or a reference, for the log."""
        return self._known_as(_reference(name), {})

    def _known_as(self, text: str, own: Mapping[str, SecretEntry]) -> str:
        """A reference for the log: the caller's name for it and, where that is another, what `access:` knows it as."""
        reference = _parsed(text)
        if isinstance(reference, Fault):
            return text[:MAX_REFERENCE_BYTES]
        located = self.lookup.locate(reference, own)
        if isinstance(located, Fault) or located.subject == reference.path:
            return reference.path
        return f"{reference.path}={located.subject}"

    def _may_read_all(self, caller: Caller | None) -> bool:
        return caller is None or caller.trusted or not self.access.is_restricted

    def _may_read(self, caller: Caller | None, subject: str) -> bool:
        return caller is None or self.access.may_read(caller, subject)

    # Volumes.

    async def render(self, spec: VolumeSpec) -> list[tuple[VolumeFile, SecretValue]]:
        """The content of a volume's files; UnresolvedError with all that is wrong.

        `access:` does not come into it: whoever defined the volume was checked, and whoever may mount it is root.
        """
        templates, places, faults = await self._places(spec, None)
        cached = await self._cache.get_many({located.key for _, located in places.values()})
        values: dict[SecretRef, bytes] = {}
        picks = self._picker.begin()
        work = 0
        for _, text, reference, located in _by_secret(places):
            found = cached[located.key]
            if isinstance(found, ProviderError):
                faults.append(_provider_fault(text, located.key, found))
                continue
            picked = picks.pick(reference, located.key, found.data)
            if picked.fault is not None:
                faults.append(picked.fault._replace(reference=text))
            values[reference] = picked.value.reveal()
            work += picks.take_work() + _OF_PICK
            if work > SLICE:
                await others_after(work)
                work = 0
        if faults:
            raise UnresolvedError(faults)
        contents: list[tuple[VolumeFile, SecretValue]] = []
        for file, template in zip(spec.files, templates, strict=True):
            if not isinstance(template, Fault):
                contents.append((file, SecretValue(_content(template, values))))
                work += len(contents[-1][1]) + _OF_PICK
            if work > SLICE:
                await others_after(work)
                work = 0
        return contents

    async def check_volume_access(self, spec: VolumeSpec, caller: Caller) -> list[str]:
        """The names of all secrets of a volume, if the caller may read them; else UnresolvedError."""
        _, places, faults = await self._places(spec, caller)
        if faults:
            own = {entry.name: entry for entry in spec.secrets}
            denied = [fault.reference for fault in faults if fault.code == codes.PERMISSION_DENIED]
            raise UnresolvedError(faults, [self._known_as(text, own) for text in denied])
        return sorted({located.subject for _, located in places.values()})

    async def _places(
        self, spec: VolumeSpec, caller: Caller | None
    ) -> tuple[list[Template | Fault], dict[str, Place], list[Fault]]:
        """The templates of a volume's files, where their references lead, and what is wrong with any of it.

        Others have their turn meanwhile: a volume may have thousands of files.
        """
        templates: list[Template | Fault] = []
        faults: list[Fault] = []
        texts: dict[str, None] = {}
        for at, file in enumerate(spec.files, 1):
            template = _template(file)
            templates.append(template)
            if isinstance(template, Fault):
                faults.append(template)
            else:
                texts.update(dict.fromkeys(map(str, _content_references(template))))
            if not at % AT_ONCE:
                await others_first()
        places, wrong = await self._located_in_turns(texts, {entry.name: entry for entry in spec.secrets}, caller)
        return templates, places, [*faults, *wrong.values()]


def _reference(name: str) -> str:
    return name if "://" in name else f"{ENV_SCHEME}{name}"


def _by_secret(places: Mapping[str, Place]) -> Iterable[tuple[int, str, SecretRef, Located]]:
    """All places with their numbers, those of one secret one after the other: it is then parsed once."""
    groups: dict[Key, list[tuple[int, str, SecretRef, Located]]] = {}
    for at, (text, (reference, located)) in enumerate(places.items()):
        groups.setdefault(located.key, []).append((at, text, reference, located))
    return chain.from_iterable(groups.values())


def _denied(text: str, caller: Caller | None) -> Fault:
    who = (caller.user or caller.uid) if caller else ""
    hint = "`access:` in the agent's dso.yaml says who may read what"
    return Fault(codes.PERMISSION_DENIED, f"user {who} may not read it", hint, text)


def _parsed(text: str) -> SecretRef | Fault:
    if len(text) > MAX_REFERENCE_BYTES:
        message = f"it is longer than {MAX_REFERENCE_BYTES} bytes"
        return Fault(codes.INVALID_REQUEST, message, reference=text[:MAX_REFERENCE_BYTES])
    try:
        return SecretRef.parse(text)
    except ReferenceSyntaxError as error:
        return Fault(codes.INVALID_REQUEST, error.message, error.hint, text)


def _template(file: VolumeFile) -> Template | Fault:
    if len(file.template) > MAX_TEMPLATE:
        return Fault(
            codes.INVALID_REQUEST, f"file {file.name!r}: its template is longer than {MAX_TEMPLATE} characters"
        )
    try:
        template = parse_template(file.template)
    except ReferenceSyntaxError as error:
        return Fault(codes.INVALID_REQUEST, f"file {file.name!r}: {error.message}", error.hint)
    if template is None:
        return Fault(
            codes.INVALID_REQUEST,
            f"file {file.name!r} has no reference in its template",
            "plain content belongs into a Compose config, not into a secret volume",
        )
    return template


def _content_references(template: Template) -> tuple[SecretRef, ...]:
    """The references whose values are in a file; dsofile:// within a text stands for a path."""
    whole = template.whole
    return (whole,) if whole else tuple(each for each in template.references if not each.is_file)


def _content(template: Template, values: Mapping[SecretRef, bytes]) -> bytes:
    if template.whole:
        return values[template.whole]
    return template.render(lambda each: container_path(each).encode() if each.is_file else values[each])


def _provider_fault(text: str, key: Key, error: ProviderError) -> Fault:
    return Fault(error.code, error.message, reference=text, provider=key.provider)
