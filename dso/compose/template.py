"""Values that hold references: one reference as a whole, or any number between double braces."""

from __future__ import annotations

from dso.errors import ReferenceSyntaxError
from dso.secret import ENV_SCHEME, FILE_SCHEME, SecretRef

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

BRACES_HINT = "write it as {{dso://NAMESPACE/PATH}} when other text stands around it"


class Template:
    """A value with references in it, taken apart.

    `parts` alternates literal text and SecretRef as they follow each other; `text` is the value as
    the user wrote it.
    """

    __slots__ = ("parts", "text")

    def __init__(self, text: str, parts: tuple[str | SecretRef, ...]) -> None:
        self.text = text
        self.parts = parts

    @property
    def references(self) -> tuple[SecretRef, ...]:
        """The references, in order."""
        return tuple(part for part in self.parts if isinstance(part, SecretRef))

    @property
    def whole(self) -> SecretRef | None:
        """The reference, if the value is nothing else."""
        return self.parts[0] if len(self.parts) == 1 and isinstance(self.parts[0], SecretRef) else None

    def render(self, reveal: Callable[[SecretRef], bytes]) -> bytes:
        """The value with every reference replaced by what `reveal` returns for it."""
        return b"".join(part.encode() if isinstance(part, str) else reveal(part) for part in self.parts)


def mentions_reference(text: str) -> bool:
    """Whether a string has `dso://` or `dsofile://` in it, not as the end of another scheme's name."""
    for scheme in (ENV_SCHEME, FILE_SCHEME):
        at = text.find(scheme)
        while at >= 0:
            before = text[at - 1] if at else ""
            if not (before.isascii() and (before.isalnum() or before in "+-.") and before):
                return True
            at = text.find(scheme, at + 1)
    return False


def parse_template(text: str) -> Template | None:
    """The references in a value, or None when it has none.

    Raises:
        ReferenceSyntaxError: a reference is malformed, or stands among other text without braces.
    """
    if not mentions_reference(text):
        return None
    if text.startswith((ENV_SCHEME, FILE_SCHEME)):
        return Template(text, (SecretRef.parse(text),))
    parts = _split(text)
    for part in parts:
        if isinstance(part, str) and mentions_reference(part):
            raise ReferenceSyntaxError("a reference stands among other text without braces", hint=BRACES_HINT)
    return Template(text, parts)


def _split(text: str) -> tuple[str | SecretRef, ...]:
    """Literal text and the references between braces; time grows with the length and nothing else."""
    parts: list[str | SecretRef] = []
    literal_from = position = 0
    while (opened := text.find("{{", position)) >= 0:
        position = opened + 2
        start = position
        while text[start : start + 1].isspace():
            start += 1
        if not text.startswith((ENV_SCHEME, FILE_SCHEME), start):
            continue  # looked at before "}}" is looked for: else braces without end would take time without end
        closed = text.find("}}", start)
        if closed < 0:
            break
        if opened > literal_from:
            parts.append(text[literal_from:opened])
        parts.append(SecretRef.parse(text[start:closed].strip()))
        literal_from = position = closed + 2
    if literal_from < len(text):
        parts.append(text[literal_from:])
    return tuple(parts)
