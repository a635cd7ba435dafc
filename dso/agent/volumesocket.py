"""The volume driver on its socket in the Engine's plugin directory.

    server = await open_driver(resolver.render, state_dir=..., runtime_dir=..., path=..., emit=...)
    server.driver.status()
    await server.close()

A socket file nobody answers stalls every volume operation of the Engine, whatever its driver. So the file appears
when somebody listens and goes when we do; only after SIGKILL it stays. An Engine that has seen the driver already
goes on asking, though: a server should have a socket of systemd's, which stays and is answered by the next agent.
"""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from aiohttp import web

from dso.agent.volume.checks import VolumeError
from dso.agent.volumecontent import TIMING
from dso.agent.volumedriver import VolumeDriver
from dso.agent.volumes import boot_id
from dso.system.files import reason

if TYPE_CHECKING:
    from collections.abc import Callable

    from dso.agent.seams import Emit
    from dso.agent.volumecontent import Render, Timing

SUFFIX = ".sock"
NEEDS_ROOT = "file secrets take an agent that runs as root: the Engine looks for drivers in /run/docker/plugins only"
_BACKLOG = 128
_IDLE_SECONDS = 3600.0  # longer than the Engine keeps a connection: closing it first would cost it a second
_SHUTDOWN_SECONDS = 10.0


class DriverServer:
    """A volume driver and its socket, if it has one."""

    def __init__(self, driver: VolumeDriver) -> None:
        self.driver = driver
        self._runner: web.AppRunner | None = None
        self._owned: tuple[str, int] | None = None  # the socket's file and its inode

    async def serve(self, listening: socket.socket, owned: str | None) -> None:
        """Answer the Engine; `owned` is the socket's file if it has to go with us."""
        if owned is not None:
            self._owned = (owned, os.stat(owned).st_ino)
        self._runner = web.AppRunner(
            self.driver.application(),
            handler_cancellation=True,  # the Engine hangs up when it gives up
            access_log=None,
            keepalive_timeout=_IDLE_SECONDS,
            shutdown_timeout=_SHUTDOWN_SECONDS,
        )
        await self._runner.setup()
        await web.SockSite(self._runner, listening, backlog=_BACKLOG).start()

    async def close(self) -> None:
        """Stop to listen, finish what is under way (a mount that waits for a provider is given up)."""
        if self._owned is not None:
            path, inode = self._owned
            try:
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
            except FileNotFoundError:
                pass  # somebody tidied up
        self.driver.give_up()
        if self._runner is not None:
            await self._runner.cleanup()
        await self.driver.close()


async def open_driver(  # noqa: PLR0913  # the last two are for tests
    render: Render,
    *,
    state_dir: str,
    runtime_dir: str,
    path: str | None,
    emit: Emit,
    activated: socket.socket | None = None,
    timing: Timing = TIMING,
    boot: Callable[[], str] = boot_id,
) -> DriverServer:
    """Start the volume driver and serve it.

    Where it cannot work, `driver.status()` says why and there is no socket; on one that systemd
    listens on already the Engine is told.

    Args:
        render: fetches what a volume is to hold.
        state_dir: where definitions are kept.
        runtime_dir: where volumes are mounted.
        path: the socket's file; the driver is named after it. None: this agent has no volume driver.
        emit: takes events.
        activated: the socket, if systemd handed one over.
        timing: see there.
        boot: identifies the present boot.
    """
    where = str(activated.getsockname()) if activated is not None else path or ""
    name = os.path.basename(where).removesuffix(SUFFIX)
    driver = VolumeDriver(
        render, state_dir=state_dir, runtime_dir=runtime_dir, name=name, emit=emit, timing=timing, boot=boot
    )
    server = DriverServer(driver)
    if not where:
        driver.disable(NEEDS_ROOT)
        return server
    await driver.start()
    if activated is not None:
        await server.serve(activated, None)
    elif driver.status()["available"]:
        try:
            listening = listen(where)
        except (OSError, VolumeError) as error:
            why = reason(error) if isinstance(error, OSError) else str(error)
            driver.disable(f"the Engine cannot reach the volume driver: {where}: {why}")
        else:
            await server.serve(listening, where)
    return server


def listen(path: str) -> socket.socket:
    """A listening socket of root's alone (0600); a file that a killed agent left there is replaced.

    Raises:
        VolumeError: somebody listens there already.
        OSError: it cannot be made.
    """
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    if _answers(path):
        raise VolumeError("another program listens there; does another dso-agent run?")
    # Made aside and moved there: the Engine never finds a socket on which nobody listens yet.
    aside = f"{path}.{os.getpid()}.new"
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        listening.bind(aside)
        try:
            os.chmod(aside, 0o600)
            listening.listen(_BACKLOG)
            os.rename(aside, path)
        except BaseException:
            os.unlink(aside)
            raise
    except BaseException:
        listening.close()
        raise
    return listening


def _answers(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
        client.settimeout(1)
        try:
            client.connect(path)
        except TimeoutError:
            return True
        except OSError:
            return False
        return True
