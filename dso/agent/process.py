"""One run of a plugin's program: its pipes, its end, and whatever it does that it should not.

It has a session and process group of its own, so that it can be ended whole, with whatever it has started; what has
left the group comes to the agent (`orphans`). It cannot outlive the agent: its input ends then, and the kernel sends it
SIGTERM.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

from dso.agent.launch import discard, launch, wait
from dso.agent.lines import LogLines
from dso.agent.rpc import BEGINNING, Calls, oversized_error
from dso.protocol.codes import PLUGIN_CRASHED, PLUGIN_GARBAGE, PLUGIN_TIMEOUT
from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError
from dso.protocol.reading import MessageError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping

    from dso.agent.isolation.accounts import Account
    from dso.agent.orphans import Orphans

_CHUNK = 65536
_MOST_SKIPPED = 16 * MAX_MESSAGE_BYTES  # of one line that is too long, before the program is given up
_PAUSE = 0.1  # seconds after each chunk of a log that is left out: slow for a flood, and no end for a plugin's burst
_SETTLE = 1.0  # seconds between the end of the process and the end of its pipes, whichever comes first
_STOP = 2.0  # seconds for each step of an orderly end


class PluginProcess:
    """A running plugin. `ended` gets the reason once it has ended and is gone from the process table."""

    def __init__(
        self, program: subprocess.Popen[bytes], redact: Callable[[str], str], log: Callable[[str], None]
    ) -> None:
        """Use `spawn`."""
        loop = asyncio.get_running_loop()
        self.pid = program.pid
        self.ended: asyncio.Future[ProviderError] = loop.create_future()
        self._program = program
        self._calls = Calls(redact)
        self._lines = LogLines(log, time.monotonic, redact)
        self._fault: ProviderError | None = None  # set once it is to end, or has
        self._exited: asyncio.Future[None] = loop.create_future()
        self._input: asyncio.WriteTransport | None = None
        self._outputs: list[asyncio.ReadTransport] = []
        self._input_lost: asyncio.Future[None] = loop.create_future()
        self._is_stopping = False
        self._orphans: Orphans | None = None
        self._uid = -1
        self._watching: asyncio.Task[None] | None = None

    @classmethod
    async def spawn(
        cls,
        path: str,
        environment: Mapping[str, str],
        *,
        account: Account | None,
        orphans: Orphans | None,
        redact: Callable[[str], str],
        log: Callable[[str], None],
    ) -> PluginProcess:
        """Start the program.

        Args:
            path: where it is; already trusted.
            environment: the whole of its environment.
            account: whom to run it as; None: as the agent itself.
            orphans: what becomes of processes that it leaves behind.
            redact: takes credentials out of the messages it sends.
            log: is given each line of its standard error.

        Raises:
            ProviderError: it cannot be started.
        """
        program = await launch(path, environment, account)
        process = cls(program, redact, log)
        process._orphans = orphans
        process._uid = account.uid if account is not None else os.geteuid()
        try:
            await process._connect()
        except BaseException as error:
            process._discard()
            if isinstance(error, OSError):
                raise ProviderError(PLUGIN_CRASHED, f"the plugin {path} cannot be started: {error.strerror}") from None
            raise
        return process

    async def request(self, method: str, params: dict[str, Any], seconds: float) -> Any:
        """The result of a request.

        Raises:
            ProviderError: what the plugin answered, or why it did not; PLUGIN_TIMEOUT after `seconds`.
        """
        if self._fault is not None or self._input is None or self._input.is_closing():
            raise _copy(self._fault or _crashed("takes no requests any more"))
        number, line, future = self._calls.begin(method, params)
        try:
            self._input.write(line)
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            raise ProviderError(PLUGIN_TIMEOUT, f"no answer from the plugin within {seconds:.3g} s") from None
        finally:
            self._calls.abandon(number)

    @property
    def is_usable(self) -> bool:
        """Whether requests can be sent."""
        return self._fault is None

    @property
    def answers(self) -> int:
        """How many answers have come; it grows as long as the plugin lives."""
        return self._calls.answers

    @property
    def in_flight(self) -> int:
        """How many requests wait for an answer."""
        return len(self._calls)

    def kill(self, fault: ProviderError) -> None:
        """End it, willing or not: every request in flight fails with this at once, and `ended` gets it.

        SIGTERM comes first, so that a plugin of any kind can clear up.
        """
        if self._fault is None:
            self._fault = fault
        self._calls.fail(self._fault)
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)  # one that is stopped could not obey
        asyncio.get_running_loop().call_later(_STOP / 2, self._signal, signal.SIGKILL)

    async def stop(self, fault: ProviderError) -> None:
        """End it in an orderly way: ask it to, close its input, then SIGTERM, then SIGKILL. Takes seconds at most."""
        if self._fault is None:
            with suppress(ProviderError):  # unwilling, or on its way out already
                await self.request("shutdown", {}, _STOP)
            self._fault = self._fault or fault
            self._calls.fail(self._fault)
        self._is_stopping = True
        self._end_input()
        for number in (signal.SIGTERM, signal.SIGKILL):
            if await self._has_ended(_STOP / 2):
                return
            self._signal(number)
        await self._has_ended(_STOP)

    def _end_input(self) -> None:
        if self._input is not None and not self._input.is_closing():
            self._input.abort()  # `close` would wait until it has read all

    async def gone(self) -> None:
        """Wait until it has ended."""
        await asyncio.wait([self.ended])  # and not the future itself, which would be cancelled with whoever waits

    async def _has_ended(self, seconds: float) -> bool:
        return bool((await asyncio.wait([self.ended], timeout=seconds))[0])

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        program = self._program
        output = asyncio.StreamReader(limit=MAX_MESSAGE_BYTES - 1)  # the newline comes on top
        errors = asyncio.StreamReader(limit=_CHUNK)
        for stream, pipe in ((output, program.stdout), (errors, program.stderr)):
            self._outputs.append((await loop.connect_read_pipe(partial(asyncio.StreamReaderProtocol, stream), pipe))[0])
        self._input, _ = await loop.connect_write_pipe(lambda: _Input(self._input_lost), program.stdin)
        self._notice_exit()
        self._watching = loop.create_task(self._watch(output, errors))

    def _discard(self) -> None:
        """Give up a program whose pipes could not be connected, or not be waited for."""
        for transport in self._outputs:
            transport.close()
        self._end_input()
        discard(self._program)

    def _notice_exit(self) -> None:
        """Have `_exited` set when the program has ended, while its entry in the process table is still there."""
        loop = asyncio.get_running_loop()
        try:
            descriptor = os.pidfd_open(self.pid)
        except OSError:  # a kernel before 5.3
            loop.call_later(0.05, self._look_for_exit)
            return

        def exited() -> None:
            loop.remove_reader(descriptor)
            os.close(descriptor)
            self._exited.set_result(None)

        loop.add_reader(descriptor, exited)

    def _look_for_exit(self) -> None:
        if os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            self._exited.set_result(None)
        else:
            asyncio.get_running_loop().call_later(0.05, self._look_for_exit)

    async def _watch(self, output: asyncio.StreamReader, errors: asyncio.StreamReader) -> None:
        """See the process through from start to end."""
        loop = asyncio.get_running_loop()
        reading = loop.create_task(self._read_answers(output))
        logging = loop.create_task(self._read_log(errors))
        try:
            await asyncio.wait([reading, self._exited, self._input_lost], return_when=asyncio.FIRST_COMPLETED)
            # Its last answers may still lie in the pipe when it has ended; a crash ends the pipes before the process.
            await asyncio.wait([self._exited], timeout=_SETTLE)
            if not self._exited.done() and not self._is_stopping:
                self.kill(_crashed("closed its standard input or output, and was ended"))
            await self._exited
            self._signal(signal.SIGKILL)  # whatever else it started; only then is its number given back
            code = wait(self._program)
            if self._orphans is not None:
                await self._orphans.end(self._uid)
            await asyncio.wait([reading, logging], timeout=_SETTLE)
            self._fault = self._fault or _crashed(_how_it_ended(code))
        finally:
            for task in (reading, logging):
                task.cancel()
            await asyncio.wait([reading, logging])
            self._lines.close()
            for transport in self._outputs:
                transport.close()
            self._end_input()
            fault = self._fault or _crashed("was ended")
            self._calls.fail(fault)
            self.ended.set_result(fault)

    async def _read_answers(self, stream: asyncio.StreamReader) -> None:
        """Hand answers to those who wait, until the output ends or has something in it that is no answer."""
        while True:
            try:
                self._calls.answer(await stream.readuntil(b"\n"))
            except asyncio.LimitOverrunError:
                if not await self._skip_line(stream):
                    self.kill(oversized_error())
                    return
            except MessageError as error:
                self.kill(ProviderError(PLUGIN_GARBAGE, f"the plugin broke the protocol and was ended: {error}"))
                return
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    async def _skip_line(self, stream: asyncio.StreamReader) -> bool:
        """Pass over a line that is too long; whether the request it answers could be told, and its end was found."""
        skipped = len(beginning := await stream.read(_CHUNK))
        if not self._calls.oversized(beginning[:BEGINNING]):
            return False
        while skipped < _MOST_SKIPPED:
            try:
                await stream.readuntil(b"\n")
            except asyncio.LimitOverrunError as error:
                skipped += len(await stream.readexactly(max(1, error.consumed)))
            except asyncio.IncompleteReadError:
                return True
            else:
                return True
        return False

    async def _read_log(self, stream: asyncio.StreamReader) -> None:
        while data := await stream.read(_CHUNK):
            self._lines.feed(data)
            if self._lines.is_flooded:
                await asyncio.sleep(_PAUSE)

    def _signal(self, number: signal.Signals) -> None:
        """Send a signal to the whole group; its number is ours for as long as the program has not been waited for."""
        if self._program.returncode is None:
            with suppress(ProcessLookupError, PermissionError):  # nobody left in it
                os.killpg(self.pid, number)


class _Input(asyncio.BaseProtocol):
    """Notices that the plugin has closed its standard input."""

    def __init__(self, lost: asyncio.Future[None]) -> None:
        self._lost = lost

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._lost.done():
            self._lost.set_result(None)


def _copy(error: ProviderError) -> ProviderError:
    return ProviderError(error.code, error.message, retry_after=error.retry_after)


def _crashed(how: str) -> ProviderError:
    return ProviderError(PLUGIN_CRASHED, f"the plugin {how}; the agent's log has what it wrote")


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:
        return f"was ended by signal {-code}"
