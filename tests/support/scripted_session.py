"""A provider's HTTP session that answers from a script instead of a network."""

from __future__ import annotations

import json
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from requests import Response
from requests.structures import CaseInsensitiveDict

if TYPE_CHECKING:
    from collections.abc import Mapping

    from requests import PreparedRequest, Session


class Answer(NamedTuple):
    """What comes to requests whose URL has `part` in it, so often."""

    part: str
    status: int
    body: bytes
    headers: Mapping[str, str]
    error: Exception | None
    times: int


class Script:
    """`script.play(session)` takes the session's place; the first answer that fits and is not used up counts.

    Attributes:
        seen: what was asked, in order.
    """

    def __init__(self) -> None:
        self.seen: list[PreparedRequest] = []
        self._answers: list[Answer] = []
        self._lock = threading.Lock()

    def play(self, session: Session) -> None:
        """Send nothing from now on."""
        session.send = self._send  # type: ignore[method-assign]

    def on(
        self,
        part: str,
        body: Any = b"",
        *,
        status: int = 200,
        times: int = 1_000_000,
        error: Exception | None = None,
        **headers: str,
    ) -> None:
        """Another answer; what is neither bytes nor text becomes JSON."""
        if not isinstance(body, bytes | str):
            body = json.dumps(body)
        content = body if isinstance(body, bytes) else body.encode()
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        with self._lock:
            self._answers.append(Answer(part, status, content, told, error, times))

    def clear(self) -> None:
        """Forget all answers, and what was asked."""
        with self._lock:
            self._answers.clear()
            self.seen.clear()

    def asked(self) -> list[str]:
        """`GET https://...` of each request."""
        return [f"{request.method} {request.url}" for request in self.seen]

    def _send(self, request: PreparedRequest, **_settings: Any) -> Response:
        with self._lock:
            self.seen.append(request)
            answer = self._take(request.url or "")
        if answer.error is not None:
            raise answer.error
        response = Response()
        response.request, response.url, response.status_code = request, request.url or "", answer.status
        response.headers = CaseInsensitiveDict(answer.headers)
        response._content = answer.body  # as the real session does
        return response

    def _take(self, url: str) -> Answer:
        for number, answer in enumerate(self._answers):
            if answer.part in url and answer.times:
                self._answers[number] = answer._replace(times=answer.times - 1)
                return answer
        raise AssertionError(f"nobody expected {url}")
