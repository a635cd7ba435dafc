"""What can be granted, as it is written: `bank` for a namespace, `bank/api_key` for one secret."""

from __future__ import annotations

from typing import NamedTuple

from dso.errors import UsageError
from dso.paths import ALLOW_VARIABLE
from dso.secret import is_segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

GLOBAL_NAMESPACE = "global"  # its secrets, which any project finds by a short name, are granted one by one
_EVERYTHING = "*"


class Named(NamedTuple):
    """Namespaces, and full names of secrets; `everything` is every secret there is."""

    namespaces: frozenset[str] = frozenset()
    secrets: frozenset[str] = frozenset()
    everything: bool = False

    def allows(self, name: str) -> bool:
        """Whether the secret with this full name is among them."""
        return self.everything or name in self.secrets or name.partition("/")[0] in self.namespaces


def parse_names(words: Iterable[str]) -> Named:
    """What words like `bank` and `bank/api_key` mean.

    Raises:
        UsageError: one is neither; or it is `global`, whose secrets are granted by name.
    """
    namespaces, secrets = set(), set()
    for word in words:
        if not all(map(is_segment, word.split("/"))):
            raise UsageError(f"{word!r} is not a namespace, nor NAMESPACE/NAME")
        if "/" in word:
            secrets.add(word)
        elif word == GLOBAL_NAMESPACE:
            raise UsageError(
                f"{GLOBAL_NAMESPACE} cannot be granted as a whole", hint=f"name each secret: {GLOBAL_NAMESPACE}/NAME"
            )
        else:
            namespaces.add(word)
    return Named(frozenset(namespaces), frozenset(secrets))


def narrow(names: Iterable[str]) -> Named:
    """What to grant for these secrets: their namespaces, and those in `global` by name."""
    found = list(names)
    return Named(
        frozenset(name.partition("/")[0] for name in found if not _is_global(name)),
        frozenset(filter(_is_global, found)),
    )


def _is_global(name: str) -> bool:
    return name.startswith(GLOBAL_NAMESPACE + "/")


def allowed_by(environment: Mapping[str, str]) -> Named:
    """What DSO_ALLOW in the process's environment allows to any project: `bank,global/stripe_key`, or `*`.

    Raises:
        UsageError: it is something else.
    """
    words = [word for word in map(str.strip, environment.get(ALLOW_VARIABLE, "").split(",")) if word]
    try:
        return parse_names(word for word in words if word != _EVERYTHING)._replace(everything=_EVERYTHING in words)
    except UsageError as error:
        raise UsageError(f"{ALLOW_VARIABLE}: {error.message}", hint=error.hint) from None
