"""Huawei Cloud's Cloud Secret Management Service (CSMS).

A path is a secret's name, in which `/` stands for a hyphen (`huawei_names`). A version is the id of one (`v1`, `v2`,
...), `latest`, or a stage (`SYSCURRENT`, `SYSPREVIOUS`, or one of your own); without, it is `latest`.
"""

from __future__ import annotations

import binascii
import random
import re
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from time import gmtime, sleep, strftime, time
from typing import TYPE_CHECKING, Any, ClassVar, Self

from dso.protocol.codes import INVALID_REQUEST, NOT_FOUND, PERMISSION_DENIED
from dso.protocol.provider import ProviderError, SecretData
from dso.providers.deadline import Deadline, current, within
from dso.providers.http_faults import Target, connection_fault, late_fault
from dso.providers.http_session import ProviderSession
from dso.providers.huawei_config import HuaweiConfig
from dso.providers.huawei_credentials import Credentials
from dso.providers.huawei_errors import (
    about,
    expired,
    hides_state,
    is_missing,
    is_unauthenticated,
    may_pass,
    not_csms,
    refused,
)
from dso.providers.huawei_http import RefusedError, Transport, make_client
from dso.providers.huawei_names import Names, csms_name
from dso.providers.huawei_sdk import ShowSecretRequest, ShowSecretStageRequest, ShowSecretVersionRequest
from dso.providers.provider import Request
from dso.secret import SecretValue
from dso.system.json_fast import loads

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

ANSWER_WITHIN = 0.95  # of the time limit: the agent's own clock started before ours
CONNECTIONS = 64  # requests under way
TRIES = 4  # of a request that is throttled, or that CSMS fails to answer
ABSENT = "dso-check-this-secret-does-not-exist"
LATEST = "latest"
_VERSION_ID = re.compile(r"v[0-9]{1,63}|latest")
_FIRST_PAUSE = 0.2  # seconds
_MILLISECONDS = 1e11  # from here on a time is in milliseconds: the reference says seconds, and shows the other
_NEVER = 1e15  # beyond, it is no time


class HuaweiProvider:
    """See `dso.providers.provider.Provider`.

    The SDK has no time limit for a request as a whole, which may begin with requests for keys and for the project; so
    requests run in threads of their own, which know their deadline (`deadline.within`), and whoever waits for one
    gives up in time even where something does not ask for it, such as a name server.
    """

    type: ClassVar[str] = "huawei"
    batch: ClassVar[int] = 0  # CSMS has no call that reads many

    def __init__(self, config: HuaweiConfig, timeout: float) -> None:
        self._config = config
        self._timeout = timeout
        self._session = ProviderSession(config.name, config.ca_cert, timeout)
        self._transport = Transport(self._session, timeout)
        self._names = Names(config.name)
        self._credentials = Credentials(config, self._transport, self._session, timeout)
        self._requests = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="huawei")

    @classmethod
    def open(cls, name: str, config: Mapping[str, Any], timeout: float) -> Self:
        """Check the settings and the CA file."""
        return cls(HuaweiConfig.read(name, config), timeout)

    def get(self, path: str, version: str | None) -> SecretData:
        """ShowSecretVersion, after ShowSecretStage where the version is a stage."""
        request = Request(path, version)
        self._names.check(request)
        try:
            found: SecretData = self._in_time(lambda: self._read(request))
        except ProviderError as error:
            raise about(error, request) from None
        self._names.was_read(path)
        return found

    def get_many(self, requests: Sequence[Request]) -> list[SecretData | ProviderError]:  # noqa: ARG002
        """The agent does not call it: `batch` is 0."""
        raise ProviderError(INVALID_REQUEST, f"provider {self._config.name} reads one secret at a time")

    def check(self) -> None:
        """Ask for a secret that does not exist: the answer tells whether the credentials are good, with no permission.

        Where keys or the project's id have to be asked for, that has to succeed.
        """
        self._in_time(self._prove)

    def close(self) -> None:
        """Nothing is kept at Huawei Cloud for us."""
        self._requests.shutdown(wait=False, cancel_futures=True)
        self._session.close()

    def _in_time(self, work: Callable[[], Any]) -> Any:
        deadline = Deadline(self._timeout * ANSWER_WITHIN)

        def run() -> Any:
            with within(deadline):
                return work()

        future = self._requests.submit(run)
        try:
            return future.result(deadline.left())
        except LateError:
            future.cancel()
            raise late_fault(self._target, self._timeout) from None

    @property
    def _target(self) -> Target:
        return Target(f"{self._config.name}: CSMS at {self._config.host}", self._config.setting)

    def _prove(self) -> None:
        self._credentials.get()
        wanted = Request(ABSENT)
        try:
            self._show_version(wanted, LATEST)
        except RefusedError as error:
            failure = refused(self._config, error, wanted)
            if failure.code not in (NOT_FOUND, PERMISSION_DENIED):
                raise failure from None

    def _read(self, request: Request) -> SecretData:
        try:
            return self._secret(self._find(request), request)
        except RefusedError as error:
            raise refused(self._config, error, request, self._state(error, request)) from None

    def _find(self, request: Request) -> Any:
        """The answer with the secret; a name like a version's id is taken for one first, then for a stage."""
        version = request.version or LATEST
        if not _VERSION_ID.fullmatch(version):
            return self._show_version(request, self._staged(request, version))
        try:
            return self._show_version(request, version)
        except RefusedError as error:
            if version == LATEST or not is_missing(error):
                raise
            missing = error
        try:
            version = self._staged(request, version)
        except RefusedError as error:
            if may_pass(error):
                raise  # nobody knows whether there is such a stage
            raise missing from None
        return self._show_version(request, version)

    def _show_version(self, request: Request, version: str) -> Any:
        return self._ask(request, "show_secret_version", ShowSecretVersionRequest(csms_name(request.path), version))

    def _staged(self, request: Request, stage: str) -> str:
        """The id of the version that is at a stage."""
        answer = self._ask(request, "show_secret_stage", ShowSecretStageRequest(csms_name(request.path), stage))
        version = answer.stage and answer.stage.version_id
        if not isinstance(version, str) or not _VERSION_ID.fullmatch(version):
            raise not_csms(self._config, request, "an answer without a version")
        return version

    def _state(self, error: RefusedError, request: Request) -> str | None:
        """Why CSMS does not give out a secret that is there, as far as the credentials may know."""
        if not hides_state(error):
            return None
        deadline = current() or Deadline(self._timeout)
        try:
            with within(deadline.at_most(deadline.left() / 2)):  # the refusal has to be told in time, state or no state
                answer = self._ask(request, "show_secret", ShowSecretRequest(csms_name(request.path)))
        except (RefusedError, ProviderError):
            return None
        return str(answer.secret.state) if answer.secret else None

    def _ask(self, request: Request, operation: str, parameters: Any) -> Any:
        """One request to CSMS, and what the SDK makes of its answer.

        It is tried again as long as there is time. RefusedError, ProviderError.
        """
        credentials = self._credentials.get()
        tries, are_new = 0, False
        while True:
            tries += 1
            try:
                return self._send(credentials, request, operation, parameters)
            except RefusedError as error:
                renewed = self._credentials.renew(credentials) if is_unauthenticated(error) and not are_new else None
                if renewed is not None:
                    credentials, are_new = renewed, True
                elif not self._pause(error, tries):
                    raise

    def _send(self, credentials: Any, request: Request, operation: str, parameters: Any) -> Any:
        try:
            client = make_client(self._transport, self._config.endpoint, credentials)
            return getattr(client, operation)(parameters)
        except RefusedError:
            raise
        except Exception as error:  # noqa: BLE001  # the SDK lets out those of its formats and libraries as well
            fault = connection_fault(self._target, error, self._timeout)
            if fault is None:
                what = f"an answer that is not understood: {type(error).__name__}"
                raise not_csms(self._config, request, what) from None
            raise fault from None

    @staticmethod
    def _pause(error: RefusedError, tries: int) -> bool:
        """Wait before another try, if there is to be one."""
        if tries >= TRIES or not may_pass(error):
            return False
        pause = error.retry_after or _FIRST_PAUSE * 2**tries * random.uniform(0.5, 1)  # noqa: S311
        deadline = current()
        if deadline is not None and pause >= deadline.left():
            return False
        sleep(pause)
        return True

    def _secret(self, answer: Any, request: Request) -> SecretData:
        """What may be handed out of an answer."""
        found = _version(answer.raw_content)
        if found is None:
            raise not_csms(self._config, request, "an answer without a secret")
        number, content = found
        metadata = answer.version.version_metadata
        until = _seconds(metadata.expire_time)
        if until is None and metadata.expire_time:
            raise not_csms(self._config, request, "an answer without a time of expiration")
        if until is not None and until <= time():
            raise expired(self._config, request, strftime("%Y-%m-%d %H:%M UTC", gmtime(until)))
        return SecretData(SecretValue(content), version=number, created_at=_seconds(metadata.create_time))


def _version(raw: bytes) -> tuple[str, bytes] | None:
    """A version's id and the secret's bytes; None if they are not there in the form they should have.

    They come from the answer itself: the SDK makes text of lists and numbers, and of what is no UTF-8.
    """
    try:
        answer: Any = loads(raw.decode())
        version = answer["version"]
        number = version["version_metadata"]["id"]
        text, encoded = version.get("secret_string"), version.get("secret_binary")
        if not isinstance(number, str) or not isinstance(text, str | None) or not isinstance(encoded, str | None):
            return None
        if encoded and not text:
            return number, binascii.a2b_base64(encoded, strict_mode=True)
        return None if text is None else (number, text.encode("utf-8", "surrogatepass"))
    except (ValueError, LookupError, TypeError, AttributeError):
        return None


def _seconds(moment: object) -> float | None:
    """Seconds since 1970."""
    if not isinstance(moment, int | float) or isinstance(moment, bool) or not 0 < moment < _NEVER:
        return None
    return moment / 1000 if moment >= _MILLISECONDS else float(moment)
