"""A provider plugin as a process, spoken to as the agent does."""

from __future__ import annotations

import os
import subprocess
import tempfile
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from dso.protocol.provider import Initialized, ProviderError, SecretData, decode, encode
from tests.support import evidence
from tests.support.binaries import binary
from tests.support.process import PYTHON, ROOT, environment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

HANG = 60.0  # seconds after which an answer will not come any more


def plugin_argv(name: str, variant: str) -> list[str]:
    """How to start one of DSO's own plugins, `dso-provider-vault` say, from source, `frozen` or of a `release`."""
    if variant != "source":
        return [binary(name, variant)]
    module = "dso.entry." + name.replace("-", "_")
    code = f'import runpy, sys; sys.path.insert(0, "{ROOT}")\n'
    code += f'runpy.run_module("{module}", run_name="__main__", alter_sys=True)'
    return [PYTHON, "-P", "-c", code]


class Answer(NamedTuple):
    """The answer to a request: `error` is None when it succeeded."""

    result: Any
    error: ProviderError | None

    @property
    def code(self) -> str | None:
        """The error's code, None when there is no error."""
        return self.error.code if self.error else None


class Plugin:
    """A plugin's process; use it in a `with`, which ends it.

    Everything it writes must be a message of the protocol: `received` has all of them.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None) -> None:
        self._stderr = tempfile.TemporaryFile()  # noqa: SIM115
        self.process = subprocess.Popen(
            argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            env=environment("/nonexistent", env),
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._stdin, self._stdout = self.process.stdin, self.process.stdout
        self.received: list[dict[str, Any]] = []
        self.garbage: list[bytes] = []
        self._arrived = threading.Condition()
        self._ended = False
        self._last_id = 0
        evidence.of(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        evidence.last_words(self, error)
        self.close_input()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self._reader.join(10)
        self._stdout.close()
        self._stderr.close()

    # Sending

    def send(self, method: str, params: Mapping[str, Any] | None = None) -> int:
        """Send a request and do not wait; its id."""
        self._last_id += 1
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": self._last_id, "method": method}
        if params is not None:
            message["params"] = params
        self.send_line(encode(message))
        return self._last_id

    def send_line(self, line: bytes) -> None:
        """Send any bytes."""
        self._stdin.write(line)
        self._stdin.flush()

    def close_input(self) -> None:
        """End its standard input, as an agent does that goes away."""
        with suppress(OSError):  # it has ended
            self._stdin.close()

    # Receiving

    def answer(self, number: int | str | None, *, timeout: float = HANG) -> Answer:
        """Wait for the answer to a request."""

        def find() -> dict[str, Any] | None:
            return next((each for each in self.received if _id(each) == number), None)

        with self._arrived:
            self._arrived.wait_for(lambda: find() is not None or self._ended, timeout)
            found = find()
            assert found is not None, f"no answer to request {number}; {self.stderr.decode()}"
            self.received.remove(found)
        error = ProviderError.from_rpc(found["error"]) if "error" in found else None
        return Answer(found.get("result"), error)

    def call(self, method: str, params: Mapping[str, Any] | None = None, *, timeout: float = HANG) -> Answer:
        """Send a request and wait for its answer."""
        return self.answer(self.send(method, params), timeout=timeout)

    def initialize(self, config: Mapping[str, Any], *, name: str = "tested", timeout: float = 10) -> Initialized:
        """`initialize`, which has to succeed."""
        params = {"protocol": 1, "name": name, "config": config, "timeout": timeout}
        answer = self.call("initialize", params)
        assert answer.error is None, f"{answer.code}: {answer.error}"
        return Initialized.from_result(answer.result)

    def get(self, path: str, version: str | None = None) -> SecretData | ProviderError:
        """`get`: the secret, or the error."""
        return self.secret(self.send("get", request(path, version)))

    def secret(self, number: int) -> SecretData | ProviderError:
        """The answer to a `get` that was sent."""
        answer = self.answer(number)
        return answer.error or SecretData.from_result(answer.result)

    def get_many(self, *requests: tuple[str, str | None]) -> list[SecretData | ProviderError]:
        """`get_many`: a secret or an error for each, in their order."""
        answer = self.call("get_many", {"requests": [request(*one) for one in requests]})
        assert answer.error is None, f"{answer.code}: {answer.error}"
        found = answer.result["results"]
        assert all(len(one) == 1 for one in found)
        return [
            SecretData.from_result(one["secret"]) if "secret" in one else ProviderError.from_rpc(one["error"])
            for one in found
        ]

    def evidence(self) -> dict[str, str]:
        """For messages."""
        said = b"" if self._stderr.closed else self.stderr
        return {f"what the plugin {self.process.pid} logged": said.decode("utf-8", "replace")}

    @property
    def stderr(self) -> bytes:
        """What it has logged so far."""
        return os.pread(self._stderr.fileno(), 1 << 24, 0)

    def _read(self) -> None:
        for line in self._stdout:
            message = _message(line)
            with self._arrived:
                if message is None:
                    self.garbage.append(line)
                else:
                    self.received.append(message)
                self._arrived.notify_all()
        with self._arrived:
            self._ended = True
            self._arrived.notify_all()


def request(path: str, version: str | None = None) -> dict[str, str]:
    """The parameters of `get`."""
    return {"path": path} if version is None else {"path": path, "version": version}


def _message(line: bytes) -> dict[str, Any] | None:
    """An answer of JSON-RPC 2.0, None if it is none."""
    try:
        found = decode(line)
    except Exception:  # noqa: BLE001  # whatever it is, it is no message
        return None
    if not isinstance(found, dict) or found.get("jsonrpc") != "2.0" or "id" not in found:
        return None
    return found if ("result" in found) != ("error" in found) else None


def _id(message: Mapping[str, Any]) -> int | str | None:
    """Numbers come as they were written (`json_fast.Number`)."""
    from dso.system.json_fast import Number

    found: Any = message["id"]
    return int(found) if isinstance(found, Number) else found
