"""The token of a HashiCorp Vault: got when needed, renewed before it ends, replaced when it is refused."""

from __future__ import annotations

import logging
import random
import threading
import time
from typing import TYPE_CHECKING, Any

from dso.protocol.codes import TRANSIENT, UNAUTHENTICATED
from dso.protocol.provider import ProviderError
from dso.providers.deadline import Deadline
from dso.providers.hashicorp_client import connect
from dso.providers.hashicorp_faults import FORBIDDEN, SERVER_ERROR, TOO_MANY, status_fault, timeout_fault
from dso.providers.hashicorp_login import Lease, seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from dso.providers.hashicorp_config import HashicorpConfig
    from dso.providers.hashicorp_http import Answer, Transport
    from dso.providers.hashicorp_login import Login

_OK = 200
RENEW_AFTER = 2 / 3  # of a token's time
NEAR_THE_END = 1 / 5  # of its longest time: what a renewal gives less of than that is its maximum TTL coming up
RETRY_SECONDS = 30.0  # after a renewal that failed; sooner where the end is near
REFUSED_SECONDS = 300.0  # after a login that was refused
REVOKE_SECONDS = 1.5  # for giving a token back in the end
_log = logging.getLogger("dso.hashicorp")


class TokenKeeper:
    """Holds the token for all threads.

    One login is under way at a time, whoever needs it waits for that one and shares its failure. A thread of its own
    renews the token, so that one that nobody uses for hours does not end.
    """

    def __init__(
        self,
        config: HashicorpConfig,
        transport: Transport,
        login: Login,
        timeout: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._config = config
        self._transport = transport
        self._login = login
        self._timeout = timeout
        self._clock = clock
        self._jitter = jitter
        self._lease: Lease | None = None
        self._logging_in = threading.Lock()
        self._outcome: tuple[float, str, ProviderError | None] = (float("-inf"), "", None)
        self._changed = threading.Condition()
        self._due: float | None = None
        self._closed = False
        self._renewer: threading.Thread | None = None

    def start(self) -> None:
        """Care for a token that is there from the beginning: it may need renewing before its first use."""
        if not self._login.owns_token:
            with self._changed:
                self._due = self._clock()
                self._run_renewer()

    def token(self, deadline: Deadline) -> str:
        """A token that is good as far as we know; ProviderError if there is none to be had."""
        lease = self._lease
        if lease is not None and not self._is_over(lease) and not self._login.has_changed():
            return lease.token
        return self._get(deadline, lease)

    def replacement(self, refused: str, deadline: Deadline) -> str | None:
        """After a request with this token was refused: another token to try with, or None if the token is good.

        Raises:
            ProviderError: the token is not good, and no other is to be had.
        """
        arrived = self._clock()
        with self._turn(deadline):
            lease = self._lease
            if lease is not None and lease.token != refused:
                return lease.token
            if self._shared_outcome(arrived, refused):
                return None
            if self._login.has_changed():
                token = self._fetch(refused, deadline, may_be_same=True).token
                if token != refused:
                    return token
            if self._is_good(refused, deadline):
                self._outcome = (self._clock(), refused, None)
                return None
            if not self._login.repeatable:
                raise self._fail(refused, self._refused())
            return self._fetch(refused, deadline).token

    def close(self) -> None:
        """Stop renewing, and give back a token that we had logged in for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        lease, self._lease = self._lease, None
        if lease is not None and self._login.owns_token:
            try:
                self._api(lease.token, Deadline(REVOKE_SECONDS)).revoke_self()
            except ProviderError:
                _log.info("%s: the token could not be given back; it ends by itself", self._config.label)

    def prove(self, deadline: Deadline) -> None:
        """Have the server confirm the token; ProviderError."""
        token = self.token(deadline)
        if not self._is_good(token, deadline):
            self.replacement(token, deadline)

    def _is_over(self, lease: Lease) -> bool:
        """Whether to log in again before even trying; a token that was given to us is the server's to judge."""
        return self._login.owns_token and lease.expires is not None and self._clock() >= lease.expires

    def _get(self, deadline: Deadline, former: Lease | None) -> str:
        arrived = self._clock()
        with self._turn(deadline):
            lease = self._lease
            if lease is not None and lease is not former and not self._is_over(lease):
                return lease.token
            self._shared_outcome(arrived, former.token if former is not None else "")
            try:
                return self._fetch(former.token if former is not None else "", deadline, may_be_same=True).token
            except ProviderError:
                # the file is being replaced: what it had before may do
                if former is not None and not self._login.owns_token:
                    return former.token
                raise

    def _turn(self, deadline: Deadline) -> _Turn:
        return _Turn(self._logging_in, deadline, self._config)

    def _shared_outcome(self, arrived: float, token: str) -> bool:
        """Whether the token was found good while we waited for our turn; raises what a login failed with meanwhile."""
        when, about, error = self._outcome
        if when < arrived or about != token:
            return False
        if error is not None:
            raise ProviderError(error.code, error.message, retry_after=error.retry_after)
        return True

    def _fail(self, token: str, error: ProviderError) -> ProviderError:
        self._outcome = (self._clock(), token, error)
        return error

    def _fetch(self, refused: str, deadline: Deadline, *, may_be_same: bool = False) -> Lease:
        try:
            lease = self._login.fetch(deadline)
            if lease.token == refused and not may_be_same:
                raise self._refused()
        except ProviderError as error:
            self._fail(refused, error)
            raise
        self._set(lease)
        return lease

    def _refused(self) -> ProviderError:
        key = "auth.token" if self._config.auth.method == "token" else "auth.token_file"
        message = f"{self._config.label} does not accept the token of {key}: it has ended or was revoked"
        return ProviderError(UNAUTHENTICATED, f"{message} (or lacks the policy `default`); put a new one there")

    def _api(self, token: str, deadline: Deadline) -> Any:
        """What a token may ask about itself."""
        return connect(self._config, self._transport, deadline, token).auth.token

    def _is_good(self, token: str, deadline: Deadline) -> bool:
        answer: Answer = self._api(token, deadline).lookup_self()
        if answer.status == _OK:
            return True
        if answer.status == FORBIDDEN:
            return False
        raise status_fault(self._config, answer, "the token")

    # The renewing thread.

    def _set(self, lease: Lease) -> None:
        with self._changed:
            self._lease = lease
            self._due = self._next_renewal(lease)
            self._run_renewer()
            self._changed.notify_all()

    def _next_renewal(self, lease: Lease) -> float | None:
        if lease.ttl is None:
            return self._clock()
        return lease.since + max(lease.ttl * RENEW_AFTER * (1 - self._jitter() / 10), 1.0) if lease.ttl else None

    def _run_renewer(self) -> None:
        if self._renewer is None and self._due is not None and not self._closed:
            self._renewer = threading.Thread(target=self._renew_for_ever, name="renewer", daemon=True)
            self._renewer.start()

    def _renew_for_ever(self) -> None:
        while self._wait_until_due():
            try:
                self._renew()
            except ProviderError as error:
                _log.warning("the token is not renewed: %s", error.message)
                self._retry(transient=error.code in TRANSIENT)

    def _wait_until_due(self) -> bool:
        with self._changed:
            while not self._closed:
                left = None if self._due is None else self._due - self._clock()
                if left is not None and left <= 0:
                    self._due = None
                    return True
                self._changed.wait(left)
        return False

    def _retry(self, *, transient: bool) -> None:
        """What the server refused, it refuses again; only a login that is ours may be mended meanwhile."""
        lease = self._lease
        if not transient and not self._login.owns_token:
            return
        wait = RETRY_SECONDS if transient else REFUSED_SECONDS
        if lease is not None and lease.expires is not None:
            wait = min(max((lease.expires - self._clock()) / 4, 1.0), wait)
        with self._changed:
            if self._due is None:
                self._due = self._clock() + wait

    def _renew(self) -> None:
        deadline = Deadline(self._timeout)
        lease = self._lease
        if lease is None:  # a token that is ours to read, and nobody has used yet
            self.token(deadline)
            return
        if lease.ttl is None:
            self._learn(lease, deadline)
        elif not lease.renewable:
            self._log_in_anew(lease, deadline)
        else:
            now = self._clock()
            answer: Answer = self._api(lease.token, deadline).renew_self()
            if answer.status >= SERVER_ERROR or answer.status == TOO_MANY:
                raise status_fault(self._config, answer, "renewing the token")
            renewed = Lease.granted(answer, now, lease) if answer.status == _OK else None
            ends = renewed is None or 0 < (renewed.ttl or 0) < renewed.full * NEAR_THE_END
            if ends and self._login.owns_token:
                self._log_in_anew(lease, deadline)
            elif renewed is not None:
                self._keep(lease, renewed)
            else:
                raise self._refused()

    def _learn(self, lease: Lease, deadline: Deadline) -> None:
        """For how long a token that was given to us is good, and whether that can be prolonged."""
        now = self._clock()
        answer: Answer = self._api(lease.token, deadline).lookup_self()
        if answer.status != _OK:
            raise self._refused() if answer.status == FORBIDDEN else status_fault(self._config, answer, "the token")
        ttl = seconds(answer.member("data", "ttl"))
        renewable = answer.member("data", "renewable") is True
        self._keep(lease, Lease(lease.token, now, ttl, renewable, ttl))
        if ttl and not renewable:
            _log.warning("%s: the token ends in %d s and cannot be renewed", self._config.label, int(ttl))

    def _keep(self, former: Lease, lease: Lease) -> None:
        """Go on with a token, unless another one has come meanwhile."""
        with self._changed:
            if self._lease is former:
                self._lease = lease
                self._due = self._next_renewal(lease) if lease.renewable or self._login.owns_token else None

    def _log_in_anew(self, lease: Lease, deadline: Deadline) -> None:
        if not self._login.owns_token:
            return  # whoever gave it to us replaces it
        with self._turn(deadline):
            if self._lease is lease:
                self._fetch(lease.token, deadline)


class _Turn:
    """The lock around logging in, waited for until a deadline."""

    def __init__(self, lock: threading.Lock, deadline: Deadline, config: HashicorpConfig) -> None:
        self._lock = lock
        self._deadline = deadline
        self._config = config

    def __enter__(self) -> None:
        if not self._lock.acquire(timeout=self._deadline.left()):
            raise timeout_fault(self._config, self._deadline.seconds)

    def __exit__(self, *_: object) -> None:
        self._lock.release()
