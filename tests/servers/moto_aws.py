"""AWS as moto imitates it, on a loopback port of its own, with a record of the calls and a few faults on demand.

Run as a program; it prints its port. Besides moto's API it answers, under /dso-test/:

    GET  calls     {"calls": the operations asked for so far, such as "secretsmanager.GetSecretValue" or
                   "sts.AssumeRole?RoleSessionName=...", "most": how many were under way at once,
                   "now": how many are}
    POST reset     forgets them, and the faults
    POST faults    {"delay": SECONDS, "answers": [{"operation": NAME or "", "status": 400, "body": {...},
                   "headers": {...}, "times": N}]}: each is given N times instead of moto's answer

With two arguments, files of a certificate and its key, it speaks HTTPS.

Where moto is not AWS: with IAM checks on it refuses in XML (its `_RESTError`) where Secrets Manager, whose
protocol is JSON, has the codes of docs.aws.amazon.com/secretsmanager/latest/apireference/CommonErrors.html.
The decision is left to moto, and only put into that form here.
"""

from __future__ import annotations

import io
import json
import ssl
import sys
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlencode

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
        self.under_way = self.most = 0

    def __call__(self, environ: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path.startswith("/dso-test/"):
            return self._control(path.removeprefix("/dso-test/"), Request(environ))(environ, start_response)
        if path.startswith("/moto-api/"):
            return self._moto(environ, start_response)  # type: ignore[no-any-return]
        operation = environ.get("HTTP_X_AMZ_TARGET", "")
        with self._lock:
            self.calls.append(operation or _query(environ))
            fault = self._fault(operation)
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        try:
            return self._answer(operation, fault, environ)(environ, start_response)
        finally:
            with self._lock:
                self.under_way -= 1

    def _answer(self, operation: str, fault: dict[str, Any] | None, environ: dict[str, Any]) -> Response:
        time.sleep(self.delay)
        if fault is not None:
            return Response(json.dumps(fault["body"]), fault["status"], fault["headers"], content_type=JSON_TYPE)
        answer = Response.from_app(self._moto, environ)
        if operation and answer.status_code in (401, 403):
            return as_secrets_manager(answer)
        return answer

    def _fault(self, operation: str) -> dict[str, Any] | None:
        for answer in self.answers:
            if answer["operation"] in operation and answer["times"] > 0:
                answer["times"] -= 1
                return answer
        return None

    def _control(self, what: str, request: Request) -> Response:
        with self._lock:
            if what == "calls":
                record = {"calls": self.calls, "most": self.most, "now": self.under_way}
                return Response(json.dumps(record), content_type="application/json")
            if what == "reset":
                self.calls, self.delay, self.answers, self.most = [], 0.0, [], 0
                return Response()
            if what == "faults":
                asked = json.loads(request.get_data())
                self.delay, self.answers = asked["delay"], asked["answers"]
                return Response()
        return Response(status=404)


def _query(environ: dict[str, Any]) -> str:
    """A request of a service that takes forms, without the fields that are no setting of ours."""
    size = int(environ.get("CONTENT_LENGTH") or 0)
    body = environ["wsgi.input"].read(size)
    environ["wsgi.input"] = io.BytesIO(body)
    fields = dict(parse_qsl(body.decode()))
    kept = {name: fields[name] for name in sorted(fields.keys() & {"RoleArn", "RoleSessionName", "ExternalId"})}
    signed = environ.get("HTTP_AUTHORIZATION", "").split("/")  # ... Credential=KEY/DATE/REGION/SERVICE/aws4_request
    return f"{signed[3] if len(signed) > 3 else 'sts'}.{fields.get('Action')}?{urlencode(kept)}"


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
    context = None
    if len(sys.argv) > 1:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*sys.argv[1:3])
    server = make_server(
        "127.0.0.1", 0, application, threaded=True, request_handler=MotoRequestHandler, ssl_context=context
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
