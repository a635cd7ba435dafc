"""A dso-agent of a test's own: its socket, state, runtime and plugin directories are nobody else's."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.agent.isolation.copies import sweep
from dso.paths import SYSTEM_CREDENTIALS_DIR
from dso.system.http import Reader, send_request
from tests.support import evidence
from tests.support.binaries import binary
from tests.support.process import PYTHON, ROOT, environment
from tests.support.processes import descendants
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType
    from typing import Self

PLUGINS = os.path.join(os.path.dirname(__file__), "plugins")

# -P: the current directory of a test must not be able to shadow a module.
_BEGINNING = f"import runpy, sys; sys.path.insert(0, {ROOT!r}); sys.argv[0] = 'dso-agent'"
_START = "runpy.run_module('dso.entry.dso_agent', run_name='__main__', alter_sys=False)"


def agent_command(variant: str, before: str = "pass") -> list[str]:
    """What starts dso-agent: the source tree's, a frozen one (`frozen`) or the one of releases (`release`).

    `before` are statements in one line that the source tree's runs first, such as those that shorten a time limit.
    """
    if variant == "source":
        return [PYTHON, "-P", "-c", f"{_BEGINNING}; {before}; {_START}"]
    assert before == "pass", "only the source tree's agent can be changed"
    return [binary("dso-agent", variant)]


class Answer(NamedTuple):
    """What the agent answered to one request."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        """The body, which has to be JSON."""
        return json.loads(self.body)

    @property
    def code(self) -> str:
        """The code of the error; what is no error with a code fails."""
        return str(self.json()["error"]["code"])


class Agent:
    """An agent with directories of its own under `directory`, a short path in /tmp; use it in a `with`.

    Attributes:
        directory: holds all that follows, and goes when the agent is left.
        socket, config_file, state_dir, runtime_dir, plugin_dir, volume_socket: its places.
        secrets_file, calls_file: what `dso-provider-fake` reads and writes (`fake_provider`).
        log_file: its standard error.
    """

    def __init__(
        self,
        config: str = "",
        *,
        variant: str = "source",
        before: str = "pass",
        args: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        volume_socket: str | None = None,
    ) -> None:
        """`config` is dso.yaml without `version:` and `agent:`; `before` as in `agent_command`."""
        self.directory = tempfile.mkdtemp(prefix="dso-agent-")
        os.chmod(self.directory, 0o755)  # its sockets decide who may connect
        self.variant = variant
        self.before = before
        self.args = list(args)
        self.env = dict(env or {})
        self.config_file, self.log_file = self.path("dso.yaml"), self.path("agent.log")
        self.socket, self.volume_socket = self.path("dso.sock"), volume_socket or self.path("volume.sock")
        self.state_dir, self.runtime_dir, self.plugin_dir = self.path("state"), self.path("run"), self.path("plugins")
        self.secrets_file, self.calls_file = self.path("secrets.json"), self.path("calls")
        self.process: subprocess.Popen[bytes] | None = None
        evidence.of(self)
        os.mkdir(self.plugin_dir, 0o755)
        self.install_plugin("fake")
        self.write_secrets({})
        with open(self.calls_file, "wb"):
            os.chmod(self.calls_file, 0o666)  # its plugin is another user, where the agent is root's
        self.write_config(config)

    def copies(self) -> list[str]:
        """The directories in which it has copies of its plugins' files."""
        return sorted(glob.glob(f"{SYSTEM_CREDENTIALS_DIR}/*.{self.pid}.*"))

    def path(self, name: str) -> str:
        """A path in the agent's directory."""
        return os.path.join(self.directory, name)

    # Before it starts.

    def install_plugin(self, name: str, source: str | None = None) -> str:
        """Put a plugin where the agent looks for it: one of tests/support/plugins, or a program given as text."""
        target = os.path.join(self.plugin_dir, f"dso-provider-{name}")
        if source is None:
            shutil.copyfile(os.path.join(PLUGINS, f"dso-provider-{name}"), target)
        else:
            with open(target, "w", encoding="utf-8") as file:
                file.write(source)
        os.chmod(target, 0o755)
        return target

    def install_frozen(self, name: str) -> str:
        """Put one of DSO's own plugins there, frozen as the agent is, in one step, as `install` does."""
        target = os.path.join(self.plugin_dir, f"dso-provider-{name}")
        variant = "frozen" if self.variant == "source" else self.variant
        shutil.copyfile(binary(f"dso-provider-{name}", variant), target + ".new")
        os.chmod(target + ".new", 0o755)
        os.rename(target + ".new", target)
        return target

    def fake_provider(self, name: str = "fake", /, **settings: object) -> str:
        """The lines of dso.yaml, to stand under `providers:`, for a provider that reads `secrets_file`."""
        given = {"type": "fake", "file": self.secrets_file, "calls": self.calls_file, **settings}
        return f"  {name}: {json.dumps(given)}\n"

    def write_config(self, config: str, **agent: object) -> None:
        """Write dso.yaml: the text, `version:` and an `agent:` with this agent's places (others with `agent`)."""
        places = {key: getattr(self, key) for key in ("socket", "state_dir", "runtime_dir", "plugin_dir")}
        places["volume_socket"] = self.volume_socket
        text = f"version: 1\n{config}\nagent: {json.dumps({**places, **agent})}\n"
        temporary = self.config_file + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            file.write(text)
        os.rename(temporary, self.config_file)

    def use_fake(self, rest: str = "", *, agent: Mapping[str, object] | None = None, **settings: object) -> Self:
        """Configure one provider `fake`, and what else is to stand in dso.yaml."""
        self.write_config(f"providers:\n{self.fake_provider('fake', **settings)}{rest}", **(agent or {}))
        return self

    def write_secrets(self, secrets: Mapping[str, Mapping[str, object]]) -> None:
        """What `dso-provider-fake` has: `{"prod/db": {"fields": {"password": "x"}}}`."""
        temporary = self.secrets_file + ".new"
        with open(temporary, "w", encoding="utf-8") as file:
            json.dump(secrets, file)
        os.rename(temporary, self.secrets_file)

    # Running.

    def environment(self) -> dict[str, str]:
        """Its environment."""
        return environment(self.directory, self.env)

    def command(self, *args: str) -> list[str]:
        """Its command line."""
        return [*agent_command(self.variant, self.before), "--config", self.config_file, *self.args, *args]

    def start(self, *, wait: bool = True, **popen: Any) -> Self:
        """Start it, and wait until it answers; if it ends instead, its log is in the error."""
        with open(self.log_file, "ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                cwd=self.directory,
                start_new_session=True,
                **popen,
            )
        if wait:
            wait_until(self._answers, "an answer of the agent", timeout=60)
        return self

    def _answers(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise AssertionError(f"the agent ended with {self.process.returncode}:\n{self.log}")
        try:
            return self.request("GET", "/healthz").status == 200
        except OSError:
            return False

    @property
    def pid(self) -> int:
        """Its process, the only one beside its plugins."""
        assert self.process is not None
        return self.process.pid

    @property
    def log(self) -> str:
        """What it wrote so far."""
        with open(self.log_file, encoding="utf-8", errors="replace") as file:
            return file.read()

    def evidence(self) -> dict[str, str]:
        """For messages."""
        return {f"log of the agent in {self.directory}": self.log}

    @property
    def calls(self) -> list[str]:
        """The requests that `dso-provider-fake` got."""
        try:
            with open(self.calls_file, encoding="utf-8") as file:
                return file.read().splitlines()
        except FileNotFoundError:
            return []

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the process that was started, as systemd does."""
        os.kill(self.pid, number)

    def wait_for_log(self, text: str, *, since: int = 0) -> None:
        """Wait until a text stands in the log, behind `since` characters."""
        wait_until(lambda: text in self.log[since:], f"{text!r} in the log of the agent")

    def stop(self, *, timeout: float = 60) -> int:
        """End it by SIGTERM; its exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.signal(signal.SIGTERM)
        code = self.process.wait(timeout)
        self.process = None
        return code

    def kill(self) -> None:
        """End it, and everything it started, by SIGKILL."""
        if self.process is None:
            return
        for pid in (self.pid, *(one.pid for one in descendants(self.pid))):
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.process = None

    def restart(self) -> Self:
        """Stop and start it."""
        self.stop()
        return self.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if self.process is not None:
                self.stop()
        finally:
            self.kill()
            if kind is not None:
                print(self.log)  # pytest shows it with the failure
            sweep(SYSTEM_CREDENTIALS_DIR)
            shutil.rmtree(self.directory, ignore_errors=True)

    # Its API.

    def connect(self) -> socket.socket:
        """A connection to its socket."""
        connection = socket.socket(socket.AF_UNIX)
        try:
            connection.connect(self.socket)  # waits for its turn, which a socket with a timeout does not
            connection.settimeout(60)
        except BaseException:
            connection.close()
            raise
        return connection

    def request(self, method: str, target: str, body: object = None) -> Answer:
        """One request on a connection of its own; `body` is bytes as they are, or becomes JSON."""
        with self.connect() as connection:
            return ask(connection, method, target, body)

    def engine(self, method: str, body: object) -> dict[str, Any]:
        """Ask the volume driver as the Engine does, which speaks to it as root: `VolumeDriver.Mount` and so on."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(60)
            connection.connect(self.volume_socket)
            found: dict[str, Any] = ask(connection, "POST", f"/VolumeDriver.{method}", body).json()
        return found

    def get(self, target: str) -> Any:
        """The JSON of a GET, which has to succeed."""
        answer = self.request("GET", target)
        assert answer.status == 200, answer
        return answer.json()

    def resolve(self, *values: str, checks: Sequence[str] = (), secrets: Sequence[Mapping[str, str]] = ()) -> Any:
        """`POST /v1/resolve`, which has to be understood."""
        body = {"values": list(values), "checks": list(checks), "secrets": list(secrets)}
        answer = self.request("POST", "/v1/resolve", body)
        assert answer.status == 200, answer
        return answer.json()

    def value(self, reference: str) -> str:
        """The value of one reference, which has to be text and resolvable."""
        answer = self.resolve(reference)
        assert not answer["errors"], answer["errors"]
        return str(answer["resolved"][0]["value"])

    def stream(self, target: str) -> Iterator[bytes]:
        """The lines of an answer that goes on; the first one comes when the agent has sent its headers."""
        with self.connect() as connection:
            send_request(connection, "GET", target, None, "", host="dso")
            reader = Reader(connection)
            status, headers = reader.read_head()
            assert status == 200, status
            yield from reader.read_lines(headers)


def ask(connection: socket.socket, method: str, target: str, body: object = None) -> Answer:
    """One request on an open connection."""
    content = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have answered before it read all
        send_request(connection, method, target, content, "application/json", host="dso")
    response = Reader(connection).read_response(method, 1 << 30)
    return Answer(response.status, response.headers, response.body)
