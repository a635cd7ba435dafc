"""Which Engine Docker's global flags mean, and a byte stream to it.

A plainly local Engine is reached through its Unix socket. Everything else (contexts, tcp:// with
TLS, ssh://) goes through `docker <flags> system dial-stdio`, which connects its own stdin and
stdout with the Engine: Docker's own code then finds contexts, certificates and ssh keys, and DSO
holds no TLS or ssh code. The rules for picking an Engine are those of docker's command line
(https://docs.docker.com/engine/manage-resources/contexts/): --host and --context, DOCKER_HOST,
DOCKER_CONTEXT, `currentContext` in config.json, in this order.
"""

from __future__ import annotations

import os

from dso import paths
from dso.errors import DockerNotFoundError, EngineUnreachableError, FileAccessError
from dso.system.files import read_file
from dso.system.http import open_unix_socket

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing at start-up
if TYPE_CHECKING:
    from _socket import socket as Socket  # noqa: N812  # the class, under a name that cannot be mistaken for the module
    from collections.abc import Mapping, Sequence

MAX_DOCKER_CONFIG = 4 * 1024 * 1024
DEFAULT_SOCKET = "/var/run/docker.sock"
TLS_VARIABLES = ("DOCKER_TLS", "DOCKER_TLS_VERIFY")
_UNIX = "unix://"
_HOST_FLAGS = ("-H", "--host")
_CONTEXT_FLAGS = ("-c", "--context")
_CONFIG_FLAG = "--config"
_VALUE_FLAGS = (*_HOST_FLAGS, *_CONTEXT_FLAGS, _CONFIG_FLAG, "-l", "--log-level")
_HARMLESS_FLAGS = ("-D", "--debug", "-l", "--log-level", _CONFIG_FLAG)  # do not change which Engine is meant

_HINT_GROUP = (
    "let this user speak to it: `sudo usermod -aG docker $USER`, then log in again; "
    "or pick another Engine with `docker context use NAME`"
)
_HINT_START = "start it: `sudo systemctl start docker`; or pick another Engine with `docker context use NAME`"
_HINT_REMOTE = "check the connection with the same flags: `docker {flags}version`"


class Target:
    """An Engine: the path of its Unix socket, or None when `docker` has to connect.

    `identity` names the Engine in lock files: equal for equal connections, free of secrets.
    """

    __slots__ = ("docker_args", "identity", "socket_path")

    def __init__(self, docker_args: Sequence[str], socket_path: str | None, identity: str) -> None:
        self.docker_args = tuple(docker_args)
        self.socket_path = socket_path
        self.identity = identity


def find_target(docker_args: Sequence[str], environ: Mapping[str, str] | None = None) -> Target:
    """The Engine that docker itself would use for these global flags and variables."""
    environ = os.environ if environ is None else environ
    flags = _parse_flags(docker_args)
    others = [
        name
        for name, value in flags
        if name not in (*_HARMLESS_FLAGS, *_HOST_FLAGS, *_CONTEXT_FLAGS) or (name == "-D" and value)  # -DH is two flags
    ]
    hosts = [value for name, value in flags if name in _HOST_FLAGS]
    contexts = [value for name, value in flags if name in _CONTEXT_FLAGS]
    config_dirs = [value for name, value in flags if name == _CONFIG_FLAG]
    through_docker = bool(others) or any(environ.get(name) for name in TLS_VARIABLES)
    if hosts:
        through_docker = through_docker or bool(contexts) or len(hosts) > 1
        host = hosts[-1]
    else:
        context = contexts[-1] if contexts else _ambient_context(environ, config_dirs)
        host = f"context:{context}" if context not in ("", "default") else (environ.get("DOCKER_HOST") or "")
    if host == "":
        host = _UNIX + DEFAULT_SOCKET
    if host.startswith(_UNIX + "/") and not through_docker:
        return Target(docker_args, host[len(_UNIX) :], host)
    config = config_dirs[-1] if config_dirs else environ.get("DOCKER_CONFIG", "")
    return Target(docker_args, None, f"{host}\0{config}")


def _parse_flags(docker_args: Sequence[str]) -> list[tuple[str, str]]:
    """Docker's global flags as (name, value) pairs: `-H x`, `-Hx`, `--host x`, `--host=x`, `--tls`."""
    found = []
    pending = iter(docker_args)
    for argument in pending:
        if argument in _VALUE_FLAGS:
            found.append((argument, next(pending, "")))
        elif argument.startswith("--"):
            name, _, value = argument.partition("=")
            found.append((name, value))
        else:
            found.append((argument[:2], argument[2:].removeprefix("=")))
    return found


def _ambient_context(environ: Mapping[str, str], config_dirs: Sequence[str]) -> str:
    """The context that variables or the configuration file choose; "" for none."""
    if environ.get("DOCKER_HOST"):
        return ""
    if environ.get("DOCKER_CONTEXT"):
        return environ["DOCKER_CONTEXT"]
    directory = config_dirs[-1] if config_dirs else environ.get("DOCKER_CONFIG") or paths.home() + "/.docker"
    try:
        text = read_file(directory + "/config.json", "Docker's configuration", MAX_DOCKER_CONFIG)
    except FileAccessError:
        return ""
    if b"currentContext" not in text:
        return ""  # the usual case, without the cost of json
    import json

    try:
        config = json.loads(text)
    except (ValueError, RecursionError):
        return "?"  # docker itself has to say what is wrong with its file
    context = config.get("currentContext") if isinstance(config, dict) else None
    return context if isinstance(context, str) else ""


def open_socket(path: str, timeout: float) -> Socket:
    """Connect to a Unix socket; raises EngineUnreachableError."""
    try:
        return open_unix_socket(path, timeout)
    except OSError as error:
        raise _unreachable(path, error) from error


def _unreachable(path: str, error: OSError) -> EngineUnreachableError:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return EngineUnreachableError(f"no Docker Engine runs here: there is no {path}", _HINT_START)
    if isinstance(error, PermissionError):
        return EngineUnreachableError(f"this user may not speak to the Docker Engine at {path}", _HINT_GROUP)
    return EngineUnreachableError(
        f"the Docker Engine at {path} does not answer: {error.strerror or error}", _HINT_START
    )


class Child:
    """A running `docker system dial-stdio` and our end of the stream to the Engine."""

    __slots__ = ("_errors", "connection", "pid")

    def __init__(self, connection: Socket, pid: int, errors: int) -> None:
        self.connection = connection
        self.pid = pid
        self._errors = errors

    def close(self) -> str:
        """End the child (it ends by itself at end of input) and return what it said on stderr."""
        self.connection.close()
        os.waitpid(self.pid, 0)
        said = os.pread(self._errors, 4096, 0).decode("utf-8", "replace").strip()
        os.close(self._errors)
        return said


def dial(target: Target, timeout: float) -> Child:
    """Start `docker <flags> system dial-stdio`; raises DockerNotFoundError.

    The child gets a process group of its own, so that a ^C on the terminal does not end the
    connection over which DSO then has to clean up.
    """
    import _socket

    from dso.system.proc import child_environment, docker_command

    ours, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
    ours.settimeout(timeout)
    errors = os.memfd_create("dial-stdio", os.MFD_CLOEXEC)
    try:
        pid = os.posix_spawnp(
            docker_command(),
            ["docker", *target.docker_args, "system", "dial-stdio"],
            child_environment(),
            file_actions=[
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 0),
                (os.POSIX_SPAWN_DUP2, theirs.fileno(), 1),
                (os.POSIX_SPAWN_DUP2, errors, 2),
                *((os.POSIX_SPAWN_CLOSE, descriptor) for descriptor in _inheritable_descriptors()),
            ],
            setpgroup=0,
        )
    except FileNotFoundError as error:
        ours.close()
        os.close(errors)
        raise DockerNotFoundError(
            "there is no `docker` command, which has to connect to this Engine",
            hint="install Docker's command line (docker-cli), or unset DOCKER_HOST and DOCKER_CONTEXT",
        ) from error
    finally:
        theirs.close()
    return Child(ours, pid, errors)


def _inheritable_descriptors() -> list[int]:
    """What a child would inherit besides its standard streams, such as locks meant for Compose."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        try:
            if int(name) > 2 and os.get_inheritable(int(name)):  # noqa: PLR2004
                found.append(int(name))
        except OSError:
            continue  # the descriptor that listed the directory
    return found


def dial_error(target: Target, said: str) -> EngineUnreachableError:
    """What to report when dial-stdio ended without an answer; `said` is its stderr."""
    reason = said.splitlines()[-1] if said else "the connection was closed"
    flags = "".join(f"{argument} " for argument in target.docker_args)
    return EngineUnreachableError(f"docker cannot connect to the Engine: {reason}", _HINT_REMOTE.format(flags=flags))
