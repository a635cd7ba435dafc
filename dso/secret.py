"""The values everything else speaks of: a reference to a secret, a secret's value, and what tells it from another."""

from __future__ import annotations

from dso.errors import ReferenceSyntaxError

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from typing import NoReturn

ENV_SCHEME = "dso://"
FILE_SCHEME = "dsofile://"
MAX_REFERENCE_BYTES = 512
GRAMMAR = "dso://[NAMESPACE/]PATH[#FIELD][?version=V]"
MASK = "********"

_SEGMENT_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-")


def is_segment(text: str) -> bool:
    """Whether text is one segment of a secret's name: `[A-Za-z0-9_.-]+`, not `.` or `..`."""
    return bool(text) and _SEGMENT_CHARACTERS.issuperset(text) and text not in (".", "..")


class SecretRef:
    """A parsed reference: where a secret is, which field and version of it, and how it is delivered.

    Immutable and hashable. `path` is NAMESPACE and PATH as written ("shop/db_password"), `is_file`
    tells `dsofile://` from `dso://`, `field` and `version` are None when not given.
    """

    __slots__ = ("field", "is_file", "path", "version")

    path: str
    is_file: bool
    field: str | None
    version: str | None

    def __init__(
        self, path: str, *, is_file: bool = False, field: str | None = None, version: str | None = None
    ) -> None:
        object.__setattr__(self, "path", path)
        object.__setattr__(self, "is_file", is_file)
        object.__setattr__(self, "field", field)
        object.__setattr__(self, "version", version)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"SecretRef is immutable: cannot set {name}")

    @classmethod
    def parse(cls, text: str) -> SecretRef:
        """Read `dso://...` or `dsofile://...`; raises ReferenceSyntaxError, which states the grammar."""
        if text.startswith(FILE_SCHEME):
            is_file, rest = True, text[len(FILE_SCHEME) :]
        elif text.startswith(ENV_SCHEME):
            is_file, rest = False, text[len(ENV_SCHEME) :]
        else:
            raise _syntax_error(text, "it does not start with dso:// or dsofile://")
        if len(text.encode("utf-8", "replace")) > MAX_REFERENCE_BYTES:
            raise _syntax_error(text[:40] + "...", f"it is longer than {MAX_REFERENCE_BYTES} bytes")
        rest, question, query = rest.partition("?")
        path, hash_sign, field = rest.partition("#")
        version = None
        if question:
            key, _, version = query.partition("=")
            if key != "version" or not is_segment(version):
                raise _syntax_error(text, "after ? only version=V is known")
        if hash_sign and not is_segment(field):
            raise _syntax_error(text, "the field after # is empty or has other characters than A-Z a-z 0-9 _ . -")
        for segment in path.split("/"):
            if not is_segment(segment):
                raise _syntax_error(text, _segment_fault(segment))
        return cls(path, is_file=is_file, field=field if hash_sign else None, version=version)

    def __str__(self) -> str:
        scheme = FILE_SCHEME if self.is_file else ENV_SCHEME
        field = f"#{self.field}" if self.field is not None else ""
        version = f"?version={self.version}" if self.version is not None else ""
        return f"{scheme}{self.path}{field}{version}"

    def __repr__(self) -> str:
        return f"SecretRef.parse({str(self)!r})"

    def _key(self) -> tuple[object, ...]:
        return (self.path, self.is_file, self.field, self.version)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SecretRef) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())


def _segment_fault(segment: str) -> str:
    if not segment:
        return "the name is empty or has an empty segment"
    if segment in (".", ".."):
        return f"{segment!r} is not allowed as a segment"
    return f"segment {segment!r} has other characters than A-Z a-z 0-9 _ . -"


def _syntax_error(text: str, fault: str) -> ReferenceSyntaxError:
    return ReferenceSyntaxError(f"malformed reference {text!r}: {fault}", hint=f"the form is {GRAMMAR}")


class SecretValue:
    """A secret's bytes, which show themselves to nobody: `reveal()` is the only way out.

    Printing, formatting, logging, JSON and pickling give a mask or refuse. Equality takes the same
    time whatever the values are.
    """

    __slots__ = ("_value",)

    def __init__(self, value: bytes) -> None:
        self._value = value

    def reveal(self) -> bytes:
        """The value itself."""
        return self._value

    def __len__(self) -> int:
        return len(self._value)

    def __eq__(self, other: object) -> bool:
        from _operator import _compare_digest as compare_digest  # what hmac exports, without importing hashlib

        return isinstance(other, SecretValue) and compare_digest(self._value, other._value)

    def __hash__(self) -> int:
        raise TypeError("a SecretValue is not hashable")

    def __repr__(self) -> str:
        return f"SecretValue({MASK})"

    def __str__(self) -> str:
        return MASK

    def __format__(self, _spec: str) -> str:
        return MASK

    def __reduce_ex__(self, _protocol: object) -> NoReturn:
        raise TypeError("a SecretValue cannot be pickled or copied")


class FoundSecret:
    """What a resolver knows of a secret.

    `value` may be None where only the agent needs it; `fingerprint` is a keyed MAC, equal as long as
    the value is, that tells nothing without its key, which never leaves the vault or the agent.
    """

    __slots__ = ("fingerprint", "value")

    def __init__(self, value: SecretValue | None, fingerprint: str) -> None:
        self.value = value
        self.fingerprint = fingerprint

    def reveal(self) -> bytes:
        """The value itself; only for a secret whose value was asked for."""
        assert self.value is not None  # noqa: S101  # a resolver gives what it was asked for
        return self.value.reveal()


def mac(key: bytes, value: SecretValue, *context: str) -> str:
    """A keyed MAC of a value and what it is for: 32 hexadecimal digits that tell nothing without the key.

    BLAKE2b in its keyed mode (RFC 7693 section 2.9), 128 bits; the parts are length-prefixed, so
    no two different inputs run together.
    """
    try:
        from _blake2 import blake2b  # what hashlib exports, without loading OpenSSL's libcrypto as hashlib does
    except ImportError:
        from hashlib import blake2b

    state = blake2b(key=key, digest_size=16)
    for part in (*(text.encode() for text in context), value.reveal()):
        state.update(len(part).to_bytes(8, "big"))
        state.update(part)
    return state.hexdigest()
