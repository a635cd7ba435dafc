"""The loop of a provider plugin: JSON-RPC requests in, answers out, many at a time.

It knows two streams and a provider; what a process has besides is `dso.providers.process`. The
protocol is specified in docs/provider-protocol.md.
"""

from __future__ import annotations

import logging
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, NamedTuple

from dso.protocol.backend_path import path_fault
from dso.protocol.codes import INVALID_REQUEST, UNAVAILABLE
from dso.protocol.provider import (
    MAX_MESSAGE_BYTES,
    MAX_VERSION,
    PROTOCOL_VERSION,
    RPC_INVALID_REQUEST,
    RPC_METHOD_NOT_FOUND,
    RPC_PARSE_ERROR,
    Initialized,
    ProviderError,
    encode,
)
from dso.providers.provider import Request
from dso.system.json_fast import loads
from dso.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from typing import BinaryIO

    from dso.protocol.provider import SecretData
    from dso.providers.provider import Provider

WORKERS = 64  # requests that are worked on at the same time; further ones wait
CLOSE_SECONDS = 2.0  # for the provider to say goodbye to its backend
_SHOWN = 200  # characters of a path in a message

_log = logging.getLogger("dso.provider")
_SKIP = 65536


def serve(
    provider_class: type[Provider],
    stdin: BinaryIO,
    stdout: BinaryIO,
    *,
    configured: Callable[[Mapping[str, Any]], None] = lambda _config: None,
) -> int:
    """Answer requests until `shutdown` or the end of the input; the process's exit code.

    What is under way then is not waited for: nobody reads the answers any more. `configured` is told
    the provider's settings before anything is done with them.
    """
    session = _Session(provider_class, stdout, configured)
    try:
        for line in _lines(stdin):
            if not session.take(line):
                break
    finally:
        session.close()
    return 0


def _lines(stream: BinaryIO) -> Iterator[bytes | None]:
    """Whole lines; None for one that is too long, which is skipped. A last line without its end is none."""
    while line := stream.readline(MAX_MESSAGE_BYTES + 1):
        if len(line) > MAX_MESSAGE_BYTES:
            while line and not line.endswith(b"\n"):
                line = stream.readline(_SKIP)
            yield None
        elif line.endswith(b"\n"):
            yield line


class _RequestError(Exception):
    """A message is no request we can serve; `number` is JSON-RPC's."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.number = number
        self.message = message

    def to_rpc(self) -> dict[str, Any]:
        return {"code": self.number, "message": self.message, "data": {"code": INVALID_REQUEST}}


class _Call(NamedTuple):
    """A request, taken apart. `id` is None for a notification, which nobody waits for."""

    id: str | int | float | None
    method: str
    params: dict[str, Any]


class _Session:
    """One conversation with the agent."""

    def __init__(
        self, provider_class: type[Provider], stdout: BinaryIO, configured: Callable[[Mapping[str, Any]], None]
    ) -> None:
        self._class = provider_class
        self._configured = configured
        self._provider: Provider | None = None
        self._stdout = stdout
        self._writing = threading.Lock()
        self._workers = ThreadPoolExecutor(WORKERS, thread_name_prefix="request")
        self._methods = {"get": self._get, "get_many": self._get_many, "check": self._check}

    def take(self, line: bytes | None) -> bool:
        """Deal with one line, or hand it to a worker; whether to go on after it."""
        try:
            call = _call(line)
        except _RequestError as error:
            self._answer({"id": None, "error": error.to_rpc()})
            return True
        if call.method == "shutdown":
            self._answer({"id": call.id, "result": {}})
            return False
        if call.method in self._methods and self._provider is not None:
            self._workers.submit(self._run, call)
        else:
            # What follows `initialize` has to wait for it anyway. Refusals are told at once, even when all
            # workers are busy: by one the agent knows that we live.
            self._run(call)
        return True

    def close(self) -> None:
        """Let the provider close, for a moment."""
        self._workers.shutdown(wait=False, cancel_futures=True)
        if self._provider is not None:
            closing = threading.Thread(target=self._close_provider, args=[self._provider], daemon=True)
            closing.start()
            closing.join(CLOSE_SECONDS)

    def _run(self, call: _Call) -> None:
        try:
            result = self._initialize(call.params) if call.method == "initialize" else self._dispatch(call)
        except (_RequestError, ProviderError) as error:
            self._answer({"id": call.id, "error": error.to_rpc()})
        except BaseException as error:  # noqa: BLE001  # the agent waits for an answer, whatever happened
            self._answer({"id": call.id, "error": _defect(call.method, error).to_rpc()})
        else:
            self._answer({"id": call.id, "result": result})

    def _initialize(self, params: dict[str, Any]) -> dict[str, Any]:
        if self._provider is not None:
            raise _RequestError(RPC_INVALID_REQUEST, "this plugin is initialized already")
        protocol, name, config = (params.get(key) for key in ("protocol", "name", "config"))
        timeout = params.get("timeout")
        told = Initialized(PROTOCOL_VERSION, self._class.type, VERSION, self._class.batch)
        if not isinstance(protocol, int) or isinstance(protocol, bool):
            raise _RequestError(RPC_INVALID_REQUEST, "`protocol` of `initialize` is no whole number")
        if protocol != PROTOCOL_VERSION:
            return told.to_result()  # which one this is; nothing was opened
        if not isinstance(name, str) or not name or not isinstance(config, dict):
            raise _RequestError(RPC_INVALID_REQUEST, "`name` of `initialize` is no string, or `config` no object")
        if not isinstance(timeout, int | float) or isinstance(timeout, bool) or timeout <= 0:
            raise _RequestError(RPC_INVALID_REQUEST, "`timeout` of `initialize` is no number of seconds")
        self._configured(config)
        self._provider = self._class.open(name, config, float(timeout))
        return told.to_result()

    def _dispatch(self, call: _Call) -> dict[str, Any]:
        method = self._methods.get(call.method)
        if method is None or (call.method == "get_many" and not self._class.batch):
            raise _RequestError(RPC_METHOD_NOT_FOUND, f"there is no method {call.method[:40]!r} here")
        if self._provider is None:
            raise _RequestError(RPC_INVALID_REQUEST, f"`{call.method}` came before `initialize`")
        return method(self._provider, call.params)

    def _get(self, provider: Provider, params: dict[str, Any]) -> dict[str, Any]:
        return _told(provider.get(*_request(params)))

    def _get_many(self, provider: Provider, params: dict[str, Any]) -> dict[str, Any]:
        wanted = params.get("requests")
        if not isinstance(wanted, list):
            raise _RequestError(RPC_INVALID_REQUEST, "`requests` of `get_many` is no array")
        if len(wanted) > provider.batch:
            raise _RequestError(RPC_INVALID_REQUEST, f"more than {provider.batch} requests in one `get_many`")
        requests = [_request(one) for one in wanted]
        found = provider.get_many(requests)
        if len(found) != len(requests):
            raise ProviderError(UNAVAILABLE, "the provider has lost count of the secrets: a defect of the plugin")
        return {"results": _fitting(found)}

    def _check(self, provider: Provider, _params: dict[str, Any]) -> dict[str, Any]:
        provider.check()
        return {}

    def _answer(self, answer: dict[str, Any]) -> None:
        if answer["id"] is None and "error" not in answer:
            return
        line = encode({"jsonrpc": "2.0", **answer})
        if len(line) > MAX_MESSAGE_BYTES:
            line = encode({"jsonrpc": "2.0", "id": answer["id"], "error": _oversized(len(line)).to_rpc()})
        try:
            with self._writing:
                self._stdout.write(line)
                self._stdout.flush()
        except (OSError, ValueError):
            pass  # the agent has gone: the input ends as well

    def _close_provider(self, provider: Provider) -> None:
        try:
            provider.close()
        except BaseException as error:  # noqa: BLE001  # nothing depends on it any more
            _defect("close", error)


def _call(line: bytes | None) -> _Call:
    """Take a request apart; _RequestError."""
    if line is None:
        raise _RequestError(RPC_INVALID_REQUEST, f"a message exceeds {MAX_MESSAGE_BYTES} bytes")
    try:
        message = loads(line.decode())
    except (ValueError, RecursionError):
        raise _RequestError(RPC_PARSE_ERROR, "a line is not JSON in UTF-8") from None
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise _RequestError(RPC_INVALID_REQUEST, "a line is no JSON-RPC 2.0 request")
    number, method, params = message.get("id"), message.get("method"), message.get("params", {})
    if isinstance(number, bool) or not isinstance(number, str | int | float | None):
        raise _RequestError(RPC_INVALID_REQUEST, "`id` is neither a string nor a number")
    if not isinstance(method, str) or not isinstance(params, dict):
        raise _RequestError(RPC_INVALID_REQUEST, "`method` is no string, or `params` no object")
    return _Call(number, method, params)


def _request(params: object) -> Request:
    if not isinstance(params, dict):
        raise _RequestError(RPC_INVALID_REQUEST, "a request for a secret is no object")
    version = params.get("version")
    return Request(_text("path", params.get("path")), None if version is None else _text("version", version))


def _text(name: str, text: object) -> str:
    """A path or a version that a backend could have."""
    if not isinstance(text, str):
        raise _RequestError(RPC_INVALID_REQUEST, f"`{name}` is not a string")
    fault = path_fault(text)
    if fault is not None:
        raise _RequestError(RPC_INVALID_REQUEST, f"{ascii(text[:_SHOWN])[1:-1]} is not a valid {name}: {fault}")
    return text


def _told(secret: SecretData) -> dict[str, Any]:
    """The result of `get`; ProviderError if the agent would refuse it, and take that for a fault of the plugin's."""
    if not isinstance(secret.version, str) or len(secret.version) > MAX_VERSION:
        raise ProviderError(
            UNAVAILABLE, "the backend answers with a version that is not a short text: check its address"
        )
    return secret.to_result()


def _fitting(found: Sequence[SecretData | ProviderError]) -> list[dict[str, Any]]:
    """The `results` of get_many; those for which the message has no room left are errors that say so."""
    results = []
    left = MAX_MESSAGE_BYTES - 4096  # for what is around them, and a little more
    for one in found:
        try:
            result = {"error": one.to_rpc()} if isinstance(one, ProviderError) else {"secret": _told(one)}
        except ProviderError as error:
            result = {"error": error.to_rpc()}
        size = len(encode(result))
        if size > left:
            result = {"error": _oversized(size).to_rpc()}
            size = len(encode(result))
        left -= size
        results.append(result)
    return results


def _oversized(size: int) -> ProviderError:
    message = f"the answer takes {size} bytes and a message of the provider protocol has room for {MAX_MESSAGE_BYTES}"
    return ProviderError(INVALID_REQUEST, message, oversized=True)


def _defect(method: str, error: BaseException) -> ProviderError:
    """What is told of an exception nobody expected: its class, since its text may hold anything."""
    place, trace = "?", error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        place, trace = f"{code.co_filename}:{trace.tb_lineno} in {code.co_name}", trace.tb_next
    kind = type(error).__name__
    _log.error("%s failed in a way it should not: %s at %s", method, kind, place)
    return ProviderError(UNAVAILABLE, f"the provider's plugin failed in a way it should not: {kind}")
