"""A small client of the Docker Engine API: what DSO needs and no more.

Requests and answers follow https://docs.docker.com/reference/api/engine/. All requests of one
command share one connection. Bodies are never logged: an archive holds secrets.
"""

from __future__ import annotations

from dso.delivery import connection as _connection
from dso.errors import ContainerNotFoundError, EngineError, EngineUnreachableError, EngineUnsupportedError
from dso.system.http import Reader, Response, WireError, quote, send_request
from dso.system.json_fast import dumps, loads

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812  # the class, under a name that cannot be mistaken for the module
    from collections.abc import Mapping, Sequence
    from types import TracebackType
    from typing import Any, Self

    from dso.system.http import LineStream

OLDEST_API = (1, 41)  # Engine 20.10
FIRST_API = "1.44"  # Engine 25 knows it, and later Engines accept nothing older
TIMEOUT = 120.0  # seconds without a byte; a dead volume plugin alone stalls the Engine for 15
MAX_BODY = 128 * 1024 * 1024  # a whole volume is the largest thing that is read
LIVE_STATUSES = ("running", "paused", "restarting")

_BAD_REQUEST, _NOT_FOUND, _CONFLICT, _SERVER_ERROR = 400, 404, 409, 500
_FIRST_ERROR = 400


class Engine:
    """A Docker Engine.

    Attributes:
        identity: names the Engine in lock files.
        requests: how many requests were sent.
        api_version: the newest API the Engine speaks, such as "1.45"; "" before the first answer.
    """

    def __init__(self, target: _connection.Target) -> None:
        self.identity = target.identity
        self.requests = 0
        self.api_version = ""
        self._used_version = FIRST_API
        self._target = target
        self._socket: Socket | None = None
        self._reader: Reader | None = None
        self._child: _connection.Child | None = None

    @classmethod
    def from_docker_args(cls, docker_args: Sequence[str]) -> Engine:
        """The Engine that `docker <docker_args>` would speak to; connects with the first request."""
        return cls(_connection.find_target(docker_args))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; the next request opens a new one."""
        self._disconnect()

    # Requests

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: bytes | None = None,
        *,
        content_type: str = "application/json",
        expected: Sequence[int] = (),
    ) -> Response:
        """Send one request and return its answer.

        Args:
            method: such as "GET".
            path: without the version prefix, such as "/containers/json"; names in it are quoted by the caller.
            query: parameters, unquoted.
            body: bytes to send as they are.
            content_type: of the body.
            expected: statuses from 400 up that the caller handles.

        Raises:
            EngineUnreachableError: no connection, or it broke.
            EngineError: the Engine refused; carries its message.
            EngineUnsupportedError: the Engine is older than 20.10, or runs Windows containers.
            DockerNotFoundError: `docker` has to connect and is not there.
        """
        parameters = "&".join(f"{name}={quote(value)}" for name, value in (query or {}).items())
        target = f"{path}?{parameters}" if parameters else path
        response = self._exchange(method, target, body, content_type)
        if response.status == _BAD_REQUEST and self._negotiate(response):
            response = self._exchange(method, target, body, content_type)
        if response.headers.get("ostype", "linux") != "linux":
            raise EngineUnsupportedError(
                f"this Engine runs {response.headers['ostype']} containers",
                hint="file secrets need an Engine that runs Linux containers",
            )
        if response.status >= _FIRST_ERROR and response.status not in expected:
            raise EngineError(f"the Docker Engine refused {method} {path}: {message_of(response)}")
        return response

    def get_json(self, path: str, query: Mapping[str, str] | None = None) -> Any:
        """The JSON that a GET answers with."""
        return _decode(self.request("GET", path, query).body)

    def events(self, filters: Mapping[str, Sequence[str]]) -> LineStream:
        """What happens from now on (SystemEvents), one JSON object a line; it ends when this client is closed.

        Raises:
            EngineUnreachableError, EngineError, ...: as for `request`.
        """
        self.version()  # agrees on a version of the API
        reader = self._connect()
        assert self._socket is not None  # noqa: S101  # _connect made it
        target = f"/v{self._used_version}/events?filters={quote(_encode(filters).decode())}"
        self.requests += 1
        try:
            send_request(self._socket, "GET", target, None, "")
            status, headers = reader.read_head()
        except (OSError, WireError) as error:
            raise self._lost(error) from error
        if status >= _FIRST_ERROR:
            self._disconnect()
            raise EngineError(f"the Docker Engine refused GET /events: status {status}")
        return reader.stream(headers)

    def _exchange(self, method: str, target: str, body: bytes | None, content_type: str) -> Response:
        reader = self._connect()
        assert self._socket is not None  # noqa: S101  # _connect made it
        self.requests += 1
        broken: OSError | None = None
        try:
            send_request(self._socket, method, f"/v{self._used_version}{target}", body, content_type)
        except TimeoutError as error:
            raise self._lost(error) from error
        except OSError as error:
            broken = error  # it may have answered first: a refusal need not wait for the whole body
        try:
            response = reader.read_response(method, MAX_BODY)
        except (OSError, WireError) as error:
            raise self._lost(broken or error) from error
        self.api_version = response.headers.get("api-version", self.api_version)
        if response.closes or broken:
            self._disconnect()
        return response

    def _negotiate(self, refusal: Response) -> bool:
        """After a 400: whether the reason was our API version, and another one was agreed on."""
        offered = refusal.headers.get("api-version", "")
        if "client version" not in message_of(refusal) or offered == self._used_version:
            return False
        if version_number(offered) < OLDEST_API:
            raise EngineUnsupportedError(
                f"this Engine is too old: it speaks API {offered or 'of an unknown version'}",
                hint="DSO needs Docker Engine 20.10 (API 1.41) or newer",
            )
        self._used_version = offered
        return True

    # The connection

    def _connect(self) -> Reader:
        if self._reader is not None and self._is_stale():
            self._disconnect()
        if self._reader is None:
            if self._target.socket_path is not None:
                self._socket = _connection.open_socket(self._target.socket_path, TIMEOUT)
            else:
                self._child = _connection.dial(self._target, TIMEOUT)
                self._socket = self._child.connection
            self._reader = Reader(self._socket)
        return self._reader

    def _is_stale(self) -> bool:
        """Whether an idle connection was closed by the other side meanwhile."""
        from select import POLLIN, poll

        assert self._socket is not None  # noqa: S101  # there is a reader, so there is a socket
        watch = poll()
        watch.register(self._socket.fileno(), POLLIN)
        return bool(watch.poll(0))

    def _disconnect(self) -> str:
        said = ""
        if self._child is not None:
            said = self._child.close()
        elif self._socket is not None:
            self._socket.close()
        self._socket = self._reader = self._child = None
        return said

    def _lost(self, error: Exception) -> EngineUnreachableError:
        through_docker = self._child is not None
        said = self._disconnect()
        if isinstance(error, TimeoutError):
            return EngineUnreachableError(
                f"the Docker Engine did not answer within {TIMEOUT:.0f} seconds", hint="look at the Engine's own log"
            )
        if through_docker and (said or (isinstance(error, WireError) and error.early)):
            return _connection.dial_error(self._target, said)
        return EngineUnreachableError(f"the connection to the Docker Engine broke: {error}", hint="try again")

    # Containers

    def containers(
        self,
        labels: Sequence[str] = (),
        statuses: Sequence[str] = (),
        limit: int = 0,
        volumes: Sequence[str] = (),
    ) -> list[dict[str, Any]]:
        """Containers (ContainerList), running or not, with all these labels ("name" or "name=value").

        With statuses only those that have one of them, with volumes only those that mount one of
        them, with a limit only so many, the newest.
        """
        wanted = {"label": labels, "status": statuses, "volume": volumes}
        filters = {name: list(values) for name, values in wanted.items() if values}
        query = {"all": "1"}
        if filters:
            query["filters"] = _encode(filters).decode()
        if limit:
            query["limit"] = str(limit)
        found: list[dict[str, Any]] = self.get_json("/containers/json", query)
        return found

    def inspect_container(self, name: str) -> dict[str, Any]:
        """What `docker inspect` shows of a container (name or id); ContainerNotFoundError."""
        response = self.request("GET", f"/containers/{quote(name)}/json", expected=(_NOT_FOUND,))
        if response.status == _NOT_FOUND:
            raise ContainerNotFoundError(f"there is no container {name!r}", hint="list them: docker ps -a")
        found: dict[str, Any] = _decode(response.body)
        return found

    def create_container(self, name: str, configuration: Mapping[str, object]) -> Response:
        """ContainerCreate; a refusal (404: no such image) is the caller's."""
        body = _encode(configuration)
        expected = (_BAD_REQUEST, _NOT_FOUND, _CONFLICT, _SERVER_ERROR)
        return self.request("POST", "/containers/create", {"name": name}, body, expected=expected)

    def start_container(self, container_id: str) -> Response:
        """ContainerStart; a refusal (a volume that cannot be mounted: 500) is the caller's."""
        return self.request("POST", f"/containers/{quote(container_id)}/start", expected=(_BAD_REQUEST, _SERVER_ERROR))

    def remove_container(self, container_id: str) -> None:
        """Remove a container, running or not, with its anonymous volumes; nothing happens when it is gone or going."""
        path = f"/containers/{quote(container_id)}"
        self.request("DELETE", path, {"force": "1", "v": "1"}, expected=(_NOT_FOUND, _CONFLICT))

    def put_archive(self, container_id: str, directory: str, archive: bytes) -> None:
        """Extract a tar archive, made in memory, into a directory of a container."""
        path = f"/containers/{quote(container_id)}/archive"
        self.request("PUT", path, {"path": directory}, archive, content_type="application/x-tar")

    def get_archive(self, container_id: str, path: str) -> bytes | None:
        """A file or directory of a container as a tar archive; None when the file or the container is not there."""
        where = f"/containers/{quote(container_id)}/archive"
        response = self.request("GET", where, {"path": path}, expected=(_NOT_FOUND,))
        return None if response.status == _NOT_FOUND else response.body

    def execute(self, container_id: str, command: Sequence[str]) -> None:
        """Run a command in a running container and wait for its end; output and exit code are dropped."""
        configuration = {"Cmd": list(command), "AttachStdout": True, "AttachStderr": True}
        created = self.request("POST", f"/containers/{quote(container_id)}/exec", body=_encode(configuration))
        started = f"/exec/{quote(_decode(created.body)['Id'])}/start"
        self.request("POST", started, body=_encode({"Detach": False, "Tty": False}))

    # Volumes, images, the Engine itself

    def volumes(self, **filters: Sequence[str]) -> list[dict[str, Any]]:
        """Volumes (VolumeList) by filters such as name=["part of it"], label=["name=value"], dangling=["true"]."""
        query = {"filters": _encode({name: list(values) for name, values in filters.items()}).decode()}
        return self.get_json("/volumes", query)["Volumes"] or []

    def create_volume(self, name: str, driver: str, options: Mapping[str, str], labels: Mapping[str, str]) -> Response:
        """VolumeCreate; what this driver has already stays as it is. A refusal is the caller's."""
        body = _encode({"Name": name, "Driver": driver, "DriverOpts": options, "Labels": labels})
        expected = (_BAD_REQUEST, _NOT_FOUND, _CONFLICT, _SERVER_ERROR)
        return self.request("POST", "/volumes/create", body=body, expected=expected)

    def remove_volume(self, name: str) -> bool:
        """Remove a volume; False when a container, running or not, uses it. One that is gone counts as removed."""
        response = self.request("DELETE", f"/volumes/{quote(name)}", expected=(_NOT_FOUND, _CONFLICT))
        return response.status != _CONFLICT

    def load_image(self, archive: bytes) -> None:
        """Bring in an image that is whole in an archive (ImageLoad): what `docker load` does."""
        response = self.request("POST", "/images/load", {"quiet": "1"}, archive, content_type="application/x-tar")
        for line in response.body.splitlines():  # progress, one JSON object a line; a failure is one of them
            event = _decode(line) if line.strip() else {}
            if "error" in event:
                raise EngineError(f"the Docker Engine could not load an image: {event['error']}")

    def version(self) -> dict[str, Any]:
        """What `docker version` shows of the server (SystemVersion): Version, ApiVersion, Arch, KernelVersion..."""
        found: dict[str, Any] = self.get_json("/version")
        return found

    def info(self) -> dict[str, Any]:
        """What `docker info` shows of the server (SystemInfo)."""
        found: dict[str, Any] = self.get_json("/info")
        return found


def message_of(response: Response) -> str:
    """The message of an error answer: `{"message": ...}`, or the text itself."""
    text = response.body.decode("utf-8", "replace").strip()
    if text.startswith("{"):
        try:
            text = str(loads(text).get("message", text))  # type: ignore[attr-defined]  # it is an object
        except ValueError:
            return text[:2000]
    return text[:2000] or f"status {response.status}"


def version_number(text: str) -> tuple[int, ...]:
    """A version as numbers that can be compared: (1, 45) for "1.45"."""
    return tuple(int(part) for part in text.split(".") if part.isdigit())


def _encode(value: object) -> bytes:
    return dumps(value).encode()


def _decode(body: bytes) -> Any:
    try:
        return loads(body.decode())
    except ValueError as error:
        raise EngineError("the Docker Engine sent an answer that is not JSON") from error
