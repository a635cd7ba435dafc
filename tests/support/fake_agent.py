"""An agent in a thread, that speaks the messages of dso.protocol and has the secrets it is given. A mock of dso-agent.

    with FakeAgent(directory, {"prod/db": b"hunter2"}) as agent:
        client = AgentClient.connect(agent.socket)

What the real one does is tested with the real one (tests/integration); this is for what that never
does: other versions, garbage, broken connections.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.errors import SecretFieldError
from dso.protocol.agent import API_VERSION, Fault, Resolved, ResolveRequest, ResolveResponse, volumes_from_json
from dso.protocol.codes import NOT_FOUND, UNKNOWN_FIELD
from dso.protocol.fields import field_names, field_of
from dso.protocol.state import AgentInfo, AgentStatus, CachedSecret, ProviderInfo, SecretInfo, SecretList
from dso.protocol.state import VolumeDriverState as Driver
from dso.secret import SecretRef, SecretValue

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path
    from types import TracebackType
    from typing import Self

    from dso.protocol.agent import VolumeSpec

DRIVER = Driver("dso", available=True)


class Request(NamedTuple):
    """One request as it came."""

    method: str
    target: str
    body: bytes

    def json(self) -> Any:
        """Its body."""
        return json.loads(self.body)


class FakeAgent:
    """Listens while its `with` block lasts.

    Attributes:
        socket: its path.
        requests: what it was asked, in order.
        volumes: what `PUT /v1/volumes` defined.
        answers: for a path, a whole answer to send in place of its own.
        broken: for a path, bytes after which the connection is closed.
        config_error, restart_needed: what its status says of its configuration.
        faults, ages, names: for a secret's name, why it cannot be had, how long it has been stale, what its backend
            calls it.
    """

    def __init__(
        self,
        directory: Path | str,
        values: Mapping[str, bytes] | None = None,
        *,
        entries: Sequence[SecretInfo] = (),
        api: int = API_VERSION,
        uid: int | None = None,
        driver: Driver = DRIVER,
        providers: Sequence[ProviderInfo] = (),
        cached: Sequence[CachedSecret] = (),
    ) -> None:
        self.socket = os.path.join(directory, "fake.sock")
        self.values = dict(values or {})
        self.entries = entries
        self.info = AgentInfo(api, "0.0.0-fake", os.getuid() if uid is None else uid, driver)
        self.providers = providers
        self.cached = cached
        self.config_error = ""
        self.restart_needed: list[str] = []
        self.requests: list[Request] = []
        self.volumes: dict[str, VolumeSpec] = {}
        self.answers: dict[str, bytes] = {}
        self.broken: dict[str, bytes] = {}
        self.faults: dict[str, Fault] = {}
        self.ages: dict[str, float] = {}
        self.names: dict[str, str] = {}
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self.socket)
        self._listener.listen()

    def __enter__(self) -> Self:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        os.unlink(self.socket)

    def asked(self) -> list[str]:
        """Method and target of each request."""
        return [f"{request.method} {request.target}" for request in self.requests]

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, connection.makefile("rb") as stream, contextlib.suppress(OSError):
            while line := stream.readline():
                method, target, _ = line.decode().split(" ")
                length = 0
                while header := stream.readline().strip().lower():
                    if header.startswith(b"content-length:"):
                        length = int(header.partition(b":")[2])
                request = Request(method, target, stream.read(length))
                self.requests.append(request)
                path = target.partition("?")[0]
                connection.sendall(self._bytes(path, request))
                if path in self.broken:
                    return

    def _bytes(self, path: str, request: Request) -> bytes:
        if path in self.broken:
            return self.broken[path]
        return self.answers[path] if path in self.answers else self._answer(request)

    def _answer(self, request: Request) -> bytes:
        path = request.target.partition("?")[0]
        body: object
        if path == "/v1/status":
            body = AgentStatus(
                self.info, 61.5, "/etc/dso/dso.yaml", self.providers, self.config_error, self.restart_needed
            ).to_json()
        elif path == "/v1/secrets":
            body = SecretList(self.info, self.entries, self.cached).to_json()
        elif path == "/v1/resolve":
            body = self.resolve(ResolveRequest.from_json(request.json())).to_json()
        elif path == "/v1/volumes":
            self.volumes.update(volumes_from_json(request.json()))
            body = {"driver": self.info.volume_driver.name}
        else:
            return refusal(404, Fault("unsupported", f"there is no {path}"))
        return answer(200, body)

    def resolve(self, request: ResolveRequest) -> ResolveResponse:
        """What it answers to a request."""
        resolved, errors = [], []
        for text in (*request.values, *request.checks):
            reference = SecretRef.parse(text)
            fault = self.faults.get(reference.path)
            if reference.path not in self.values and fault is None:
                fault = Fault(NOT_FOUND, f"there is no {reference.path}", "write it", provider="fake")
            if fault is None:
                try:
                    resolved.append(self._resolved(reference, wants_value=text in request.values))
                except SecretFieldError as error:
                    fault = Fault(UNKNOWN_FIELD, error.message, error.hint)
            if fault is not None:
                errors.append(fault._replace(reference=text))
        return ResolveResponse(resolved, errors)

    def _resolved(self, reference: SecretRef, *, wants_value: bool) -> Resolved:
        value = SecretValue(self.values[reference.path])
        value = field_of(value, reference.field, name=reference.path, as_file=reference.is_file)
        fingerprint = hashlib.blake2b(value.reveal(), key=b"agent", digest_size=16).hexdigest()
        age = self.ages.get(reference.path)
        shown = value if wants_value else None
        asks_for_names = not wants_value and reference.field == "value"
        names = field_names(SecretValue(self.values[reference.path])) if asks_for_names else None
        stale = age is not None
        own = self.names.get(reference.path, "")
        return Resolved(str(reference), shown, len(value), fingerprint, "1", age or 0.5, stale, names, own)


def answer(status: int, body: object) -> bytes:
    """An HTTP answer with JSON."""
    content = json.dumps(body).encode()
    return b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(content), content)


def refusal(status: int, fault: Fault) -> bytes:
    """An HTTP answer that refuses the request."""
    return answer(status, {"error": fault.to_json()})
