"""Docker's volume plugin protocol over HTTP (https://docs.docker.com/engine/extend/plugins_volume/).

Only the Engine speaks to it: the socket is root's. It never says on whose behalf.
"""

from __future__ import annotations

import json
import socket
import struct
from typing import TYPE_CHECKING, Any

from aiohttp import web

from dso.agent.volume.checks import VolumeError
from dso.agent.volumes import UNKNOWN, identify
from dso.protocol.agent import MAX_REQUEST_BYTES
from dso.protocol.reading import MessageError, read_object, read_text

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dso.agent.seams import Emit
    from dso.agent.volumedriver import VolumeDriver
    from dso.agent.volumes import Engine

    Body = dict[str, Any]
    Call = Callable[[Body, Engine], Awaitable[Body]]

CONTENT_TYPE = "application/vnd.docker.plugins.v1.1+json"
_NOTED = ("Create", "Mount", "Unmount", "Remove")  # the others fail whenever the Engine asks whether there is a volume
_CREDENTIALS = struct.Struct("3i")  # struct ucred: pid, uid, gid


def build(driver: VolumeDriver, emit: Emit) -> web.Application:
    """The application that answers the Engine."""
    calls = _Calls(driver)
    application = web.Application(client_max_size=2 * MAX_REQUEST_BYTES)  # the definition, quoted as a string
    for path, call in calls.by_path().items():
        application.router.add_post(path, _handler(path, call, emit))
    return application


class _Calls:
    """Each takes the body's object and who asks, and gives the answer without `Err`."""

    def __init__(self, driver: VolumeDriver) -> None:
        self._driver = driver

    def by_path(self) -> dict[str, Call]:
        named = {
            "Create": self.create,
            "Remove": self.remove,
            "Mount": self.mount,
            "Unmount": self.unmount,
            "Path": self.path,
            "Get": self.get,
            "List": self.list,
            "Capabilities": self.capabilities,
        }
        return {"/Plugin.Activate": self.activate, **{f"/VolumeDriver.{name}": call for name, call in named.items()}}

    async def activate(self, _body: Body, _engine: Engine) -> Body:
        return {"Implements": ["VolumeDriver"]}

    async def create(self, body: Body, _engine: Engine) -> Body:
        options = read_object(body.get("Opts") or {}, "Opts")
        texts = {key: read_text(value, key) for key, value in options.items()}
        await self._driver.finish(self._driver.create(_name(body), texts))
        return {}

    async def remove(self, body: Body, engine: Engine) -> Body:
        await self._driver.finish(self._driver.remove(_name(body), engine))
        return {}

    async def mount(self, body: Body, engine: Engine) -> Body:
        return {"Mountpoint": await self._driver.mount(_name(body), read_text(body.get("ID", ""), "ID"), engine)}

    async def unmount(self, body: Body, _engine: Engine) -> Body:
        await self._driver.finish(self._driver.unmount(_name(body), read_text(body.get("ID", ""), "ID")))
        return {}

    async def path(self, body: Body, _engine: Engine) -> Body:
        return {"Mountpoint": self._driver.path(_name(body))}

    async def get(self, body: Body, _engine: Engine) -> Body:
        return {"Volume": self._driver.get(_name(body))}

    async def list(self, _body: Body, _engine: Engine) -> Body:
        return {"Volumes": self._driver.volumes()}

    async def capabilities(self, _body: Body, _engine: Engine) -> Body:
        return {"Capabilities": {"Scope": "local"}}


def _handler(path: str, call: Call, emit: Emit) -> Callable[[web.Request], Awaitable[web.Response]]:
    def tell(body: Body, message: str) -> None:
        emit("volume.failed", volume=str(body.get("Name", ""))[:255], message=message)

    async def handle(request: web.Request) -> web.Response:
        try:
            raw = await request.read()
            body = read_object(json.loads(raw), "the body") if raw.strip() else {}
        except (ValueError, RecursionError, MessageError) as error:
            return _answer({"Err": f"the request cannot be read: {error}"}, 400)
        except web.HTTPException as error:
            return _answer({"Err": error.reason}, error.status)
        try:
            return _answer({**await call(body, _asking(request)), "Err": ""})
        except MessageError as error:
            return _answer({"Err": f"the request cannot be read: {error}"}, 400)
        except VolumeError as error:
            if path.endswith(_NOTED):
                tell(body, str(error))
            return _answer({"Err": str(error)})
        except Exception as error:  # noqa: BLE001  # the Engine gets an answer whatever happens
            defect = f"a defect of dso-agent: {type(error).__name__}"  # its text could hold anything
            tell(body, defect)
            return _answer({"Err": defect}, 500)

    return handle


def _name(body: Body) -> str:
    if not body:
        # Engine 26.1 does so after a connection that broke: what it sends is read already (pkg/plugins/client.go).
        raise VolumeError(
            "the Engine repeated a request without its content, since dso-agent ended meanwhile: try again"
        )
    return read_text(body.get("Name"), "Name")


def _answer(body: Body, status: int = 200) -> web.Response:
    return web.Response(body=json.dumps(body).encode(), status=status, content_type=CONTENT_TYPE)


def _asking(request: web.Request) -> Engine:
    connection = request.transport.get_extra_info("socket") if request.transport is not None else None
    if connection is None or connection.family != socket.AF_UNIX:
        return UNKNOWN
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid: int = _CREDENTIALS.unpack(raw)[0]
    return identify(pid) if pid else UNKNOWN
