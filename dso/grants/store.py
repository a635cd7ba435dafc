"""`~/.dso/grants.json`: which directory may have which namespaces and secrets, and whose dso.yaml counts in full.

It is `{"version": 1, "grants": [...]}`, each grant an object with the attributes of `Grant`.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from dso import paths
from dso.errors import FileAccessError, InsecurePermissionsError, NotGrantedError
from dso.grants.coverage import Weakness, ancestry, weakness
from dso.system.files import check_directory, locked, read_file, reason, remove_stale_temporaries, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

VERSION = 1
LOCK_TIMEOUT = 30.0  # seconds; one holder needs milliseconds
_MAX_BYTES = 1 << 24
_OTHERS_WRITE = 0o022


class Grant(NamedTuple):
    """What the project in a directory, or below it, may have.

    `directory` is absolute, without symbolic links. `namespaces` may be read as a whole, `secrets` are single full
    names (`global/stripe_key`). `configuration`: a dso.yaml that is found there may choose the agent's socket and have
    `${VARIABLE}` in it.
    """

    directory: str
    namespaces: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    configuration: bool = False

    def __bool__(self) -> bool:
        """Whether it grants anything."""
        return bool(self.namespaces or self.secrets or self.configuration)


class Coverage(NamedTuple):
    """What one directory, or several together, may have; `weak` says which grants above them do not count, and why."""

    namespaces: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    configuration: bool = False
    weak: tuple[Weakness, ...] = ()

    def allows(self, name: str) -> bool:
        """Whether a secret, by its full name, may be had."""
        return name in self.secrets or name.partition("/")[0] in self.namespaces

    def and_also(self, other: Coverage) -> Coverage:
        """What both may have."""
        mine = {name for name in self.secrets if other.allows(name)}
        theirs = {name for name in other.secrets if self.allows(name)}
        return Coverage(
            self.namespaces & other.namespaces,
            frozenset(mine | theirs),
            self.configuration and other.configuration,
            tuple(dict.fromkeys((*self.weak, *other.weak))),
        )


class Grants:
    """The grants of a user, by directory."""

    def __init__(self, grants: Iterable[Grant] = (), *, uid: int | None = None) -> None:
        """Keep them; `uid` is whose directories count, this process's user by default."""
        self._grants = {grant.directory: grant for grant in grants}
        self._uid = os.geteuid() if uid is None else uid

    @classmethod
    def load(cls, path: str | None = None) -> Grants:
        """Read them; without a file there are none.

        Args:
            path: the file; `~/.dso/grants.json` by default.

        Raises:
            InsecurePermissionsError: another user owns the file or its directory, or may change either.
            NotGrantedError: the file is not what DSO writes, so nothing counts as granted.
            FileAccessError: it cannot be read.
        """
        return cls(_read(os.path.realpath(path or paths.grants_file())))

    def list(self) -> list[Grant]:
        """All grants, sorted by directory."""
        return [self._grants[directory] for directory in sorted(self._grants)]

    def of(self, directory: str) -> Grant:
        """What was granted to exactly this directory, resolved; it may be nothing."""
        return self._grants.get(directory, Grant(directory))

    def at(self, directory: str) -> Coverage:
        """What the project in this directory may have, by all grants to it or to directories above it.

        A grant counts only while nobody else can put files into any directory from the granted one down, or another
        directory in place of the granted one. One to the home directory, or above it, is for that directory alone:
        below it is all that the user ever cloned.
        """
        resolved = os.path.realpath(directory)
        wide = frozenset(ancestry(os.path.realpath(paths.home())))
        found = Coverage()
        for above in ancestry(resolved):
            grant = self._grants.get(above)
            if not grant or (above in wide and above != resolved):
                continue
            weak = weakness(above, resolved, self._uid)
            if weak is not None:
                found = found._replace(weak=tuple(dict.fromkeys((*found.weak, weak))))
            else:
                found = found._replace(
                    namespaces=found.namespaces | set(grant.namespaces),
                    secrets=found.secrets | set(grant.secrets),
                    configuration=found.configuration or grant.configuration,
                )
        return found

    def at_all(self, directories: Iterable[str]) -> Coverage:
        """What a project that takes its files from all of these directories may have: what each of them may."""
        found: Coverage | None = None
        for directory in dict.fromkeys(map(os.path.realpath, directories)):
            one = self.at(directory)
            found = one if found is None else found.and_also(one)
        return found or Coverage()


def grant(
    directory: str,
    *,
    namespaces: Collection[str] = (),
    secrets: Collection[str] = (),
    configuration: bool = False,
    path: str | None = None,
) -> Grant:
    """Grant a directory more than it has; returns what it has now.

    Raises:
        NotGrantedError: others can put files into the directory, or another in its place, so a grant would not count.
        what `Grants.load` raises, and FileAccessError: the grants cannot be written.
    """
    resolved = os.path.realpath(directory)
    weak = weakness(resolved, resolved, os.geteuid())
    if weak is not None:
        raise NotGrantedError(f"nothing can be granted to {resolved}, since {weak}", hint=weak.remedy)

    def more(before: Grant) -> Grant:
        return Grant(
            resolved,
            _merged(before.namespaces, namespaces),
            _merged(before.secrets, secrets),
            before.configuration or configuration,
        )

    return _change(resolved, more, path)


def revoke(
    directory: str,
    *,
    namespaces: Collection[str] = (),
    secrets: Collection[str] = (),
    configuration: bool = False,
    everything: bool = False,
    path: str | None = None,
) -> Grant:
    """Take away what a directory has, or with `everything` all of it; returns what it has left.

    Raises:
        what `Grants.load` raises, and FileAccessError: the grants cannot be written.
    """
    resolved = os.path.realpath(directory)

    def less(before: Grant) -> Grant:
        if everything:
            return Grant(resolved)
        return Grant(
            resolved,
            tuple(each for each in before.namespaces if each not in namespaces),
            tuple(each for each in before.secrets if each not in secrets),
            before.configuration and not configuration,
        )

    return _change(resolved, less, path)


def forget(
    *,
    namespaces: Collection[str] = (),
    secrets: Collection[str] = (),
    everything: bool = False,
    path: str | None = None,
) -> list[str]:
    """Take namespaces and secrets away from every directory, or with `everything` all of them.

    Returns the directories that had some. What a dso.yaml was allowed stays. Raises as `revoke` does.
    """
    had = []
    for each in Grants.load(path).list():
        secret = each.secrets if everything else [name for name in each.secrets if name in secrets]
        whole = each.namespaces if everything else [name for name in each.namespaces if name in namespaces]
        if secret or whole:
            revoke(each.directory, namespaces=whole, secrets=secret, path=path)
            had.append(each.directory)
    return had


def _merged(before: Iterable[str], more: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({*before, *more}))


def _change(directory: str, change: Callable[[Grant], Grant], path: str | None) -> Grant:
    """Read, change and write the file, under its lock."""
    path = os.path.realpath(path or paths.grants_file())
    _make_directory(os.path.dirname(path))
    check_directory(os.path.dirname(path))
    try:
        with locked(os.path.join(os.path.dirname(path), "grants.lock"), LOCK_TIMEOUT):
            grants = {each.directory: each for each in _read(path)}
            before = grants.get(directory, Grant(directory))
            after = change(before)
            if after != before:
                grants[directory] = after
                remove_stale_temporaries(path)
                write_atomic(path, _written([grants[each] for each in sorted(grants) if grants[each]]))
    except (OSError, TimeoutError) as error:
        raise FileAccessError(f"cannot change the grants in {path}: {reason(error)}") from error
    return after


def _make_directory(directory: str) -> None:
    try:
        os.mkdir(directory, 0o700)
    except FileExistsError:
        return
    except OSError as error:
        raise FileAccessError(f"cannot create {directory}: {reason(error)}") from error


def _written(grants: list[Grant]) -> bytes:
    from dso.system.json_fast import dumps

    return dumps({"version": VERSION, "grants": [each._asdict() for each in grants]}).encode() + b"\n"


def _read(path: str) -> list[Grant]:
    from dso.system.json_fast import loads

    check_directory(os.path.dirname(path))
    try:
        status = os.stat(path)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise FileAccessError(f"cannot read the grants {path}: {reason(error)}") from error
    if status.st_uid not in (os.geteuid(), 0) or status.st_mode & _OTHERS_WRITE:
        raise InsecurePermissionsError(
            f"other users may change the grants {path} (owner {status.st_uid}, mode {status.st_mode & 0o7777:04o})",
            hint=f"see what they say now, then: chmod 600 {path}",
        )
    try:
        document = loads(read_file(path, "the grants", _MAX_BYTES).decode())
        return _grants_in(document)
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise NotGrantedError(
            f"{path} cannot be understood, so nothing counts as granted", hint=f"remove it, and grant anew: rm {path}"
        ) from error


def _grants_in(document: object) -> list[Grant]:
    """Raises ValueError, TypeError or KeyError if it is anything else than what `_written` writes."""
    if not isinstance(document, dict) or document["version"] != VERSION:
        raise ValueError("not of this version")
    return [
        Grant(
            _text(each["directory"]),
            _texts(each.get("namespaces", [])),
            _texts(each.get("secrets", [])),
            each.get("configuration") is True,
        )
        for each in document["grants"]
    ]


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return tuple(map(_text, value))
