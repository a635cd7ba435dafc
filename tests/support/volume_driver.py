"""The volume driver of the agent by itself, with values from a file in memory instead of providers.

    with PrivateEngine(own_plugins=True) as private, Driver(private) as driver:
        driver.set("shop/key", b"value")
        driver.create(VolumeFile("key", "dso://shop/key"))

It is a process of its own, so that it can be stopped, killed and started again under containers. `python -m
tests.support.volume_driver` is that process.
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

from dso.agent.resolver import UnresolvedError
from dso.agent.volumecontent import Timing
from dso.agent.volumes import boot_id
from dso.agent.volumesocket import open_driver
from dso.compose.template import parse_template
from dso.protocol.agent import Fault, VolumeFile, VolumeSpec
from dso.secret import SecretValue
from tests.support import evidence
from tests.support.process import PYTHON, ROOT, environment, reap
from tests.support.process import run as start_program
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.support.private_engine import PrivateEngine
    from tests.support.process import Result

QUICK = Timing(patience=20, first_pause=0.05, longest_pause=0.2, grace=300, sweep=0.3)


class Driver:
    """A driver in directories of its own; everything of it is gone after its `with` block. One at a time for an Engine.

    Attributes:
        name: for the Engine.
        socket: its file in the Engine's plugin directory.
        mounts: where its volumes are mounted.
    """

    def __init__(
        self,
        private: PrivateEngine | None = None,
        *,
        timing: Timing = QUICK,
        prefix: tuple[str, ...] = (),
        run: str = "",
    ) -> None:
        """A driver for an Engine that looks for its own; for none if not given.

        `prefix` starts the process, such as `unshare`; `run` are options of a tmpfs for the runtime directory.
        """
        self.name = (
            "dsotest"  # one name for one Engine, which asks every driver it ever saw: 15 s for each that is gone
        )
        self._private = private
        self._memory = tempfile.mkdtemp(prefix="dsotest-", dir="/dev/shm")  # values never reach a disk
        self._directory = tempfile.mkdtemp(prefix="driver-", dir=private.shared if private else "/var/tmp")
        self.socket = os.path.join(private.plugins if private else self._directory, f"{self.name}.sock")
        self.state = os.path.join(self._directory, "state")
        self.runtime = os.path.join(self._directory, "run")
        self.mounts = os.path.join(self.runtime, "volumes")
        self._has_run = bool(run)
        if run:
            os.mkdir(self.runtime)
            start_program(["mount", "-t", "tmpfs", "-o", run, "run", self.runtime])
        self.boot = "first"
        self.prefix = prefix
        self.timing = timing
        self.log = os.path.join(self._directory, "log")
        self._values: dict[str, bytes | str] = {}
        self._listening: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._volumes: list[str] = []
        self._write_values()
        evidence.of(self)

    def set(self, path: str, value: bytes) -> None:
        """Give the provider a secret; others stay."""
        self._values[path] = value
        self._write_values()

    def fail(self, path: str, code: str) -> None:
        """Let the provider answer for a secret with an error."""
        self._values[path] = code
        self._write_values()

    def _write_values(self) -> None:
        body = {
            path: {"code": value} if isinstance(value, str) else {"value": base64.b64encode(value).decode()}
            for path, value in self._values.items()
        }
        path = os.path.join(self._memory, "values")
        with open(path + ".new", "w") as file:
            json.dump(body, file)
        os.rename(path + ".new", path)

    def start(self, *, wait: bool = True) -> None:
        """Start the process; it answers when this returns."""
        command = [*self.prefix, PYTHON, "-m", "tests.support.volume_driver"]
        settings: dict[str, Any] = {
            "state_dir": self.state,
            "runtime_dir": self.runtime,
            "path": self.socket,
            "values": os.path.join(self._memory, "values"),
            "boot": self.boot,
            "timing": self.timing,
            "descriptor": None if self._listening is None else self._listening.fileno(),
        }
        passed = () if self._listening is None else (self._listening.fileno(),)
        before = len(self.events("started")) if os.path.exists(self.log) else 0
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                [*command, json.dumps(settings)],
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=passed,
            )
        if wait:
            wait_until(lambda: len(self.events("started")) > before or not self._runs(), "the driver starts")
            assert self._runs(), self.told()

    def listen(self) -> None:
        """Listen in place of the process, as systemd does: the socket stays when the process ends."""
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(self.socket)
        self._listening.listen(64)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End the process, in order or (SIGKILL) not; its exit code."""
        if self._process is None:
            return 0
        self._process.send_signal(number)
        try:
            return self._process.wait(30)
        finally:
            reap(self._process)
            self._process = None

    def restart(self, number: int = signal.SIGTERM) -> None:
        """Stop and start."""
        self.stop(number)
        self.start()

    def reboot(self) -> None:
        """What a reboot does to our mounts; the process must not run. The next one thinks it is another boot."""
        for name in os.listdir(self.mounts) if os.path.isdir(self.mounts) else []:
            start_program(["umount", "-l", os.path.join(self.mounts, name)], check=False)
        self.boot = secrets.token_hex(4)

    def events(self, name: str = "") -> list[dict[str, Any]]:
        """What the process emitted, of that name."""
        found = [json.loads(line) for line in self.told().splitlines() if line.startswith('{"event"')]
        return [event for event in found if not name or event["event"] == name]

    def status(self) -> dict[str, Any]:
        """As of the start."""
        found: dict[str, Any] = self.events("started")[-1]["status"]
        return found

    def told(self) -> str:
        """All that the process printed."""
        with open(self.log) as file:
            return file.read()

    def evidence(self) -> dict[str, str]:
        """For messages."""
        return {f"what the driver in {self._directory} printed": self.told()}

    def create(self, *files: VolumeFile) -> str:
        """`docker volume create` with the definition as option; the volume's name."""
        assert self._private is not None
        name = f"dsotest{secrets.token_hex(4)}_dso_api"
        spec = json.dumps(VolumeSpec(files).to_json())
        self._private.docker("volume", "create", "--driver", self.name, "--opt", f"spec={spec}", name)
        self._volumes.append(name)
        return name

    def mounted(self, name: str) -> bool:
        """Whether a volume is mounted on the host."""
        path = os.path.join(self.mounts, name)
        with open("/proc/self/mountinfo") as lines:
            return any(line.split()[4] == path for line in lines)

    def call(self, method: str, body: object) -> Result:
        """Ask as the Engine does."""
        data = json.dumps(body)
        return start_program(["curl", "-sS", "--unix-socket", self.socket, "-d", data, f"http://driver/{method}"])

    def _runs(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        evidence.last_words(self, error)
        if not self._runs():
            self.start()
        for name in self._volumes:
            self._private.docker("volume", "rm", "-f", name, check=False)
        self.stop()
        if self._listening is not None:
            self._listening.close()
        if os.path.exists(self.socket):
            os.unlink(self.socket)
        self.reboot()
        if self._has_run:
            start_program(["umount", self.runtime])
        for directory in (self._memory, self._directory):
            shutil.rmtree(directory)


def render_from(path: str) -> Any:
    """A resolver's `render` that takes the values from a file."""

    def read() -> dict[str, dict[str, str]]:
        with open(path) as file:
            found: dict[str, dict[str, str]] = json.load(file)
            return found

    async def render(spec: VolumeSpec) -> list[tuple[VolumeFile, SecretValue]]:
        values = read()
        faults: list[Fault] = []

        def reveal(reference: Any) -> bytes:
            found = values.get(reference.path, {"code": "not_found"})
            if "code" in found:
                faults.append(Fault(found["code"], "the backend said no", reference=str(reference), provider="test"))
                return b""
            return base64.b64decode(found["value"])

        rendered = []
        for file in spec.files:
            template = parse_template(file.template)
            assert template is not None
            rendered.append((file, SecretValue(template.render(reveal))))
        if faults:
            raise UnresolvedError(faults)
        return rendered

    return render


async def serve(settings: dict[str, Any]) -> None:
    """Serve until SIGTERM."""

    def emit(event: str, /, **fields: Any) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)

    descriptor = settings["descriptor"]
    server = await open_driver(
        render_from(settings["values"]),
        state_dir=settings["state_dir"],
        runtime_dir=settings["runtime_dir"],
        path=settings["path"],
        emit=emit,
        activated=None if descriptor is None else socket.socket(fileno=descriptor),
        timing=Timing(*settings["timing"]),
        boot=lambda: str(settings["boot"]) + boot_id(),
    )
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    emit("started", status=server.driver.status())
    await ended.wait()
    await server.close()


if __name__ == "__main__":
    asyncio.run(serve(json.loads(sys.argv[1])))
