"""Starting other programs: with a clean environment, and with signals delivered exactly once.

Built on `posix_spawn` rather than `subprocess`, whose import alone costs 16 ms at start-up.
"""

from __future__ import annotations

import os

from dso.errors import DockerNotFoundError
from dso.paths import PRIVATE_VARIABLES
from dso.system.memory import memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# What the boot loader of a one-file binary, and Docker when it starts a plugin, set for us alone.
_PLUGIN_SOCKET = "DOCKER_CLI_PLUGIN_SOCKET"
_OWN_VARIABLES = frozenset(
    {
        _PLUGIN_SOCKET,
        "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND",
        "DOCKER_CLI_PLUGIN_USE_DIAL_STDIO",
        "LD_LIBRARY_PATH_ORIG",
        "_MEIPASS2",
        *PRIVATE_VARIABLES,
    }
)


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child: the user's own, without what is meant for this process only.

    The boot loader's variables go (a child that is frozen too would take our unpacked files for
    its own), `LD_LIBRARY_PATH` gets the user's value back, and no key to the vault is handed on.
    """
    environment = {
        name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES and not name.startswith("_PYI_")
    }
    original = os.environ.get("LD_LIBRARY_PATH_ORIG")
    if original is not None:
        environment["LD_LIBRARY_PATH"] = original
    elif "_PYI_ARCHIVE_FILE" in os.environ:
        environment.pop("LD_LIBRARY_PATH", None)
    environment.update(extra or {})
    return environment


def docker_command() -> str:
    """The `docker` that started us, else the first on PATH."""
    return os.environ.get("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND") or "docker"


class Finished:
    """What a child left: its exit code (128 + N when signal N ended it), stdout and stderr."""

    __slots__ = ("code", "stderr", "stdout")

    def __init__(self, code: int, stdout: bytes, stderr: bytes) -> None:
        self.code = code
        self.stdout = stdout
        self.stderr = stderr


class Running:
    """A child whose output is collected in memory files, so that neither side ever waits for the other."""

    __slots__ = ("_pid", "_stderr", "_stdout")

    def __init__(self, pid: int, stdout: int, stderr: int) -> None:
        self._pid = pid
        self._stdout = stdout
        self._stderr = stderr

    def wait(self) -> Finished:
        """Wait for the child to end."""
        _, status = os.waitpid(self._pid, 0)
        return Finished(exit_code(status), _drain(self._stdout), _drain(self._stderr))


def start(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: int | None = None) -> Running:
    """Start a child and return at once.

    Args:
        argv: the program, looked up in PATH, and its arguments.
        environment: the child's whole environment; `child_environment()` by default.
        stdin: a descriptor for its standard input; nothing to read by default.

    Raises:
        DockerNotFoundError: the program is `docker` and is not there.
    """
    stdout, stderr = memory_file("stdout"), memory_file("stderr")
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_DUP2, stdout, 1),
        (os.POSIX_SPAWN_DUP2, stderr, 2),
    ]
    if stdin is None:
        actions.append((os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0))
    else:
        actions.append((os.POSIX_SPAWN_DUP2, stdin, 0))
    return Running(_spawn(argv, environment, file_actions=actions), stdout, stderr)


def run(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: int | None = None) -> Finished:
    """Start a child and wait for it; see `start`."""
    return start(argv, environment=environment, stdin=stdin).wait()


def attach(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: int | None = None) -> int:
    """Run a child on our own terminal and streams, and return its exit code.

    A signal reaches it exactly once. The terminal's own signals (^C) go to the whole foreground
    group, so the child has them already; one that was sent to us alone is passed on. See
    `_is_from_terminal` for how the two are told apart behind a one-file boot loader, which repeats
    to us every signal it gets.
    """
    from signal import SIG_BLOCK, SIG_SETMASK, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, pthread_sigmask, sigwaitinfo

    before = pthread_sigmask(SIG_BLOCK, (SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT))
    try:
        actions = [] if stdin is None else [(os.POSIX_SPAWN_DUP2, stdin, 0)]
        child = _spawn(argv, environment, file_actions=actions, setsigmask=before)
        _watch_docker(SIGTERM)
        while True:
            received = sigwaitinfo((SIGCHLD, SIGINT, SIGTERM, SIGHUP, SIGQUIT))
            if received.si_signo == SIGCHLD:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    return exit_code(status)
            elif not _is_from_terminal(received):
                _pass_on(child, received.si_signo)
    finally:
        pthread_sigmask(SIG_SETMASK, before)


def exit_code(status: int) -> int:
    """A shell's idea of a wait status: the exit code, or 128 + N after signal N."""
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _spawn(argv: Sequence[str], environment: Mapping[str, str] | None, **options: object) -> int:
    try:
        return os.posix_spawnp(
            argv[0],
            list(argv),
            child_environment() if environment is None else dict(environment),
            **options,  # type: ignore[arg-type]
        )
    except FileNotFoundError as error:
        raise DockerNotFoundError(
            f"there is no {argv[0]!r} command on this machine",
            hint="install Docker (docker-cli and the Compose plugin), or put it on PATH",
        ) from error


def _drain(descriptor: int) -> bytes:
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb") as stream:
        return stream.read()


_SI_KERNEL = 0x80  # sigaction(2): sent by the kernel, as the terminal driver does
_recent_from_terminal: dict[int, float] = {}


def _is_from_terminal(received: object) -> bool:
    """Whether the whole foreground group got this signal, the child included.

    A signal of the terminal's carries SI_KERNEL. Our boot loader's process gets it as well and
    repeats it to us with kill(2); that copy comes within moments, after the original or (another
    CPU being quicker) right before it, and is not to be passed on. A copy without an original was
    sent to the boot loader's process alone.
    """
    from signal import sigtimedwait
    from time import monotonic

    number, code, sender = received.si_signo, received.si_code, received.si_pid  # type: ignore[attr-defined]
    if code == _SI_KERNEL:
        _recent_from_terminal[number] = monotonic()
        return True
    if sender != os.getppid():
        return False
    if monotonic() - _recent_from_terminal.get(number, -1.0) < 1.0:
        return True
    original = sigtimedwait((number,), 0.05)
    return original is not None and _is_from_terminal(original)


def _pass_on(child: int, number: int) -> None:
    """Send a signal to Compose itself: `docker`, which runs it, ignores signals when on a terminal."""
    targets: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{child}/task"):
            with open(f"/proc/{child}/task/{thread}/children", encoding="ascii") as stream:
                targets += map(int, stream.read().split())
    except OSError:
        targets = []
    for target in targets or [child]:
        try:
            os.kill(target, number)
        except ProcessLookupError:
            continue


def _watch_docker(number: int) -> None:
    """Send ourselves a signal when Docker closes its plugin socket.

    Since 25.0 that is how `docker`, itself asked to end while on no terminal, tells a plugin to
    stop (cli-plugins/socket in docker/cli).
    """
    address = os.environ.get(_PLUGIN_SOCKET)
    if not address:
        return
    import socket
    from _thread import start_new_thread

    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.connect("\0" + address[1:] if address.startswith("@") else address)
    except OSError:
        connection.close()
        return

    def wait_for_close() -> None:
        try:
            while connection.recv(1024):
                pass
        except OSError:
            pass
        os.kill(os.getpid(), number)

    start_new_thread(wait_for_close, ())
