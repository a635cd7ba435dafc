"""`PUT /v1/volumes`: what a caller says that volumes are to hold."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Protocol

from dso.agent.fairness.turns import others_first
from dso.agent.picking import AT_ONCE
from dso.agent.resolver import UnresolvedError
from dso.agent.server import Answer, RefusedError
from dso.agent.volume.checks import VolumeError
from dso.agent.volume.definitions import QuotaError
from dso.protocol import agent as messages
from dso.protocol import codes

if TYPE_CHECKING:
    from collections.abc import Awaitable, Mapping, Sequence

    from dso.agent.access import Caller
    from dso.agent.events import Events
    from dso.agent.resolver import Resolver
    from dso.agent.server import Request
    from dso.agent.volume.definitions import Definition
    from dso.agent.volumedriver import VolumeDriver
    from dso.protocol.agent import VolumeSpec

ENGINE_SOCKET = "/var/run/docker.sock"


class Note(Protocol):
    """Logs an access: who, and every name."""

    def __call__(self, event: str, caller: Caller, found: Sequence[str], **more: Sequence[str]) -> Awaitable[None]:
        """`found` are names of secrets, `more` those of other things."""


class State(Protocol):
    """What the endpoint needs of the agent."""

    resolver: Resolver
    events: Events

    @property
    def driver(self) -> VolumeDriver | None:
        """The volume driver, once it is there."""


class VolumesEndpoint:
    """Checks who may say what; `note` logs an access."""

    def __init__(self, state: State, note: Note) -> None:
        self._state = state
        self._note = note

    async def put(self, request: Request) -> Answer:
        """Define what volumes hold."""
        request.query()
        found = messages.volumes_from_json(await request.json())
        driver = self._state.driver
        reason = "the agent is starting" if driver is None else driver.status()["reason"]
        if driver is None or reason:
            raise RefusedError(codes.VOLUME_UNAVAILABLE, reason)
        names = await self._checked(found, request.caller)
        try:
            await driver.register(
                found,
                request.caller.uid,
                None if request.caller.trusted else lambda others: self._refuse_strangers(others, request.caller),
            )
        except QuotaError as error:
            hint = f"try again in {error.retry_after:.0f} seconds"
            raise RefusedError(codes.BUSY, str(error), hint, retry_after=error.retry_after) from None
        except VolumeError as error:
            raise RefusedError(codes.INVALID_REQUEST, str(error)) from None
        await self._note("volumes.defined", request.caller, names, volumes=sorted(found))
        return Answer.of({"driver": driver.name})

    async def _checked(self, volumes: Mapping[str, VolumeSpec], caller: Caller) -> list[str]:
        """The names of the volumes' secrets, which the caller may read, every one; RefusedError."""
        names: set[str] = set()
        faults: list[messages.Fault] = []
        refused: list[str] = []
        for at, spec in enumerate(volumes.values(), 1):
            try:
                names.update(await self._state.resolver.check_volume_access(spec, caller))
            except UnresolvedError as error:
                faults += error.faults
                refused += error.refused
            if not at % AT_ONCE:
                await others_first()
        await self._note("access.refused", caller, list(dict.fromkeys(refused)))
        if len(faults) == 1:
            raise RefusedError.of(faults[0])
        if faults:
            lines = dict.fromkeys(f"{one.reference or one.provider}: {one.message}" for one in faults)
            raise RefusedError(
                faults[0].code, "\n  ".join(["files cannot have their secrets:", *lines]), faults[0].hint
            )
        return sorted(names)

    async def _refuse_strangers(self, others: Mapping[str, Definition], caller: Caller) -> None:
        """Who may change what somebody else defined: whoever may use the Engine, and may read what it holds now.

        They could remove the volume and make another one.
        """
        for at, (name, other) in enumerate(others.items(), 1):
            if not at % AT_ONCE:
                await others_first()
            if not may_use_engine(caller):
                await self._note("access.refused", caller, [], volumes=[name])
                whom = "another user" if other.owner is None else f"user {other.owner}"
                raise RefusedError(
                    codes.PERMISSION_DENIED,
                    f"the volume {name} has been defined by {whom}, and this user may not change it",
                    f"`docker volume rm {name}` lets anybody define it anew, and sudo lets root change it; "
                    "or give the project another name (`name:` in the Compose file, or -p)",
                )
            try:
                await self._state.resolver.check_volume_access(other.spec, caller)
            except UnresolvedError as error:
                if error.refused:  # a secret that is gone hinders nobody
                    await self._note("access.refused", caller, error.refused, volumes=[name])
                    raise RefusedError(
                        codes.PERMISSION_DENIED,
                        f"the volume {name} holds secrets that this user may not read, so it is not theirs to change",
                        "give the project another name (`name:` in the Compose file, or -p)",
                    ) from None


def is_denial(fault: messages.Fault) -> bool:
    """Whether `access:` forbids it; the provider's own refusals have its name."""
    return fault.code == codes.PERMISSION_DENIED and not fault.provider


def may_use_engine(caller: Caller, path: str = ENGINE_SOCKET) -> bool:
    """Whether a caller may write to the socket of the machine's Engine, and so can do there what root can."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    if found.st_uid == caller.uid:
        return bool(found.st_mode & stat.S_IWUSR)
    if found.st_gid in caller.groups:
        return bool(found.st_mode & stat.S_IWGRP)
    return bool(found.st_mode & stat.S_IWOTH)
