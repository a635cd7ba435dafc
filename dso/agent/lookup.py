"""What a reference means: which provider, which path, and under which name `access:` knows it.

No provider is asked here, and nothing tells a caller of what it may not read.
"""

from __future__ import annotations

from difflib import get_close_matches
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from dso.agent.cache import Key
from dso.protocol import codes
from dso.protocol.agent import Fault
from dso.protocol.backend_path import GRAMMAR, path_fault

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from dso.config.model import CloudConfig
    from dso.protocol.agent import SecretEntry
    from dso.secret import SecretRef

_MAX_COMPARED = 200  # names
_MAX_OWN = 200  # of the caller's own names that are looked at
_MAX_PAIRS = 20_000  # of characters that are compared, at some 10 million a second: a caller chooses its names
_MAX_SHOWN = 5


class Located(NamedTuple):
    """Where a secret is; `subject` is what the patterns of `access:` are compared with."""

    key: Key
    subject: str


class Lookup:
    """The names of one configuration."""

    def __init__(self, config: CloudConfig) -> None:
        self._providers = config.providers
        self._secrets = config.secrets
        self._paths: dict[tuple[str, str], list[str]] = {}
        for entry in config.secrets.values():
            self._paths.setdefault((entry.provider, entry.path), []).append(entry.name)

    def locate(self, reference: SecretRef, own: Mapping[str, SecretEntry]) -> Located | Fault:
        """Where a reference leads: a name of the caller's, an entry of dso.yaml, PROVIDER/PATH, or the one provider.

        A name of the caller's own is known to `access:` by provider and path only. A Fault of
        UNKNOWN_SECRET has no hint yet (`suggest`): what it may list depends on who asks.
        """
        path = reference.path
        if path in own:
            return self._own(reference, own[path])
        entry = self._secrets.get(path)
        if entry is not None:
            return Located(Key(entry.provider, entry.path, reference.version or entry.version), path)
        provider, slash, rest = path.partition("/")
        if slash and provider in self._providers:
            return Located(Key(provider, rest, reference.version), path)
        if len(self._providers) == 1:
            provider = next(iter(self._providers))
            return Located(Key(provider, path, reference.version), f"{provider}/{path}")
        return Fault(
            codes.UNKNOWN_SECRET,
            f"no secret in dso.yaml has the name {path!r}, and none of its providers is called {provider!r}",
            reference=str(reference),
        )

    def _own(self, reference: SecretRef, entry: SecretEntry) -> Located | Fault:
        def fault(code: str, message: str, hint: str = "") -> Fault:
            return Fault(
                code, f"the project's entry {entry.name!r} {message}", hint, str(reference), entry.provider[:128]
            )

        if entry.provider not in self._providers:
            known = ", ".join(self._providers) or "it has none"
            return fault(
                codes.UNKNOWN_PROVIDER,
                f"names the provider {entry.provider[:128]!r}, which the agent does not have",
                f"its providers: {known}; they are configured in the agent's own dso.yaml, not in a project's",
            )
        for what, text in (("path", entry.path), ("version", entry.version)):
            wrong = None if text is None else path_fault(text)
            if wrong is not None:
                return fault(
                    codes.INVALID_REQUEST, f"has a {what} that is not valid: {wrong}", f"a {what} is {GRAMMAR}"
                )
        key = Key(entry.provider, entry.path, reference.version or entry.version)
        return Located(key, f"{entry.provider}/{entry.path}")

    def subjects_of(self, provider: str, path: str) -> list[str]:
        """All names under which `access:` may grant a secret: those of its entries, and PROVIDER/PATH."""
        return [*self._paths.get((provider, path), ()), f"{provider}/{path}"]

    def suggest(self, path: str, own: Iterable[str], may_read: Callable[[str], bool]) -> str:
        """What a reference that leads nowhere could have meant, of what the caller may read."""
        names = [*islice(own, _MAX_OWN), *(name for name in self._secrets if may_read(name))]
        last = path.rpartition("/")[2]
        near = [name for name in names if name.rpartition("/")[2] == last]
        near += get_close_matches(path, _comparable(path, names), _MAX_SHOWN)
        near = list(dict.fromkeys(near))[:_MAX_SHOWN]
        hints = []
        if near:
            hints.append(f"did you mean {' or '.join(f'dso://{name}' for name in near)}?")
        elif names:
            shown = ", ".join(names[:_MAX_SHOWN]) + (", ..." if len(names) > _MAX_SHOWN else "")
            hints.append(f"names in dso.yaml: {shown}")
        if self._providers:
            ways = [f"dso://{provider}/{path}" for provider in self._providers][:_MAX_SHOWN]
            hints.append(f"a path in a provider begins with the provider's name: {' or '.join(ways)}")
        else:
            hints.append("dso.yaml has no providers")
        return "; ".join(hints)


def _comparable(path: str, names: Sequence[str]) -> list[str]:
    """As many of the names as may be compared with a path while everybody else waits."""
    room = _MAX_PAIRS
    found: list[str] = []
    for name in names[:_MAX_COMPARED]:
        if len(path) * len(name) <= room:
            room -= len(path) * len(name)
            found.append(name)
    return found
