"""What a volume is to hold, fetched with patience: a container's start waits while a provider is down."""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, NamedTuple, Protocol

from dso.agent.resolver import UnresolvedError
from dso.agent.volume.checks import VolumeError
from dso.protocol.codes import TRANSIENT
from dso.protocol.volume import VOLUME_BYTES, memory_needed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from dso.agent.seams import Emit
    from dso.protocol.agent import Fault, VolumeFile, VolumeSpec
    from dso.secret import SecretValue

    Files = Sequence[tuple[VolumeFile, SecretValue]]


class Render(Protocol):
    """Fetches what a volume is to hold: `Resolver.render`."""

    async def __call__(self, spec: VolumeSpec, /) -> Files:
        """Each file and its content; UnresolvedError."""
        ...


class Timing(NamedTuple):
    """How patient the driver is, in seconds.

    `patience`: for how long a mount is tried (the Engine gives up after 120 s, and would not say why).
    `first_pause`, `longest_pause`: between two tries. `grace`: how long after a mount its container may not have
    started yet. `sweep`: how often volumes nobody uses any more are looked for.
    """

    patience: float = 110.0
    first_pause: float = 0.25
    longest_pause: float = 8.0
    grace: float = 300.0
    sweep: float = 60.0


TIMING = Timing()


class Content:
    """Asks the resolver until it has what a volume needs, or there is no more time."""

    def __init__(self, render: Render, timing: Timing, emit: Emit) -> None:
        self._render = render
        self._timing = timing
        self._emit = emit
        self._faults: dict[str, Sequence[Fault]] = {}  # of the last try, by volume

    def forget(self, name: str) -> None:
        """The volume is gone."""
        self._faults.pop(name, None)

    def state(self, name: str) -> str:
        """Why there is nothing for a volume yet."""
        return _told(self._faults[name]) if name in self._faults else "the providers did not answer"

    async def fetch(self, name: str, spec_of: Callable[[], VolumeSpec], until: float) -> Files:
        """What the volume is to hold, as `spec_of()` says at the end; tried until the loop's clock says `until`.

        Raises:
            VolumeError: it cannot be had; names the secrets and the providers.
        """
        pause = self._timing.first_pause
        try:
            async with asyncio.timeout_at(until) as limit:
                while True:
                    spec = spec_of()
                    try:
                        files = await self._render(spec)
                    except UnresolvedError as error:
                        self._note(name, error.faults)
                    else:
                        self._faults.pop(name, None)
                        if spec is spec_of():
                            return _checked(name, files)
                        continue
                    await asyncio.sleep(pause * (1 - random.random() / 2))  # noqa: S311  # spreads tries
                    pause = min(pause * 2, self._timing.longest_pause)
        except TimeoutError:
            if not limit.expired():
                raise
            waited = f"tried for {self._timing.patience:.0f} s"
            raise VolumeError(f"volume {name} cannot be filled: {self.state(name)} ({waited})") from None

    def _note(self, name: str, faults: Sequence[Fault]) -> None:
        """Return if it makes sense to try again."""
        if not all(fault.code in TRANSIENT for fault in faults):
            raise VolumeError(f"volume {name} cannot be filled: {_told(faults)}") from None
        if name not in self._faults:
            self._emit("volume.waiting", volume=name, message=_told(faults))
        self._faults[name] = faults


def _checked(name: str, files: Files) -> Files:
    needed = memory_needed(len(value) for _, value in files)
    if needed > VOLUME_BYTES:
        raise VolumeError(f"the files of volume {name} take {needed} bytes of memory; the limit is {VOLUME_BYTES}")
    return files


def _told(faults: Sequence[Fault]) -> str:
    """All faults in one line, each with its reference and its provider."""
    told = []
    for fault in faults:
        who = f" (provider {fault.provider})" if fault.provider and fault.provider not in fault.message else ""
        told.append(": ".join(filter(None, (fault.reference, fault.message))) + who)
    return "; ".join(dict.fromkeys(told))
