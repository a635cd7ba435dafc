"""What the cache remembers: values and failures, each within bounds, the longest unused going first."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from dso.agent.backoff import Backoff
    from dso.protocol.provider import ProviderError, SecretData

MAX_VALUES = 10_000
MAX_BYTES = 64 * 1024 * 1024
MAX_FAILURES = 4_096
NEVER = float("-inf")  # was a value fresh that is no longer kept
_OVERHEAD = 600  # bytes that a value takes besides its content and names, about
_WIDEST = 4  # bytes of a character


class Key(NamedTuple):
    """Which secret: `version` is the version the reference pins, or None for the current one."""

    provider: str
    path: str
    version: str | None = None


class Cached(NamedTuple):
    """A secret from the cache or fresh; `age` in seconds since the provider gave it.

    `stale`: it should be newer, but the provider cannot be reached. `kept`: where it is kept, if it is and is fresh.
    """

    data: SecretData
    age: float
    stale: bool
    kept: Value | None = None


class Entry(NamedTuple):
    """What is known of one cached secret, for status pages; never its value.

    `expires_in` is negative once it should be newer. `code` is the error of the last try to renew it, or "".
    """

    key: Key
    version: str
    size: int
    age: float
    expires_in: float
    stale: bool
    code: str
    created_at: float | None


class Failure:
    """That a secret could not be had, and until when it is not asked for again."""

    __slots__ = ("backoff", "error", "retry_at")

    def __init__(self, error: ProviderError, retry_at: float, backoff: Backoff) -> None:
        self.error = error
        self.retry_at = retry_at
        self.backoff = backoff


class Value:
    """A secret as the provider gave it at `fetched_at`; `failure` is that of the last try to renew it.

    It is fresh until `expires_at`, which has always been for one that is no longer kept. `is_refused`: the provider
    has since said something definite against handing it out, such as that our credentials are void: it is not served
    beyond its time until it has been renewed.
    """

    __slots__ = ("data", "expires_at", "failure", "fetched_at", "is_refused", "key", "size")

    def __init__(self, key: Key, data: SecretData, fetched_at: float, lifetime: float = 0.0) -> None:
        self.key = key
        self.data = data
        self.fetched_at = fetched_at
        self.expires_at = fetched_at + lifetime
        self.failure: Failure | None = None
        self.is_refused = False
        self.size = len(data.content) + len(key.path) + _WIDEST * (len(data.version) + len(data.name)) + _OVERHEAD


class Store:
    """Values and failures by key. Failures have bounds of their own: asking for nonsense drives out no value."""

    def __init__(
        self,
        *,
        max_values: int = MAX_VALUES,
        max_bytes: int = MAX_BYTES,
        max_failures: int = MAX_FAILURES,
        evicted: Callable[[Key], None] = lambda _: None,
    ) -> None:
        """`evicted` is told of each value that had to go."""
        self._max_values = max_values
        self._max_bytes = max_bytes
        self._max_failures = max_failures
        self._evicted = evicted
        self._values: OrderedDict[Key, Value] = OrderedDict()
        self._failures: OrderedDict[Key, Failure] = OrderedDict()
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    def value(self, key: Key) -> Value | None:
        """The value, which counts as a use of it."""
        found = self._values.get(key)
        if found is not None:
            self._values.move_to_end(key)
        return found

    def use(self, values: Iterable[Value]) -> None:
        """Values that are kept are used."""
        move = self._values.move_to_end
        for value in values:
            move(value.key)

    def failure(self, key: Key) -> Failure | None:
        """The last failure of a secret that has a value, or of one that has none."""
        value = self._values.get(key)
        return value.failure if value is not None else self._failures.get(key)

    def put(self, key: Key, value: Value) -> None:
        """Keep a value, which ends the key's failure; one that is larger than the bounds is not kept."""
        self.drop(key)
        if value.size > self._max_bytes:
            value.expires_at = NEVER
            return
        self._values[key] = value
        self.bytes += value.size
        while len(self._values) > self._max_values or self.bytes > self._max_bytes:
            oldest, gone = self._values.popitem(last=False)
            self._gone(gone)
            self._evicted(oldest)

    def put_failure(self, key: Key, failure: Failure) -> None:
        """Remember a failure, with the value where there is one."""
        value = self._values.get(key)
        if value is not None:
            value.failure = failure
            return
        self._failures[key] = failure
        self._failures.move_to_end(key)
        if len(self._failures) > self._max_failures:
            self._failures.popitem(last=False)

    def drop(self, key: Key) -> bool:
        """Forget everything of a key; whether there was a value."""
        self._failures.pop(key, None)
        value = self._values.pop(key, None)
        if value is not None:
            self._gone(value)
        return value is not None

    def _gone(self, value: Value) -> None:
        value.expires_at = NEVER
        self.bytes -= value.size

    def drop_provider(self, provider: str) -> None:
        """Forget everything of a provider."""
        for key in [key for key in (*self._values, *self._failures) if key.provider == provider]:
            self.drop(key)

    def forget_failures(self) -> None:
        """Forget the failures of secrets that have no value."""
        self._failures.clear()

    def items(self) -> Iterator[tuple[Key, Value]]:
        """All values, which does not count as a use of them."""
        yield from self._values.items()
