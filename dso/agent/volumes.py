"""What the volume driver remembers: what each volume is to hold, and which container starts use it.

Definitions (references, owners, modes; never a value) outlast everything: `volumes.json` in the state
directory. Holds outlast the agent but no reboot: `holds.json` in the runtime directory, with the boot
they belong to.
"""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple

from dso.agent.volume.definitions import Definitions
from dso.protocol.reading import MessageError, read_count, read_object, read_text
from dso.system.files import reason, remove_stale_temporaries, write_atomic

HOLDS = "holds.json"
_FORMAT = 1


class Engine(NamedTuple):
    """The process that asks: its id (0: unknown) and a name no other process of this boot has."""

    pid: int = 0
    identity: str = ""


UNKNOWN = Engine()


def identify(pid: int) -> Engine:
    """A process by its id; without an identity where it cannot be looked at."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            # proc_pid_stat(5): the 22nd field is when it started; the second, in parentheses, may hold anything.
            return Engine(pid, f"{pid}:{file.read().rpartition(')')[2].split()[19]}")
    except (OSError, IndexError):
        return Engine(pid)


def runs(identity: str) -> bool:
    """Whether the process of that identity still runs."""
    pid = identity.partition(":")[0]
    return pid.isdigit() and identify(int(pid)).identity == identity


def boot_id() -> str:
    """What the kernel calls the present boot."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


class Hold(NamedTuple):
    """A container start (or `docker cp`) that uses a volume, as the Engine's id names it.

    `times` is how often it was mounted under that id; `engine` the process that asked, "" if unknown;
    `since` when it last did, by our own clock.
    """

    times: int
    engine: str
    since: float


class State:
    """Definitions and holds of all volumes, in memory and in their files.

    Attributes:
        definitions: what volumes are to hold.
        holds: holds by volume name and id; after changing them call `save_holds`.
    """

    def __init__(self, state_dir: str, runtime_dir: str, boot: str, driver: str = "dso") -> None:
        """`boot` identifies the present boot of the machine; `driver` is what the Engine calls the volume driver."""
        self.definitions = Definitions(state_dir, driver)
        self.holds: dict[str, dict[str, Hold]] = {}
        self._holds = os.path.join(runtime_dir, HOLDS)
        self._boot = boot

    def load(self, now: float) -> list[str]:
        """Read both files; returns what was wrong with them.

        A damaged file of definitions is kept under another name, so that the next change does not
        overwrite it. `now` is the time from which the holds read count.
        """
        faults: list[str] = []
        for path in (self.definitions.path, self._holds):
            try:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            except OSError as error:
                faults.append(f"{os.path.dirname(path)} cannot be made: {reason(error)}")
            remove_stale_temporaries(path)
        unusable = self.definitions.load()
        try:
            self.holds = self._read_holds(now)
        except (OSError, ValueError, MessageError) as error:
            faults.append(
                f"{self._holds} cannot be read ({error}): which containers use which volume is found out anew"
            )
        return faults + unusable

    def save_holds(self) -> None:
        """Write the holds; OSError."""
        held = {name: {id_: [one.times, one.engine] for id_, one in ids.items()} for name, ids in self.holds.items()}
        body = json.dumps({"format": _FORMAT, "boot": self._boot, "holds": held}).encode()
        # Not put on the disk: they are of no use after a crash of the machine.
        write_atomic(self._holds, body, durable=False)

    def _read_holds(self, now: float) -> dict[str, dict[str, Hold]]:
        found = _read(self._holds)
        if found is None or found.get("boot") != self._boot:
            return {}
        return {
            name: {id_: _hold(hold, now) for id_, hold in read_object(ids, name).items()}
            for name, ids in read_object(found.get("holds"), "holds").items()
        }


def _read(path: str) -> dict[str, Any] | None:
    try:
        with open(path, "rb") as file:
            found = read_object(json.load(file), "it")
    except FileNotFoundError:
        return None
    if found.get("format") != _FORMAT:
        raise MessageError("it is of another format than this release knows")
    return found


def _hold(body: object, now: float) -> Hold:
    if not isinstance(body, list) or len(body) != 2:  # noqa: PLR2004  # a count and an Engine
        raise MessageError("a hold is no pair")
    return Hold(read_count(body[0], "a count"), read_text(body[1], "an Engine"), now)
