"""Every way in which a plugin can fail: a named error for whoever asked, a restart, and nothing else."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.lines import LogLines
from dso.agent.process import PluginProcess
from dso.protocol.codes import (
    INVALID_CONFIG,
    NOT_FOUND,
    PLUGIN_CRASHED,
    PLUGIN_GARBAGE,
    PLUGIN_MISSING,
    PLUGIN_OVERSIZED,
    PLUGIN_SLOW_START,
    PLUGIN_TIMEOUT,
    PLUGIN_UNTRUSTED,
    PLUGIN_VERSION,
    THROTTLED,
)
from dso.protocol.provider import MAX_MESSAGE_BYTES, ProviderError, SecretData, decode
from tests.support.loop import Turns, in_loop, until
from tests.support.plugin_dir import IMPATIENT, PluginDir, Running, running

if TYPE_CHECKING:
    from pathlib import Path

HANG = 0.7  # seconds, the timeout of a provider that is to run into it


@pytest.fixture
def plugins(tmp_path: Path) -> PluginDir:
    return PluginDir(str(tmp_path / "plugins"))


def exists(pid: int) -> bool:
    """Whether a process is there and no zombie."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def starts_in(plugins: PluginDir) -> int:
    """How often the plugin that crashes at its start was started."""
    with open(f"{plugins.path}/starts", encoding="utf-8") as starts:
        return len(starts.read())


def heal(plugins: PluginDir) -> None:
    """Have it work from now on."""
    with open(f"{plugins.path}/heal", "w", encoding="utf-8"):
        pass


@in_loop
async def test_crash_is_told_to_all_in_flight_and_the_plugin_comes_back(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("crashes")) as agent:
        assert await agent.value("crashes", "fine") == b"value of fine"
        first = agent.pid("crashes")
        errors = await agent.providers.get_many("crashes", [("wait", None), ("wait", None), ("crash", None)])
        assert [error.code for error in errors if isinstance(error, ProviderError)] == [PLUGIN_CRASHED] * 3
        assert "exit code 3" in str(errors[0])
        assert "'crashes'" in str(errors[0])
        assert await agent.value("crashes", "fine") == b"value of fine"
        assert agent.pid("crashes") != first
        assert agent.events.states("crashes") == ["starting", "running", "waiting", "starting", "running"]


@in_loop
async def test_death_by_a_signal_is_named(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("crashes")) as agent:
        assert "SIGKILL" in str(await agent.error("crashes", "kill"))


@in_loop
async def test_crash_at_start_backs_off_and_heals_by_itself(plugins: PluginDir) -> None:
    limits = IMPATIENT._replace(backoff=1.0, longest_backoff=1000.0)
    async with running(plugins, plugins.config("crashes_at_start", timeout=0.5), limits=limits) as agent:
        codes = set()
        for _ in range(200):
            error = await agent.error("crashes-at-start", "x")
            codes.add(error.code)
        assert starts_in(plugins) == 1  # two hundred callers, one start
        assert codes <= {PLUGIN_CRASHED, PLUGIN_SLOW_START}
        assert PLUGIN_CRASHED in codes
        assert 0 < (error.retry_after or 0) <= 1.0
        heal(plugins)
        await until(lambda: agent.events.states("crashes-at-start")[-1] == "running", "the restart")
        assert await agent.value("crashes-at-start", "x") == b"value of x"


@in_loop
async def test_backoff_doubles_from_failure_to_failure(plugins: PluginDir) -> None:
    limits = IMPATIENT._replace(backoff=0.01, longest_backoff=1000.0)
    async with running(plugins, plugins.config("crashes_at_start"), limits=limits) as agent:

        def retry_in() -> float:
            return agent.providers.states()[0].retry_in or 0

        await until(lambda: retry_in() > 0.6, "a wait of 0.64 s")
        assert starts_in(plugins) == 7  # 0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64


@in_loop
async def test_hang_times_out_its_caller_and_the_plugin_is_replaced(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("hangs", timeout=HANG)) as agent:
        await until(lambda: agent.events.states("hangs")[-1:] == ["running"], "the start")
        first = agent.pid("hangs")
        error = await agent.error("hangs", "hang")
        assert error.code == PLUGIN_TIMEOUT
        await until(lambda: agent.events.states("hangs").count("running") == 2, "the restart")
        assert agent.events.of("provider.state")[2]["code"] == PLUGIN_TIMEOUT
        assert not exists(first or 0)
        assert await agent.value("hangs", "fine") == b"value of fine"


@in_loop
async def test_whoever_waits_for_a_hung_plugin_is_told_when_it_is_ended(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("hangs", timeout=HANG)) as agent:
        await until(lambda: agent.events.states("hangs")[-1:] == ["running"], "the start")
        hanging = asyncio.create_task(agent.error("hangs", "hang"))
        await asyncio.sleep(HANG * 0.9)
        assert (await agent.error("hangs", "fine")).code == PLUGIN_TIMEOUT
        assert (await hanging).code == PLUGIN_TIMEOUT


@in_loop
async def test_plugin_that_lives_is_not_ended_for_one_slow_answer(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("loses", timeout=HANG)) as agent:
        await until(lambda: agent.events.states("loses")[-1:] == ["running"], "the start")
        first = agent.pid("loses")
        for _ in range(4):  # a good answer in between begins the count anew
            assert (await agent.error("loses", "lost")).code == PLUGIN_TIMEOUT
            assert await agent.value("loses", "fine") == b"value of fine"
        assert agent.pid("loses") == first


@in_loop
async def test_plugin_that_lives_but_answers_nothing_is_replaced(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("loses", timeout=HANG)) as agent:
        await until(lambda: agent.events.states("loses")[-1:] == ["running"], "the start")
        first = agent.pid("loses")
        lost = [("lost", None)] * 20  # side by side they are one strike
        await agent.providers.get_many("loses", lost)
        await agent.providers.get_many("loses", lost)
        assert agent.pid("loses") == first
        await agent.providers.get_many("loses", lost)
        await until(lambda: agent.events.states("loses").count("running") == 2, "the restart")
        assert not exists(first or 0)


@in_loop
async def test_answer_that_comes_too_late_is_no_fault(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("loses", timeout=HANG)) as agent:
        await until(lambda: agent.events.states("loses")[-1:] == ["running"], "the start")
        first = agent.pid("loses")
        assert (await agent.error("loses", "late")).code == PLUGIN_TIMEOUT
        assert await agent.value("loses", "fine") == b"value of fine"
        assert await agent.value("loses", "fine") == b"value of fine"
        assert agent.pid("loses") == first


GARBAGE = [
    "hello\n",
    "\n",
    "\xff\xfe\n",
    "5\n",
    "[]\n",
    '{"id":ID,"result":{"text":"x"}}\n',
    '{"jsonrpc":"1.0","id":ID,"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":ID}\n',
    '{"jsonrpc":"2.0","id":ID,"result":1,"error":{}}\n',
    '{"jsonrpc":"2.0","id":99999,"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":0,"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":"ID","result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":ID.0,"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":-ID,"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":1' + "0" * 5000 + ',"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":null,"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","id":[ID],"result":{"text":"x"}}\n',
    '{"jsonrpc":"2.0","method":"get","id":ID}\n',
    '{"jsonrpc":"2.0","id":ID,"result":{"text":"x"}\n',
    "[" * 50_000 + "\n",
]


@pytest.mark.parametrize("garbage", GARBAGE)
@in_loop
async def test_garbage_fails_what_is_in_flight_and_the_plugin_is_replaced(plugins: PluginDir, garbage: str) -> None:
    async with running(plugins, plugins.config("says", says=garbage)) as agent:
        assert await agent.value("says", "fine") == b"value of fine"
        first = agent.pid("says")
        errors = await agent.providers.get_many("says", [("wait", None), ("odd", None)])
        assert [error.code for error in errors if isinstance(error, ProviderError)] == [PLUGIN_GARBAGE] * 2
        assert await agent.value("says", "fine") == b"value of fine"
        assert agent.pid("says") != first


@in_loop
async def test_second_answer_to_one_request_is_garbage(plugins: PluginDir) -> None:
    twice = '{"jsonrpc":"2.0","id":ID,"result":{"text":"x"}}\n' * 2
    async with running(plugins, plugins.config("says", says=twice)) as agent:
        first, second = await agent.providers.get_many("says", [("odd", None), ("wait", None)])
        assert isinstance(first, SecretData)
        assert isinstance(second, ProviderError)
        assert second.code == PLUGIN_GARBAGE


WRONG = [
    "5",
    "null",
    "{}",
    "[]",
    '{"text":5}',
    '{"text":"x","fields":{}}',
    '{"fields":"x"}',
    '{"binary":"not base64"}',
    '{"text":"x","version":5}',
    '{"text":"x","created_at":"now"}',
]


@pytest.mark.parametrize("result", WRONG)
@in_loop
async def test_result_of_the_wrong_type_concerns_its_caller_alone(plugins: PluginDir, result: str) -> None:
    says = f'{{"jsonrpc":"2.0","id":ID,"result":{result}}}\n'
    async with running(plugins, plugins.config("says", says=says)) as agent:
        assert await agent.value("says", "fine") == b"value of fine"
        first = agent.pid("says")
        odd, fine = await agent.providers.get_many("says", [("odd", None), ("fine", None)])
        assert isinstance(odd, ProviderError)
        assert odd.code == PLUGIN_GARBAGE
        assert isinstance(fine, SecretData)
        assert agent.pid("says") == first


@in_loop
async def test_plugin_with_nothing_but_wrong_types_is_replaced(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("says", says='{"jsonrpc":"2.0","id":ID,"result":5}\n')) as agent:
        for _ in range(3):
            assert (await agent.error("says", "odd")).code == PLUGIN_GARBAGE
        await until(lambda: agent.events.states("says").count("running") == 2, "the restart")


@in_loop
async def test_oversized_answer_with_its_id_first_fails_its_request_alone(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("oversized")) as agent:
        assert await agent.value("oversized", "fine") == b"value of fine"
        first = agent.pid("oversized")
        big, fine = await agent.providers.get_many("oversized", [("first", None), ("fine", None)])
        assert isinstance(big, ProviderError)
        assert big.code == PLUGIN_OVERSIZED
        assert "4 MiB" in big.message
        assert isinstance(fine, SecretData)
        assert agent.pid("oversized") == first


@pytest.mark.parametrize("path", ["last", "endless"])
@in_loop
async def test_oversized_answer_of_nobody_or_without_end_is_no_hang(plugins: PluginDir, path: str) -> None:
    async with running(plugins, plugins.config("oversized")) as agent:
        assert (await agent.error("oversized", path)).code == PLUGIN_OVERSIZED
        await until(lambda: agent.events.states("oversized").count("running") == 2, "the restart")
        assert await agent.value("oversized", "fine") == b"value of fine"


@in_loop
async def test_a_log_that_is_flooded_is_not_read_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dso.agent.process._PAUSE", 3600)
    read, logged = [0], list[str]()

    class Flood:
        async def read(self, size: int) -> bytes:
            read[0] += 1
            assert read[0] < 10
            return b"x\n" * (100 if read[0] < 5 else size // 2)

    process = PluginProcess.__new__(PluginProcess)
    process._lines = LogLines(logged.append, lambda: 0.0)
    async with Turns() as turns:
        reading = asyncio.create_task(process._read_log(Flood()))  # type: ignore[arg-type]
        await until(lambda: turns.count > 100, "turns of the loop")
        reading.cancel()
    assert (read, len(logged)) == ([5], 500)


@in_loop
async def test_answer_of_more_values_than_may_be_is_not_parsed(
    plugins: PluginDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []

    def counted(line: bytes) -> object:
        parsed.append(len(line))
        return decode(line)

    monkeypatch.setattr("dso.agent.rpc.decode", counted)
    async with running(plugins, plugins.config("oversized")) as agent:
        assert await agent.value("oversized", "fine") == b"value of fine"
        first = agent.pid("oversized")
        error = await agent.error("oversized", "values")
        assert (error.code, "10000 JSON values" in error.message) == (PLUGIN_OVERSIZED, True)
        assert len(await agent.value("oversized", "commas")) == 3 * 1024**2, "text is one value, whatever is in it"
        assert agent.pid("oversized") == first
        assert max(parsed) > 3 * 1024**2
        parsed.clear()
        assert (await agent.error("oversized", "values-last")).code == PLUGIN_GARBAGE
        await until(lambda: agent.events.states("oversized").count("running") == 2, "the restart")
    assert max(parsed) < 1024


@in_loop
async def test_answer_of_exactly_the_limit_is_read(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("oversized")) as agent:
        assert len(await agent.value("oversized", "exact")) > MAX_MESSAGE_BYTES - 100


@in_loop
async def test_batch_too_large_for_one_message_is_fetched_one_by_one(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("oversized", batch=10)) as agent:
        for number in (2, 3):  # the plugin notices itself; the plugin does not
            found = await agent.providers.get_many("oversized", [(f"a{index}", None) for index in range(number)])
            values = [one.content.reveal() for one in found if isinstance(one, SecretData)]
            assert values == [b"value of a%d" % index for index in range(number)]


@in_loop
async def test_slow_start_fails_callers_in_their_time_and_succeeds_in_the_end(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("starts_slowly", timeout=0.3, seconds=1.5)) as agent:
        error = await agent.error("starts-slowly", "x")
        assert error.code == PLUGIN_SLOW_START
        await until(lambda: agent.events.states("starts-slowly")[-1] == "running", "the start")
        assert agent.events.states("starts-slowly") == ["starting", "running"]
        assert await agent.value("starts-slowly", "x") == b"value of x"


@in_loop
async def test_start_that_takes_for_ever_is_tried_anew(plugins: PluginDir) -> None:
    limits = IMPATIENT._replace(start=0.4)
    async with running(plugins, plugins.config("starts_slowly", timeout=30, seconds=1000), limits=limits) as agent:
        error = await agent.error("starts-slowly", "x")
        assert error.code == PLUGIN_SLOW_START
        assert "0.4 s" in error.message
        await until(lambda: agent.events.states("starts-slowly").count("starting") == 2, "the next try")


@in_loop
async def test_other_version_of_the_protocol_is_named_with_ours(plugins: PluginDir) -> None:
    config = plugins.config("refuses_to_start", result={"protocol": 7, "version": "9.9"})
    async with running(plugins, config) as agent:
        error = await agent.error("refuses-to-start", "x")
        assert error.code == PLUGIN_VERSION
        assert "version 7 " in error.message
        assert "version 1:" in error.message
        assert "dso-provider-refuses-to-start" in error.message


@pytest.mark.parametrize("result", [5, {}, {"protocol": "1"}, {"protocol": 1, "capabilities": {"get_many": -1}}])
@in_loop
async def test_initialize_answered_with_something_else_is_garbage(plugins: PluginDir, result: Any) -> None:
    async with running(plugins, plugins.config("refuses_to_start", result=result)) as agent:
        assert (await agent.error("refuses-to-start", "x")).code == PLUGIN_GARBAGE


@in_loop
async def test_refusal_to_start_is_passed_on_without_the_credential_in_it(plugins: PluginDir) -> None:
    config = plugins.config("refuses_to_start", error="invalid_config", token="hunter2hunter2")
    async with running(plugins, config) as agent:
        error = await agent.error("refuses-to-start", "x")
        assert error.code == INVALID_CONFIG
        assert "no good: ****" in error.message
        assert "hunter2" not in error.message + repr(agent.events.all) + repr(agent.providers.states())


@in_loop
async def test_missing_plugin_is_named_and_found_as_soon_as_it_is_installed(plugins: PluginDir) -> None:
    limits = IMPATIENT._replace(backoff=1000.0, longest_backoff=1000.0)
    config = plugins.config("good")
    os.unlink(f"{plugins.path}/dso-provider-good")
    async with running(plugins, config, limits=limits) as agent:
        error = await agent.error("good", "x")
        assert error.code == PLUGIN_MISSING
        assert f"{plugins.path}/dso-provider-good" in error.message
        assert "--plugin-dir" in error.message
        assert agent.announced == []
        plugins.install("good")
        assert await agent.value("good", "x") == b"value of x"  # in spite of the backoff
        assert agent.announced == [f"[DSO] Using GOOD provider plugin: {plugins.path}/dso-provider-good"]


@in_loop
async def test_untrusted_plugin_is_not_started_until_it_is_mended(plugins: PluginDir) -> None:
    config = plugins.config("good")
    path = f"{plugins.path}/dso-provider-good"
    os.chmod(path, 0o777)
    async with running(plugins, config, limits=IMPATIENT._replace(backoff=1000.0)) as agent:
        error = await agent.error("good", "x")
        assert error.code == PLUGIN_UNTRUSTED
        assert f"chmod go-w {path}" in error.message
        assert agent.pid("good") is None
        os.chmod(path, 0o755)
        assert await agent.value("good", "x") == b"value of x"


@pytest.mark.parametrize(
    ("content", "code"), [("#!/nonexistent/interpreter\n", PLUGIN_MISSING), ("\x7fELF no program", PLUGIN_CRASHED)]
)
@in_loop
async def test_file_that_is_no_program_is_an_error(plugins: PluginDir, content: str, code: str) -> None:
    config = plugins.config("good")
    plugins.overwrite("good", content)
    async with running(plugins, config) as agent:
        error = await agent.error("good", "x")
        assert error.code == code
        assert "dso-provider-good" in error.message


@in_loop
async def test_torrent_on_standard_error_is_bounded_and_without_credentials(
    plugins: PluginDir, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="dso.agent.plugin")
    async with running(plugins, plugins.config("noisy", auth={"method": "token", "token": "hunter2hunter2"})) as agent:
        assert await agent.value("noisy", "x") == b"value of x"
    lines = [record.getMessage() for record in caplog.records if record.name == "dso.agent.plugin"]
    assert "noisy: the token is ********" in lines
    assert "noisy: \\x1b[31mred\\x1b[0m and \N{REPLACEMENT CHARACTER}" in lines
    assert any(line.endswith("yyyy [cut]") for line in lines)
    assert any("lines left out" in line for line in lines)
    assert max(map(len, lines)) < 5000
    assert 400 < len(lines) < 5000
    assert "hunter2" not in caplog.text


@in_loop
async def test_lines_for_debugging_are_logged_as_such(plugins: PluginDir, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, logger="dso.agent.plugin")
    async with running(plugins, plugins.config("noisy", auth={"method": "token", "token": "hunter2hunter2"})) as agent:
        assert await agent.value("noisy", "x") == b"value of x"
    levels = {record.getMessage(): record.levelname for record in caplog.records if "DEBUG" in record.getMessage()}
    assert levels == {"noisy: DEBUG noisy: a detail": "DEBUG", "noisy: DEBUGGING": "INFO"}


@pytest.mark.parametrize("stream", ["stdin", "stdout"])
@in_loop
async def test_plugin_that_closes_a_pipe_is_replaced(plugins: PluginDir, stream: str) -> None:
    async with running(plugins, plugins.config("closes")) as agent:
        assert await agent.value("closes", "fine") == b"value of fine"
        first = agent.pid("closes")
        assert (await agent.error("closes", stream)).code == PLUGIN_CRASHED
        assert await agent.value("closes", "fine") == b"value of fine"
        assert not exists(first or 0)


@in_loop
async def test_close_ends_the_most_stubborn_plugin_and_its_child(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("stubborn")) as agent:
        child = int(await agent.value("stubborn", "x"))
        leader = agent.pid("stubborn") or 0
        assert exists(leader)
        assert exists(child)
        error = await end(agent)
    assert error.code == "unavailable"
    assert str(leader) not in os.listdir("/proc")  # no zombie either
    await until(lambda: not exists(child), "the child's end")


async def end(agent: Running) -> ProviderError:
    """Close, and what a request then gets."""
    await agent.providers.close()
    return await agent.error("stubborn", "x")


@in_loop
async def test_crash_of_the_first_process_ends_the_second(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("stubborn")) as agent:
        child = int(await agent.value("stubborn", "x"))
        os.kill(agent.pid("stubborn") or 0, 9)
        await until(lambda: not exists(child), "the child's end")


@in_loop
async def test_shutdown_is_asked_for(plugins: PluginDir, tmp_path: Path) -> None:
    record = tmp_path / "record"
    async with running(plugins, plugins.config("good", record=str(record))) as agent:
        await agent.value("good", "x")
    assert '"method": "shutdown"' in record.read_text()


@in_loop
async def test_errors_of_the_backend_are_no_faults_of_the_plugin(plugins: PluginDir) -> None:
    says = (
        '{"jsonrpc":"2.0","id":ID,"error":{"code":-32000,"message":"slow down","data":'
        '{"code":"throttled","retry_after":2.5}}}\n'
    )
    configs = plugins.config("good", token="hunter2hunter2"), plugins.config("says", says=says)
    async with running(plugins, *configs) as agent:
        missing = await agent.error("good", "missing")
        assert (missing.code, missing.message) == (NOT_FOUND, "provider 'good': there is no missing for ********")
        throttled = await agent.error("says", "odd")
        assert (throttled.code, throttled.retry_after) == (THROTTLED, 2.5)
        assert agent.events.states("good") == ["starting", "running"]


@in_loop
async def test_cancelled_caller_leaves_nothing_behind(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("slow", seconds=0.3)) as agent:
        await agent.value("slow", "x")
        first = agent.pid("slow")
        task = asyncio.create_task(agent.value("slow", "y"))
        await asyncio.sleep(0.1)
        task.cancel()
        await asyncio.wait([task])
        assert await agent.value("slow", "z") == b"value of z"
        assert agent.pid("slow") == first


@in_loop
async def test_crashes_leave_no_descriptor_and_no_process(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("crashes")) as agent:
        await agent.error("crashes", "crash")
        await agent.value("crashes", "fine")
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(10):
            await agent.error("crashes", "crash")
            await agent.value("crashes", "fine")
        assert len(os.listdir("/proc/self/fd")) == before
