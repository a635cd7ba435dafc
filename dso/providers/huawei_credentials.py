"""What requests to Huawei Cloud are signed with: keys of dso.yaml or of the machine's agency, and a project's id.

Nothing is asked for before the first secret is. Keys of an agency are temporary: new ones are there ten minutes before
the former expire, and from then on they are asked for.
"""

from __future__ import annotations

import logging
import threading
from calendar import timegm
from concurrent.futures import Future
from time import localtime, time
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.protocol.provider import ProviderError
from dso.providers.deadline import Deadline, current, within
from dso.providers.http_faults import Target, connection_fault, late_fault
from dso.providers.huawei_config import PROJECT_ID, Keys
from dso.providers.huawei_errors import agency_refused, agency_silent, iam_refused, no_agency, no_project
from dso.providers.huawei_http import RefusedError
from dso.providers.huawei_sdk import BasicCredentials, MetadataAccessor, ServiceResponseException

if TYPE_CHECKING:
    from dso.providers.http_session import ProviderSession
    from dso.providers.huawei_config import HuaweiConfig
    from dso.providers.huawei_http import Transport
    from dso.providers.huawei_sdk import Credential

RENEW_BEFORE = 600.0  # seconds before temporary keys expire
RENEW_AGAIN_AFTER = 10.0  # seconds between tries while the former are still good
_log = logging.getLogger("dso.huawei")


class _Made(NamedTuple):
    """Credentials, never changed once they are there: other threads sign with them."""

    credentials: BasicCredentials
    keys: Keys

    def is_good(self, now: float) -> bool:
        return self.keys.until is None or now < self.keys.until

    def is_due(self, now: float, last_try: float) -> bool:
        """Whether others had better be asked for."""
        until = self.keys.until
        return until is not None and now >= until - RENEW_BEFORE and now >= last_try + RENEW_AGAIN_AFTER


class Credentials:
    """Safe to use from many threads: whatever is asked for is asked for once, and all wait for that."""

    def __init__(self, config: HuaweiConfig, transport: Transport, session: ProviderSession, timeout: float) -> None:
        self._config = config
        self._transport = transport
        self._timeout = timeout
        self._metadata = _Metadata(session)
        self._project_id = config.project_id
        self._lock = threading.Lock()
        self._made: _Made | None = None
        self._last_try = 0.0
        self._flight: Future[_Made] | None = None

    def get(self) -> BasicCredentials:
        """Credentials that are good now, with the project's id; ProviderError."""
        return self._current(None)

    def renew(self, refused: BasicCredentials) -> BasicCredentials | None:
        """Others, after these were refused: None if there are none."""
        if self._config.keys is not None:
            return None
        try:
            found = self._current(refused)
        except ProviderError:
            return None
        return found if found.ak != refused.ak or found.sk != refused.sk else None

    def _current(self, refused: BasicCredentials | None) -> BasicCredentials:
        with self._lock:
            now, made, flight = time(), self._made, self._flight
            is_good = made is not None and made.credentials is not refused and made.is_good(now)
            if made is not None and is_good and (flight is not None or not made.is_due(now, self._last_try)):
                return made.credentials
            leads = flight is None
            if flight is None:
                flight = self._flight = Future()
                self._last_try = now
        deadline = current() or Deadline(self._timeout)
        if leads:
            # With keys that are good there has to be time left to use them.
            with within(deadline.at_most(deadline.left() / 2) if is_good else deadline):
                self._make(flight)
        try:
            return flight.result(deadline.left()).credentials
        except TimeoutError:
            where = f"IAM at {self._config.iam_host}" if self._config.keys else "the metadata service of this machine"
            raise late_fault(Target(f"{self._config.name}: {where}", ""), self._timeout) from None
        except ProviderError as error:
            if made is None or not is_good:
                raise
            _log.warning("%s; the former keys serve until they expire", error.message)
            return made.credentials

    def _make(self, flight: Future[_Made]) -> None:
        try:
            made = self._fetch()
        except BaseException as error:  # noqa: BLE001  # whoever waits is told, whatever it is
            with self._lock:
                self._flight = None
            flight.set_exception(error)
            return
        with self._lock:
            self._made, self._flight = made, None
        flight.set_result(made)

    def _fetch(self) -> _Made:
        keys = self._config.keys or self._agency_keys()
        credentials = BasicCredentials(keys.access_key, keys.secret_key, self._project_id)
        credentials.with_iam_endpoint(self._config.iam_endpoint)
        if keys.security_token is not None:
            credentials.with_security_token(keys.security_token)
        if self._project_id is None:
            self._find_project(credentials)
            self._project_id = credentials.project_id
        return _Made(credentials, keys)

    def _find_project(self, credentials: BasicCredentials) -> None:
        """Let the SDK ask IAM for the project that has the region's name; ProviderError."""
        credentials._CACHE = {}  # noqa: SLF001  # the SDK's own outlives a change of the settings
        config = self._config
        try:
            credentials.process_auth_params(self._transport, config.region)
        except RefusedError as error:
            raise iam_refused(config, error) from None
        except Exception as error:  # noqa: BLE001  # requests' own exceptions come through as well
            target = Target(f"{config.name}: IAM at {config.iam_host}", "`iam_endpoint:`, or set `project_id:`")
            fault = connection_fault(target, error, self._timeout)
            raise (fault or no_project(config, error)) from None
        if not isinstance(credentials.project_id, str) or not PROJECT_ID.fullmatch(credentials.project_id):
            raise no_project(config, ValueError())

    def _agency_keys(self) -> Keys:
        """ProviderError."""
        name = self._config.name
        try:
            found = self._metadata.get_credential()
            # The SDK takes a time in UTC for one of this machine's zone.
            until = float(timegm(localtime(found.expire_at)))
            return Keys(found.access + "", found.secret + "", found.security_token + "", until)
        except RefusedError as error:
            raise agency_refused(name, error.status, error.said) from None
        except ServiceResponseException as error:
            raise agency_refused(name, error.status_code, "") from None
        except Exception as error:  # noqa: BLE001  # whatever JSON, dates and requests raise
            target = Target(f"{name}: the metadata service", "`auth:`")
            reached = connection_fault(target, error, self._timeout) is None
            if not reached and self._made is not None:
                raise agency_silent(name) from None
            raise no_agency(name, "answers with no temporary keys" if reached else "cannot be reached") from None


class _Metadata(MetadataAccessor):  # type: ignore[misc]  # its base is untyped
    """The SDK's client of the metadata service, over our session.

    The SDK sends this with functions of requests itself, which would ask the environment's proxy, read ~/.netrc and
    know nothing of our deadline.
    """

    def __init__(self, session: ProviderSession) -> None:
        super().__init__()
        self._session = session

    def get_credential(self, *_arguments: Any, **_settings: Any) -> Credential:
        """Temporary keys; a token for this service comes first, where it wants or takes one."""
        if not self._token and self._may_ask_for_token():
            self._try_update_token(raise_on_failure=False)
        response = self._read()
        if response.status_code == 401 and self._CONFIG_AGENCY_ERROR not in response.text:  # noqa: PLR2004
            self._try_update_token(raise_on_failure=True)
            response = self._read()
        if response.status_code != 200:  # noqa: PLR2004
            raise RefusedError(response.status_code, "", response.text)
        return self._process_credential(response.text)

    def _may_ask_for_token(self) -> bool:
        last = self._last_call_seconds
        return not last or time() - last > self._DEFAULT_CHECK_TOKEN_DURATION_SECONDS

    def _get_token(self) -> Any:
        headers = {self._X_METADATA_TOKEN_TTL_SECONDS: str(self._DEFAULT_TOKEN_TTL_SECONDS)}
        url = self._METADATA_ENDPOINT + self._GET_TOKEN_PATH
        return self._session.put(url, headers=headers, timeout=self._DEFAULT_TIME_OUT)

    def _read(self) -> Any:
        headers = {self._X_METADATA_TOKEN: self._token} if self._token else {}
        url = self._METADATA_ENDPOINT + self._GET_SECURITY_KEY_PATH
        return self._session.get(url, headers=headers, timeout=self._DEFAULT_TIME_OUT)
