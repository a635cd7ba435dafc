"""The loop of a plugin, with streams in memory and providers made for the occasion."""

from __future__ import annotations

import io
import os
import threading
from typing import TYPE_CHECKING, Any, ClassVar, Self

import pytest

from dso.protocol.codes import INVALID_REQUEST, NOT_FOUND, PLUGIN_OVERSIZED, UNAVAILABLE
from dso.protocol.provider import MAX_MESSAGE_BYTES, MAX_VERSION, ProviderError, SecretData, decode, encode
from dso.providers.serve import WORKERS, serve
from dso.secret import SecretValue

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from dso.providers.provider import Request

CANARY = "c4n4ry-v4lue"
INITIALIZE = {"protocol": 1, "name": "tested", "config": {}, "timeout": 1.5}


class Fake:
    """A provider whose `get` is what a test wants."""

    type: ClassVar[str] = "fake"
    batch: ClassVar[int] = 10
    answer: ClassVar[Callable[[str], SecretData]]
    opened: ClassVar[list[tuple[str, Mapping[str, Any], float]]]
    closed: ClassVar[list[bool]]

    @classmethod
    def open(cls, name: str, config: Mapping[str, Any], timeout: float) -> Self:
        cls.opened.append((name, config, timeout))
        return cls()

    def get(self, path: str, version: str | None) -> SecretData:
        return type(self).answer(path if version is None else f"{path}@{version}")

    def get_many(self, requests: Sequence[Request]) -> list[SecretData | ProviderError]:
        found: list[SecretData | ProviderError] = []
        for request in requests:
            try:
                found.append(self.get(*request))
            except ProviderError as error:
                found.append(error)
        return found

    def check(self) -> None:
        type(self).answer("check")

    def close(self) -> None:
        type(self).closed.append(True)


def make(answer: Callable[[str], SecretData]) -> type[Fake]:
    class Made(Fake):
        opened: ClassVar[list[Any]] = []
        closed: ClassVar[list[bool]] = []

    Made.answer = staticmethod(answer)
    return Made


def text(value: str) -> SecretData:
    return SecretData(SecretValue(value.encode()), version="1")


def line(number: Any, method: str, params: Any = None) -> bytes:
    return encode({"jsonrpc": "2.0", "id": number, "method": method, "params": params or {}})


START = line(0, "initialize", INITIALIZE)


class Conversation:
    """`serve` in a thread, with pipes in between."""

    def __init__(self, provider: type[Fake], *, initialized: bool = True) -> None:
        inner_in, outer_in = os.pipe()
        outer_out, inner_out = os.pipe()
        self._input = os.fdopen(outer_in, "wb", buffering=0)
        self._output = os.fdopen(outer_out, "rb")
        self._ends = os.fdopen(inner_in, "rb"), os.fdopen(inner_out, "wb")
        self.code: int | None = None
        self._thread = threading.Thread(target=self._serve, args=[provider], daemon=True)
        self._thread.start()
        if initialized:
            self.send(START)
            assert self.read()["id"] == 0

    def _serve(self, provider: type[Fake]) -> None:
        self.code = serve(provider, *self._ends)
        for end in self._ends:
            end.close()

    def send(self, *lines: bytes) -> None:
        self._input.write(b"".join(lines))

    def read(self) -> Any:
        found: Any = decode(self._output.readline())
        return {**found, "id": None if found["id"] is None else int(found["id"])}

    def end(self) -> int | None:
        self._input.close()
        self._thread.join(30)
        self._output.close()
        return self.code


def answers(provider: type[Fake], *lines: bytes) -> list[Any]:
    """All answers to some lines, by id; the plugin is shut down only when they have come."""
    talk = Conversation(provider, initialized=False)
    talk.send(*lines)
    found = [talk.read() for each in lines if each]
    assert talk.end() == 0
    return sorted(found, key=lambda one: -1 if one["id"] is None else one["id"])


def error_of(answer: Any) -> ProviderError:
    return ProviderError.from_rpc(answer["error"])


def test_the_provider_is_opened_with_its_name_settings_and_time_limit() -> None:
    provider = make(text)
    config = {"address": "x", "tls": {"ca_cert": "y"}, "kv_version": 2}
    (told,) = answers(provider, line(0, "initialize", {**INITIALIZE, "config": config}))
    assert provider.opened == [("tested", config, 1.5)]
    assert isinstance(provider.opened[0][1]["kv_version"], int)
    assert told["result"]["capabilities"] == {"get_many": "10"}
    assert provider.closed == [True]


def test_settings_are_told_before_the_provider_sees_them() -> None:
    seen: list[Any] = []
    provider = make(text)
    output = io.BytesIO()
    start = line(0, "initialize", {**INITIALIZE, "config": {"token": "t"}})
    serve(
        provider, io.BytesIO(start), output, configured=lambda config: seen.append((dict(config), provider.opened[:]))
    )
    assert seen == [({"token": "t"}, [])]


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"name": 5},
        {"config": []},
        {"timeout": 0},
        {"timeout": True},
        {"protocol": "1"},
        {"protocol": True},
    ],
)
def test_initialize_with_something_missing_or_wrong_is_refused(change: dict[str, Any]) -> None:
    provider = make(text)
    (answer,) = answers(provider, line(0, "initialize", {**INITIALIZE, **change}))
    assert error_of(answer).code == INVALID_REQUEST
    assert provider.opened == []


def test_a_failed_initialize_can_be_tried_again() -> None:
    provider = make(text)

    def refuse(name: str, config: Mapping[str, Any], timeout: float) -> Fake:
        if not config:
            raise ProviderError("invalid_config", "empty")
        return provider()

    provider.open = staticmethod(refuse)  # type: ignore[method-assign]
    good = line(2, "initialize", {**INITIALIZE, "config": {"a": "b"}})
    first, early, second, got = answers(provider, START, line(1, "check"), good, line(3, "get", {"path": "p"}))
    assert (error_of(first).code, error_of(early).code) == ("invalid_config", INVALID_REQUEST)
    assert ("result" in second, got["result"]["text"]) == (True, "p")


def test_answers_come_in_the_order_in_which_they_are_ready() -> None:
    released = threading.Event()

    def answer(path: str) -> SecretData:
        if path == "slow":
            assert released.wait(30)
        return text(path)

    talk = Conversation(make(answer))
    talk.send(line(1, "get", {"path": "slow"}), line(2, "get", {"path": "fast"}))
    assert talk.read()["id"] == 2
    released.set()
    assert talk.read()["id"] == 1
    assert talk.end() == 0


def test_as_many_requests_as_there_are_workers_run_side_by_side() -> None:
    together = threading.Barrier(WORKERS)

    def answer(path: str) -> SecretData:
        together.wait(30)
        return text(path)

    talk = Conversation(make(answer))
    talk.send(*(line(number, "get", {"path": "p"}) for number in range(1, WORKERS + 1)))
    assert {talk.read()["id"] for _ in range(WORKERS)} == set(range(1, WORKERS + 1))
    assert talk.end() == 0


def test_a_sign_of_life_is_given_while_every_worker_is_busy() -> None:
    released = threading.Event()

    def answer(path: str) -> SecretData:
        assert released.wait(30)
        return text(path)

    talk = Conversation(make(answer))
    talk.send(*(line(number, "get", {"path": "p"}) for number in range(1, WORKERS + 20)), line(999, "ping"))
    assert talk.read()["id"] == 999
    released.set()
    assert talk.end() == 0


def test_shutdown_and_the_end_of_the_input_wait_for_no_request() -> None:
    hanging, released = threading.Event(), threading.Event()

    def answer(path: str) -> SecretData:
        hanging.set()
        released.wait(60)
        return text(path)

    talks = [Conversation(make(answer)) for _ in range(2)]
    for talk, last in zip(talks, [line(2, "shutdown"), b""], strict=True):
        hanging.clear()
        talk.send(line(1, "get", {"path": "p"}))
        assert hanging.wait(30)
        talk.send(last)
        assert talk.end() == 0
    released.set()


def test_a_provider_that_does_not_want_to_close_is_left() -> None:
    released = threading.Event()
    provider = make(text)
    provider.close = lambda _self: released.wait(60)  # type: ignore[method-assign,assignment]
    assert serve(provider, io.BytesIO(START), io.BytesIO()) == 0
    released.set()


@pytest.mark.parametrize("kind", [ValueError, SystemExit, KeyboardInterrupt, MemoryError, RecursionError])
def test_an_unexpected_exception_is_told_by_its_class_alone(
    kind: type[BaseException], caplog: pytest.LogCaptureFixture
) -> None:
    def answer(path: str) -> SecretData:
        value = CANARY
        raise kind(value)

    _, got, checked = answers(make(answer), START, line(1, "get", {"path": "p"}), line(2, "check"))
    assert [error_of(each).code for each in (got, checked)] == [UNAVAILABLE] * 2
    assert kind.__name__ in got["error"]["message"]
    assert CANARY not in str(got) + str(checked) + caplog.text
    assert f"get failed in a way it should not: {kind.__name__} at {__file__}:" in caplog.text


def test_fields_that_are_no_json_are_a_defect_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    broken = SecretData(SecretValue(f'{{"a": {CANARY}'.encode()), is_fields=True)
    _, got = answers(make(lambda _path: broken), START, line(1, "get", {"path": "p"}))
    assert error_of(got).code == UNAVAILABLE
    assert CANARY not in str(got) + caplog.text


@pytest.mark.parametrize("version", ["v" * (MAX_VERSION + 1), ["v"]])
def test_a_version_that_the_agent_would_refuse_is_a_fault_of_the_backend_and_of_no_other_secret(version: Any) -> None:
    provider = make(lambda path: text(path)._replace(version=version if path == "bad" else "v" * MAX_VERSION))
    many = {"requests": [{"path": "bad"}, {"path": "good"}]}
    _, alone, among = answers(provider, START, line(1, "get", {"path": "bad"}), line(2, "get_many", many))
    bad, good = among["result"]["results"]
    assert [error_of(one).code for one in (alone, bad)] == [UNAVAILABLE] * 2
    assert all("backend" in error_of(one).message for one in (alone, bad))
    assert SecretData.from_result(good["secret"]).version == "v" * MAX_VERSION


def test_a_secret_for_which_a_message_has_no_room_is_told_as_that() -> None:
    _, got = answers(make(lambda _path: text("x" * MAX_MESSAGE_BYTES)), START, line(1, "get", {"path": "p"}))
    assert error_of(got).code == PLUGIN_OVERSIZED
    assert "xxx" not in str(got)


def test_of_many_only_those_without_room_are_left_out() -> None:
    third = MAX_MESSAGE_BYTES // 3
    sizes = {"a": third, "b": third, "c": third, "d": 10, "e": MAX_MESSAGE_BYTES}

    def answer(path: str) -> SecretData:
        if path == "none":
            raise ProviderError(NOT_FOUND, "none")
        return text("x" * sizes[path])

    wanted = [{"path": path} for path in ("a", "none", "b", "c", "d", "e")]
    _, got = answers(make(answer), START, line(1, "get_many", {"requests": wanted}))
    results = got["result"]["results"]
    codes = [error_of(one).code if "error" in one else len(one["secret"]["text"]) for one in results]
    assert codes == [third, NOT_FOUND, third, PLUGIN_OVERSIZED, 10, PLUGIN_OVERSIZED]


def test_many_secrets_of_an_impossible_number_are_a_defect() -> None:
    provider = make(text)
    provider.get_many = lambda _self, _requests: []  # type: ignore[method-assign,assignment]
    _, got = answers(provider, START, line(1, "get_many", {"requests": [{"path": "a"}]}))
    assert error_of(got).code == UNAVAILABLE


def test_a_backend_without_a_call_for_many_has_no_such_method() -> None:
    provider = make(text)
    provider.batch = 0
    _, got = answers(provider, START, line(1, "get_many", {"requests": []}))
    assert error_of(got).code == INVALID_REQUEST


def test_versions_are_handed_on() -> None:
    _, got = answers(make(text), START, line(1, "get", {"path": "a", "version": "7"}))
    assert got["result"]["text"] == "a@7"


@pytest.mark.parametrize(("extra", "number"), [(0, 1), (1, None), (100_000, None)])
def test_a_line_may_have_4_mib_with_its_end_and_no_more(extra: int, number: int | None) -> None:
    frame = len(line(1, "x", {"a": ""}))
    longest = line(1, "x", {"a": "y" * (MAX_MESSAGE_BYTES - frame + extra)})
    assert len(longest) == MAX_MESSAGE_BYTES + extra
    found = {each["id"]: each for each in answers(make(text), longest, START)}
    assert found.keys() == {number, 0}  # one that is too long is not read, not even for its id
    assert error_of(found[number]).code == INVALID_REQUEST
    assert "result" in found[0]


def test_an_oversized_line_that_never_ends_is_answered_at_the_end_of_the_input() -> None:
    output = io.BytesIO()
    assert serve(make(text), io.BytesIO(b"x" * (MAX_MESSAGE_BYTES + 10)), output) == 0
    assert output.getvalue().count(b"\n") == 1


def test_half_a_line_at_the_end_of_the_input_is_no_request() -> None:
    output = io.BytesIO()
    provider = make(text)
    assert serve(provider, io.BytesIO(START[:-1]), output) == 0
    assert (output.getvalue(), provider.opened) == (b"", [])


def test_a_notification_gets_no_answer_and_shutdown_may_be_one() -> None:
    output = io.BytesIO()
    notes = b'{"jsonrpc":"2.0","method":"shutdown"}\n' + START
    provider = make(text)
    assert serve(provider, io.BytesIO(notes), output) == 0
    assert (output.getvalue(), provider.opened) == (b"", [])


def test_an_agent_that_has_gone_is_no_reason_to_fail() -> None:
    class Gone(io.BytesIO):
        def write(self, _data: Any) -> int:
            raise BrokenPipeError

    assert serve(make(text), io.BytesIO(START + line(1, "nothing")), Gone()) == 0
