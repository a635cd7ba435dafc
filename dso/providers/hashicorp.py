"""HashiCorp Vault, and servers with the same API such as OpenBao: secrets of a KV engine, version 1 or 2.

A path is a secret's, below the mount; a version is its number. The API is spoken by hvac, see `hashicorp_client`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import quote

from dso.protocol.codes import INVALID_REQUEST, UNAVAILABLE
from dso.protocol.provider import ProviderError, SecretData
from dso.providers.deadline import Deadline
from dso.providers.hashicorp_auth import TokenKeeper
from dso.providers.hashicorp_client import connect
from dso.providers.hashicorp_config import HashicorpConfig
from dso.providers.hashicorp_faults import (
    BAD_REQUEST,
    FORBIDDEN,
    NOT_ALLOWED,
    NOT_FOUND_STATUS,
    SEALED,
    UNINITIALIZED,
    sealed_message,
    status_fault,
)
from dso.providers.hashicorp_http import Transport
from dso.providers.hashicorp_kv import (
    absent,
    ask,
    denied,
    missing,
    no_access,
    no_mount,
    plain_location,
    read_secret,
    wanted,
    wrong_engine,
    wrong_version,
)
from dso.providers.hashicorp_login import login_for
from dso.providers.proxies import is_loopback

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dso.providers.hashicorp_http import Answer
    from dso.providers.hashicorp_kv import Wanted
    from dso.providers.provider import Request

_OK = 200
ANSWER_WITHIN = 0.95  # of the time limit: the agent's own clock started before ours
EXPLAIN_SECONDS = 2.0  # for finding out why there is no secret
_log = logging.getLogger("dso.hashicorp")


class HashicorpProvider:
    """See `dso.providers.provider.Provider`."""

    type: ClassVar[str] = "vault"
    batch: ClassVar[int] = 0  # the API reads one secret at a time

    def __init__(self, config: HashicorpConfig, timeout: float) -> None:
        self._config = config
        self._timeout = timeout * ANSWER_WITHIN
        self._transport = Transport(config)
        self._tokens = TokenKeeper(config, self._transport, login_for(config, self._transport), self._timeout)
        self._tokens.start()

    @classmethod
    def open(cls, name: str, config: Mapping[str, Any], timeout: float) -> Self:
        """Check the settings and the certificate files."""
        read = HashicorpConfig.read(name, config)
        if read.tls.skip_verify:
            _log.warning("%s: tls.skip_verify is set: whoever is between can read the secrets", read.label)
        if read.address.startswith("http:") and not is_loopback(read.address):
            _log.warning("%s: the address begins with http: secrets and token travel in the open", read.label)
        return cls(read, timeout)

    def get(self, path: str, version: str | None) -> SecretData:
        """Read one secret."""
        deadline = Deadline(self._timeout)
        answer, token = self._read(wanted(self._config, path, version), deadline)
        if answer.status == _OK:
            return read_secret(self._config, path, answer)
        raise self._why(answer, token, path, version, deadline)

    def get_many(self, requests: Sequence[Request]) -> list[SecretData | ProviderError]:  # noqa: ARG002
        """The agent does not call it: `batch` is 0."""
        raise ProviderError(INVALID_REQUEST, f"provider {self._config.name} reads one secret at a time")

    def check(self) -> None:
        """Whether the server is there, unsealed, accepts the credentials, and has a KV engine at the mount."""
        deadline = Deadline(self._timeout)
        fault = self._health_fault(deadline)
        if fault is not None:
            raise fault
        self._tokens.prove(deadline)
        answer = self._mount(self._tokens.token(deadline), deadline)
        if answer.status == FORBIDDEN:
            raise no_access(self._config)
        fault = self._engine_fault(answer)
        if fault is not None:
            raise fault

    def close(self) -> None:
        """Give back a token we logged in for."""
        self._tokens.close()
        self._transport.close()

    def _api(self, token: str, deadline: Deadline) -> Any:
        return connect(self._config, self._transport, deadline, token)

    def _read(self, secret: Wanted, deadline: Deadline) -> tuple[Answer, str]:
        """Ask for a secret, once more with another token if the first was not good; the answer, and the token."""
        token = self._tokens.token(deadline)
        answer = ask(self._api(token, deadline), self._config, secret)
        if answer.status == FORBIDDEN:
            other = self._tokens.replacement(token, deadline)
            if other is not None:
                return ask(self._api(other, deadline), self._config, secret), other
        return answer, token

    def _why(self, answer: Answer, token: str, path: str, version: str | None, deadline: Deadline) -> ProviderError:
        """The error for an answer that brought no secret."""
        config = self._config
        soon = deadline.at_most(EXPLAIN_SECONDS)
        if answer.status == FORBIDDEN and answer.json() is not None:
            return self._mount_fault(token, soon) or denied(
                config, path, other_way=self._grants_other(token, path, soon)
            )
        if answer.status == NOT_FOUND_STATUS and answer.json() is not None:
            if "no handler for route" in answer.errors():
                return no_mount(config)
            gone = missing(config, path, version, answer)
            return gone or self._mount_fault(token, soon) or absent(config, path, version)
        if answer.status in (SEALED, UNINITIALIZED):
            return self._health_fault(soon) or status_fault(config, answer, path)
        if answer.status in (BAD_REQUEST, NOT_ALLOWED):
            return self._mount_fault(token, soon) or status_fault(config, answer, path)
        return status_fault(config, answer, path)

    def _health_fault(self, deadline: Deadline) -> ProviderError | None:
        """What sys/health says is wrong with the server, if anything; ProviderError if it does not answer."""
        config = self._config
        server = connect(config, self._transport, deadline, in_namespace=False).sys
        answer: Answer = server.read_health_status(standby_ok=True, performance_standby_code=_OK, method="GET")
        if answer.status == _OK and answer.member("initialized") is True:
            return None
        if answer.member("initialized") is True and answer.member("sealed") is True:
            return ProviderError(UNAVAILABLE, sealed_message(config))
        return status_fault(config, answer, "sys/health")

    def _mount(self, token: str, deadline: Deadline) -> Answer:
        """Ask what is mounted; who may read anything there is told. hvac has no method of its own for that."""
        answer: Answer = self._api(token, deadline).read(f"sys/internal/ui/mounts/{quote(self._config.mount)}")
        return answer

    def _mount_fault(self, token: str, deadline: Deadline) -> ProviderError | None:
        """Whether the mount is another kind of engine than configured, as far as the server tells us."""
        try:
            return self._engine_fault(self._mount(token, deadline))
        except ProviderError:
            return None

    def _engine_fault(self, answer: Answer) -> ProviderError | None:
        config = self._config
        kind = answer.member("data", "type")
        if answer.status != _OK or not isinstance(kind, str):
            return None
        if kind not in ("kv", "generic"):
            return wrong_engine(config)
        actual = 2 if answer.member("data", "options", "version") == "2" else 1
        return wrong_version(config, actual) if actual != config.kv_version else None

    def _grants_other(self, token: str, path: str, deadline: Deadline) -> bool:
        """Whether the token may read what the other version of KV has at the path: a policy with `data/` forgotten."""
        other = plain_location(self._config, path, versioned=self._config.kv_version == 1)
        try:
            answer: Answer = self._api(token, deadline).sys.get_capabilities([other])
        except ProviderError:
            return False
        capabilities = answer.member("data", other)
        return isinstance(capabilities, list) and not {"read", "root"}.isdisjoint(map(str, capabilities))
