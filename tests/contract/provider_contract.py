"""What every provider's plugin must do, tried on its real program over its standard input and output.

A test module has a class that inherits `ProviderContract`, and two fixtures: `backend` (of the module's
scope), a `Backend` that can be written to, and `argv`, the plugin's command line (`OwnPlugin` has
that of DSO's own, from source and frozen). docs/provider-protocol.md is the specification this follows.
"""

from __future__ import annotations

import os
import secrets
import signal
import threading
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from dso.protocol.codes import INVALID_CONFIG, INVALID_REQUEST, NOT_FOUND, UNAUTHENTICATED, UNAVAILABLE
from dso.protocol.provider import (
    MAX_MESSAGE_BYTES,
    PROTOCOL_VERSION,
    RPC_METHOD_NOT_FOUND,
    RPC_PARSE_ERROR,
    ProviderError,
    SecretData,
    encode,
)
from tests.contract.backend import SAMPLES, assert_error, assert_same
from tests.support.canary import Canary
from tests.support.plugin import HANG, Plugin, plugin_argv
from tests.support.processes import argv as argv_of
from tests.support.processes import descendants

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from dso.protocol.provider import Initialized
    from tests.contract.backend import Backend

    Start = Callable[..., Plugin]


WRONG_SLASHES = ["//", "%2f", "%2F", "%252f", "\\", "%5c", "\u2215", "\u2044", "\uff0f", "\uff3c", "/./", "/%2e/"]


class ProviderContract:
    """The suite."""

    @pytest.fixture
    def start(self, argv: list[str], backend: Backend) -> Iterator[Start]:
        """Start the plugin; `start(None)` leaves it without `initialize`."""
        started: list[Plugin] = []

        def begin(config: Mapping[str, Any] | None, *, timeout: float = 10) -> Plugin:
            plugin = Plugin(argv, backend.env)
            started.append(plugin)
            if config is not None:
                plugin.initialize(config, timeout=timeout)
            return plugin

        yield begin
        for plugin in started:
            with plugin:
                assert plugin.garbage == [], "its standard output is not only messages"

    @pytest.fixture
    def plugin(self, start: Start, backend: Backend) -> Plugin:
        return start(backend.config)

    @pytest.fixture
    def path(self) -> str:
        """A path at which there is nothing yet."""
        return f"contract/{secrets.token_hex(8)}"

    @pytest.fixture
    def kind(self, backend: Backend) -> str:
        """One kind of content it can hold, where any will do."""
        return backend.kinds[0]

    # initialize

    def test_says_who_it_is_when_initialized(self, start: Start, backend: Backend) -> None:
        told: Initialized = start(None).initialize(backend.config)
        assert told.protocol == PROTOCOL_VERSION
        assert told.provider == backend.type
        assert told.version
        assert told.batch >= 0

    def test_asked_for_another_version_of_the_protocol_tells_its_own_and_opens_nothing(
        self, start: Start, backend: Backend
    ) -> None:
        plugin = start(None)
        params = {"protocol": PROTOCOL_VERSION + 98, "name": "tested", "config": backend.config, "timeout": 10}
        answer = plugin.call("initialize", params)
        assert int(answer.result["protocol"]) == PROTOCOL_VERSION
        assert plugin.call("check").code == INVALID_REQUEST
        plugin.initialize(backend.config)
        assert plugin.call("check").error is None

    def test_nothing_is_served_before_initialize(self, start: Start) -> None:
        plugin = start(None)
        assert plugin.call("get", {"path": "a"}).code == INVALID_REQUEST
        assert plugin.call("check").code == INVALID_REQUEST

    def test_cannot_be_initialized_twice(self, plugin: Plugin, backend: Backend) -> None:
        params = {"protocol": PROTOCOL_VERSION, "name": "again", "config": backend.config, "timeout": 10}
        assert plugin.call("initialize", params).code == INVALID_REQUEST
        assert plugin.call("check").error is None

    def test_setting_nobody_knows_is_refused_by_its_name(self, start: Start, backend: Backend) -> None:
        params = {"protocol": PROTOCOL_VERSION, "name": "tested", "timeout": 10}
        answer = start(None).call("initialize", {**params, "config": {**backend.config, "colour": "blue"}})
        assert answer.code == INVALID_CONFIG
        assert "colour" in answer.error.message
        assert "blue" not in answer.error.message

    # get

    def test_every_content_arrives_as_it_was_stored(self, plugin: Plugin, backend: Backend, path: str) -> None:
        assert backend.kinds
        for kind in backend.kinds:
            for number, content in enumerate(SAMPLES[kind]):
                name = f"{path}/{kind}-{number}"
                version = backend.put(name, content, kind)
                found = plugin.get(name)
                assert_same(found, backend.kept(name, content, kind), kind)
                assert found.version == version

    def test_a_value_of_the_largest_size_arrives(self, plugin: Plugin, backend: Backend, path: str, kind: str) -> None:
        size = backend.largest - len(b'{"value":""}')
        content = b'{"value":"%s"}' % (b"x" * size) if kind == "fields" else b"x" * backend.largest
        backend.put(path, content, kind)
        assert_same(plugin.get(path), content, kind)

    def test_the_newest_version_is_read_and_an_older_one_when_pinned(
        self, plugin: Plugin, backend: Backend, path: str, kind: str
    ) -> None:
        old, new = SAMPLES[kind][:2]
        first = backend.put(path, old, kind)
        second = backend.put(path, new, kind)
        assert first != second
        assert_same(plugin.get(path), new, kind)
        pinned = plugin.get(path, first)
        assert_same(pinned, old, kind)
        assert pinned.version == first
        assert_same(plugin.get(path, second), new, kind)

    def test_a_change_in_the_backend_shows_with_the_next_get(
        self, plugin: Plugin, backend: Backend, path: str, kind: str
    ) -> None:
        for content in SAMPLES[kind][:2]:
            backend.put(path, content, kind)
            assert_same(plugin.get(path), content, kind)

    def test_a_missing_secret_is_not_found_by_its_name(self, plugin: Plugin, path: str) -> None:
        assert_error(plugin.get(path), NOT_FOUND, path)

    def test_a_missing_version_is_not_found(self, plugin: Plugin, backend: Backend, path: str, kind: str) -> None:
        backend.put(path, SAMPLES[kind][0], kind)
        assert_error(plugin.get(path, "987654"), NOT_FOUND, path)

    @pytest.mark.parametrize("wrong", [{}, {"path": ""}, {"path": 5}, {"path": None}, {"path": "a", "version": 1}])
    def test_a_malformed_request_is_refused(self, plugin: Plugin, wrong: dict[str, Any]) -> None:
        assert plugin.call("get", wrong).code == INVALID_REQUEST

    @pytest.mark.parametrize(
        "hostile",
        [
            *["../../etc/passwd", "/etc/passwd", "a/../../b", "..", "a\nb", "a?list=true", "%2e", "a\0", "a\x1b[2J"],
            *[
                "%2e%2e/%2e%2e/sys",
                "%252e%252e/sys",
                "..%2fsys",
                "..\\sys",
                "\uff0e\uff0e/sys",
                "\u2024\u2024\uff0fsys",
                "a//b",
            ],
        ],
    )
    def test_a_hostile_path_leads_nowhere(self, plugin: Plugin, hostile: str) -> None:
        found = plugin.get(hostile)
        assert isinstance(found, ProviderError)
        assert found.code in (NOT_FOUND, INVALID_REQUEST)
        assert found.message.isprintable()
        assert plugin.call("check").error is None

    def test_no_spelling_of_a_way_up_leads_to_another_secret(
        self, plugin: Plugin, backend: Backend, path: str, kind: str
    ) -> None:
        """Whatever a library, a proxy or the backend decodes, folds or resolves: no path is another one's."""
        backend.put(f"{path}/secret", SAMPLES[kind][0], kind)
        backend.put(path, SAMPLES[kind][0], kind)
        ways = [
            "..",
            "%2e%2e",
            "%252e%252e",
            ".%2e",
            "\uff0e\uff0e",
            "\u2024\u2024",
            "\u2025",
            ".. ",
            "..;",
            "..;x=1",
            "%u002e%u002e",
        ]
        paths = [f"{path}/below/{way}/secret" for way in ways] + [f"{path}{slash}secret" for slash in WRONG_SLASHES]
        paths += [f"{path}/secret{end}" for end in ("/", "//", "/.", "\0", "\n", "%00", "%20")]
        answers = {each: plugin.get(each) for each in paths}
        assert [each for each, found in answers.items() if not isinstance(found, ProviderError)] == []
        for version in ("../1", "%2e%2e", "1%2f..", "1\\", "1\n"):
            assert_error(plugin.get(path, version))

    def test_a_legal_path_arrives_as_it_is(self, plugin: Plugin, backend: Backend, path: str, kind: str) -> None:
        """Where a plugin forgets to encode what means something in an address, it reads another secret."""
        one, other = SAMPLES[kind][:2]
        for name in backend.odd_names:
            backend.put(f"{path}{name}", one, kind)
            for sign in "?#;%":
                if sign in name:
                    backend.put(f"{path}{name.partition(sign)[0]}", other, kind)
            assert_same(plugin.get(f"{path}{name}"), one, kind)

    # get_many

    def test_many_are_answered_in_their_order_each_with_its_own_error(
        self, start: Start, backend: Backend, path: str, kind: str
    ) -> None:
        plugin = start(None)
        batch = plugin.initialize(backend.config).batch
        one, two = SAMPLES[kind][:2]
        first = backend.put(f"{path}/a", one, kind)
        backend.put(f"{path}/a", two, kind)
        backend.put(f"{path}/b", one, kind)
        if not batch:
            assert plugin.call("get_many", {"requests": [{"path": f"{path}/a"}]}).code == INVALID_REQUEST
            return
        assert batch >= 5
        a, b = (f"{path}/a", None), (f"{path}/b", None)
        found = plugin.get_many(b, (f"{path}/absent", None), a, (f"{path}/a", first), b)
        for each, content in zip([found[0], *found[2:]], [one, two, one, one], strict=True):
            assert_same(each, content, kind)
        assert_error(found[1], NOT_FOUND, f"{path}/absent")

    def test_more_than_it_said_it_takes_are_refused(self, start: Start, backend: Backend) -> None:
        plugin = start(None)
        batch = plugin.initialize(backend.config).batch
        many = {"requests": [{"path": "a"}] * (batch + 1)}
        assert plugin.call("get_many", many).code == INVALID_REQUEST
        assert plugin.call("get_many", {"requests": "all"}).code == INVALID_REQUEST

    # Requests that overlap

    def test_requests_that_overlap_are_all_answered(
        self, plugin: Plugin, backend: Backend, path: str, kind: str
    ) -> None:
        contents = [SAMPLES[kind][number % 2] for number in range(8)]
        for number, content in enumerate(contents):
            backend.put(f"{path}/{number}", content, kind)
        sent = [plugin.send("get", {"path": f"{path}/{number % 9}"}) for number in range(150)]
        for number, each in reversed(list(enumerate(sent))):
            found = plugin.secret(each)
            if number % 9 == 8:
                assert_error(found, NOT_FOUND)
            else:
                assert_same(found, contents[number % 9], kind)

    def test_identifiers_may_be_text(self, plugin: Plugin) -> None:
        plugin.send_line(encode({"jsonrpc": "2.0", "id": "first", "method": "check"}))
        assert plugin.answer("first").error is None

    # check, and what can be wrong

    def test_check_succeeds_where_all_is_well(self, plugin: Plugin) -> None:
        answer = plugin.call("check", {})
        assert (answer.result, answer.error) == ({}, None)

    def test_bad_credentials_are_told_apart(self, start: Start, backend: Backend, path: str, kind: str) -> None:
        backend.put(path, SAMPLES[kind][0], kind)
        assert backend.bad_credentials
        for config in backend.bad_credentials:
            plugin = start(config)
            assert plugin.call("check").code == UNAUTHENTICATED
            assert_error(plugin.get(path), UNAUTHENTICATED, "tested")

    def test_an_unreachable_backend_is_unavailable_and_no_reason_not_to_start(
        self, start: Start, backend: Backend, path: str
    ) -> None:
        plugin = start(backend.unreachable, timeout=3)
        assert plugin.call("check").code == UNAVAILABLE
        assert_error(plugin.get(path), UNAVAILABLE, "tested")

    # What is no request

    @pytest.mark.parametrize(
        "line", [b"hello\n", b"{\n", b"\xff\xfe\n", b"\n", b"[]\n", b'"get"\n', b"{}\n", b"[" * 100_000 + b"\n"]
    )
    def test_a_line_that_is_no_request_is_answered_and_the_next_one_served(self, plugin: Plugin, line: bytes) -> None:
        plugin.send_line(line)
        answer = plugin.answer(None)
        assert answer.code == INVALID_REQUEST
        assert plugin.call("check").error is None

    def test_an_unknown_method_is_refused(self, plugin: Plugin) -> None:
        number = plugin.send("delete", {"path": "a"})
        assert plugin.answer(number).code == INVALID_REQUEST
        assert plugin.call("check").error is None

    def test_json_rpcs_own_numbers_are_used(self, plugin: Plugin) -> None:
        number = plugin.send("delete")
        plugin.send_line(b"hello\n")
        plugin.call("check")
        codes = {str(each["id"]): int(each["error"]["code"]) for each in plugin.received}
        assert codes == {str(number): RPC_METHOD_NOT_FOUND, "None": RPC_PARSE_ERROR}

    def test_a_message_that_is_too_long_is_refused_and_the_next_one_served(self, plugin: Plugin) -> None:
        plugin.send_line(
            encode({"jsonrpc": "2.0", "id": 99, "method": "get", "params": {"path": "x" * MAX_MESSAGE_BYTES}})
        )
        assert plugin.answer(None).code == INVALID_REQUEST
        assert plugin.call("check").error is None

    # Its end

    def test_shutdown_is_answered_and_ends_it(self, plugin: Plugin) -> None:
        answer = plugin.call("shutdown", {})
        assert (answer.result, answer.error) == ({}, None)
        assert plugin.process.wait(HANG) == 0

    def test_the_end_of_its_input_ends_it(self, plugin: Plugin) -> None:
        plugin.call("check")
        plugin.close_input()
        assert plugin.process.wait(HANG) == 0

    def test_the_end_of_its_input_ends_it_before_it_is_initialized_too(self, start: Start) -> None:
        plugin = start(None)
        plugin.close_input()
        assert plugin.process.wait(HANG) == 0

    def test_sigterm_ends_it(self, plugin: Plugin) -> None:
        plugin.process.send_signal(signal.SIGTERM)
        plugin.process.wait(HANG)

    def test_an_interrupt_at_the_terminal_is_left_to_the_agent(self, plugin: Plugin) -> None:
        os.killpg(plugin.process.pid, signal.SIGINT)
        assert plugin.call("check").error is None

    # What must stay secret

    def test_no_value_and_no_credential_shows_in_log_or_command_line(
        self, start: Start, backend: Backend, path: str, kind: str
    ) -> None:
        canary = Canary.new()
        wrap = b'{"secret":"%s"}' if kind == "fields" else b"%s"
        backend.put(path, wrap % canary.token, kind)
        shown = b""
        for config in [backend.config, *backend.bad_credentials]:
            plugin = start(config)
            found = plugin.get(path)
            assert isinstance(found, SecretData) == (config is backend.config)
            messages = [found] if isinstance(found, ProviderError) else []
            messages += [plugin.get(f"{path}/absent"), plugin.call("check").error]  # type: ignore[list-item]
            shown += b" ".join(each.message.encode() for each in messages if isinstance(each, ProviderError))
            pids = [plugin.process.pid, *(child.pid for child in descendants(plugin.process.pid))]
            shown += " ".join(word for pid in pids for word in argv_of(pid)).encode()
            plugin.call("shutdown")
            plugin.process.wait(HANG)
            shown += plugin.stderr
        assert canary.find(shown) is None
        assert backend.credentials
        assert [each for each in backend.credentials if each.encode() in shown] == []

    def test_it_leaves_no_thread_of_the_conversation_behind_when_flooded(self, plugin: Plugin) -> None:
        """1,000 requests without a pause: it neither drops one nor blocks for good."""
        sent: list[int] = []
        sender = threading.Thread(target=lambda: sent.extend(plugin.send("delete") for _ in range(1000)))
        sender.start()
        sender.join(HANG)
        assert len(sent) == 1000
        assert {plugin.answer(number).code for number in sent} == {INVALID_REQUEST}


class OwnPlugin(ProviderContract):
    """The suite for a plugin of DSO's own, from source and frozen; `program` is its name."""

    program: ClassVar[str]

    @pytest.fixture
    def argv(self, variant: str) -> list[str]:
        return plugin_argv(self.program, variant)

    def test_nobody_may_look_into_its_memory(self, plugin: Plugin) -> None:
        """No core file, and nothing of it in /proc for others of its own user."""
        pids = [plugin.process.pid, *(child.pid for child in descendants(plugin.process.pid))]
        for pid in pids:
            with open(f"/proc/{pid}/limits") as limits:
                (line,) = [each for each in limits if each.startswith("Max core file size")]
            assert int(line.split()[4]) <= 1
        assert os.stat(f"/proc/{pids[-1]}/environ").st_uid == 0

    def test_started_by_hand_it_says_what_it_is(self, argv: list[str]) -> None:
        from dso.version import VERSION
        from tests.support.process import run

        done = run([*argv, "--version"])
        assert done.out == f"{self.program} {VERSION}\n"
        refused = run([*argv, "--help"], check=False)
        assert refused.returncode == 125
        assert "dso-agent" in refused.err
