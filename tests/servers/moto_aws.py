"""AWS as moto imitates it, on a loopback port of its own, with a record of the calls and a few faults on demand.

Run as a program; it prints its port. Besides moto's API it answers, under /dso-test/:

    GET  calls     the operations asked for so far, as JSON: ["secretsmanager.GetSecretValue", ...]
    POST reset     forgets them, and the faults
    POST faults    {"delay": SECONDS, "answers": [{"operation": NAME or "", "status": 400, "body": {...},
                   "headers": {...}, "times": N}]}: each is given N times instead of moto's answer

Where moto is not AWS: with IAM checks on it refuses in XML (its `_RESTError`) where Secrets Manager, whose
protocol is JSON, has the codes of docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html.
The decision is left to moto, and only put into that form here.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    StartResponse = Callable[..., Any]

# moto's codes, and what Secrets Manager calls the same; all with status 400.
AUTH_CODES = {
    "AuthFailure": "UnrecognizedClientException",
    "InvalidClientTokenId": "UnrecognizedClientException",
    "SignatureDoesNotMatch": "InvalidSignatureException",
    "AccessDenied": "AccessDeniedException",
}
JSON_TYPE = "application/x-amz-json-1.1"


class Recorder:
    """A WSGI application in front of moto."""

    def __init__(self, moto: Callable[..., Any]) -> None:
        self._moto = moto
        self._lock = threading.Lock()
        self.calls: list[str] = []
        self.delay = 0.0
        self.answers: list[dict[str, Any]] = []

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/dso-test/"):
            return self._control(path.removeprefix("/dso-test/"), Request(environ))(environ, start_response)
        operation = environ.get("HTTP_X_AMZ_TARGET", "")
        fault = None
        if not path.startswith("/moto-api/"):
            with self._lock:
                self.calls.append(operation or "sts")
                fault = self._fault(operation)
            time.sleep(self.delay)
        if fault is not None:
            body = json.dumps(fault.get("body", {}))
            answer = Response(body, fault["status"], fault.get("headers"), content_type=JSON_TYPE)
        else:
            answer = Response.from_app(self._moto, environ)
            if operation and answer.status_code in (401, 403):
                answer = as_secrets_manager(answer)
        return answer(environ, start_response)

    def _fault(self, operation: str) -> dict[str, Any] | None:
        for answer in self.answers:
            if answer.get("operation", "") in operation and answer["times"] > 0:
                answer["times"] -= 1
                return answer
        return None

    def _control(self, what: str, request: Request) -> Response:
        with self._lock:
            if what == "calls":
                return Response(json.dumps(self.calls), content_type="application/json")
            if what == "reset":
                self.calls, self.delay, self.answers = [], 0.0, []
                return Response()
            if what == "faults":
                asked = json.loads(request.get_data())
                self.delay, self.answers = asked.get("delay", 0.0), asked.get("answers", [])
                return Response()
        return Response(status=404)


def as_secrets_manager(answer: Response) -> Response:
    """Moto's refusal with the code Secrets Manager uses."""
    text = answer.get_data(as_text=True)
    for code, ours in AUTH_CODES.items():
        if f"<Code>{code}</Code>" in text:
            return Response(json.dumps({"__type": ours, "message": "moto refused"}), 400, content_type=JSON_TYPE)
    return answer


def main() -> None:
    """Serve until the standard input ends: then whoever started us is gone."""
    application = Recorder(DomainDispatcherApplication(create_backend_app))
    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
