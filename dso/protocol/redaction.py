"""What of a provider's settings and variables is a credential, and keeping it out of what is logged or reported.

Both sides use this module: the agent for what a plugin writes and for its own log, DSO's own plugins for theirs.
"""

from __future__ import annotations

from dso.secret import MASK

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

_SHORTEST = 4  # a shorter credential would mask parts of ordinary words
_SHORTEST_LINE = 8  # of a credential of several lines, which may be told line by line
_TELLING = r"token|secret|pass|key|credential|jwt|pin\b|signature"  # in the names of credentials
# What stands beside credentials under `auth:` and is none itself: names, and paths of files that hold them.
_HARMLESS = r"^(method|username|user|role|role_name|mount|mount_point|path)$|_(file|path|dir|url)$"
_USERINFO = r"^[a-z][a-z0-9+.-]*://([^/@\s]+)@"


class Redactor:
    """Replaces a provider's credentials by a mask."""

    __slots__ = ("_forms", "_pattern")

    def __init__(self, settings: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> None:
        """Credentials are what `auth:` holds, and settings and variables whose names tell that they are."""
        import re

        variables = {name.lower(): value for name, value in (environment or {}).items()}
        found = {*_credentials(settings, inside=False), *_credentials(variables, inside=False)}
        forms = {form for text in found if len(text) >= _SHORTEST for form in _forms(text)}
        self._forms = sorted(forms, key=lambda text: (-len(text), text))
        self._pattern = re.compile("|".join(map(re.escape, self._forms)))  # the longest first

    def __call__(self, text: str) -> str:
        """The text without credentials."""
        for form in self._forms:
            if form in text:  # hardly ever; and much faster to say than by the pattern
                return self._pattern.sub(MASK, text)
        return text


def _forms(text: str) -> Iterator[str]:
    """A credential as it may be told: as it is, without the blanks around it, line by line, and quoted as in JSON."""
    import json

    lines = [line.strip() for line in text.splitlines()]
    plain = {text, *(line for line in lines if len(line) >= _SHORTEST_LINE)}
    if len(text.strip()) >= _SHORTEST:
        plain.add(text.strip())
    for one in plain:
        yield one
        yield json.dumps(one)[1:-1]
        yield json.dumps(one, ensure_ascii=False)[1:-1]


def _credentials(settings: object, *, inside: bool) -> Iterator[str]:
    """Every string that is a credential; `inside`: everything is that is not known to be harmless."""
    import re

    if isinstance(settings, dict):
        for name, value in settings.items():
            secret = inside or name == "auth" or bool(re.search(_TELLING, str(name), re.IGNORECASE))
            yield from _credentials(value, inside=secret and not re.search(_HARMLESS, str(name)))
    elif isinstance(settings, list | tuple):
        for value in settings:
            yield from _credentials(value, inside=inside)
    elif isinstance(settings, str):
        userinfo = re.match(_USERINFO, settings, re.IGNORECASE)
        if inside:
            yield settings
        elif userinfo:
            yield userinfo[1]
            yield userinfo[1].partition(":")[2]
