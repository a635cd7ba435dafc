"""What the volume driver remembers: what each volume is to hold, and which container starts use it.

Definitions (references, owners, modes; never a value) outlast everything: `volumes.json` in the state
directory. Holds outlast the agent but no reboot: `holds.json` in the runtime directory, with the boot
they belong to.
"""

from __future__ import annotations

import json
import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.compose.template import parse_template
from dso.errors import ReferenceSyntaxError
from dso.protocol.agent import VolumeSpec
from dso.protocol.reading import MessageError, read_count, read_object, read_text
from dso.protocol.volume import name_fault
from dso.system.files import reason, remove_stale_temporaries, write_atomic

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_VOLUMES = 10_000
MAX_BYTES = 16 * 1024 * 1024  # of the file of definitions, which is held in memory and written as a whole
MAX_TEMPLATE = 64 * 1024  # characters
DEFINITIONS = "volumes.json"
HOLDS = "holds.json"
_FORMAT = 1
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")  # as the Engine has it
_MAX_NAME = 255
_MAX_ID = 0xFFFFFFFE  # of users and groups; the one above means "leave it as it is" to chown(2)
_MAX_MODE = 0o777


class VolumeError(Exception):
    """A volume cannot be had as it was asked for; the text says why, and holds no value."""


def check_name(name: str) -> None:
    """Refuse what the Engine would refuse as a volume's name, or what leads out of our directory; VolumeError."""
    if not _NAME.fullmatch(name) or len(name) > _MAX_NAME:
        raise VolumeError(
            f"{name[:40]!r} is no volume's name: letters, digits, `_`, `.` and `-`, first a letter or a digit"
        )


def check_spec(name: str, spec: VolumeSpec) -> None:
    """Refuse a definition that could not be served, or has something else than references in it.

    Raises:
        VolumeError: it names the file.
    """
    names = {file.name for file in spec.files}
    if len(names) != len(spec.files):
        raise VolumeError(f"volume {name}: two files have one name")
    for file in spec.files:
        fault = name_fault(file.name)
        if fault is None and (above := _directories_of(file.name) & names):
            fault = f"{above.pop()!r} cannot be a file and a directory"
        if fault is None and max(file.uid, file.gid) > _MAX_ID:
            fault = "there is no such owner"
        if fault is None and file.mode > _MAX_MODE:
            fault = f"its mode is not between 0 and {_MAX_MODE:o}"
        if fault is None:
            fault = _template_fault(file.template)
        if fault is not None:
            raise VolumeError(f"volume {name}: file {file.name[:80]!r}: {fault}")


def _directories_of(name: str) -> set[str]:
    return {name[:at] for at, letter in enumerate(name) if letter == "/"}


def normal(spec: VolumeSpec) -> VolumeSpec:
    """The same definition in the one form in which two can be compared."""
    return VolumeSpec(tuple(spec.files), tuple(spec.secrets))


def _template_fault(template: str) -> str | None:
    if len(template) > MAX_TEMPLATE:
        return f"its template is longer than {MAX_TEMPLATE} characters"
    try:
        found = parse_template(template)
    except ReferenceSyntaxError as error:
        return error.message
    return None if found is not None else "its content has no reference; what is secret goes to a provider, not here"


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
        volumes: definitions by volume name; change them with `define` and `forget`.
        holds: holds by volume name and id; after changing them call `save_holds`.
    """

    def __init__(self, state_dir: str, runtime_dir: str, boot: str, driver: str = "dso") -> None:
        """`boot` identifies the present boot of the machine; `driver` is what the Engine calls the volume driver."""
        self.volumes: dict[str, VolumeSpec] = {}
        self.holds: dict[str, dict[str, Hold]] = {}
        self._definitions = os.path.join(state_dir, DEFINITIONS)
        self._holds = os.path.join(runtime_dir, HOLDS)
        self._boot = boot
        self._driver = driver

    def load(self, now: float) -> list[str]:
        """Read both files; returns what was wrong with them.

        A damaged file of definitions is kept under another name, so that the next change does not
        overwrite it. `now` is the time from which the holds read count.
        """
        faults: list[str] = []
        for path in (self._definitions, self._holds):
            try:
                os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
            except OSError as error:
                faults.append(f"{os.path.dirname(path)} cannot be made: {reason(error)}")
            remove_stale_temporaries(path)
        try:
            self.volumes, unusable = self._read_definitions()
        except (OSError, ValueError, MessageError) as error:
            unusable = [f"{self._definitions} cannot be read ({error}): what the volumes are to hold is forgotten"]
        if unusable:
            _keep_aside(self._definitions)
        try:
            self.holds = self._read_holds(now)
        except (OSError, ValueError, MessageError) as error:
            faults.append(
                f"{self._holds} cannot be read ({error}): which containers use which volume is found out anew"
            )
        return faults + unusable

    def define(self, volumes: Mapping[str, VolumeSpec]) -> None:
        """Set or replace definitions, all of them or none.

        Raises:
            VolumeError: one is not as it should be, or there is no room for them.
            OSError: they cannot be written; the former ones stay.
        """
        for name, spec in volumes.items():
            check_name(name)
            check_spec(name, spec)
        after = {**self.volumes, **{name: normal(spec) for name, spec in volumes.items()}}
        if len(after) > MAX_VOLUMES:
            raise VolumeError(f"there are {MAX_VOLUMES} volumes already; {self._remedy()}")
        self._replace(after, MAX_BYTES)

    def forget(self, name: str) -> None:
        """Remove a definition; OSError: it cannot be written, and stays."""
        self._replace({other: spec for other, spec in self.volumes.items() if other != name})

    def _replace(self, after: dict[str, VolumeSpec], most: int | None = None) -> None:
        if after == self.volumes:
            return
        body = {"format": _FORMAT, "volumes": {name: spec.to_json() for name, spec in sorted(after.items())}}
        content = json.dumps(body, indent=1).encode() + b"\n"
        if most is not None and len(content) > most:
            raise VolumeError(
                f"the definitions of all volumes would take {len(content)} bytes, and may take {most}; {self._remedy()}"
            )
        write_atomic(self._definitions, content)
        self.volumes = after

    def _remedy(self) -> str:
        # Not `docker volume prune`: it passes over the volumes of drivers.
        return (
            f"`docker volume ls -q -f driver={self._driver} -f dangling=true | xargs -r docker volume rm` "
            "removes those that no container has"
        )

    def save_holds(self) -> None:
        """Write the holds; OSError."""
        held = {name: {id_: [one.times, one.engine] for id_, one in ids.items()} for name, ids in self.holds.items()}
        body = json.dumps({"format": _FORMAT, "boot": self._boot, "holds": held}).encode()
        # Not put on the disk: they are of no use after a crash of the machine.
        write_atomic(self._holds, body, durable=False)

    def _read_definitions(self) -> tuple[dict[str, VolumeSpec], list[str]]:
        """The definitions that can be used, and what is wrong with others."""
        found = _read(self._definitions)
        volumes, unusable = {}, []
        for name, body in read_object((found or {}).get("volumes", {}), "volumes").items():
            try:
                check_name(name)
                spec = normal(VolumeSpec.from_json(body))
                check_spec(name, spec)
            except (MessageError, VolumeError) as error:
                unusable.append(f"{self._definitions}: volume {name[:80]!r} is left out: {error}")
            else:
                volumes[name] = spec
        return volumes, unusable

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


def _keep_aside(path: str) -> None:
    try:
        with open(path, "rb") as file:
            write_atomic(path + ".damaged", file.read())
    except OSError:
        return
