"""What users may call a secret, and what they may have meant."""

from __future__ import annotations

from dso.errors import InvalidSecretError, SecretNotFoundError, UsageError
from dso.secret import ENV_SCHEME, FILE_SCHEME, MAX_REFERENCE_BYTES, SecretRef, is_segment

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

GLOBAL_NAMESPACE = "global"


def check_name(name: str) -> str:
    """The name itself if it is NAMESPACE/PATH of valid segments, 512 bytes at most; else InvalidSecretError."""
    segments = name.split("/")
    if len(segments) < 2 or not all(map(is_segment, segments)):  # noqa: PLR2004  # a namespace and something in it
        raise InvalidSecretError(
            f"{name!r} is no name for a secret",
            hint="a name is NAMESPACE/PATH; its segments have the characters A-Z a-z 0-9 _ . - and are not . or ..",
        )
    if len(name) > MAX_REFERENCE_BYTES:
        raise InvalidSecretError(f"the name {name[:40]}... has more than {MAX_REFERENCE_BYTES} characters")
    return name


def parse_ref(text: str) -> SecretRef:
    """What a command's REF means: `KEY`, `NAMESPACE/PATH`, or a reference with its scheme, field and version.

    The reference's `path` is a full name: without a namespace it is in `global`.

    Raises:
        ReferenceSyntaxError: it follows none of these forms.
    """
    with_scheme = text if text.startswith((ENV_SCHEME, FILE_SCHEME)) else ENV_SCHEME + text
    reference = SecretRef.parse(with_scheme)
    path = reference.path if "/" in reference.path else f"{GLOBAL_NAMESPACE}/{reference.path}"
    return SecretRef(path, is_file=reference.is_file, field=reference.field, version=reference.version)


def parse_name(text: str) -> str:
    """The full name a REF stands for, where a field or version makes no sense (UsageError)."""
    reference = parse_ref(text)
    if reference.field is not None or reference.version is not None:
        raise UsageError(f"{text!r}: this command takes a whole secret, without #FIELD and ?version=")
    return reference.path


def version_number(reference: SecretRef) -> int | None:
    """The version a reference asks for, as the vault counts them, or None for the current one.

    Raises:
        SecretNotFoundError: it is no number, which all of the vault's versions are.
    """
    if reference.version is None:
        return None
    if not (reference.version.isdigit() and len(reference.version) < 10):  # noqa: PLR2004  # int() has limits
        raise SecretNotFoundError(
            f"{reference.path} has no version {reference.version!r}", hint="the vault counts versions 1, 2, 3 ..."
        )
    return int(reference.version)


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The existing name that was most likely meant: the same key in another namespace, else a similar one."""
    key = name.rpartition("/")[2]
    same_key = [other for other in names if other.rpartition("/")[2] == key]
    if len(same_key) == 1:
        return same_key[0]
    from difflib import get_close_matches

    near = get_close_matches(name, same_key or names, 1)
    return near[0] if near else None


def missing_error(missing: Sequence[str], names: Sequence[str]) -> SecretNotFoundError:
    """The one error for all secrets that do not exist, with the nearest existing name of each.

    Args:
        missing: the full names looked for.
        names: the names that exist.
    """
    described = []
    for name in missing:
        near = nearest(name, names)
        described.append(f"{name} (did you mean {near}?)" if near else name)
    what = "no such secret" if len(missing) == 1 else f"{len(missing)} secrets do not exist"
    return SecretNotFoundError(
        f"{what}: {', '.join(described)}",
        hint="`docker dso secret list` shows all" if names else "the vault is empty: `docker dso secret set NAME`",
    )
