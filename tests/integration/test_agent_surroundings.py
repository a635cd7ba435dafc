"""What changes around the agent, configuration, disks, clocks, does not bring it down."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from typing import TYPE_CHECKING

import pytest

from tests.support.agent import Agent
from tests.support.canary import Canary, assert_absent
from tests.support.clock import ShiftedClock
from tests.support.processes import descendants
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine

SECRET = Canary.new()
YEAR = 365 * 86400


@pytest.fixture
def agent() -> Iterator[Agent]:
    with Agent() as made:
        made.write_secrets({"a": {"text": SECRET.text}, "*": {"text": "another"}})
        made.use_fake()
        yield made
        said = made.log
        assert "internal" not in said, said[-4000:]
        assert "Traceback" not in said, said[-4000:]
        assert not SECRET.find(said.encode())


def secrets_section(name: str) -> str:
    return f"secrets:\n  - {{name: {name}, provider: fake, path: a}}\n"


def names(agent: Agent) -> str:
    return str(agent.get("/v1/secrets"))


# Configuration


def test_configuration_rewritten_all_the_time_is_read_whole_or_not_at_all(agent: Agent) -> None:
    """Good and broken ones, faster than they are read; whoever asks meanwhile is served."""
    agent.start()
    failed: list[object] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            answer = agent.resolve("dso://fake/a")
            if answer["errors"] or answer["resolved"][0]["value"] != SECRET.text:
                failed.append(answer)

    askers = [threading.Thread(target=ask) for _ in range(4)]
    for asker in askers:
        asker.start()
    broken = ["", "version: 2\n", "version: 1\nproviders: [", "\xff", "version: 1\nproviders: {fake: {type: [7]}}\n"]
    for number in range(100):
        if number % 3:
            agent.use_fake(secrets_section(f"round/{number}"), cache_ttl="5m" if number % 2 else "6m")
        else:
            with open(agent.config_file, "w", encoding="latin-1") as file:  # in place, as editors do
                file.write(broken[number % len(broken)])
        agent.signal(signal.SIGHUP)
        time.sleep(0.01)
    agent.use_fake(secrets_section("at/last"))
    agent.signal(signal.SIGHUP)
    wait_until(lambda: "at/last" in names(agent), "the last configuration in force")
    done.set()
    for asker in askers:
        asker.join()
    assert not failed, failed[0]
    assert "round/" not in names(agent)
    wait_until(lambda: len(_plugins(agent)) == 1, "the end of all former plugins")


def _plugins(agent: Agent) -> list[int]:
    return [one.pid for one in descendants(agent.pid) if any("dso-provider" in word for word in one.argv)]


@pytest.mark.parametrize("fault", ["version: 3\n", "", "providers: {", None, "directory", "unreadable-variable"])
def test_a_broken_configuration_leaves_the_former_one_running_and_says_so(agent: Agent, fault: str | None) -> None:
    agent.use_fake(secrets_section("former/one")).start()
    os.unlink(agent.config_file)
    if fault == "directory":
        os.mkdir(agent.config_file)
    elif fault == "unreadable-variable":
        agent.use_fake(token="${NOT_THERE:?is needed}")
    elif fault is not None:
        with open(agent.config_file, "w", encoding="utf-8") as file:
            file.write(fault)
    since = len(agent.log)
    answer = agent.request("POST", "/v1/reload")
    assert (answer.status >= 400, answer.code) == (True, "reload_failed")
    agent.signal(signal.SIGHUP)
    wait_until(lambda: agent.log[since:].count("reload") >= 2, "two words on it in the log")
    assert "former/one" in names(agent)
    assert agent.value("dso://former/one") == SECRET.text


def test_a_provider_that_leaves_and_comes_back(agent: Agent) -> None:
    two = f"providers:\n{agent.fake_provider()}{agent.fake_provider('second')}"
    agent.write_config(two)
    agent.start()
    assert agent.value("dso://second/a") == SECRET.text
    agent.use_fake()
    assert agent.request("POST", "/v1/reload").status == 200
    assert agent.resolve("dso://second/a/b")["errors"] or agent.resolve("dso://second/a/b")["resolved"]
    agent.write_config(two)
    assert agent.request("POST", "/v1/reload").status == 200
    assert agent.value("dso://second/a") == SECRET.text


# Disks


@contextlib.contextmanager
def tiny_disk(path: str, *, size: str = "64k") -> Iterator[None]:
    """A file system of a few pages at a path, unmounted afterwards with whatever is mounted on it."""
    os.makedirs(path, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size},nr_inodes=64,mode=0755", "tmpfs", path], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--recursive", "--lazy", path], check=True)


def fill(path: str) -> str:
    """Take all that is left of a file system; the file that has it."""
    name = os.path.join(path, "full")
    descriptor = os.open(name, os.O_WRONLY | os.O_CREAT, 0o600)
    with contextlib.suppress(OSError):
        while True:
            os.write(descriptor, bytes(4096))
    os.close(descriptor)
    return name


VOLUME = {"volumes": {"p_dso_web": {"files": [{"name": "a", "template": "{{dso://fake/a}}"}], "secrets": []}}}


def test_a_full_state_directory_refuses_volumes_and_nothing_else(agent: Agent) -> None:
    with tiny_disk(agent.state_dir):
        agent.start()
        assert agent.request("PUT", "/v1/volumes", VOLUME).status == 200  # which nobody keeps yet
        full = fill(agent.state_dir)
        assert "space" in agent.engine("Create", {"Name": "p_dso_web"})["Err"]
        assert agent.value("dso://fake/a") == SECRET.text
        os.unlink(full)
        assert not agent.engine("Create", {"Name": "p_dso_web"})["Err"]
        agent.stop()


def test_an_agent_starts_with_its_disks_full(agent: Agent) -> None:
    with tiny_disk(agent.runtime_dir), tiny_disk(agent.state_dir):
        full = [fill(agent.runtime_dir), fill(agent.state_dir)]
        agent.start(wait=False)
        wait_until(lambda: agent.process.poll() is not None or os.path.exists(agent.socket), "a start, or an end")
        if agent.process.poll() is not None:  # it may refuse, if it says why
            assert "space" in agent.log, agent.log
            for path in full:
                os.unlink(path)
            agent.start()
        assert agent.value("dso://fake/a") == SECRET.text
        agent.stop()


def test_a_full_runtime_directory_fails_the_mount_and_the_next_one_works(agent: Agent) -> None:
    with tiny_disk(agent.runtime_dir):
        agent.start()
        assert agent.request("PUT", "/v1/volumes", VOLUME).status == 200
        assert not agent.engine("Create", {"Name": "p_dso_web"})["Err"]
        full = fill(agent.runtime_dir)
        mounted = agent.engine("Mount", {"Name": "p_dso_web", "ID": "one"})
        if mounted.get("Err"):  # where a mount point takes no room of its own, there is nothing to fail
            assert "p_dso_web" in mounted["Err"]
            assert not SECRET.find(mounted["Err"].encode())
        os.unlink(full)
        mounted = agent.engine("Mount", {"Name": "p_dso_web", "ID": "two"})
        assert not mounted.get("Err"), mounted
        with open(os.path.join(mounted["Mountpoint"], "a"), "rb") as file:
            assert file.read() == SECRET.value
        for mount in ("one", "two"):
            agent.engine("Unmount", {"Name": "p_dso_web", "ID": mount})
        assert agent.value("dso://fake/a") == SECRET.text
        agent.stop()


# Clocks


@pytest.fixture
def clock(tmp_path: Path) -> ShiftedClock:
    return ShiftedClock(tmp_path)


@pytest.mark.parametrize("years", [10, -10])
def test_a_wall_clock_that_jumps_changes_nothing(agent: Agent, clock: ShiftedClock, years: int) -> None:
    agent.env = clock.env
    agent.start()
    assert agent.value("dso://fake/a") == SECRET.text
    calls = len(agent.calls)
    clock.jump(wall=years * YEAR)
    (found,) = agent.resolve("dso://fake/a")["resolved"]
    assert 0 <= found["age"] < 600
    assert not found["stale"]
    assert len(agent.calls) == calls, "the cache took its age from the wall clock"
    year = time.gmtime().tm_year + years
    agent.resolve("dso://fake/none/such")
    assert agent.request("GET", "/v1/status").status == 200
    assert agent.request("GET", "/metrics").status == 200
    agent.signal(signal.SIGHUP)
    wait_until(lambda: f"{year - 1}-" in agent.log or f"{year}-" in agent.log, "a line of that time")
    assert agent.stop() == 0


def test_a_machine_that_slept_for_a_day_reads_its_secrets_anew(agent: Agent, clock: ShiftedClock) -> None:
    agent.env = clock.env
    agent.start()
    assert agent.value("dso://fake/a") == SECRET.text
    calls = len(agent.calls)
    changed = Canary.new()
    agent.write_secrets({"a": {"text": changed.text}})
    clock.jump(monotonic=86400, wall=86400)
    assert agent.value("dso://fake/a") == changed.text
    assert len(agent.calls) == calls + 1
    assert agent.stop() == 0


# What is left behind


def test_no_value_is_anywhere_but_in_memory(agent: Agent, engine: Engine) -> None:
    """Log, state, configuration, command lines and environments, after a life with all kinds of requests."""
    agent.use_fake(secrets_section("some/name"), agent={"log_level": "debug"})
    agent.start()
    agent.resolve("dso://fake/a", "dso://some/name", "dso://fake/a#value", "dso://fake/a#nothing", checks=["dso://a"])
    agent.request("PUT", "/v1/volumes", VOLUME)
    agent.engine("Create", {"Name": "p_dso_web"})
    mounted = agent.engine("Mount", {"Name": "p_dso_web", "ID": "one"})
    assert not mounted.get("Err"), mounted
    outputs = {path: agent.request("GET", path).body for path in ("/v1/status", "/v1/secrets", "/metrics", "/v1/logs")}
    outputs["the log"] = agent.log.encode()
    fed = [agent.secrets_file]  # what the provider has them from
    swept = assert_absent(SECRET, engine=engine, outputs=outputs, places=[agent.directory], allow=fed)
    assert swept.files
    agent.engine("Unmount", {"Name": "p_dso_web", "ID": "one"})
    agent.stop()
    assert_absent(SECRET, engine=engine, outputs={"the log": agent.log.encode()}, places=[agent.directory], allow=fed)
