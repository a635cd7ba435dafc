"""When a keeper goes, and when it must not: on an Engine of our own, where nobody else's keepers are."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING

import pytest

from dso.delivery import keeper
from tests.support.delivery import MOUNT, Stack, files
from tests.support.engine_proxy import EngineProxy
from tests.support.private_engine import PrivateEngine
from tests.support.process import ROOT, started

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Images


@pytest.fixture(scope="module")
def private(images: Images) -> Iterator[PrivateEngine]:
    with PrivateEngine() as found:
        found.load(images.busybox)
        yield found


@pytest.fixture
def proxy(private: PrivateEngine) -> Iterator[EngineProxy]:
    with EngineProxy(private.path) as found:
        yield found


@pytest.fixture
def make_stack(
    private: PrivateEngine, proxy: EngineProxy, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Stack]]:
    monkeypatch.setenv("HOME", str(tmp_path))
    made: list[Stack] = []

    def make() -> Stack:
        made.append(Stack(private, proxy.path, images.busybox))
        return made[-1]

    yield make
    for stack in made:
        stack.remove()


@pytest.fixture
def stack(make_stack: Callable[[], Stack]) -> Stack:
    return make_stack()


def test_missing_image_is_loaded_without_a_registry(stack: Stack, private: PrivateEngine, proxy: EngineProxy) -> None:
    private.docker("rmi", "-f", "dso/keeper:1", check=False)
    stack.deliver(files("api", key=b"x"))
    (keeper_id,) = stack.keepers()
    assert proxy.requests == [
        "GET /containers/json",
        "POST /containers/create",  # by the id in the Engine's own store,
        "POST /containers/create",  # by that in containerd's
        "POST /images/load",
        "POST /containers/create",
        "GET /volumes",
        f"POST /containers/{keeper_id}/start",
        f"PUT /containers/{keeper_id}/archive",
        f"GET /containers/{keeper_id}/archive",
    ]
    assert stack.read("api", "key") == [b"x"]


# Release


def test_release_spares_a_project_that_runs(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    container = stack.run("api", "sleep", "1000")
    assert not stack.release()
    stack.docker("pause", container)
    assert not stack.release()
    stack.docker("unpause", container)
    stack.docker("stop", "-t", "0", container)
    assert stack.release()
    assert stack.keepers() == []


def test_release_spares_a_project_whose_container_keeps_crashing(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    stack.run("api", "false", options=["--restart", "always"])
    assert not stack.release()


def test_release_spares_a_project_another_command_works_on(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    with keeper.in_use(stack.client, stack.name):
        assert not stack.release()
    assert stack.release()


def test_release_keeps_the_volumes_unless_asked(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    assert stack.release()
    assert stack.volumes() == [f"{stack.name}_dso", f"{stack.name}_dso_api"]
    assert stack.release(remove_volumes=True)
    assert stack.volumes() == []


def test_release_skips_the_volume_of_a_stopped_container(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"), files("db", key=b"x"))
    container = stack.run("api", "true", detach=True)
    stack.docker("wait", container)
    assert stack.release(remove_volumes=True)
    assert stack.volumes() == [f"{stack.name}_dso_api"]
    stack.deliver(files("api", key=b"again"))
    stack.docker("start", container)
    assert stack.read("api", "key") == [b"again"]


def test_release_of_an_unknown_project_does_nothing(stack: Stack) -> None:
    assert stack.release(remove_volumes=True)


# Sweep


def test_sweep_takes_what_plain_compose_down_left(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    container = stack.run("api", "sleep", "1000")
    assert stack.sweep() == []
    stack.docker("rm", "-f", container)
    assert stack.sweep() == [stack.name]
    assert stack.keepers() == stack.volumes() == []


def test_sweep_spares_a_project_whose_up_is_under_way(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    program = (
        "import sys\nfrom dso.delivery import keeper\nfrom dso.delivery.engine import Engine\n"
        "lock = keeper.in_use(Engine.from_docker_args(sys.argv[1:3]), sys.argv[3])\n"
        "print('held', flush=True)\nsys.stdin.read()\n"
    )
    command = [sys.executable, "-c", program, "-H", stack.client.identity, stack.name]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT) as up:
        assert up.stdout is not None
        assert up.stdout.readline() == b"held\n"
        assert stack.sweep() == []
        up.kill()
        up.wait()
        assert stack.sweep() == [stack.name]


def test_sweep_spares_another_vaults_keeper_for_an_hour(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.deliver(files("api", key=b"x"))
    assert keeper.sweep(stack.client, vault_id="another") == []
    assert keeper.sweep(stack.client, vault_id=None) == []
    monkeypatch.setattr(keeper, "SWEEP_AFTER", -60)
    assert keeper.sweep(stack.client, vault_id=None) == [stack.name]


def test_sweep_never_takes_an_old_keeper_that_is_needed(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.deliver(files("api", key=b"x"))
    container = stack.run("api", "sleep", "1000")
    monkeypatch.setattr(keeper, "SWEEP_AFTER", -60)
    for command in ("pause", "unpause"):
        stack.docker(command, container)
        assert keeper.sweep(stack.client, vault_id="another") == []
    assert stack.read("api", "key") == [b"x"]


def test_sweep_takes_empty_volumes_without_a_keeper(make_stack: Callable[[], Stack]) -> None:
    left, stopped = make_stack(), make_stack()
    for each in (left, stopped):
        each.deliver(files("api", key=b"x"))
    stopped.docker("wait", stopped.run("api", "true"))
    assert left.release()
    assert stopped.release()
    assert left.sweep() == []
    assert left.volumes() == []
    assert stopped.volumes() == [f"{stopped.name}_dso_api"]


def test_sweep_leaves_volumes_of_others_alone(stack: Stack) -> None:
    stack.docker("volume", "create", f"{stack.name}_dso_mine")
    assert stack.sweep() == []
    assert stack.volumes() == [f"{stack.name}_dso_mine"]


def test_sweep_takes_two_requests_when_there_is_nothing_to_sweep(stack: Stack, proxy: EngineProxy) -> None:
    stack.sweep()
    proxy.clear()
    assert stack.sweep() == []
    assert proxy.requests == ["GET /containers/json", "GET /volumes"]
    stack.deliver(files("api", key=b"x"))
    proxy.clear()
    with keeper.in_use(stack.client, stack.name):
        assert stack.sweep() == []
    assert proxy.requests == ["GET /containers/json", "GET /volumes"]


# What `status` sees, and an Engine that was restarted


def test_states_tell_what_is_delivered(make_stack: Callable[[], Stack]) -> None:
    stack, other = make_stack(), make_stack()
    assert stack.state() is None
    stack.deliver(files("db", a=b"1", b=b"2"), files("api", c=b"3"))
    other.deliver(files("web", a=b"1"))
    state = stack.state()
    assert state is not None
    assert (state.services, state.files, state.vault_id) == (("api", "db"), 3, stack.vault_id)
    assert state.running
    assert state.content
    assert state.delivered_at > 1_700_000_000
    assert [found.project for found in keeper.states(stack.client)] == sorted([stack.name, other.name])


def test_engine_restart_is_noticed_and_the_next_delivery_brings_everything_back(
    stack: Stack, private: PrivateEngine
) -> None:
    stack.deliver(files("api", key=b"x"), files("db", key=b"y"))
    container = stack.run("api", "sleep", "1000", options=["--restart", "always"])
    private.restart()
    state = stack.state()
    assert state is not None
    assert (state.running, state.content, state.files) == (True, False, 0)
    assert private.docker("exec", container, "ls", "-A", MOUNT).out == ""
    stack.deliver(files("api", key=b"x"), files("db", key=b"y"))
    state = stack.state()
    assert state is not None
    assert (state.content, state.files) == (True, 2)
    assert private.docker("exec", container, "cat", f"{MOUNT}/key").out == "x"
    assert len(stack.keepers()) == 1


# Several at once

DELIVERER = """
import sys
from tests.support.delivery import MAC_KEY, files
from dso.delivery import keeper
from dso.delivery.engine import Engine
host, project, vault_id, service, value = sys.argv[1:]
with Engine.from_docker_args(["-H", host]) as engine, keeper.in_use(engine, project):
    keeper.deliver(engine, project, [files(service, key=value.encode())], vault_id=vault_id, mac_key=MAC_KEY)
"""


def test_simultaneous_deliveries_lose_nothing(stack: Stack, proxy: EngineProxy) -> None:
    services = {f"service{n}": f"value{n}" for n in range(6)}
    fixed = [sys.executable, "-c", DELIVERER, proxy.host, stack.name, stack.vault_id]
    with ExitStack() as all_of_them:
        running = [all_of_them.enter_context(started([*fixed, *each], cwd=ROOT)) for each in services.items()]
        assert [process.wait(120) for process in running] == [0] * len(running)
    assert len(stack.keepers()) == 1
    for name, value in services.items():
        assert stack.read(name, "key") == [value.encode()]


def test_simultaneous_deliveries_of_the_same_files_start_one_keeper(stack: Stack, proxy: EngineProxy) -> None:
    command = [sys.executable, "-c", DELIVERER, proxy.host, stack.name, stack.vault_id, "api", "x"]
    with ExitStack() as all_of_them:
        running = [all_of_them.enter_context(started(command, cwd=ROOT)) for _ in range(5)]
        assert [process.wait(120) for process in running] == [0] * 5
    assert proxy.requests.count("POST /containers/create") == 1
    assert len([line for line in proxy.requests if line.startswith("PUT ")]) == 1
    assert stack.read("api", "key") == [b"x"]


def test_killed_delivery_is_made_good_by_the_next_one(stack: Stack, proxy: EngineProxy) -> None:
    """Killed after each of its requests in turn: whatever is left, the next delivery ends in the same state."""
    goal = files("api", key=b"x")
    for allowed in range(1, 7):
        command = [sys.executable, "-c", KILLED + DELIVERER, proxy.host, stack.name, stack.vault_id, "api", "x"]
        command[2] = f"ALLOWED = {allowed}\n" + command[2]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -9
        stack.deliver(goal)
        assert stack.read("api", "key") == [b"x"]
        assert len(stack.keepers()) == 1
        assert stack.release(remove_volumes=True)
        assert stack.volumes() == []


KILLED = """
import os
from dso.delivery import engine as module
exchange = module.Engine._exchange
def kill_after(self, *args):
    response = exchange(self, *args)
    if self.requests == ALLOWED:
        os.kill(os.getpid(), 9)
    return response
module.Engine._exchange = kill_after
"""
