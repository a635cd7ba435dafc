"""File secrets for containers: Docker's volume driver (docs/decisions/0009).

The Engine asks for a volume before a container's process starts, and gives it back after it ended. While
anybody uses a volume it is a file system in memory with the secrets' files in it; otherwise it is
nothing but a definition. `dso.agent.volumeapi` is the Engine's way to call this.
"""

from __future__ import annotations

import asyncio
import os
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from dso.agent import logbook
from dso.agent.mounts import Mounts
from dso.agent.mountspace import THREADS
from dso.agent.volume.checks import VolumeError, check_name, read_spec
from dso.agent.volume.locks import Locks
from dso.agent.volumecontent import TIMING, Content
from dso.agent.volumes import UNKNOWN, Hold, State, boot_id, runs
from dso.system.files import reason

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Mapping

    from aiohttp import web

    from dso.agent.mounts import Mounted, Usage
    from dso.agent.seams import Emit
    from dso.agent.volume.definitions import Definition
    from dso.agent.volumecontent import Files, Render, Timing
    from dso.agent.volumes import Engine
    from dso.protocol.agent import VolumeSpec

OPTION = "spec"  # `docker volume create -o spec=JSON`
_TOLD = 100  # names of files in one event
_PAUSES = (0.1, 0.5)  # before it is believed that somebody uses a volume that the Engine gave back

P = ParamSpec("P")
T = TypeVar("T")


class VolumeDriver:
    """See the module. Every method is for one event loop; what blocks runs in threads."""

    def __init__(  # noqa: PLR0913  # the last four are for tests
        self,
        render: Render,
        *,
        state_dir: str,
        runtime_dir: str,
        name: str,
        emit: Emit,
        boot: Callable[[], str] = boot_id,
        timing: Timing = TIMING,
        mounts: Mounts | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` is what the Engine calls the driver."""
        self.name = name
        self._content = Content(render, timing, emit)
        self._emit = emit
        self._timing = timing
        self._mounts = mounts or Mounts(os.path.join(runtime_dir, "volumes"))
        self._clock = clock
        self._state = State(state_dir, runtime_dir, boot(), name)
        self._definitions = self._state.definitions
        self._threads = ThreadPoolExecutor(THREADS, "volumes")  # of our own: nothing else waits for what volumes take
        self._reason = "the volume driver has not been started"
        self._mounted: set[str] = set()
        self._retained: set[str] = set()  # without holds and still used: told once
        self._turns = Locks()  # one mount of a volume after the other
        self._locks = Locks()  # one change of a volume after the other, held briefly
        self._defining = asyncio.Lock()
        self._is_ending = False
        self._fetching: set[asyncio.Future[Files]] = set()
        self._sweeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Future[Any]] = set()

    def application(self) -> web.Application:
        """The volume plugin API, to be served on the driver's socket."""
        from dso.agent.volumeapi import build

        return build(self, self._emit)

    def status(self) -> dict[str, Any]:
        """What `GET /v1/status` says of the driver: `name`, `available`, `reason`, `volumes`, `mounted`."""
        return {
            "name": self.name,
            "available": not self._reason,
            "reason": self._reason,
            "volumes": len(self._definitions.volumes),
            "mounted": len(self._mounted),
        }

    def disable(self, why: str) -> None:
        """Do not mount anything; `why` is for people."""
        self._reason = why

    async def start(self) -> None:
        """Find out whether volumes can be mounted, take over those a former agent mounted, clean up the others."""
        for fault in await self._in_thread(self._state.load, self._clock()):
            self._emit("volume.state_damaged", message=fault)
        self._reason = await self._in_thread(self._mounts.probe)
        if self._reason:
            return
        await self._adopt()
        self._sweeper = asyncio.create_task(self._sweep_for_ever())

    def give_up(self) -> None:
        """Tell those who wait for a provider that nobody will go on: we are about to end."""
        self._is_ending = True
        for fetching in self._fetching:
            fetching.cancel()

    async def close(self) -> None:
        """Finish what is under way; what containers use stays mounted."""
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._threads.shutdown(wait=False)

    def finish(self, work: Coroutine[Any, Any, T]) -> asyncio.Future[T]:
        """Have something finished even if nobody waits for it any more."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return asyncio.shield(task)

    async def register(
        self,
        volumes: Mapping[str, VolumeSpec],
        owner: int,
        permit: Callable[[Mapping[str, Definition]], Awaitable[None]] | None = None,
    ) -> None:
        """Say what volumes are to hold, all or none; one in use changes with the next start of a container.

        `permit` is given the definitions of others that would be replaced, as they are then; what it raises prevents
        it. Without it, everything is permitted, and as much as there is room for.

        Raises:
            QuotaError: the user has as many as one may have.
            VolumeError: one is not as it should be, or they cannot be kept.
        """
        async with self._defining:
            if permit is not None:
                await permit(self._definitions.foreign(volumes, owner))
            is_trusted = permit is None
            await self._define(self._definitions.put, volumes, owner, self._clock(), is_trusted=is_trusted)

    async def create(self, name: str, options: Mapping[str, str]) -> None:
        """`docker volume create`; VolumeError."""
        unknown = sorted(set(options) - {OPTION})
        if unknown:
            raise VolumeError(f"unknown option {unknown[0][:40]!r}: there is only `{OPTION}`")
        spec = read_spec(options[OPTION], OPTION) if OPTION in options else None
        async with self._locks.of(name):
            former = self._definitions.volumes.get(name)
            if former is not None and spec not in (None, former.spec) and await self._find(name) is not None:
                raise VolumeError(f"volume {name} is in use with another definition; `docker dso up` changes it")
            async with self._defining:
                await self._define(self._definitions.make, name, spec, self._clock())

    async def _define(self, work: Callable[P, None], *args: P.args, **more: P.kwargs) -> None:
        try:
            await self._in_thread(work, *args, **more)
        except OSError as error:
            raise VolumeError(f"the definitions of volumes cannot be kept: {reason(error)}") from error

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **more: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, partial(work, *args, **more))

    async def remove(self, name: str, engine: Engine = UNKNOWN) -> None:
        """`docker volume rm`; VolumeError: somebody uses it, or there is none."""
        self._spec(name)
        async with self._locks.of(name):
            if await self._find(name) is not None:
                # The Engine asks when none of its containers has the volume: its holds are left from a crash.
                others = {id_: hold for id_, hold in self._held(name).items() if hold.engine != engine.identity}
                if self._may_be_starting(others) or name in (await self._usage(name)).names:
                    raise VolumeError(f"volume {name} is in use")
                await self._discard(name, "it is removed")
            async with self._defining:
                try:
                    await self._in_thread(self._definitions.forget, name)
                except OSError as error:
                    raise VolumeError(f"volume {name} cannot be removed: {reason(error)}") from error
            self._content.forget(name)

    def volumes(self) -> list[dict[str, Any]]:
        """`docker volume ls`."""
        return [self._described(name) for name in sorted(self._definitions.volumes)]

    def get(self, name: str) -> dict[str, Any]:
        """`docker volume inspect`, and the Engine's question whether there is such a volume; VolumeError."""
        spec = self._spec(name)
        files = {file.name: file.template for file in spec.files}
        return {**self._described(name), "Status": {"files": files, "containers": len(self._held(name))}}

    def path(self, name: str) -> str:
        """Where a volume is mounted, "" when it is not; VolumeError."""
        self._spec(name)
        return self._path(name) if name in self._mounted else ""

    async def mount(self, name: str, id_: str, engine: Engine = UNKNOWN) -> str:
        """Have a volume filled and mounted for the container start `id_`; returns where.

        Cancelled, it leaves nothing behind.

        Raises:
            VolumeError: it cannot be; names the secret and the provider.
        """
        if self._reason:
            raise VolumeError(self._reason)
        self._spec(name)
        until = asyncio.get_running_loop().time() + self._timing.patience
        async with self._turns.of(name):
            files = await self._fetched(name, until)
            filling = asyncio.ensure_future(self._fill(name, id_, engine, files))
            try:
                return await asyncio.shield(filling)
            except asyncio.CancelledError:
                self.finish(self._undo(filling, name, id_))  # the Engine gave up and will not unmount
                raise

    async def unmount(self, name: str, id_: str) -> None:
        """The container start `id_` is over; the last one takes the content with it. VolumeError: no such name."""
        check_name(name)
        async with self._locks.of(name):
            held = self._held(name)
            hold = held.pop(id_, None)
            if hold is not None and hold.times > 1:
                held[id_] = hold._replace(times=hold.times - 1)
            await self._save_holds()
            for pause in (0.0, *_PAUSES):
                await asyncio.sleep(pause)
                if await self._let_go(name, "its last container ended") or held:
                    return
            if name not in self._retained:
                self._retained.add(name)
                self._emit("volume.retained", volume=name, message="the Engine gave it back, but a process uses it")

    async def sweep(self) -> None:
        """Take away what nobody uses any more, whatever the Engine forgot to tell."""
        async with self._defining:
            self._definitions.expire(self._clock())
        mounted = await self._in_thread(self._mounts.volumes)
        usage = await self._in_thread(self._mounts.usage, mounted)
        for name in sorted(mounted.keys() - usage.names):
            async with self._locks.of(name):
                await self._let_go(name, "no container uses it any more")

    def _spec(self, name: str) -> VolumeSpec:
        found = self._definitions.volumes.get(name)
        if found is None:
            raise VolumeError(f"no such volume: {name[:255]}: `docker dso up` makes them")
        return found.spec

    def _path(self, name: str) -> str:
        return os.path.join(self._mounts.directory, name)

    def _described(self, name: str) -> dict[str, Any]:
        return {"Name": name, "Mountpoint": self._path(name) if name in self._mounted else ""}

    def _held(self, name: str) -> dict[str, Hold]:
        return self._state.holds.get(name, {})

    async def _fetched(self, name: str, until: float) -> Files:
        fetching = asyncio.ensure_future(self._content.fetch(name, lambda: self._spec(name), until))
        self._fetching.add(fetching)
        try:
            if self._is_ending:
                fetching.cancel()
            return await fetching
        except asyncio.CancelledError:
            if not self._is_ending:
                raise
            raise VolumeError(f"volume {name} cannot be filled: {self._content.state(name)} (dso-agent ends)") from None
        finally:
            self._fetching.discard(fetching)

    async def _fill(self, name: str, id_: str, engine: Engine, files: Files) -> str:
        async with self._locks.of(name):
            self._spec(name)
            path = self._path(name)
            try:
                changed = await self._in_thread(self._mounts.fill, path, files, engine.pid)
            except OSError as error:
                where = f" ({error.filename})" if error.filename else ""
                raise VolumeError(f"volume {name} cannot be filled: {reason(error)}{where}") from error
            self._mounted.add(name)
            self._retained.discard(name)
            held = self._state.holds.setdefault(name, {})
            former = held.get(id_)
            # An Engine that was restarted counts from the beginning, under the ids it had before.
            again = former is not None and former.engine == engine.identity
            held[id_] = Hold(former.times + 1 if former and again else 1, engine.identity, self._clock())
            await self._save_holds()
            self._emit("volume.mounted", volume=name, containers=len(held), changed=changed[:_TOLD])
            return path

    async def _undo(self, filling: asyncio.Future[str], name: str, id_: str) -> None:
        try:
            await filling
        except (VolumeError, OSError):
            return
        await self.unmount(name, id_)

    async def _let_go(self, name: str, why: str) -> bool:
        """Take the content away unless somebody may need it, with the lock held; whether it is gone.

        Without holds, the Engine says that nobody does, and it stays only if a process is seen to use it. With
        holds, the Engine may have forgotten them (it was killed, or we were away); they are void if their
        containers had the time to start, or can start no more, and no process at all uses the volume.
        """
        if await self._find(name) is None:
            self._state.holds.pop(name, None)
            self._mounted.discard(name)
            return True
        held = self._held(name)
        if self._may_be_starting(held):
            return False
        usage = await self._usage(name)
        if name in usage.names or (held and not usage.is_complete):
            return False
        await self._discard(name, why)
        return True

    def _may_be_starting(self, held: Mapping[str, Hold]) -> bool:
        """Whether a container may have been promised the volume that no process shows yet.

        A hold of an Engine that we cannot see, since it runs in another process name space, counts for
        ever: its containers cannot be seen either.
        """
        young = self._clock() - self._timing.grace
        return any(not hold.engine or (hold.since > young and runs(hold.engine)) for hold in held.values())

    async def _find(self, name: str) -> Mounted | None:
        return await self._in_thread(self._mounts.find, self._path(name))

    async def _usage(self, name: str) -> Usage:
        def look() -> Usage:
            mounted = self._mounts.find(self._path(name))
            return self._mounts.usage({} if mounted is None else {name: mounted})

        return await self._in_thread(look)

    async def _discard(self, name: str, why: str) -> None:
        fault = await self._in_thread(self._mounts.take_down, self._path(name))
        self._state.holds.pop(name, None)
        self._mounted.discard(name)
        self._retained.discard(name)
        await self._save_holds()
        self._emit("volume.unmounted", volume=name, message=why)
        if fault:
            self._emit("volume.failed", volume=name, message=fault)

    async def _save_holds(self) -> None:
        for name in [name for name, held in self._state.holds.items() if not held]:
            del self._state.holds[name]
        try:
            self._state.save_holds()
        except OSError as error:
            message = f"which containers use a volume cannot be noted down for the next agent: {reason(error)}"
            self._emit("volume.state_unwritten", message=message)

    async def _adopt(self) -> None:
        mounted = await self._in_thread(self._mounts.volumes)
        usage = await self._in_thread(self._mounts.usage, mounted)
        self._mounted = set(mounted)
        self._state.holds = {name: held for name, held in self._state.holds.items() if name in mounted}
        for name in sorted(mounted):
            held = self._held(name)
            if name in usage.names or (held and (name in self._definitions.volumes or not usage.is_complete)):
                self._emit("volume.adopted", volume=name, containers=len(held))
            else:
                await self._discard(name, "nobody uses what a former agent left mounted")
        for name in set(os.listdir(self._mounts.directory)) - self._mounted:
            try:
                os.rmdir(self._path(name))
            except OSError as error:
                message = f"{self._path(name)} is not ours and in the way: {reason(error)}"
                self._emit("volume.failed", volume=name, message=message)

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(self._timing.sweep)
            try:
                await self.sweep()
            except OSError as error:
                self._emit("volume.failed", volume="", message=f"unused volumes cannot be looked for: {reason(error)}")
            except Exception as error:  # noqa: BLE001  # whatever it is, what is unused must go some time
                self._emit("volume.failed", volume="", message=f"a sweep failed: {logbook.where(error)}")
