"""What volumes are to hold, who said so, and how much of it there may be (docs/decisions/0021).

A *volume* is one that the Engine has made: its definition outlasts everything and ends with `docker volume rm`. A
*claim* is what a caller of the agent has said of a volume that the Engine has not made. Everybody has claims of their
own, so nobody's is in another's way; the Engine knows nothing of them; they are in memory only, and end after a while.
When the Engine makes the volume, it says itself what that is to hold, or else the only claim counts.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dso.agent.volume.checks import VolumeError, check_name, check_spec, normal
from dso.protocol.agent import VolumeSpec
from dso.protocol.reading import MessageError, read_count, read_object
from dso.system.files import write_atomic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    Named = Mapping[str, "Definition"]
    Pairs = Sequence[tuple[str, "Definition"]]

MAX_VOLUMES = 10_000
MAX_BYTES = 16 * 1024 * 1024  # of the file, which is held in memory and written as a whole
USER_VOLUMES = 1_000  # of one user, claims included; root has none of these limits
USER_BYTES = 2 * 1024 * 1024
CLAIMS = 4_000  # of all users but root
CLAIM_BYTES = 8 * 1024 * 1024
CLAIM_SECONDS = 3600.0  # between `docker dso up` and the Engine, images may have to be pulled
DEFINITIONS = "volumes.json"
ROOT = 0
_FORMAT = 2
_FORMER_FORMAT = 1  # had no owners


class QuotaError(VolumeError):
    """A user has as many definitions as one may have; there may be room again in `retry_after` seconds."""

    def __init__(self, message: str, retry_after: float) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Definition(NamedTuple):
    """What a volume is to hold: `text` is the same as JSON.

    `owner` is the user who said it; None in a file of an earlier release, which did not note it down.
    """

    spec: VolumeSpec
    text: str
    owner: int | None

    @classmethod
    def of(cls, spec: VolumeSpec, owner: int | None) -> Self:
        """The definition in its one form."""
        spec = normal(spec)
        return cls(spec, json.dumps(spec.to_json(), separators=(",", ":")), owner)

    def line(self, name: str) -> str:
        """Its line of the file."""
        return f'{json.dumps(name)}: {{"owner": {json.dumps(self.owner)}, "spec": {self.text}}}'


class Claim(NamedTuple):
    """A user's definition of a volume that is yet to be made, and when it ends by the agent's clock."""

    definition: Definition
    until: float


class Definitions:
    """All volumes and claims. Its methods are for one thread at a time; `volumes` is replaced and never changed.

    Attributes:
        volumes: by name.
    """

    def __init__(self, directory: str, driver: str) -> None:
        """`driver` is what the Engine calls the volume driver."""
        self.volumes: dict[str, Definition] = {}
        self.path = os.path.join(directory, DEFINITIONS)
        self._driver = driver
        self._claims: dict[str, dict[int, Claim]] = {}

    def load(self) -> list[str]:
        """Read the file; what was wrong with it. A damaged one is kept under another name too."""
        try:
            self.volumes, unusable = self._read()
        except (OSError, ValueError, MessageError) as error:
            unusable = [f"{self.path} cannot be read ({error}): what the volumes are to hold is forgotten"]
        if unusable:
            _keep_aside(self.path)
        return unusable

    def foreign(self, volumes: Mapping[str, VolumeSpec], owner: int) -> dict[str, Definition]:
        """Those of other people, or of nobody knows whom, that would be replaced by something else."""
        return {
            name: self.volumes[name]
            for name, spec in volumes.items()
            if name in self.volumes and self.volumes[name].owner != owner and self.volumes[name].spec != normal(spec)
        }

    def put(self, volumes: Mapping[str, VolumeSpec], owner: int, now: float, *, is_trusted: bool) -> None:
        """Replace volumes, and claim those that the Engine has not made, all or none.

        Raises:
            QuotaError: the owner, unless trusted, would have too many.
            VolumeError: one is not as it should be, or there is no room for them.
            OSError: they cannot be written.
        """
        if len(volumes) > MAX_VOLUMES:
            raise VolumeError(f"these are {len(volumes)} volumes, and {MAX_VOLUMES} is the most there may be")
        given: dict[str, Definition] = {}
        for name, spec in volumes.items():
            check_name(name)
            check_spec(name, spec)
            given[name] = Definition.of(spec, owner)
        self.expire(now)
        changed = {
            name: one if self.volumes[name].owner is None else one._replace(owner=self.volumes[name].owner)
            for name, one in given.items()
            if name in self.volumes and self.volumes[name].spec != one.spec
        }
        claims = {name: one for name, one in given.items() if name not in self.volumes}
        after = {**self.volumes, **changed}
        self._check_quota(after, claims, owner, now, is_trusted=is_trusted)
        self._write(after, MAX_BYTES)
        for name, one in claims.items():
            self._claims.setdefault(name, {})[owner] = Claim(one, now + CLAIM_SECONDS)

    def make(self, name: str, spec: VolumeSpec | None, now: float) -> None:
        """The Engine makes a volume: with this content, or, if it does not say, with what was claimed.

        Raises:
            VolumeError: nobody said what it is to hold, or people said different things; or there is no room.
            OSError: it cannot be written.
        """
        check_name(name)
        self.expire(now)
        claims = {uid: claim.definition for uid, claim in self._claims.get(name, {}).items()}
        former = self.volumes.get(name)
        if spec is None:
            if former is not None:
                return
            spec = self._claimed(name, claims)
        check_spec(name, spec)
        one = Definition.of(spec, ROOT)
        owners = [uid for uid, claim in claims.items() if claim.text == one.text]
        if former is not None:
            one = one._replace(owner=former.owner)
        elif len(owners) == 1:  # of several, any could be a stranger who guessed it
            one = one._replace(owner=owners[0])
        after = {**self.volumes, name: one}
        if len(after) > MAX_VOLUMES:
            raise VolumeError(f"there are {MAX_VOLUMES} volumes already; {self._remedy()}")
        self._write(after, MAX_BYTES)
        self._claims.pop(name, None)

    def forget(self, name: str) -> None:
        """The Engine removes a volume; OSError: it cannot be written, and stays."""
        self._write({other: one for other, one in self.volumes.items() if other != name})

    def expire(self, now: float) -> None:
        """Let claims end that the Engine made no volume of in time."""
        for name, claims in list(self._claims.items()):
            left = {uid: claim for uid, claim in claims.items() if claim.until > now}
            if not left:
                del self._claims[name]
            elif len(left) < len(claims):
                self._claims[name] = left

    def _claimed(self, name: str, claims: Mapping[int, Definition]) -> VolumeSpec:
        if not claims:
            raise VolumeError(f"no such volume: {name[:255]}: `docker dso up` makes them")
        texts = {one.text: one.spec for one in claims.values()}
        if len(texts) > 1:
            who = " and ".join(map(str, sorted(claims)))
            raise VolumeError(f"volume {name}: users {who} do not agree what it is to hold; say it with the option")
        return next(iter(texts.values()))

    def _check_quota(self, after: Named, claims: Named, owner: int, now: float, *, is_trusted: bool) -> None:
        """QuotaError if a user would have more than one may have, or all users would have more claims than fit."""
        standing = [(name, uid, claim) for name, by_user in self._claims.items() for uid, claim in by_user.items()]
        mine = [(name, claim.definition) for name, uid, claim in standing if uid == owner]
        new = [*((name, one) for name, one in mine if name not in claims), *claims.items()]
        wait = min((claim.until - now for _, _, claim in standing), default=CLAIM_SECONDS)
        who = f"user {owner}"
        if is_trusted:
            _limit(new, mine, MAX_VOLUMES, MAX_BYTES, who, wait)
            return
        _limit(
            [*_owned(after, owner), *new], [*_owned(self.volumes, owner), *mine], USER_VOLUMES, USER_BYTES, who, wait
        )
        others = [(name, claim.definition) for name, uid, claim in standing if uid not in (owner, ROOT)]
        _limit([*others, *new], [*others, *mine], CLAIMS, CLAIM_BYTES, "all users together", wait)

    def _write(self, after: dict[str, Definition], most: int | None = None) -> None:
        if after == self.volumes:
            return
        lines = ",\n".join(one.line(name) for name, one in sorted(after.items()))
        content = f'{{"format": {_FORMAT}, "volumes": {{\n{lines}\n}}}}\n'.encode()
        if most is not None and len(content) > most:
            raise VolumeError(
                f"the definitions of all volumes would take {len(content)} bytes, and may take {most}; {self._remedy()}"
            )
        write_atomic(self.path, content)
        self.volumes = after

    def _remedy(self) -> str:
        # Not `docker volume prune`: it passes over the volumes of drivers.
        return (
            f"`docker volume ls -q -f driver={self._driver} -f dangling=true | xargs -r docker volume rm` "
            "removes those that no container has"
        )

    def _read(self) -> tuple[dict[str, Definition], list[str]]:
        """The definitions that can be used, and what is wrong with others."""
        try:
            with open(self.path, "rb") as file:
                found = read_object(json.load(file), "it")
        except FileNotFoundError:
            return {}, []
        if found.get("format") not in (_FORMAT, _FORMER_FORMAT):
            raise MessageError("it is of another format than this release knows")
        volumes, unusable = {}, []
        for name, body in read_object(found.get("volumes", {}), "volumes").items():
            try:
                check_name(name)
                one = _definition(body, has_owner=found["format"] == _FORMAT)
                check_spec(name, one.spec)
            except (MessageError, VolumeError) as error:
                unusable.append(f"{self.path}: volume {name[:80]!r} is left out: {error}")
            else:
                volumes[name] = one
        return volumes, unusable


def _definition(body: Any, *, has_owner: bool) -> Definition:
    if not has_owner:
        return Definition.of(VolumeSpec.from_json(body), None)
    found = read_object(body, "a volume", {"owner", "spec"})
    owner = found.get("owner")
    return Definition.of(VolumeSpec.from_json(found.get("spec")), None if owner is None else read_count(owner, "owner"))


def _owned(volumes: Named, owner: int) -> Iterable[tuple[str, Definition]]:
    return ((name, one) for name, one in volumes.items() if one.owner == owner)


def _limit(wanted: Pairs, before: Pairs, most: int, most_bytes: int, who: str, wait: float) -> None:
    """QuotaError for more than is allowed, and more than before; in number, or in bytes of a file."""
    size, former = (sum(len(name) + len(one.text) for name, one in pairs) for pairs in (wanted, before))
    for count, had, limit, what in (
        (len(wanted), len(before), most, "volumes"),
        (size, former, most_bytes, "bytes of definitions"),
    ):
        if count > limit and count > had:
            raise QuotaError(
                f"{who} would have {count} {what}, and may have {limit}: those that the Engine does not make end "
                f"within {CLAIM_SECONDS / 60:.0f} minutes, the others with `docker volume rm`",
                max(wait, 1.0),
            )


def _keep_aside(path: str) -> None:
    try:
        with open(path, "rb") as file:
            write_atomic(path + ".damaged", file.read())
    except OSError:
        return
