"""What comes of fetches: it is remembered, counted and told. docs/decisions/0008 has the rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dso.agent.backoff import Backoff
from dso.agent.store import Failure, Value
from dso.protocol.codes import NOT_FOUND, PERMISSION_DENIED, TRANSIENT
from dso.protocol.provider import SecretData

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from dso.agent.seams import Emit
    from dso.agent.store import Key, Store
    from dso.protocol.provider import ProviderError

NEGATIVE_SECONDS = 10.0  # for which "there is none" and "you may not" are believed
PINNED_FACTOR = 12  # a pinned version that can only be itself is fresh for that many times as long
_GONE = frozenset({NOT_FOUND, PERMISSION_DENIED})
_FIRST_RETRY, _LAST_RETRY = 0.5, 5.0  # of a secret that has no value to serve meanwhile
_FIRST_RENEWAL, _LAST_RENEWAL = 1.0, 60.0  # of one that has


class Landing:
    """Puts what providers said into the store."""

    def __init__(self, store: Store, ttl: Callable[[str], float], random: Callable[[], float], emit: Emit) -> None:
        self._store = store
        self._ttl = ttl
        self._random = random
        self._emit = emit
        self.failures = 0  # fetches of a secret that failed

    def land(self, key: Key, outcome: SecretData | ProviderError, now: float) -> SecretData | ProviderError:
        """Remember what came of a fetch, tell of it, and give it back."""
        names = {"provider": key.provider, "path": key.path, "pin": key.version or ""}
        former = self._store.value(key)
        if isinstance(outcome, SecretData):
            return self._value(key, outcome, former, now, names)
        self.failures += 1
        if outcome.code in _GONE:
            if self._store.drop(key):
                self._emit("secret.removed", **names, code=outcome.code)
            self._store.put_failure(key, Failure(outcome, now + NEGATIVE_SECONDS, self._backoff(has_value=False)))
            return outcome
        known = self._store.failure(key)
        backoff = known.backoff if known is not None else self._backoff(has_value=former is not None)
        self._store.put_failure(key, Failure(outcome, now + backoff.failed(outcome.retry_after), backoff))
        if former is not None and outcome.code not in TRANSIENT:
            former.is_refused = True
        if former is not None and not former.is_refused and former.expires_at <= now:
            age = round(max(0.0, now - former.fetched_at), 3)
            self._emit("secret.stale", **names, version=former.data.version, age=age, code=outcome.code)
        else:
            self._emit("secret.failed", **names, code=outcome.code)
        return outcome

    def _value(
        self, key: Key, data: SecretData, former: Value | None, now: float, names: Mapping[str, str]
    ) -> SecretData:
        if former is not None and former.data == data:
            data = former.data  # the same object: what was made of it stays good
        if self._ttl(key.provider) > 0:
            self._store.put(key, Value(key, data, now, self._lifetime(key, data)))
        else:
            self._store.drop(key)
        self._emit("secret.fetched", **names, version=data.version)
        if former is not None and not is_same(former.data, data):
            self._emit("secret.changed", **names, version=data.version, former=former.data.version)
        return data

    def reckon(self) -> None:
        """Values are fresh for as long as the configuration says now."""
        for key, value in self._store.items():
            value.expires_at = value.fetched_at + self._lifetime(key, value.data)

    def _lifetime(self, key: Key, data: SecretData) -> float:
        """For how long a secret is fresh. A pin that is the version's own name cannot come to mean another one."""
        seconds = self._ttl(key.provider)
        return seconds * PINNED_FACTOR if key.version is not None and key.version == data.version else seconds

    def _backoff(self, *, has_value: bool) -> Backoff:
        if has_value:
            return Backoff(_FIRST_RENEWAL, _LAST_RENEWAL, self._random)
        return Backoff(_FIRST_RETRY, _LAST_RETRY, self._random)


def is_same(one: SecretData, other: SecretData) -> bool:
    """Whether two hold the same; a new version may hold what the former one did."""
    return one.is_fields == other.is_fields and one.content == other.content
