"""Many providers side by side, and what is asked of each."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.environment import plugin_environment
from dso.protocol.codes import (
    INVALID_CONFIG,
    INVALID_REQUEST,
    NOT_FOUND,
    PLUGIN_CRASHED,
    PLUGIN_TIMEOUT,
    UNAVAILABLE,
    UNKNOWN_PROVIDER,
)
from dso.protocol.provider import ProviderError, SecretData
from tests.support.loop import in_loop, until
from tests.support.plugin_dir import PluginDir, running
from tests.support.process import ROOT, started
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    from dso.config.model import ProviderConfig


@pytest.fixture
def plugins(tmp_path: Path) -> PluginDir:
    return PluginDir(str(tmp_path / "plugins"))


def requests_in(record: Path, method: str) -> list[dict[str, Any]]:
    """The parameters of the requests of one kind that a plugin has recorded."""
    found = [json.loads(line) for line in record.read_text().splitlines()]
    return [request["params"] for request in found if request["method"] == method]


def values(found: list[SecretData | ProviderError]) -> list[bytes | str]:
    """Contents, and codes of errors."""
    return [one.code if isinstance(one, ProviderError) else one.content.reveal() for one in found]


@in_loop
async def test_each_gets_its_own_answer_in_the_order_asked(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("good")) as agent:
        wanted = [("a", None), ("missing", None), ("b", "3"), ("a", None)]
        found = await agent.providers.get_many("good", wanted)
        assert values(found) == [b"value of a", NOT_FOUND, b"value of b", b"value of a"]
        assert [one.version for one in found if isinstance(one, SecretData)] == ["7", "3", "7"]


@in_loop
async def test_answers_out_of_order_reach_those_who_asked(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("shuffles", count=50)) as agent:
        wanted = [(f"s{number}", None) for number in range(50)]  # answered only when all fifty are in flight
        found = await agent.providers.get_many("shuffles", wanted)
        assert values(found) == [f"value of s{number}".encode() for number in range(50)]


@pytest.mark.parametrize(("number", "calls"), [(1, []), (20, [20]), (45, [20, 20, 5]), (41, [20, 20])])
@in_loop
async def test_plugin_that_reads_many_at_once_is_asked_in_batches(
    plugins: PluginDir, tmp_path: Path, number: int, calls: list[int]
) -> None:
    record = tmp_path / "record"
    async with running(plugins, plugins.config("good", batch=20, record=str(record))) as agent:
        wanted = [("missing" if index == 2 else f"s{index}", None) for index in range(number)]
        found = await agent.providers.get_many("good", wanted)
    assert values(found) == [NOT_FOUND if path == "missing" else f"value of {path}".encode() for path, _ in wanted]
    assert [len(one["requests"]) for one in requests_in(record, "get_many")] == calls
    assert len(requests_in(record, "get")) == number - sum(calls)  # one alone needs no batch


@in_loop
async def test_initialize_tells_the_settings_and_a_time_with_a_margin(plugins: PluginDir, tmp_path: Path) -> None:
    record = tmp_path / "record"
    config = plugins.config("good", name="mine", timeout=10.0, record=str(record), depth={"x": [1, "1.10"]})
    async with running(plugins, config) as agent:
        await agent.value("mine", "x")
    assert requests_in(record, "initialize") == [
        {"protocol": 1, "name": "mine", "config": config.settings.reveal(), "timeout": 9.0}
    ]


@in_loop
async def test_numbers_keep_their_digits(plugins: PluginDir) -> None:
    fields = '{"a":1.10,"b":12345678901234567890123,"c":-0,"d":1E+2,"e":{"f":[0.30]}}'
    says = f'{{"jsonrpc":"2.0","id":ID,"result":{{"fields":{fields},"version":"1","created_at":1.5e9}}}}\n'
    async with running(plugins, plugins.config("says", says=says)) as agent:
        found = await agent.get("says", "odd")
        assert isinstance(found, SecretData)
        assert (found.content.reveal(), found.is_fields, found.created_at) == (fields.encode(), True, 1.5e9)


@in_loop
async def test_unknown_provider_is_an_error_and_no_exception(plugins: PluginDir) -> None:
    async with running(plugins) as agent:
        found = await agent.providers.get_many("nobody", [("a", None), ("b", None)])
        assert values(found) == [UNKNOWN_PROVIDER] * 2
        with pytest.raises(ProviderError) as caught:
            await agent.providers.check("nobody")
        assert caught.value.code == UNKNOWN_PROVIDER


@pytest.mark.parametrize("provider_type", ["../good", "x/y", "", ".", "..", "good\0", "Good", "good\n", "g" * 65])
@in_loop
async def test_type_that_leads_out_of_the_directory_starts_nothing(plugins: PluginDir, provider_type: str) -> None:
    config = plugins.config("good")._replace(type=provider_type)
    async with running(plugins, config) as agent:
        assert (await agent.error("good", "x")).code == INVALID_CONFIG
        assert agent.pid("good") is None
        assert agent.announced == []


@in_loop
async def test_faults_of_one_provider_are_not_felt_by_another(plugins: PluginDir) -> None:
    configs = [
        plugins.config("good"),
        plugins.config("hangs", timeout=1.0),
        plugins.config("crashes"),
        plugins.config("crashes_at_start", timeout=1.0),
        plugins.config("starts_slowly", seconds=1000, timeout=1.0),
        plugins.config("oversized"),
        plugins.config("noisy", auth={"token": "hunter2hunter2"}),
    ]
    async with running(plugins, *configs) as agent:
        await agent.value("good", "x")
        pid = agent.pid("good")
        faulty = [("hangs", "hang"), ("crashes", "crash"), ("starts-slowly", "x"), ("crashes-at-start", "x")]
        tasks = [asyncio.create_task(agent.get(*one)) for one in [*faulty, ("oversized", "endless"), ("noisy", "x")]]
        answered_before = 0
        for number in range(200):
            assert await agent.value("good", f"{number}") == f"value of {number}".encode()
            answered_before += not tasks[0].done()
        assert answered_before > 0  # they were under way, and nobody waited for them
        found = [await task for task in tasks]
        assert [one.code for one in found[:2] if isinstance(one, ProviderError)] == [PLUGIN_TIMEOUT, PLUGIN_CRASHED]
        assert all(isinstance(one, ProviderError) for one in found[:5])
        assert agent.pid("good") == pid


@in_loop
async def test_check_reaches_the_plugin(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("good"), plugins.config("crashes_at_start")) as agent:
        await agent.providers.check("good")
        with pytest.raises(ProviderError) as caught:
            await agent.providers.check("crashes-at-start")
        assert caught.value.code == PLUGIN_CRASHED


@in_loop
async def test_two_of_one_type_are_two_processes_and_each_is_announced(plugins: PluginDir) -> None:
    configs = plugins.config("good", name="one"), plugins.config("good", name="two")
    async with running(plugins, *configs) as agent:
        await agent.value("one", "x")
        await agent.value("two", "x")
        assert agent.pid("one") != agent.pid("two")
        assert agent.announced == [f"[DSO] Using GOOD provider plugin: {plugins.path}/dso-provider-good"] * 2
        one = agent.providers.states()[0]
        assert (one.name, one.type, one.state, one.version, one.restarts) == ("one", "good", "running", "0.1", 0)
        assert (one.error, one.retry_in, one.path) == (None, None, f"{plugins.path}/dso-provider-good")


@in_loop
async def test_reconfigure_keeps_what_is_unchanged_and_replaces_the_rest(plugins: PluginDir) -> None:
    kept, changed, gone = (plugins.config("good", name=name) for name in ("kept", "changed", "gone"))
    async with running(plugins, kept, changed, gone) as agent:
        for name in ("kept", "changed", "gone"):
            await agent.value(name, "x")
        pids = {name: agent.pid(name) for name in ("kept", "changed", "gone")}
        configs = [
            kept._replace(cache_ttl=7.0),  # none of the plugin's business
            plugins.config("good", name="changed", batch=3),
            plugins.config("good", name="new"),
        ]
        void = await agent.providers.reconfigure({config.name: config for config in configs})
        assert void == {"changed", "gone"}
        for name in ("kept", "changed", "new"):
            assert await agent.value(name, "x") == b"value of x"
        assert (await agent.error("gone", "x")).code == UNKNOWN_PROVIDER
        assert agent.pid("kept") == pids["kept"]
        assert agent.pid("changed") != pids["changed"]
        await until(lambda: not os.path.exists(f"/proc/{pids['gone']}"), "the end of the one that is gone")
        await until(lambda: not os.path.exists(f"/proc/{pids['changed']}"), "the end of the former one")


@in_loop
async def test_reconfigure_lets_requests_in_flight_be_answered(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("slow", seconds=0.5)) as agent:
        await agent.value("slow", "x")
        asked = asyncio.create_task(agent.value("slow", "y"))
        await asyncio.sleep(0.1)
        changed = plugins.config("slow", seconds=0.0)
        await agent.providers.reconfigure({"slow": changed})
        assert await agent.value("slow", "z") == b"value of z"
        assert await asked == b"value of y"


@in_loop
async def test_close_waits_for_nobody_who_is_being_replaced(plugins: PluginDir) -> None:
    async with running(plugins, plugins.config("hangs", timeout=100)) as agent:
        await agent.value("hangs", "x")
        asked = asyncio.create_task(agent.error("hangs", "hang"))
        await asyncio.sleep(0.1)
        await agent.providers.reconfigure({})
        async with asyncio.timeout(30):  # and not 100
            await agent.providers.close()
        assert (await asked).code == UNAVAILABLE


@in_loop
async def test_plugin_starts_clean(plugins: PluginDir, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("CANARY", "DSO_MASTER_KEY", "LD_PRELOAD", "NOTIFY_SOCKET", "DSO_PASSPHRASE_FILE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("WANTED", "yes")
    secret = os.open("/etc/passwd", os.O_RDONLY)
    os.set_inheritable(secret, True)
    config: ProviderConfig = plugins.config("good")._replace(env=("WANTED", "UNSET"))
    try:
        async with running(plugins, config) as agent:
            state = json.loads(await agent.value("good", "state"))
    finally:
        os.close(secret)
    assert state["environment"].pop("WANTED") == "yes"
    state["environment"].pop("LC_CTYPE", None)  # Python's own doing, in the child (PEP 538)
    assert state["environment"] == plugin_environment("good", ())
    assert state["cwd"] == "/"
    assert int(state["umask"]) == 0o077
    assert state["pid"] == state["group"]
    assert sorted(state["descriptors"]) == ["0", "1", "2"]
    assert all(target.startswith("pipe:") for target in state["descriptors"].values())


def test_no_plugin_outlives_an_agent_that_is_killed(tmp_path: Path) -> None:
    """One waits for input, one hangs and never looks at its input again."""
    command = [sys.executable, "-m", "tests.support.plugin_host", str(tmp_path / "plugins"), "good", "hangs"]
    with started(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as host:
        assert host.stdout is not None
        pids = host.stdout.readline().split()
        host.kill()
    assert len(pids) == 2
    for pid in pids:
        wait_until(lambda pid=pid: not is_running(pid), f"the end of {pid}")  # type: ignore[misc]


def is_running(pid: str) -> bool:
    """Whether it is there and no zombie that waits for this machine's init."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
            return stat.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@in_loop
async def test_what_could_become_another_path_reaches_no_plugin_and_harms_no_other_request(
    plugins: PluginDir, tmp_path: Path
) -> None:
    """Wherever it comes from: this is the last place before the plugin."""
    record = tmp_path / "record"
    async with running(plugins, plugins.config("good", batch=20, record=str(record))) as agent:
        wanted: list[tuple[str, str | None]] = [
            *[("%2e%2e/x", None), ("a", None), ("\uff0e\uff0e/x", None), ("b", "1/../2"), ("b", "3"), ("", None)],
            *[("a\\b", None), ("...", None)],
        ]
        found = await agent.providers.get_many("good", wanted)
        assert values(found) == [
            *[INVALID_REQUEST, b"value of a", INVALID_REQUEST, INVALID_REQUEST, b"value of b", INVALID_REQUEST],
            *[INVALID_REQUEST, INVALID_REQUEST],
        ]
        assert all(one.message.isprintable() for one in found if isinstance(one, ProviderError))
        assert values(await agent.providers.get_many("good", [("..", None)])) == [INVALID_REQUEST]
    (batch,) = requests_in(record, "get_many")
    assert batch["requests"] == [{"path": "a"}, {"path": "b", "version": "3"}]
    assert requests_in(record, "get") == []
