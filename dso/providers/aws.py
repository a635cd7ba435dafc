"""AWS Secrets Manager.

A path is a secret's name, or its ARN. A version is the id of one (32 to 64 characters) or a staging
label (`AWSPREVIOUS`, or one of your own); without, it is `AWSCURRENT`.
"""

from __future__ import annotations

import logging
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as LateError
from typing import TYPE_CHECKING, Any, ClassVar, Self

from botocore.exceptions import BotoCoreError, ClientError
from botocore.parsers import ResponseParserError

from dso.protocol.codes import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    NOT_FOUND,
    PERMISSION_DENIED,
    UNAUTHENTICATED,
    UNAVAILABLE,
)
from dso.protocol.provider import ProviderError, SecretData
from dso.providers.aws_errors import Place, incomplete, reported, shown, translate
from dso.providers.aws_http import OutOfTimeError
from dso.providers.aws_session import CONNECTIONS, Settings, make_client, make_session, read_settings
from dso.providers.deadline import Deadline, within
from dso.providers.provider import Request
from dso.secret import SecretValue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Future

    from botocore.client import BaseClient

Result = SecretData | ProviderError

BATCH_CALL = 20  # secrets in one BatchGetSecretValue (its SecretIdList takes no more)
PAGES = BATCH_CALL  # of one batch's answer; with more there would be pages without a secret, and there may be no end
ANSWER_WITHIN = 0.95  # of the time limit: the agent's own clock started before ours
BATCH_AGAIN_AFTER = 600.0  # seconds: a permission may be granted while we run
ABSENT = "dso/check/this-secret-does-not-exist"
_ARN_SUFFIX = 7  # a hyphen and six characters that Secrets Manager appends to the name
_log = logging.getLogger("dso.aws")
# What a request ends with. botocore takes answers apart without looking at what they are made of: all but the first
# three come of answers that AWS would not give.
_FAILURES = (
    *[BotoCoreError, ClientError, ResponseParserError],
    *[ValueError, TypeError, AttributeError, LookupError, OverflowError, RecursionError],
)


class AwsProvider:
    """See `dso.providers.provider.Provider`.

    botocore has time limits for connecting, for each read and for each of its tries, and none for a
    request as a whole, which may begin with requests for credentials; so requests run in threads of
    their own, and the caller that waits for one gives up in time. So does the thread
    (`aws_http`), which the requests that follow need.
    """

    type: ClassVar[str] = "aws"
    batch: ClassVar[int] = 3 * BATCH_CALL  # so many of the largest size (64 KiB) fit into one message

    def __init__(self, name: str, settings: Settings, timeout: float) -> None:
        self._name = name
        self._settings = settings
        self._timeout = timeout
        self._session = make_session(name, settings, timeout)
        region = self._session.region_name
        endpoint = settings.endpoint_url or f"Secrets Manager in {region}"
        self._place = Place(name, region, endpoint, settings.role_arn)
        self._client: BaseClient | None = None
        self._connecting = threading.Lock()
        self._batch_again_at = 0.0  # when batches are tried, having been refused
        self._requests = ThreadPoolExecutor(CONNECTIONS, thread_name_prefix="aws")

    @classmethod
    def open(cls, name: str, config: Mapping[str, Any], timeout: float) -> Self:
        """Check the settings, and AWS's own files; see `aws_session`."""
        return cls(name, read_settings(name, config), timeout)

    def get(self, path: str, version: str | None) -> SecretData:
        """GetSecretValue."""
        request, deadline = Request(path, version), self._deadline()
        (result,) = self._wait([(request, self._submit(deadline, self._get_one, request))], deadline)
        if isinstance(result, ProviderError):
            raise result
        return result  # type: ignore[no-any-return]

    def get_many(self, requests: Sequence[Request]) -> list[Result]:
        """BatchGetSecretValue for those without a version, GetSecretValue for the others, all side by side."""
        deadline = self._deadline()
        found: dict[Request, Result] = {}
        wanted = list(dict.fromkeys(requests))
        current = [request for request in wanted if request.version is None]
        if len(current) > 1 and time.monotonic() >= self._batch_again_at:
            found = self._get_batches(current, deadline)
        left = [request for request in wanted if request not in found]
        singles = [(request, self._submit(deadline, self._get_one, request)) for request in left]
        found.update(zip(left, self._wait(singles, deadline), strict=True))
        return [found[request] for request in requests]

    def check(self) -> None:
        """Ask for a secret that does not exist: the answer tells whether the credentials are good, with no permission.

        GetCallerIdentity would need a way to another service, which a private network may not have, and
        ListSecrets a permission that reading secrets does not take.
        """
        deadline = self._deadline()
        asked = self._submit(deadline, self._ask, None, "get_secret_value", SecretId=ABSENT)
        (result,) = self._wait([(None, asked)], deadline)
        if isinstance(result, ProviderError) and result.code not in (NOT_FOUND, PERMISSION_DENIED):
            raise result

    def close(self) -> None:
        """Nothing is kept at AWS for us."""
        self._requests.shutdown(wait=False, cancel_futures=True)

    def _deadline(self) -> Deadline:
        return Deadline(self._timeout * ANSWER_WITHIN)

    def _submit(self, deadline: Deadline, work: Callable[..., Any], *arguments: Any, **parameters: Any) -> Future[Any]:
        """Have a thread do it, as far as the time lasts."""

        def in_time() -> Any:
            with within(deadline):
                return work(*arguments, **parameters)

        return self._requests.submit(in_time)

    def _wait(self, asked: Sequence[tuple[Request | None, Future[Any]]], deadline: Deadline) -> list[Any]:
        """What came of requests that are under way, or the ProviderError; late ones are given up."""
        found: list[Any] = []
        for request, future in asked:
            try:
                found.append(future.result(0 if deadline.is_over() else deadline.left()))
            except ProviderError as error:
                found.append(error)
            except LateError:
                future.cancel()
                found.append(self._late(request))
        return found

    def _late(self, request: Request | None) -> ProviderError:
        about = f" for {shown(request)}" if request else ""
        text = f"{self._name}: no answer from {self._place.endpoint}{about} within {self._timeout:g} s"
        return ProviderError(UNAVAILABLE, f"{text}; `timeout:` in dso.yaml allows for more")

    def _get_one(self, request: Request) -> SecretData:
        for selector in _selectors(request.version):
            try:
                answer = self._ask(request, "get_secret_value", SecretId=request.path, **selector)
            except ProviderError as error:
                missing = error
                if error.code != NOT_FOUND:
                    raise
            else:
                return self._secret(answer, request)
        raise missing

    def _get_batches(self, requests: Sequence[Request], deadline: Deadline) -> dict[Request, Result]:
        """What batch calls tell; requests that are not in it have to be asked one by one."""
        chunks = [requests[start : start + BATCH_CALL] for start in range(0, len(requests), BATCH_CALL)]
        asked = [(None, self._submit(deadline, self._get_chunk, chunk)) for chunk in chunks]
        found: dict[Request, Result] = {}
        for chunk, result in zip(chunks, self._wait(asked, deadline), strict=True):
            if isinstance(result, ProviderError):
                found.update(dict.fromkeys(chunk, result))
            else:
                found.update(result)
        return found

    def _get_chunk(self, requests: Sequence[Request]) -> dict[Request, Result]:
        """One BatchGetSecretValue, and its further pages up to a number; empty if it cannot be had for these."""
        by_name = {request.path: request for request in requests}
        found: dict[Request, Result] = {}
        page: dict[str, str] = {}
        for _ in range(PAGES):
            try:
                answer = self._ask(None, "batch_get_secret_value", SecretIdList=list(by_name), **page)
            except ProviderError as error:
                if error.code in (PERMISSION_DENIED, INVALID_CONFIG):
                    self._give_up_batches(error)
                elif error.code not in (INVALID_REQUEST, NOT_FOUND):
                    raise
                return {}  # one malformed name makes AWS refuse all
            found.update(self._read_batch(answer, by_name))
            if not answer.get("NextToken"):
                return found
            page = {"NextToken": answer["NextToken"]}
        return found

    def _read_batch(self, answer: Mapping[str, Any], by_name: Mapping[str, Request]) -> dict[Request, Result]:
        found: dict[Request, Result] = {}
        for one in answer.get("SecretValues", []):
            if request := _requested(by_name, one):
                try:
                    found[request] = self._secret(one, request)
                except ProviderError as error:
                    found[request] = error
        for one in answer.get("Errors", []):
            if request := by_name.get(_text(one, "SecretId")):
                found[request] = reported(_text(one, "ErrorCode"), _text(one, "Message"), self._place, request)
        return found

    def _give_up_batches(self, error: ProviderError) -> None:
        self._batch_again_at = time.monotonic() + BATCH_AGAIN_AFTER
        _log.warning(
            "%s: secrets are read one by one for 10 minutes, since BatchGetSecretValue is refused (%s); "
            "allow secretsmanager:BatchGetSecretValue to have 20 read at once",
            self._name,
            error.code,
        )

    def _ask(self, request: Request | None, operation: str, **parameters: Any) -> dict[str, Any]:
        """One request to Secrets Manager; ProviderError."""
        client = None
        try:
            client = self._connected()
            answer: dict[str, Any] = getattr(client, operation)(**parameters)
        except _FAILURES as error:
            failure = self._failure(error, request)
        else:
            return answer
        if failure.code == UNAUTHENTICATED and client is not None and self._has_new_credentials(client):
            try:
                answer = getattr(self._connected(), operation)(**parameters)
            except _FAILURES as error:
                raise self._failure(error, request) from None
            return answer
        raise failure

    def _failure(self, error: Exception, request: Request | None) -> ProviderError:
        return self._late(request) if isinstance(error, OutOfTimeError) else translate(error, self._place, request)

    def _secret(self, answer: Mapping[str, Any], request: Request) -> SecretData:
        content = answer.get("SecretBinary", answer.get("SecretString"))
        if not isinstance(content, str | bytes):
            raise incomplete(self._place, request.path)
        value = SecretValue(content if isinstance(content, bytes) else content.encode("utf-8", "surrogatepass"))
        created = answer.get("CreatedDate")
        stamp = created.timestamp() if created else None
        return SecretData(value, version=_text(answer, "VersionId"), created_at=stamp)

    def _connected(self) -> BaseClient:
        """The client, made when it is first needed, and again as long as there are no credentials to make it with."""
        with self._connecting:
            if self._client is None:
                self._client = make_client(self._session, self._settings)
            return self._client

    def _has_new_credentials(self, refused: BaseClient) -> bool:
        """Whether the chain, asked anew, gives others than those that were refused: somebody has renewed a file."""
        with self._connecting:
            if self._client is not refused:
                return True  # another thread has found out
            try:
                session = make_session(self._name, self._settings, self._timeout)
                client = make_client(session, self._settings)
                if _credentials(client) == _credentials(refused):
                    return False
            except (*_FAILURES, ProviderError):
                return False
            self._session, self._client = session, client
            return True


def _selectors(version: str | None) -> list[dict[str, str]]:
    """What to ask for, in this order: an id has 32 characters or more, and so may a label have."""
    if version is None:
        return [{}]
    by_label = {"VersionStage": version}
    return [{"VersionId": version}, by_label] if 32 <= len(version) <= 64 else [by_label]  # noqa: PLR2004


def _requested(by_name: Mapping[str, Request], answer: Mapping[str, Any]) -> Request | None:
    """Which request an element of a batch answers: by name, by ARN, or by ARN without its random end."""
    arn = _text(answer, "ARN")
    for name in (_text(answer, "Name"), arn, arn[:-_ARN_SUFFIX]):
        if name in by_name:
            return by_name[name]
    return None


def _text(answer: Mapping[str, Any], key: str) -> str:
    """A text of an answer, "" if there is none: botocore passes on whatever is in its place."""
    found = answer.get(key)
    return found if isinstance(found, str) else ""


def _credentials(client: BaseClient) -> tuple[str, str, str]:
    frozen = client._get_credentials().get_frozen_credentials()  # noqa: SLF001  # botocore has no public name for it
    return frozen.access_key, frozen.secret_key, frozen.token
