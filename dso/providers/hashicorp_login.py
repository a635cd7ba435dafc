"""The ways to get a token of a HashiCorp Vault: each of `auth.method`."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import quote

from dso.protocol.codes import UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import ProviderError
from dso.providers.hashicorp_client import connect
from dso.providers.hashicorp_faults import login_fault
from dso.secret import MASK

if TYPE_CHECKING:
    from collections.abc import Callable

    from dso.providers.deadline import Deadline
    from dso.providers.hashicorp_config import HashicorpConfig
    from dso.providers.hashicorp_http import Answer, Transport

_OK = 200
_MAX_FILE_BYTES = 65536


class Lease(NamedTuple):
    """A token, and for how long it is good: `ttl` seconds from `since`; None: not known yet, 0: for ever.

    `full` is the longest `ttl` it had: when renewing no longer gives much of that, its end is near.
    """

    token: str
    since: float
    ttl: float | None = None
    renewable: bool = False
    full: float = 0.0

    def __repr__(self) -> str:
        return f"Lease({MASK}, ttl={self.ttl}, renewable={self.renewable})"

    @property
    def expires(self) -> float | None:
        """When it ends, None if never or unknown."""
        return self.since + self.ttl if self.ttl else None

    @classmethod
    def granted(cls, answer: Answer, now: float, former: Lease | None = None) -> Lease | None:
        """What a login or a renewal gave; None if the answer is not of that form."""
        auth = answer.member("auth")
        if not isinstance(auth, dict) or not isinstance(auth.get("client_token"), str):
            return None
        ttl = seconds(auth.get("lease_duration"))
        full = max(ttl, former.full) if former is not None else ttl
        return cls(auth["client_token"], now, ttl, auth.get("renewable") is True, full)


class Login(Protocol):
    """A way to get a token.

    Attributes:
        repeatable: whether another try may give another token.
        owns_token: whether the token is ours, to be revoked in the end.
    """

    repeatable: bool
    owns_token: bool

    def fetch(self, deadline: Deadline) -> Lease:
        """Get a token; ProviderError."""
        ...

    def has_changed(self) -> bool:
        """Whether `fetch` would now give another token than before."""
        ...


def login_for(config: HashicorpConfig, transport: Transport, clock: Callable[[], float] = time.monotonic) -> Login:
    """The way that `auth.method` names."""
    if config.auth.method == "token":
        return TokenLogin(config, clock)
    if config.auth.method == "token_file":
        return TokenFileLogin(config, clock)
    return MethodLogin(config, transport, clock)


class TokenLogin:
    """A token from the configuration."""

    repeatable = False
    owns_token = False

    def __init__(self, config: HashicorpConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock

    def fetch(self, _deadline: Deadline) -> Lease:
        """The token."""
        return Lease(self._config.auth.parameters.reveal()["token"], self._clock())

    def has_changed(self) -> bool:
        """Never."""
        return False


class TokenFileLogin:
    """A token from a file, such as the sink of a Vault agent, which may be replaced at any time."""

    repeatable = True
    owns_token = False

    def __init__(self, config: HashicorpConfig, clock: Callable[[], float]) -> None:
        self._config = config
        self._clock = clock
        self._path: str = config.auth.parameters.reveal()["token_file"]
        self._seen: tuple[int, int, int] | None = None

    def fetch(self, _deadline: Deadline) -> Lease:
        """What the file has now."""
        self._seen = self._signature()
        return Lease(read_credential(self._config, "token_file", self._path), self._clock())

    def has_changed(self) -> bool:
        """Whether the file is another one, or has been written to."""
        signature = self._signature()
        return signature is not None and signature != self._seen

    def _signature(self) -> tuple[int, int, int] | None:
        try:
            status = os.stat(self._path)
        except OSError:
            return None
        return status.st_mtime_ns, status.st_ino, status.st_size


class MethodLogin:
    """A login with credentials: AppRole, userpass, Kubernetes, JWT. Their files are read at each login."""

    repeatable = True
    owns_token = True

    def __init__(self, config: HashicorpConfig, transport: Transport, clock: Callable[[], float]) -> None:
        self._config = config
        self._transport = transport
        self._clock = clock

    def fetch(self, deadline: Deadline) -> Lease:
        """Log in."""
        given = self._credentials()
        now = self._clock()
        answer = self._log_in(given, deadline)
        if answer.status != _OK:
            raise login_fault(self._config, answer)
        lease = Lease.granted(answer, now)
        if lease is None:
            message = f"{self._config.label} answers the login without a token; multi-factor logins are not supported"
            raise ProviderError(UNAUTHENTICATED, message)
        return lease

    def has_changed(self) -> bool:
        """Not so that it mattered: a token stays good when the credentials are replaced."""
        return False

    def _log_in(self, given: dict[str, str], deadline: Deadline) -> Answer:
        methods = connect(self._config, self._transport, deadline).auth
        mount = self._config.auth.mount
        answer: Answer
        match self._config.auth.method:
            case "approle":
                role, secret = given["role_id"], given.get("secret_id")
                answer = methods.approle.login(role, secret, use_token=False, mount_point=mount)
            case "userpass":  # here hvac leaves the quoting to us
                name, where = quote(given["username"], safe=""), quote(mount)
                answer = methods.userpass.login(name, given["password"], use_token=False, mount_point=where)
            case "kubernetes":
                answer = methods.kubernetes.login(given["role"], given["jwt"], use_token=False, mount_point=mount)
            case _:
                answer = methods.jwt.jwt_login(given.get("role"), given["jwt"], use_token=False, path=mount)
        return answer

    def _credentials(self) -> dict[str, str]:
        found = {}
        for key, value in self._config.auth.parameters.reveal().items():
            name = key.removesuffix("_file")
            found[name] = value if name == key else read_credential(self._config, key, value)
        return found


def read_credential(config: HashicorpConfig, key: str, path: str) -> str:
    """The line that a file of `auth:` holds; ProviderError, which shows nothing of it.

    A file that is missing or empty may be about to be replaced: that is no lasting error.
    """
    where = f"provider {config.name}: auth.{key} ({path})"
    try:
        with open(path, "rb") as file:
            raw = file.read(_MAX_FILE_BYTES + 1)
    except FileNotFoundError:
        raise ProviderError(
            UNAVAILABLE, f"{where}: there is no such file; whatever writes it has to come first"
        ) from None
    except OSError as error:
        raise ProviderError(UNAUTHENTICATED, f"{where}: {error.strerror or 'cannot be read'}") from None
    text = raw.decode("utf-8", "replace").rstrip("\r\n")
    text = text if key == "password_file" else text.strip()  # a password may end in a space
    if not text:
        raise ProviderError(UNAVAILABLE, f"{where}: the file is empty; whatever writes it has to come first")
    if len(raw) > _MAX_FILE_BYTES or not text.isprintable() or (key == "token_file" and not text.isascii()):
        raise ProviderError(UNAUTHENTICATED, f"{where}: the file is no credential; it has to be one line of text")
    return text


def seconds(value: object) -> float:
    """A number of an answer as seconds, 0 if it is none."""
    try:
        return max(float(str(value)), 0.0)
    except ValueError:
        return 0.0
