"""A machine with systemd as PID 1 and a Docker Engine of its own, in a container of the machine's Engine.

    with Machine() as machine:
        machine.write("/etc/systemd/system/hello.service", "...")
        machine.run("systemctl", "enable", "--now", "hello.service")
        machine.reboot()
        assert "hello" in machine.journal("hello.service")

A reboot is one to whatever runs inside: everything is stopped as systemd does it, /run and /tmp are
lost, /etc and /var are kept. There is no Python inside, as on most servers. Image: the recipe `systemd`
of build/machine/images.sh.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from tests.support import evidence
from tests.support.process import ROOT, Result, environment, run
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

IMAGE = "dso-test/systemd"
BINARIES = os.path.join(ROOT, "dist", "bin")
SYSUSERS = os.path.join(ROOT, "installer", "sysusers.d", "dso.conf")
PLUGIN_DIR = "/usr/local/lib/dso/plugins"
CLI_PLUGINS = "/usr/local/lib/docker/cli-plugins"

# Mounts are handed on between name spaces, as on any machine: systemd sees to that where it is not in a container.
_INIT = "mount --make-rshared / && exec /sbin/init"


def build_image() -> None:
    """Build the image unless it is there; takes a minute."""
    run([os.path.join(ROOT, "build", "machine", "images.sh"), "systemd"], timeout=900)


class Machine:
    """Runs while its `with` block lasts, and is removed afterwards with its disks.

    Args:
        options: further ones of `docker run`.
    """

    def __init__(self, options: Sequence[str] = ()) -> None:
        self.name = f"dso-test-machine-{secrets.token_hex(4)}"
        self._options = list(options)
        evidence.of(self)

    def boot(self) -> None:
        """Make the machine and start it."""
        build_image()
        memory = ["--tmpfs", "/run:exec,mode=755", "--tmpfs", "/run/lock", "--tmpfs", "/tmp:exec"]
        words = ["run", "-d", "--name", self.name, "--hostname", "dso-machine", "--privileged", *memory]
        self._docker(*words, *self._options, IMAGE, "sh", "-c", _INIT)
        self._wait_until_up()

    def reboot(self, *, wait: bool = True) -> None:
        """Stop everything in order and start again."""
        self._docker("restart", "--time", "60", self.name)
        if wait:
            self._wait_until_up()

    def power_cut(self) -> None:
        """End everything at once and start again."""
        self._docker("kill", "--signal", "KILL", self.name)
        self._docker("start", self.name)
        self._wait_until_up()

    def run(
        self,
        *args: str,
        check: bool = True,
        input: bytes | str | None = None,  # noqa: A002  # subprocess.run's name for it
        timeout: float = 120,
    ) -> Result:
        """Run a command as root."""
        return self._docker("exec", "-i", self.name, *args, check=check, input=input, timeout=timeout)

    def shell(self, script: str, *args: str, check: bool = True, timeout: float = 120) -> Result:
        """Run a script of POSIX sh as root; `args` are its $1 and so on."""
        return self.run("sh", "-euc", script, "sh", *args, check=check, timeout=timeout)

    def user(self, name: str, *args: str, check: bool = True, input: str | None = None) -> Result:  # noqa: A002
        """Run a command as another user, in that user's groups."""
        become = ["setpriv", f"--reuid={name}", f"--regid={name}", "--init-groups"]
        return self.run(*become, *args, check=check, input=input)

    def write(self, path: str, content: bytes | str, mode: int = 0o644) -> None:
        """Write a file of root's, its directories too."""
        script = 'mkdir -p "$(dirname "$1")"; cat >"$1.new"; chmod "$2" "$1.new"; mv -f "$1.new" "$1"'
        self.run("sh", "-euc", script, "sh", path, f"{mode:o}", input=content)

    def give(self, path: str, user: str) -> None:
        """Let a user own a file."""
        self.run("chown", f"{user}:", path)

    def copy(self, source: str, path: str, mode: int = 0o755) -> None:
        """Copy a file of the tester's into the machine."""
        with open(source, "rb") as file:
            self.write(path, file.read(), mode)

    def install(self, *providers: str) -> None:
        """Install the frozen binaries, `providers` among them, where the installer puts them; make group and users."""
        self.shell("getent group dso >/dev/null || groupadd --system dso")
        self.copy(SYSUSERS, "/usr/local/lib/sysusers.d/dso.conf", 0o644)
        self.run("systemd-sysusers", "dso.conf")
        places = [
            ("dso-agent", "/usr/local/bin"),
            ("docker-dso", CLI_PLUGINS),
            *((each, PLUGIN_DIR) for each in providers),
        ]
        for name, directory in places:
            source = os.path.join(BINARIES, name)
            assert os.access(source, os.X_OK), f"{source} is missing: run `make binaries` first"
            self.copy(source, f"{directory}/{name}")

    def load(self, *images: str) -> None:
        """Copy images into the machine's own Engine."""
        saved = run(["docker", "save", *images], env=environment())
        self.run("docker", "load", input=saved.stdout)

    def journal(self, *units: str) -> str:
        """What units have logged, reboots back too; the whole journal, with every field, without any."""
        chosen = [word for unit in units for word in ("-u", unit)] or ["-o", "export", "-a"]
        return self.run("journalctl", "--no-pager", *chosen).out

    def evidence(self) -> dict[str, str]:
        """For messages."""
        asked = self.run("journalctl", "--no-pager", "-n", "80", check=False, timeout=30)
        failed = self.run("systemctl", "--failed", "--no-pager", "--no-legend", check=False, timeout=30)
        return {f"journal of {self.name}": asked.out + failed.out + failed.err}

    def unit(self, name: str, what: str) -> str:
        """A property of a unit: `unit("docker.service", "ActiveState")`."""
        return self.run("systemctl", "show", "--value", "-p", what, name).out.strip()

    def wait_for(self, name: str, *states: str, timeout: float = 60) -> None:
        """Wait until a unit's ActiveState is one of these."""
        try:
            wait_until(lambda: self.unit(name, "ActiveState") in states, f"{name} {'/'.join(states)}", timeout=timeout)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.status(name)}") from None

    def status(self, name: str) -> str:
        """What `systemctl status` and the journal say of a unit, for messages."""
        shown = self.run("systemctl", "status", "--no-pager", "-n", "0", name, check=False).out
        return shown + "\n".join(self.journal(name).splitlines()[-40:])

    def processes(self, unit: str) -> list[int]:
        """The processes of a unit, by their number inside the machine."""
        group = self.unit(unit, "ControlGroup")
        listed = self.shell(
            'cat "/sys/fs/cgroup/systemd$1/cgroup.procs" "/sys/fs/cgroup$1/cgroup.procs" 2>/dev/null || :', group
        )
        return sorted({int(pid) for pid in listed.out.split()})

    def _wait_until_up(self) -> None:
        def state() -> str:
            asked = self.run("systemctl", "is-system-running", check=False).out.strip()
            return asked if asked in ("running", "degraded", "maintenance") else ""

        wait_until(state, "the machine's start", timeout=180, interval=0.2)

    def _docker(
        self,
        *args: str,
        check: bool = True,
        input: bytes | str | None = None,  # noqa: A002
        timeout: float = 120,
    ) -> Result:
        return run(["docker", *args], env=environment(), check=check, input=input, timeout=timeout)

    def __enter__(self) -> Self:
        try:
            self.boot()
        except BaseException as error:
            evidence.last_words(self, error)
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        evidence.last_words(self, error)
        self._remove()

    def _remove(self) -> None:
        self._docker("rm", "-f", "-v", self.name, check=False)
