"""Children of the tests: started without a shell, their output as bytes."""

from __future__ import annotations

import os
import signal
import subprocess
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PYTHON = os.path.join(ROOT, ".venv", "bin", "python")
KEPT_VARIABLES = ("PATH", "TMPDIR", "DOCKER_HOST", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY")


class Result(NamedTuple):
    """What a child did. `out` and `err` are its output as text, for reading in assertions."""

    args: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def out(self) -> str:
        return self.stdout.decode("utf-8", "replace")

    @property
    def err(self) -> str:
        return self.stderr.decode("utf-8", "replace")


class ChildFailedError(AssertionError):
    """A child ended with another exit code than 0 although the test did not expect it."""

    def __init__(self, result: Result) -> None:
        super().__init__(f"{' '.join(result.args)}: exit code {result.returncode}\n{result.out}{result.err}")
        self.result = result


def environment(home: str | None = None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """A child's environment: nothing of the caller's but PATH, TMPDIR and where the Engine is."""
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "HOME": home or os.environ.get("HOME", "/"), "LANG": "C.UTF-8", **(extra or {})}


def run(  # what subprocess.run takes
    args: Sequence[str],
    *,
    input: bytes | str | None = None,  # noqa: A002  # subprocess.run's name for it
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    check: bool = True,
    timeout: float = 120,
) -> Result:
    """Run a command to its end; `check=False` hands back a failure instead of raising ChildFailedError.

    Without `input` the child's standard input is empty, so that no prompt can wait for the tester.
    """
    given = input.encode() if isinstance(input, str) else input
    done = subprocess.run(  # noqa: PLW1510  # checked below, with the output in the message
        list(args), input=given or b"", capture_output=True, env=env, cwd=cwd, timeout=timeout
    )
    result = Result(tuple(args), done.returncode, done.stdout, done.stderr)
    if check and result.returncode:
        raise ChildFailedError(result)
    return result


@contextmanager
def started(args: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a command, with options of `subprocess.Popen`; what still runs of it at the end of the `with` is killed.

    `with subprocess.Popen(...)` waits there instead, for ever after a failed assertion; without any `with`, the child
    that such a test leaves behind warns of itself in another test.
    """
    child = subprocess.Popen(list(args), **options)
    try:
        yield child
    finally:
        reap(child)


def reap(child: subprocess.Popen[Any]) -> None:
    """Kill what still runs of a child, with its process group if it has one of its own; close its pipes."""
    if child.poll() is None:
        with suppress(ProcessLookupError):
            leads = os.getpgid(child.pid) == child.pid
            (os.killpg if leads else os.kill)(child.pid, signal.SIGKILL)
        child.wait()
    for stream in (child.stdin, child.stdout, child.stderr):
        if stream is not None:
            with suppress(OSError):  # what it was to read has nowhere to go
                stream.close()
