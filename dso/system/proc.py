"""Starting other programs: with a clean environment, and with signals delivered exactly once.

Built on `posix_spawn` rather than `subprocess`, whose import alone costs 16 ms at start-up.
"""

from __future__ import annotations

import os

from dso.errors import DockerNotFoundError, DsoError
from dso.paths import PRIVATE_VARIABLES
from dso.system.files import TooLongError, read_descriptor
from dso.system.memory import memory_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

MAX_OUTPUT = 64 * 1024 * 1024  # of a child, that is read
# What Docker, when it starts a plugin, and the user set for us alone.
_PLUGIN_SOCKET = "DOCKER_CLI_PLUGIN_SOCKET"
_OWN_VARIABLES = frozenset(
    {
        _PLUGIN_SOCKET,
        "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND",
        "DOCKER_CLI_PLUGIN_USE_DIAL_STDIO",
        *PRIVATE_VARIABLES,
    }
)


def child_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment for a child: the user's own, without what is meant for this process only.

    No key to the vault is handed on.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}
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

    __slots__ = ("_otherwise", "_pid", "_program", "_stderr", "_stdout")

    def __init__(
        self, program: str, pid: int, stdout: int, stderr: int, otherwise: Callable[[], Running] | None = None
    ) -> None:
        self._program = program
        self._pid = pid
        self._stdout = stdout
        self._stderr = stderr
        self._otherwise = otherwise

    def wait(self) -> Finished:
        """Wait for the child to end, and for the one that `otherwise` starts should it fail."""
        _, status = os.waitpid(self._pid, 0)
        finished = Finished(exit_code(status), self._said(self._stdout), self._said(self._stderr))
        return self._otherwise().wait() if finished.code and self._otherwise else finished

    def _said(self, descriptor: int) -> bytes:
        """What the child wrote; it may have been made to write more than we should read."""
        try:
            os.lseek(descriptor, 0, os.SEEK_SET)
            return read_descriptor(descriptor, MAX_OUTPUT, min(os.fstat(descriptor).st_size, MAX_OUTPUT))
        except TooLongError:
            raise DsoError(
                f"{self._program} wrote more than {MAX_OUTPUT >> 20} MiB, which is more than DSO reads",
                hint="see what makes it so large: `docker compose config`",
            ) from None
        finally:
            os.close(descriptor)

    def stop(self) -> None:
        """Ask the child to end, and wait until it has; for those whose `wait` was interrupted."""
        from signal import SIGTERM

        try:
            ended, _ = os.waitpid(self._pid, os.WNOHANG)
            if not ended:
                os.kill(self._pid, SIGTERM)  # until it is waited for, the number is its own
                os.waitpid(self._pid, 0)
        except ChildProcessError:
            return  # `wait` has seen its end


def start(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    otherwise: Callable[[], Running] | None = None,
    mask: Iterable[int] | None = None,
) -> Running:
    """Start a child and return at once.

    Args:
        argv: the program, looked up in PATH, and its arguments.
        environment: the child's whole environment; `child_environment()` by default.
        stdin: a descriptor for its standard input; nothing to read by default.
        otherwise: starts another child, whose result counts instead, if this one ends with a code other than 0.
        mask: the signals that the child blocks; those that we do by default.

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
    options = {} if mask is None else {"setsigmask": mask}
    return Running(argv[0], _spawn(argv, environment, file_actions=actions, **options), stdout, stderr, otherwise)


def run(argv: Sequence[str], *, environment: Mapping[str, str] | None = None, stdin: int | None = None) -> Finished:
    """Start a child and wait for it; see `start`."""
    return start(argv, environment=environment, stdin=stdin).wait()


def run_or_stop(argv: Sequence[str], *, environment: Mapping[str, str] | None = None) -> Finished:
    """`run`; an exception from a signal's handler comes out when the child has ended, and changes nothing any more."""
    from signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask

    before = pthread_sigmask(SIG_BLOCK, (SIGINT, SIGTERM, SIGHUP))  # none comes before we know the child
    try:
        running = start(argv, environment=environment, mask=before)
        try:
            pthread_sigmask(SIG_SETMASK, before)
            return running.wait()
        except BaseException:
            running.stop()
            raise
    finally:
        pthread_sigmask(SIG_SETMASK, before)


def attach(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    stdin: int | None = None,
    runs_another: bool = True,
) -> int:
    """Run a child on our own terminal and streams, and return its exit code.

    A signal reaches it exactly once: one that the whole process group got, such as the terminal's
    ^C, the child has already; one that was sent to us alone is passed on (see `_Witness`): to the
    programs that the child runs, as `docker` runs Compose, or to the child itself.
    """
    from signal import (
        SIG_BLOCK,
        SIG_SETMASK,
        SIGCHLD,
        SIGHUP,
        SIGINT,
        SIGQUIT,
        SIGTERM,
        pthread_sigmask,
        sigtimedwait,
    )

    ending = (SIGINT, SIGTERM, SIGHUP, SIGQUIT)
    before = pthread_sigmask(SIG_BLOCK, (SIGCHLD, *ending))
    witness = _Witness({*before, *ending})
    try:
        actions = [] if stdin is None else [(os.POSIX_SPAWN_DUP2, stdin, 0)]
        child = _spawn(argv, environment, file_actions=actions, setsigmask=before)
        witness.start()
        _watch_docker(SIGTERM)
        was_told = False
        while True:
            # A look now and then: where another thread of ours gets SIGCHLD, it is lost to this one.
            received = sigtimedwait((SIGCHLD, *ending), 1.0)
            if received is None or received.si_signo == SIGCHLD:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    return exit_code(status)
                continue
            # What the whole group got, `docker` got too: that it then closes its socket is nothing new.
            is_news = not (was_told and received.si_pid == os.getpid())
            was_told = True
            if is_news and not witness.saw_it(received.si_signo):
                _pass_on(child, received.si_signo, to_children=runs_another)
    finally:
        witness.stop()
        while sigtimedwait(ending, 0):
            pass  # what came as the child ended must not end us: the exit code is the child's
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
            setsigdef=_IGNORED_BY_PYTHON,
            **options,  # type: ignore[arg-type]
        )
    except FileNotFoundError as error:
        raise DockerNotFoundError(
            f"there is no {argv[0]!r} command on this machine",
            hint="install Docker (docker-cli and the Compose plugin), or put it on PATH",
        ) from error


_IGNORED_BY_PYTHON = (13, 25)  # SIGPIPE, SIGXFSZ; importing their names takes 4 ms


class _Witness:
    """A process that does nothing but get what our process group gets, which tells it from what we alone get.

    The terminal's ^C, `timeout` and systemd signal the whole group, Compose included; `kill` and
    `pkill` signal processes of DSO alone. The signal looks the same to us.

    The witness is a `cat` that waits for the end of a pipe, and so for ours, however that comes. It
    blocks the signals: the kernel says at once which are pending for it, however busy the machine is.
    """

    PENDING_WITHIN = 0.1  # seconds between our getting a signal and the kernel's having gone through the whole group

    def __init__(self, mask: Iterable[int]) -> None:
        """Remember the signals that it is to block."""
        self._mask = mask
        self._pid = 0
        self._pipe = (-1, -1)

    def start(self) -> None:
        """Start one; without `cat` on PATH there is none, and every signal counts as sent to us alone."""
        if self._pipe[0] < 0:
            self._pipe = os.pipe()
        actions = [
            (os.POSIX_SPAWN_DUP2, self._pipe[0], 0),
            (os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0),
        ]
        try:
            self._pid = _spawn(["cat"], None, file_actions=actions, setsigmask=self._mask)
        except (DockerNotFoundError, OSError):
            self._pid = 0

    def saw_it(self, number: int) -> bool:
        """Whether the child needs not be told of this signal, since it got it too."""
        from time import monotonic, sleep

        until = monotonic() + self.PENDING_WITHIN
        while self._pid:
            if self._pending() >> (number - 1) & 1:
                self._replace()  # what is pending cannot become so once more
                return True
            if monotonic() > until:
                break
            sleep(0.005)
        return False

    def _pending(self) -> int:
        """The signals it has got, one bit each; none where /proc does not tell."""
        try:
            with open(f"/proc/{self._pid}/status", "rb") as stream:
                return int(stream.read().partition(b"\nShdPnd:")[2].split()[0], 16)
        except (OSError, IndexError):
            return 0

    def _replace(self) -> None:
        from signal import SIGKILL

        os.kill(self._pid, SIGKILL)
        os.waitpid(self._pid, 0)
        self.start()

    def stop(self) -> None:
        """End it."""
        for descriptor in self._pipe:
            if descriptor >= 0:
                os.close(descriptor)
        if self._pid:
            os.waitpid(self._pid, 0)


def _children(of: int) -> list[int]:
    found: list[int] = []
    try:
        for thread in os.listdir(f"/proc/{of}/task"):
            with open(f"/proc/{of}/task/{thread}/children", encoding="ascii") as stream:
                found += map(int, stream.read().split())
    except OSError:
        return []
    return found


def _pass_on(child: int, number: int, *, to_children: bool) -> None:
    """Send a signal to a child, or to what it runs: `docker`, which runs Compose, ignores signals on a terminal."""
    for target in (_children(child) if to_children else []) or [child]:
        try:
            os.kill(target, number)
        except ProcessLookupError:
            continue


def _watch_docker(number: int) -> None:
    """Send ourselves a signal when Docker closes its plugin socket; that it comes from us tells it from others.

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
