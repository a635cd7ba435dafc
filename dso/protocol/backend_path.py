"""Which texts can be a secret's path, or a version, in a provider.

Between us and a backend stand a client library, proxies and servers, and each may decode a path, fold its characters or
resolve its dots once more. A path that would then be another one could read what `access:` was not asked about. So such
paths are refused, before a plugin sees them and by DSO's own plugins again; what is left is legal in some backend, and
each provider still encodes it as its own API wants it.
"""

from __future__ import annotations

MAX_PATH = 2048  # characters
GRAMMAR = (
    "segments with / between them, none empty or of dots only; no \\, no %2e or the like, and no look-alikes of them"
)
# Those that compatibility normalization (NFKC) turns into a text with one of . / \ % in it, and those that systems are
# known to fold to one: fraction and division slashes, set minus, ideographic full stops.
LOOK_ALIKES = frozenset(
    "\u2024\u2025\u2026\u2100\u2101\u2105\u2106\u2488\u2489\u248a\u248b\u248c\u248d\u248e\u248f\u2490\u2491\u2492\u2493"
    "\u2494\u2495\u2496\u2497\u2498\u2499\u249a\u249b\u33c2\u33c7\u33d8\ufe19\ufe30\ufe52\ufe68\ufe6a\uff05\uff0e\uff0f\uff3c"
    "\U0001f100"
    "\u2044\u2215\u29f8\u2216\u29f5\u3002\uff61"
)
_HEXADECIMAL = frozenset("0123456789ABCDEFabcdef")


def path_fault(text: str) -> str | None:
    """Why a text cannot be a path or a version, for people; None if it can."""
    if not text or len(text) > MAX_PATH:
        return f"it is empty or longer than {MAX_PATH} characters"
    if not text.isprintable():
        return "it has a character that cannot be printed"
    return _character_fault(text) or _segment_fault(text)


def _character_fault(text: str) -> str | None:
    if "\\" in text:
        return "it has a backslash"
    if not text.isascii() and (found := LOOK_ALIKES.intersection(text)):
        return f"it has the character U+{ord(min(found)):04X}, which looks like another one"
    escape = next(filter(_is_escape, text.split("%")[1:]), None)
    return None if escape is None else f"%{ascii(escape[:2])[1:-1]} in it would be another character once it is decoded"


def _segment_fault(text: str) -> str | None:
    for segment in text.removeprefix("/").split("/"):
        if not segment:
            return "it has an empty segment"
        if not segment.partition(";")[0].strip(" ."):  # some servers take `..;x` and `.. ` for `..`
            return "it has a segment of dots"
    return None


def _is_escape(rest: str) -> bool:
    """Whether a percent sign before this begins an escape: `%2e`, `%u002e`; in any script's digits."""
    if rest[:1] in ("u", "U"):
        return len(rest) >= 5 and all(map(_may_be_digit, rest[1:5]))  # noqa: PLR2004
    return len(rest) >= 2 and all(map(_may_be_digit, rest[:2]))  # noqa: PLR2004


def _may_be_digit(character: str) -> bool:
    return character in _HEXADECIMAL or not character.isascii()
