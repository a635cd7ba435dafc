"""A Docker Engine of the tests' own: one that can be restarted, wiped and reached by TLS.

    with PrivateEngine() as private:
        private.load(images.busybox)
        private.docker("run", "--rm", images.busybox, "true")
        private.restart()

It shares nothing with the machine's Engine: own data root, own containerd, and a network name space of
its own, which nothing outside reaches. (In the common one, a second Engine takes docker0 away from the
first.) Needs root and `dockerd`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

from tests.support import evidence
from tests.support.process import Result, environment, reap, run
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

PLUGINS = "/run/docker/plugins"


class PrivateEngine:
    """Runs while its `with` block lasts.

    Args:
        flags: further ones of dockerd.
        directory: where it keeps everything; it is left there afterwards. A temporary one if not given.
        own_plugins: it looks for drivers in a directory of its own, in a mount name space of its own. An Engine asks
            every driver it ever saw until it ends: 15 s for each that is gone. So a test's driver must not be
            seen by the machine's Engine.

    Attributes:
        path: of its Unix socket.
        host: for DOCKER_HOST and `-H`.
        root: its data root.
        plugins: where it looks for drivers' sockets.
        shared: with `own_plugins`, a directory: what is mounted below it is seen by the Engine too.
    """

    def __init__(self, flags: Sequence[str] = (), directory: str | None = None, *, own_plugins: bool = False) -> None:
        self._temporary = directory is None
        self._directory = directory or tempfile.mkdtemp(prefix="dso-engine-", dir="/var/tmp")  # short: it holds sockets
        self.path = os.path.join(self._directory, "docker.sock")
        self.host = f"unix://{self.path}"
        self.root = os.path.join(self._directory, "data")
        self._log = os.path.join(self._directory, "log")
        self._flags = list(flags)
        self.plugins = os.path.join(self._directory, "plugins") if own_plugins else PLUGINS
        self.shared = os.path.join(self._directory, "shared")
        self._own_plugins = own_plugins
        self._space: subprocess.Popen[bytes] | None = None  # keeps the mount name space while the Engine is away
        self._process: subprocess.Popen[bytes] | None = None
        evidence.of(self)

    def start(self) -> None:
        """Start the Engine and wait until it answers."""
        state = os.path.join(self._directory, "run")
        name = os.path.basename(self._directory).replace("_", "0")  # not at the end, says containerd
        command = [
            *self._in_space(),
            "unshare",
            "--net",
            "dockerd",
            "--host",
            self.host,
            "--data-root",
            self.root,
            "--exec-root",
            state,
        ]
        command += ["--pidfile", os.path.join(self._directory, "pid"), "--config-file", "/dev/null"]
        command += ["--containerd-namespace", name, "--containerd-plugins-namespace", f"{name}-plugins"]
        command += ["--iptables=false", "--ip6tables=false", *self._flags]
        with open(self._log, "ab") as log:
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_until(self._answers, "the private Engine", timeout=60)

    def _in_space(self) -> list[str]:
        """What starts a program in the Engine's mount name space."""
        if not self._own_plugins:
            return []
        if self._space is None:
            for path in (self.plugins, self.shared):
                os.mkdir(path)
            run(["mount", "--bind", self.shared, self.shared])
            run(["mount", "--make-shared", self.shared])
            bind = f"mkdir -p {PLUGINS} && mount --bind {self.plugins} {PLUGINS} && echo ready && exec sleep infinity"
            command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", bind]
            self._space = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
            assert self._space.stdout.readline() == b"ready\n"
        return ["nsenter", "--target", str(self._space.pid), "--mount"]

    def _end_space(self) -> None:
        if self._space is not None:
            self._space.kill()
            self._space.communicate()
            self._space = None
            run(["umount", self.shared])

    def stop(self) -> None:
        """Stop the Engine as a reboot of the machine would: its containers end with it."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """End the Engine with SIGKILL; its containers go on until the next start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def restart(self) -> None:
        """Stop and start it."""
        self.stop()
        self.start()

    def evidence(self) -> dict[str, str]:
        """For messages."""
        with open(self._log, encoding="utf-8", errors="replace") as log:
            return {f"log of the private Engine in {self._directory}": log.read()}

    def docker(self, *args: str, check: bool = True, input: bytes | None = None) -> Result:  # noqa: A002
        """`docker ARGS` against this Engine."""
        return run(["docker", "-H", self.host, *args], env=environment(), check=check, input=input)

    def load(self, *images: str) -> None:
        """Copy images from the machine's Engine."""
        saved = run(["docker", "save", *images], env=environment())
        self.docker("load", input=saved.stdout)

    def _answers(self) -> bool:
        if self._process is not None and self._process.poll() is not None:
            with open(self._log, encoding="utf-8", errors="replace") as log:
                raise AssertionError(f"the private Engine ended: {log.read()[-2000:]}")
        return self.docker("version", check=False).returncode == 0

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException as error:
            evidence.last_words(self, error)
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        evidence.last_words(self, error)
        for container in self.docker("ps", "-aq", check=False).out.split():
            self.docker("rm", "-f", container, check=False)
        self._end()

    def _end(self) -> None:
        try:
            self.stop()
        finally:
            if self._process is not None:
                reap(self._process)
            self._end_space()
        if self._temporary:
            run(["umount", "--recursive", self.root], check=False)  # what was killed, or keeps containers, leaves it
            shutil.rmtree(self._directory)
