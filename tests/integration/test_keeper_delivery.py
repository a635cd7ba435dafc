"""Files reach containers before they start, as they were given, and stay."""

from __future__ import annotations

import os
import secrets
import subprocess
from typing import TYPE_CHECKING

import pytest

from dso.delivery import keeper
from dso.delivery.plan import SecretFile
from dso.secret import SecretValue
from tests.support.delivery import MOUNT, Stack, files, sha256, volume
from tests.support.engine_proxy import EngineProxy
from tests.support.process import started
from tests.support.processes import descendants
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.engine import Engine, Images


@pytest.fixture
def proxy() -> Iterator[EngineProxy]:
    with EngineProxy() as found:
        yield found


@pytest.fixture
def make_stack(
    engine: Engine, images: Images, proxy: EngineProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], Stack]]:
    monkeypatch.setenv("HOME", str(tmp_path))
    made: list[Stack] = []

    def make() -> Stack:
        made.append(Stack(engine, proxy.path, images.busybox))
        return made[-1]

    yield make
    for stack in made:
        stack.remove()


@pytest.fixture
def stack(make_stack: Callable[[], Stack]) -> Stack:
    return make_stack()


def test_file_is_there_before_the_entrypoint_15_of_15_times(stack: Stack, images: Images) -> None:
    for _ in range(15):
        content = secrets.token_bytes(64)
        stack.deliver(files("api", key=content))
        shown = stack.run("api", f"{MOUNT}/key", detach=False, image=images.scratch)
        assert shown.split()[0] == sha256(content)


@pytest.mark.parametrize(
    "entry",
    [
        SecretFile("root", SecretValue(b"x"), 0, 0, 0o400),
        SecretFile("user", SecretValue(b"x\n"), 1000, 1001, 0o440),
        SecretFile("large.ids", SecretValue(b"\0\xff"), 2_000_000_000, 65534, 0o604),
        SecretFile("n" * 200, SecretValue(bytes(range(256))), 70, 70, 0o444),
        SecretFile("in/a/directory", SecretValue(b"$HOME '\"\\"), 1, 2, 0o400),
        SecretFile("megabyte", SecretValue(secrets.token_bytes(1 << 20)), 5, 5, 0o400),
    ],
    ids=lambda entry: entry.name[:20],
)
def test_content_owner_and_mode_are_exact(entry: SecretFile, stack: Stack, images: Images) -> None:
    stack.deliver(volume("api", entry))
    shown = stack.run("api", f"{MOUNT}/{entry.name}", detach=False, image=images.scratch).split()
    content = entry.value.reveal()
    assert shown == [
        sha256(content), str(len(content)), f"{entry.uid}:{entry.gid}", f"{entry.mode:04o}", f"{MOUNT}/{entry.name}",
    ]  # fmt: skip


def test_directories_belong_to_root_and_containers_cannot_write(stack: Stack) -> None:
    stack.deliver(volume("api", SecretFile("d/key", SecretValue(b"x"), 1000, 1000, 0o400)))
    shown = stack.run("api", "stat", "-c", "%u:%g %a", MOUNT, f"{MOUNT}/d", detach=False)
    assert shown.split("\n") == ["0:0 755", "0:0 755"]
    stack.run("api", "sh", "-c", f"! touch {MOUNT}/x && ! rm -f {MOUNT}/d/key", detach=False)


def test_other_users_of_the_container_cannot_read_a_private_file(stack: Stack) -> None:
    stack.deliver(volume("api", SecretFile("key", SecretValue(b"x"), 1000, 1000, 0o400)))
    assert stack.run("api", "cat", f"{MOUNT}/key", detach=False, options=["--user", "1000:1000"]) == "x"
    stack.run("api", "sh", "-c", f"! cat {MOUNT}/key", detach=False, options=["--user", "1001:1001"])


def test_volume_is_memory_that_is_never_swapped_and_runs_nothing(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    (line,) = stack.run("api", "grep", f" {MOUNT} ", "/proc/mounts", detach=False).splitlines()
    _, _, kind, options, *_ = line.split()
    assert kind == "tmpfs"
    assert {"ro", "nosuid", "nodev", "noexec", "noswap", "size=65536k"} <= set(options.split(","))


def test_restart_crash_and_keeper_crash_keep_the_files(stack: Stack) -> None:
    stack.deliver(files("api", key=b"first"))
    show = f"cat {MOUNT}/key && echo && sleep 1000"
    container = stack.run("api", "sh", "-c", show, options=["--restart", "always"])

    def shown(times: int) -> bool:
        return stack.docker("logs", container).out.split() == ["first"] * times

    wait_until(lambda: shown(1), "the first start")
    stack.docker("restart", "-t", "0", container)
    wait_until(lambda: shown(2), "the start after docker restart")
    kill_process_of(stack, container)
    wait_until(lambda: shown(3), "the start after a crash")
    (keeper_id,) = stack.keepers(running=True)
    kill_process_of(stack, keeper_id)
    wait_until(lambda: state_of(stack, keeper_id) == "running 1", "the keeper's own restart")
    stack.docker("restart", "-t", "0", container)
    wait_until(lambda: shown(4), "the start after the keeper's crash")


def kill_process_of(stack: Stack, container: str) -> None:
    os.kill(int(stack.docker("inspect", "--format", "{{.State.Pid}}", container).out), 9)


def state_of(stack: Stack, container: str) -> str:
    """Status and number of restarts."""
    return stack.docker("inspect", "--format", "{{.State.Status}} {{.RestartCount}}", container).out.strip()


def test_delivery_after_a_keeper_crash_makes_everything_good(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x", **{"n" * 150: b"y"}))
    container = stack.run("api", "sleep", "1000")
    (keeper_id,) = stack.keepers()
    kill_process_of(stack, keeper_id)
    wait_until(lambda: state_of(stack, keeper_id) == "running 1", "the keeper's own restart")
    state = stack.state()
    assert state is not None
    assert (state.running, state.content) == (True, False)
    stack.deliver(files("api", key=b"new"))
    assert stack.read("api", "key") == [b"new"]
    assert stack.keepers() == [keeper_id]
    shown = stack.docker("exec", container, "find", MOUNT, "-type", "f").out
    assert shown.split() == [f"{MOUNT}/key"]  # the container kept the volume alive: what is not wanted is gone


def test_steady_state_takes_two_requests_whatever_the_number_of_services(stack: Stack, proxy: EngineProxy) -> None:
    everything = [files(f"service{n}", a=b"%d" % n, b=b"x") for n in range(20)]
    stack.deliver(*everything)
    (keeper_id,) = stack.keepers()
    proxy.clear()
    connections = proxy.connections
    stack.deliver(*everything)
    assert proxy.requests == ["GET /containers/json", f"GET /containers/{keeper_id}/archive"]
    proxy.clear()
    changed = [everything[0], files("service1", a=b"new", b=b"x"), *everything[2:19], files("service19", b=b"new")]
    stack.deliver(*changed[:19])
    # the last one asks whether it is still there: a keeper that ended meanwhile is empty
    assert proxy.requests[2:] == [f"PUT /containers/{keeper_id}/archive", f"GET /containers/{keeper_id}/archive"]
    assert proxy.connections <= connections + 1
    assert stack.read("service1", "a", "b") == [b"new", b"x"]
    assert stack.read("service19", "a") == [b"19"]


def test_no_request_names_a_secret_or_its_value_in_its_address(stack: Stack, proxy: EngineProxy) -> None:
    stack.deliver(files("api", password=b"hunter2"))
    assert not [line for line in proxy.lines if "hunter2" in line or "password" in line]


def test_first_delivery_creates_keeper_and_volumes_in_one_request(stack: Stack, proxy: EngineProxy) -> None:
    stack.deliver(files("warm", x=b"x"))  # loads the image where it is missing
    stack.remove()
    proxy.clear()
    stack.deliver(*(files(f"service{n}", x=b"x") for n in range(5)))
    (keeper_id,) = stack.keepers()
    assert proxy.requests == [
        "GET /containers/json",
        "POST /containers/create",
        "GET /volumes",
        f"POST /containers/{keeper_id}/start",
        f"PUT /containers/{keeper_id}/archive",
        f"GET /containers/{keeper_id}/archive",
    ]
    assert stack.volumes() == [f"{stack.name}_dso", *(f"{stack.name}_dso_service{n}" for n in range(5))]


def test_changed_value_replaces_the_file_and_open_files_stay_whole(stack: Stack) -> None:
    stack.deliver(files("api", key=b"old" * 1000))
    script = (
        f"exec 3<{MOUNT}/key; echo ready; while ! grep -q new {MOUNT}/key; do sleep 0.05; done; cat <&3 | sha256sum"
    )
    container = stack.run("api", "sh", "-c", script)
    wait_until(lambda: "ready" in stack.docker("logs", container).out, "the open file")
    stack.deliver(files("api", key=b"new"))
    stack.docker("wait", container)
    assert sha256(b"old" * 1000) in stack.docker("logs", container).out
    assert stack.read("api", "key") == [b"new"]


def test_replacing_leaves_nothing_of_the_former_value_and_no_visible_name(stack: Stack) -> None:
    stack.deliver(volume("api", SecretFile("key", SecretValue(b"old"), 1000, 1001, 0o400)))
    container = stack.run("api", "sleep", "1000")
    stack.deliver(volume("api", SecretFile("key", SecretValue(b"new"), 1000, 1001, 0o400)))
    assert stack.docker("exec", container, "ls", MOUNT).out.split() == ["key"]
    assert stack.docker("exec", container, "find", MOUNT, "-type", "f").out.split() == [f"{MOUNT}/key"]
    assert stack.docker("exec", container, "stat", "-c", "%u:%g %a %h", f"{MOUNT}/key").out == "1000:1001 400 1\n"


def test_reader_never_finds_half_a_value(stack: Stack) -> None:
    values = [b"A" * 100_000, b"B" * 100_000]
    stack.deliver(files("api", key=values[0]))
    loop = f"while :; do sha256sum < {MOUNT}/key 2>/dev/null; done"
    container = stack.run("api", "sh", "-c", loop)
    for n in range(1, 41):
        stack.deliver(files("api", key=values[n % 2]))
    stack.docker("kill", container)
    lines = stack.docker("logs", container).out.splitlines()
    shown = {line.split()[0] for line in lines[:-1]}  # the last line may be cut off
    assert shown == {sha256(value) for value in values}


def test_removed_file_is_gone_from_running_containers(stack: Stack) -> None:
    stack.deliver(files("api", kept=b"1", gone=b"2"))
    container = stack.run("api", "sleep", "1000")
    stack.deliver(files("api", kept=b"1"))
    assert stack.docker("exec", container, "ls", "-A", MOUNT).out.split() == ["kept"]


def test_new_service_leaves_the_others_alone(stack: Stack) -> None:
    stack.deliver(files("db", key=b"db"))
    (old,) = stack.keepers()
    container = stack.run("db", "sleep", "1000")
    stack.deliver(files("api", key=b"api"))
    (new,) = stack.keepers(running=True)
    assert stack.keepers() == [new] != [old]
    assert stack.docker("exec", container, "cat", f"{MOUNT}/key").stdout == b"db"
    stack.docker("rm", "-f", container)
    assert stack.read("db", "key") == [b"db"]  # only the new keeper holds it now
    assert stack.read("api", "key") == [b"api"]


def test_two_projects_side_by_side_do_not_meet(make_stack: Callable[[], Stack]) -> None:
    first, second = make_stack(), make_stack()
    first.deliver(files("api", key=b"first"))
    second.deliver(files("api", key=b"second"))
    assert first.read("api", "key") == [b"first"]
    assert second.read("api", "key") == [b"second"]
    assert first.release(remove_volumes=True)
    assert second.read("api", "key") == [b"second"]
    assert first.volumes() == []


def test_compose_itself_holds_the_project_when_dso_is_killed(stack: Stack) -> None:
    lock = keeper.in_use(stack.client, stack.name)
    command = ["docker", "compose", "-f", "-", "config"]
    with started(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, close_fds=False) as compose:
        plugin = wait_until(lambda: compose_below(compose.pid), "Compose runs")
        lock.release()  # as the end of the process does
        assert not stack.release()
        opened = [os.readlink(f"/proc/{plugin}/fd/{number}") for number in os.listdir(f"/proc/{plugin}/fd")]
        assert any(".use" in each for each in opened)
        compose.communicate(b"services: {a: {image: b}}")
    assert stack.release()


def compose_below(pid: int) -> int:
    """The process that works on `config`; 0 while there is none: `docker` asks each plugin for its metadata first.

    On its way from fork to exec a process has no words, or those of the one it comes from.
    """
    for process in descendants(pid):
        if process.name == "docker-compose" and process.argv[-1] == "config":
            return process.pid
    return 0
