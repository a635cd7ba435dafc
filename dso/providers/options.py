"""A provider's settings, read with errors a person can act on."""

from __future__ import annotations

from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from dso.protocol.codes import INVALID_CONFIG
from dso.protocol.provider import ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class Options:
    """A mapping of settings; each is taken once, and `finish` refuses what nobody took.

    Every method raises `ProviderError` (`invalid_config`), which names the provider and the key and
    never shows what was given: it may be a credential.
    """

    def __init__(self, provider: str, settings: Mapping[str, Any], prefix: str = "") -> None:
        self._provider = provider
        self._settings = settings
        self._prefix = prefix
        self._known: set[str] = set()

    def text(self, key: str) -> str | None:
        """A string that is not empty, or None if there is none."""
        value = self._take(key)
        if value is None:
            return None
        if not isinstance(value, str) or not value:
            raise self.error(key, "is no text, or empty")
        return value

    def required(self, key: str) -> str:
        """A string that has to be there."""
        value = self.text(key)
        if value is None:
            raise self.error(key, "is missing")
        return value

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """One of a few words."""
        value = self.text(key) or default
        if value not in choices:
            raise self.error(key, f"is none of {', '.join(choices)}")
        return value

    def flag(self, key: str, *, default: bool) -> bool:
        """`true` or `false`."""
        value = self._take(key)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.error(key, "is neither true nor false")
        return value

    def whole(self, key: str, default: int) -> int:
        """A whole number, also one written as text (from a variable)."""
        value = self._take(key)
        if value is None:
            return default
        if isinstance(value, str) and value.isascii() and value.isdigit():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.error(key, "is no whole number")
        return value

    def section(self, key: str) -> Options:
        """The settings below a key; none where it is left out."""
        value = self._take(key)
        if value is not None and not isinstance(value, dict):
            raise self.error(key, "is no mapping")
        return Options(self._provider, value or {}, f"{self._prefix}{key}.")

    def finish(self) -> None:
        """Refuse settings that were not asked for."""
        for key in self._settings:
            if key not in self._known:
                nearest = get_close_matches(key, self._known, 1)
                hint = f"; did you mean `{self._prefix}{nearest[0]}`?" if nearest else ""
                raise self.error(key[:40], f"is no setting of this type of provider{hint}")

    def error(self, key: str, fault: str) -> ProviderError:
        """`provider vault-prod: `auth.method` is none of ...`."""
        return ProviderError(INVALID_CONFIG, f"provider {self._provider}: `{self._prefix}{key}` {fault}")

    def _take(self, key: str) -> Any:
        self._known.add(key)
        return self._settings.get(key)
