"""A new configuration: all of it, or nothing of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from dso.agent.events import Events
from dso.agent.logbook import Logbook
from dso.agent.metrics import Metrics
from dso.agent.reload import Reloader, changes
from dso.config.model import AgentConfig, CloudConfig, ProviderConfig, SecretConfig, Settings
from dso.errors import ConfigError
from tests.support.loop import in_loop

if TYPE_CHECKING:
    from dso.agent.reload import Changes


def configuration(agent: AgentConfig = AgentConfig(), **addresses: str) -> CloudConfig:  # noqa: B008  # immutable
    providers = {name: ProviderConfig(name, "fake", Settings({"address": one})) for name, one in addresses.items()}
    return CloudConfig("f", providers, {"s": SecretConfig("s", "a", "s")}, None, agent)


def test_changes_name_providers_and_what_takes_a_restart():
    found = changes(
        configuration(AgentConfig(socket="/a", log_level="info"), same="1", other="1", gone="1"),
        configuration(AgentConfig(socket="/b", log_level="debug"), same="1", other="2", new="1"),
        first=configuration(AgentConfig(socket="/a")),
    )
    assert found.to_json() == {
        "providers_added": ["new"],
        "providers_changed": ["other"],
        "providers_removed": ["gone"],
        "secrets": 1,
        "restart_needed": ["agent.socket"],
    }


class Bench:
    def __init__(self) -> None:
        self.book = Logbook(stream=-1)
        self.metrics = Metrics("1")
        self.next: CloudConfig | ConfigError = configuration(a="1")
        self.applied: list[CloudConfig] = []
        self.loads = 0
        self.applying, self.gate = asyncio.Event(), asyncio.Event()
        self.gate.set()
        self.reloader = Reloader(
            configuration(a="1"), self.load, self.apply, events=Events(self.book), metrics=self.metrics
        )

    def load(self) -> CloudConfig:
        self.loads += 1
        if isinstance(self.next, ConfigError):
            raise self.next
        return self.next

    async def held_up(self, waiting: int) -> tuple[asyncio.Task[Changes], list[asyncio.Task[Changes]]]:
        """A reload that waits for the gate, and so many that were asked for meanwhile."""
        self.gate.clear()
        first = asyncio.create_task(self.reloader.reload())
        await self.applying.wait()
        others = [asyncio.create_task(self.reloader.reload()) for _ in range(waiting)]
        await asyncio.sleep(0)
        return first, others

    async def apply(self, config: CloudConfig) -> None:
        self.applying.set()
        await self.gate.wait()
        self.applied.append(config)


@in_loop
async def test_a_good_file_is_taken_over_and_told():
    bench = Bench()
    bench.next = configuration(a="2", b="1")
    found = await bench.reloader.reload()
    assert (found.added, found.changed) == (("b",), ("a",))
    assert bench.applied == [bench.next]
    assert bench.book.recent()[-1].message == "reload.done providers_added=b providers_changed=a secrets=1"
    assert (await bench.reloader.reload()).added == (), "compared with what runs now"


@in_loop
async def test_a_faulty_file_changes_nothing_and_says_so_until_it_is_mended():
    bench = Bench()
    bench.next = ConfigError("f, line 3: no", hint="do this")
    with pytest.raises(ConfigError):
        await bench.reloader.reload()
    assert bench.applied == []
    assert bench.reloader.error == "f, line 3: no"
    last = bench.book.recent()[-1]
    assert last.level == "error"
    assert "the former configuration stays in force" in last.message
    assert "do this" in last.message
    assert "dso_agent_config_ok 0" in bench.metrics.text()
    assert 'dso_agent_reloads_total{result="failed"} 1' in bench.metrics.text()
    bench.next = configuration(a="1")
    await bench.reloader.reload()
    assert bench.reloader.error == ""
    assert "dso_agent_config_ok 1" in bench.metrics.text()


@in_loop
async def test_what_takes_a_restart_is_remembered_until_it_is_as_at_the_start():
    bench = Bench()
    bench.next = configuration(AgentConfig(plugin_dir="/x"), a="1")
    await bench.reloader.reload()
    assert bench.reloader.needs_restart == ("agent.plugin_dir",)
    assert bench.book.recent()[-1].level == "warning"
    await bench.reloader.reload()
    assert bench.reloader.needs_restart == ("agent.plugin_dir",)
    bench.next = configuration(a="1")
    await bench.reloader.reload()
    assert not bench.reloader.needs_restart


@in_loop
async def test_two_at_once_follow_each_other():
    bench = Bench()
    bench.next = configuration(b="1")
    first, second = await asyncio.gather(bench.reloader.reload(), bench.reloader.reload())
    assert (first.added, first.removed) == (("b",), ("a",))
    assert (second.added, second.removed) == ((), ())


@in_loop
async def test_hundred_that_ask_meanwhile_are_one_more_reading_of_what_the_file_says_then():
    bench = Bench()
    first, waiting = await bench.held_up(100)
    bench.next = configuration(a="1", b="1")
    waiting.pop().cancel()
    bench.gate.set()
    assert (await first).added == ()
    assert {one.added for one in await asyncio.gather(*waiting)} == {("b",)}
    assert bench.loads == 2
    assert (await bench.reloader.reload()).added == ()
    assert bench.loads == 3


@in_loop
async def test_who_shares_a_reading_shares_its_fault_and_the_next_one_is_read_anew():
    bench = Bench()
    first, waiting = await bench.held_up(3)
    bench.next = ConfigError("f, line 3: no", hint="do this")
    bench.gate.set()
    await first
    assert [type(one) for one in await asyncio.gather(*waiting, return_exceptions=True)] == [ConfigError] * 3
    bench.next = configuration(a="1")
    assert (await bench.reloader.reload()).added == ()
    assert (bench.loads, bench.reloader.error) == (3, "")
