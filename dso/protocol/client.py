"""The command line's side of the agent's API (docs/agent-api.md).

A connection serves requests until it is closed; the next request opens another. Bodies are never
logged: answers hold values.
"""

from __future__ import annotations

import os
import time

from dso import paths
from dso.errors import (
    AgentBusyError,
    AgentForbiddenError,
    AgentProtocolError,
    AgentUnavailableError,
    AgentUntrustedError,
    AgentVersionError,
)
from dso.protocol import agent as messages
from dso.protocol.faults import VERSION_HINT, error_of_request, forbidden_hint
from dso.protocol.reading import MessageError
from dso.protocol.state import AgentStatus, SecretList
from dso.system.http import Reader, WireError, open_unix_socket, peer_of, quote, send_request
from dso.system.visible import shell_word

TYPE_CHECKING = False
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812  # the class, under a name that cannot be mistaken for the module
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Any, Self, TypeVar

    from dso.protocol.agent import ResolveRequest, ResolveResponse, VolumeSpec
    from dso.protocol.state import AgentInfo
    from dso.system.http import LineStream

    Message = TypeVar("Message")

TIMEOUT = 150.0  # seconds without a byte: the agent itself gives up on a provider long before
PATIENCE = 15.0  # seconds, all together, for which a busy agent is asked again when it says it may have room
MAX_BODY = 128 * 1024 * 1024
_FIRST_ERROR = 400

_START_HINT = (
    "start it: `sudo systemctl start dso-agent`; not set up yet: `sudo docker dso system setup`\n"
    "without systemd: `sudo dso-agent`\n"
    "or as this user, for this directory's dso.yaml: `dso-agent --config ./dso.yaml`"
)


class AgentClient:
    """A connection to the agent; use it in a `with`, or `close` it.

    Attributes:
        path: the socket.
        requests: how many requests were sent.
    """

    def __init__(self, path: str, connection: Socket) -> None:
        self.path = path
        self.requests = 0
        self._socket: Socket | None = connection
        self._reader = Reader(connection)

    @classmethod
    def connect(cls, configured: str | None = None) -> Self:
        """Connect to the agent whose socket `dso.paths.find_agent_socket(configured)` names.

        Raises:
            AgentUnavailableError: nobody listens there.
            AgentForbiddenError: this user may not.
            AgentUntrustedError: who listens there is neither root nor this user; it was sent nothing.
        """
        path = paths.find_agent_socket(configured)
        return cls(path, _connected(path))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    # Requests; each raises what `_request` does.

    def status(self) -> AgentStatus:
        """How the agent and its providers are."""
        return AgentStatus.from_json(self.status_document())

    def status_document(self) -> dict[str, Any]:
        """The same as the agent sent it, checked to be what `AgentStatus` understands."""
        body = self._request("GET", messages.STATUS)
        self._check_version(self._read(AgentStatus.from_json, body).info)
        return body  # type: ignore[no-any-return]

    def secrets(self) -> SecretList:
        """Which agent this is, its entries that this user may read, and what it has in memory."""
        found = self._read(SecretList.from_json, self._request("GET", messages.SECRETS))
        self._check_version(found.agent)
        return found

    def resolve(self, request: ResolveRequest) -> ResolveResponse:
        """Resolve references; what is wrong with single ones stands in the answer."""
        body = self._request("POST", messages.RESOLVE, request.to_json())
        return self._read(messages.ResolveResponse.from_json, body)

    def put_volumes(self, volumes: Mapping[str, VolumeSpec]) -> str:
        """Define volumes, whether or not the Engine has them already; the name of the agent's volume driver."""
        body = self._request("PUT", messages.VOLUMES, messages.volumes_to_json(volumes))
        return str(body["driver"]) if isinstance(body, dict) and body.get("driver") else "dso"

    def reload(self, secret: str | None = None) -> dict[str, Any]:
        """Have one secret fetched anew; without one the configuration is read again and everything in memory fetched.

        What the agent says it did.
        """
        query = f"?secret={quote(secret)}" if secret is not None else ""
        body = self._request("POST", messages.RELOAD + query)
        return body if isinstance(body, dict) else {}

    def get(self, target: str) -> Any:
        """The JSON that a GET of a path, query included, answers with."""
        return self._request("GET", target)

    def stream(self, target: str, *, timeout: float | None = None) -> Iterator[str]:
        """The lines of an answer that goes on (`/v1/events`, `/v1/logs?follow=1`), as they come.

        The connection is used up by that. `timeout`: seconds without a line after which it counts as broken.
        """
        try:
            headers = self._begin(target)
            assert self._socket is not None  # noqa: S101  # _begin connected it
            self._socket.settimeout(timeout)
            for line in self._reader.read_lines(headers):
                yield line.decode("utf-8", "replace").rstrip("\r")
        except (OSError, WireError) as error:
            raise self._lost(error) from error
        finally:
            self.close()

    def follow(self, target: str, headers: Mapping[str, str] | None = None) -> LineStream:
        """The same for who waits for several connections at once; it ends when this client is closed.

        Raises:
            AgentUnavailableError, AgentForbiddenError, ...: as for requests.
        """
        try:
            return self._reader.stream(self._begin(target, headers))
        except (OSError, WireError) as error:
            raise self._lost(error) from error

    def _begin(self, target: str, headers: Mapping[str, str] | None = None) -> dict[str, str]:
        """Ask for an answer that goes on; its headers. OSError, WireError, or the refusal."""
        self._send("GET", target, None, headers)
        status, answered = self._reader.read_head()
        if status >= _FIRST_ERROR:
            raise self._refusal(status, b"\n".join(self._reader.read_lines(answered)))
        return answered

    def _request(self, method: str, target: str, document: object = None) -> Any:
        """Send one request, again if the agent was busy and says for how long; the JSON it is answered with.

        Raises:
            AgentUnavailableError: the connection broke, or no answer came.
            AgentForbiddenError: this user may not use the agent.
            AgentBusyError: the agent has no room for it, for longer than one waits.
            AgentVersionError: the agent does not know the request.
            AgentProtocolError: the answer is not what the API says.
            DsoError: what else the agent refused it for (dso.protocol.faults).
        """
        from dso.system.json_fast import dumps, loads

        body = None if document is None else dumps(document).encode("ascii")
        patience = PATIENCE
        while True:
            self._send(method, target, body)
            try:
                response = self._reader.read_response(method, MAX_BODY)
            except (OSError, WireError) as error:
                raise self._lost(error) from error
            if response.closes:
                self.close()
            if response.status < _FIRST_ERROR:
                break
            refusal = self._refusal(response.status, response.body)
            if not isinstance(refusal, AgentBusyError) or not 0 < refusal.retry_after <= patience:
                raise refusal
            patience -= refusal.retry_after
            time.sleep(refusal.retry_after)
        try:
            return loads(response.body.decode())
        except (ValueError, RecursionError):
            raise self._garbage("its answer is not JSON") from None

    def _send(self, method: str, target: str, body: bytes | None, headers: Mapping[str, str] | None = None) -> None:
        if self._socket is None:
            self._socket = _connected(self.path)
            self._reader = Reader(self._socket)
        self.requests += 1
        try:
            send_request(self._socket, method, target, body, "application/json", host="dso", headers=headers)
        except TimeoutError as error:
            raise self._lost(error) from error
        except OSError:
            pass  # it may have answered before it read all: the caller looks for that

    def _read(self, reader: Callable[[object], Message], body: object) -> Message:
        try:
            return reader(body)
        except (MessageError, ValueError) as error:  # ValueError: base64 that is none
            raise self._garbage(str(error) if isinstance(error, MessageError) else "a value is not base64") from None

    def _check_version(self, info: AgentInfo) -> None:
        if info.api != messages.API_VERSION:
            raise AgentVersionError(
                f"the agent at {self.path} speaks version {info.api} of the API (it is dso-agent {info.version}), "
                f"this docker-dso version {messages.API_VERSION}",
                hint=VERSION_HINT,
            )

    def _refusal(self, status: int, body: bytes) -> Exception:
        from dso.system.json_fast import loads

        try:
            document = loads(body.decode())
            fault = messages.Fault.from_json(document.get("error") if isinstance(document, dict) else None)
        except (MessageError, ValueError, RecursionError):
            return self._garbage(f"status {status} without saying why")
        return error_of_request(fault, self.path)

    def _garbage(self, what: str) -> AgentProtocolError:
        self.close()
        return AgentProtocolError(
            f"what answers at {self.path} does not keep to the agent's API: {what}",
            hint=f"see which program listens there (`sudo ss -xlp | grep {os.path.basename(self.path)}`), "
            "or set DSO_SOCKET_PATH",
        )

    def _lost(self, error: Exception) -> AgentUnavailableError | AgentProtocolError:
        self.close()
        if isinstance(error, TimeoutError):
            return AgentUnavailableError(
                f"the agent at {self.path} did not answer within {TIMEOUT:.0f} seconds",
                hint="see what it is waiting for: `docker dso logs`",
            )
        if isinstance(error, WireError) and not error.early:
            return self._garbage(str(error))
        return AgentUnavailableError(
            f"the agent at {self.path} closed the connection", hint="try again; `docker dso logs` may say why"
        )


def _connected(path: str) -> Socket:
    """A connection to somebody who may be told what is asked for, and whose answers may be believed."""
    try:
        connection = open_unix_socket(path, TIMEOUT)
    except OSError as error:
        raise _unreachable(path, error) from error
    _, user = peer_of(connection)
    if user not in (0, os.getuid()):
        connection.close()
        raise AgentUntrustedError(
            f"the socket {path} belongs to another user ({user}), who is neither root nor you: nothing was sent there",
            hint="that user would see what you ask for, and could answer anything; see who it is: "
            f"ls -l {shell_word(path)}\nuse root's agent, or one of your own: unset {paths.SOCKET_VARIABLE}, "
            "or correct `agent.socket` in dso.yaml",
        )
    return connection


def _unreachable(path: str, error: OSError) -> AgentUnavailableError | AgentForbiddenError:
    if isinstance(error, PermissionError):
        return AgentForbiddenError(f"this user may not speak to the agent at {path}", hint=forbidden_hint(path))
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return AgentUnavailableError(f"no dso-agent runs here: there is no {path}", hint=_START_HINT)
    if isinstance(error, ConnectionRefusedError):
        return AgentUnavailableError(f"no dso-agent listens at {path} (the socket was left behind)", hint=_START_HINT)
    return AgentUnavailableError(f"the agent at {path} does not answer: {error.strerror or error}", hint=_START_HINT)
