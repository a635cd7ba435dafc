"""Starting a plugin's program as its user, without ever waiting for a process that another user may stop.

`subprocess` forks, and waits until its child has begun the program or is gone. From the moment at which the child is
the plugin's user, whatever runs as that user can stop it, for ever. So the child lets `subprocess` go before that
(`descent`), and tells what came of it by another pipe, which the event loop reads like any other.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from contextlib import suppress
from shlex import quote
from typing import TYPE_CHECKING

from dso.agent.isolation.descent import NOT_THE_USER, descent
from dso.protocol.codes import PLUGIN_CRASHED, PLUGIN_MISSING, PLUGIN_USER
from dso.protocol.provider import ProviderError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dso.agent.isolation.accounts import Account

PROGRAMS: set[int] = set()  # the children that `wait` is to be called for, and nothing else
BEGIN = 5.0  # seconds in which a child has to become the program; it takes milliseconds


async def launch(path: str, environment: Mapping[str, str], account: Account | None) -> subprocess.Popen[bytes]:
    """A program that runs, with three pipes, in a session and process group of its own.

    Args:
        path: where it is; already trusted.
        environment: the whole of its environment.
        account: whom to run it as; None: as the agent itself.

    Raises:
        ProviderError: it cannot be started, or was stopped before it began.
    """
    report, end = os.pipe()
    try:
        # Its pipes are not for asyncio's own subprocesses: those are reaped by a thread each, behind our back,
        # and a process group can be killed safely only while its leader has not been reaped.
        program = subprocess.Popen(  # noqa: ASYNC220  # returns as soon as the child is about to become the user
            [path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            cwd="/",
            umask=0o077,
            start_new_session=True,
            preexec_fn=descent(path, environment, account, end),  # noqa: PLW1509  # it takes no lock, imports nothing
        )
    except BaseException as error:
        os.close(report)
        if isinstance(error, OSError):
            raise _not_started(path, error, account) from None
        raise
    finally:
        os.close(end)
    PROGRAMS.add(program.pid)
    try:
        said = await _read(report)
    except BaseException as error:
        discard(program)
        if isinstance(error, TimeoutError):
            text = f"the plugin {path} was stopped before it began, and was ended"
            raise ProviderError(PLUGIN_CRASHED, text) from None
        raise
    if not said:
        return program
    discard(program)
    if said == NOT_THE_USER:
        name = account.name if account is not None else ""
        raise ProviderError(PLUGIN_USER, f"the plugin is not started: the agent cannot run it as {name}")
    raise _not_started(path, OSError(int(said), os.strerror(int(said))), account)


def wait(program: subprocess.Popen[bytes]) -> int:
    """Wait for a program that has ended; how, as `subprocess` says it. Its number may be somebody else's then."""
    code = program.wait()
    PROGRAMS.discard(program.pid)
    return code


def discard(program: subprocess.Popen[bytes]) -> None:
    """End a program that nobody watches, and close its pipes."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGKILL)
    wait(program)
    for pipe in (program.stdin, program.stdout, program.stderr):
        if pipe is not None:
            pipe.close()


async def _read(report: int) -> bytes:
    """What the child writes before it is the program: nothing, if all went well; TimeoutError."""
    stream = asyncio.StreamReader()
    pipe = os.fdopen(report, "rb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(stream), pipe
    )
    try:
        async with asyncio.timeout(BEGIN):
            return await stream.read(16)
    finally:
        transport.close()


def _not_started(path: str, error: OSError, account: Account | None) -> ProviderError:
    if isinstance(error, FileNotFoundError):
        return ProviderError(
            PLUGIN_MISSING, f"the plugin {path} cannot be started: the interpreter or loader it names does not exist"
        )
    if isinstance(error, PermissionError) and account is not None:
        return ProviderError(
            PLUGIN_USER,
            f"the plugin is not started: the user {account.name} may not execute {path}: the file and every directory "
            f"above it have to let others in, as `chmod 755` does (`namei -l {quote(path)}` shows which does not)",
        )
    return ProviderError(PLUGIN_CRASHED, f"the plugin {path} cannot be started: {error.strerror}")
