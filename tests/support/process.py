"""Children of the tests: started without a shell, their output as bytes."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

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
