"""What file secrets survive: the agent stopped, killed, started again; the Engine too; a reboot."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import threading
from typing import TYPE_CHECKING

import pytest

from dso.protocol.agent import VolumeFile
from tests.support.private_engine import PrivateEngine
from tests.support.process import run as run_program
from tests.support.process import started
from tests.support.volume_driver import QUICK, Driver
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images

KEY = VolumeFile("key", "dso://shop/key", 1000, 1000, 0o400)


@pytest.fixture
def driver(private: PrivateEngine) -> Iterator[Driver]:
    with Driver(private) as driver:
        driver.set("shop/key", b"v")
        yield driver
        for container in private.docker("ps", "-aq").out.split():
            private.docker("rm", "-f", container, check=False)


def start(private: PrivateEngine, images: Images, volume: str, *options: str) -> str:
    """A container in the background that has the volume as /s; its id."""
    words = ["run", "-d", "--init", "--network", "none", "-v", f"{volume}:/s:ro", *options]
    return private.docker(*words, images.busybox, "sleep", "1000").out.strip()


def read(private: PrivateEngine, container: str) -> bytes:
    return private.docker("exec", container, "cat", "/s/key").stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_containers_keep_their_files_while_the_agent_is_away_and_after(
    number: int, private: PrivateEngine, images: Images, driver: Driver
) -> None:
    volume = driver.create(KEY)
    container = start(private, images, volume)
    driver.stop(number)
    assert read(private, container) == b"v"
    driver.set("shop/key", b"new")
    driver.start()
    assert read(private, container) == b"v"
    assert [one["volume"] for one in driver.events("volume.adopted")] == [volume]
    second = start(private, images, volume)
    assert read(private, second) == read(private, container) == b"new"
    private.docker("rm", "-f", container)
    assert read(private, second) == b"new"
    private.docker("rm", "-f", second)
    assert not driver.mounted(volume)


def test_socket_file_goes_with_the_agent(private: PrivateEngine, images: Images, driver: Driver) -> None:
    assert os.stat(driver.socket).st_mode & 0o777 == 0o600
    driver.stop()
    assert not os.path.exists(driver.socket)
    driver.start()
    driver.stop(signal.SIGKILL)
    assert os.path.exists(driver.socket)  # which is why systemd should own it
    driver.start()
    assert b"VolumeDriver" in driver.call("Plugin.Activate", {}).stdout


def test_second_agent_does_not_take_the_socket_of_the_first(driver: Driver) -> None:
    first, driver._process = driver._process, None
    driver.start()
    assert "does another dso-agent run?" in driver.status()["reason"]
    driver.stop()
    driver._process = first
    assert b"VolumeDriver" in driver.call("Plugin.Activate", {}).stdout


def test_container_that_ended_while_the_agent_was_away_is_noticed(
    private: PrivateEngine, images: Images, driver: Driver
) -> None:
    """The Engine gives up telling after some tries: nobody unmounts for it."""
    volume = driver.create(KEY)
    container = start(private, images, volume)
    driver.stop(signal.SIGKILL)
    pid = int(private.docker("inspect", "-f", "{{.State.Pid}}", container).out)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the container ends")
    driver.timing = QUICK._replace(grace=0)
    driver.start()
    wait_until(lambda: not driver.mounted(volume), "the volume nobody uses is unmounted")


def test_agent_killed_while_it_fills_a_volume_leaves_nothing_half_done(
    private: PrivateEngine, images: Images, driver: Driver
) -> None:
    """At ten moments of a start; where the Engine repeats its request without content, the start fails and says so.

    Of a `Get` that failed, for whatever reason, the Engine says that there is no such volume.
    """
    refusals = (b"dso-agent ended meanwhile", b"no such volume")
    names = [f"f{number}" for number in range(200)]
    driver.set("shop/key", b"x" * 5000)
    volume = driver.create(*(VolumeFile(name, "dso://shop/key") for name in names))
    words = ["docker", "-H", private.host, "run", "--rm", "--network", "none", "-v", f"{volume}:/s:ro", images.busybox]
    words += ["sh", "-c", "cat /s/* | wc -c; ls -A /s | wc -l"]
    for moment in range(10):
        with started(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as starting:
            threading.Event().wait(0.05 + 0.03 * moment)
            driver.restart(signal.SIGKILL)
            out, error = starting.communicate(timeout=120)
        assert out == b"1000000\n200\n" or any(refusal in error for refusal in refusals), error
        assert run_program(words).stdout == b"1000000\n200\n"
    driver.timing = QUICK._replace(grace=0)
    driver.restart()
    wait_until(lambda: not driver.mounted(volume), "what a failed start left is noticed")


def test_start_that_waits_is_told_that_the_agent_ends(private: PrivateEngine, images: Images, driver: Driver) -> None:
    driver.fail("shop/key", "unavailable")
    volume = driver.create(KEY)
    words = ["docker", "-H", private.host, "run", "--rm", "--network", "none", "-v", f"{volume}:/s:ro", images.busybox]
    with started([*words, "true"], stderr=subprocess.PIPE) as starting:
        wait_until(lambda: driver.events("volume.waiting"), "it waits")
        driver.restart()
        error = starting.communicate(timeout=120)[1]
    assert b"dso://shop/key: the backend said no (provider test) (dso-agent ends)" in error


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_engine_restart_injects_again_by_itself(
    how: str, private: PrivateEngine, images: Images, driver: Driver
) -> None:
    volume = driver.create(KEY)
    container = start(private, images, volume, "--restart", "always")
    driver.set("shop/key", b"new")
    private.kill() if how == "kill" else private.stop()
    private.start()
    wait_until(lambda: private.docker("exec", container, "true", check=False).returncode == 0, "it runs again")
    assert read(private, container) == b"new"
    private.docker("rm", "-f", container)
    wait_until(lambda: not driver.mounted(volume), "the volume nobody uses is unmounted")


def test_container_the_killed_engine_forgot_does_not_pin_its_volume(
    private: PrivateEngine, images: Images, driver: Driver
) -> None:
    """Without a restart policy it is dead after the Engine's start, and the Engine never unmounts."""
    volume = driver.create(KEY)
    container = start(private, images, volume)
    private.kill()
    assert driver.mounted(volume)
    private.start()
    wait_until(lambda: not driver.mounted(volume), "the volume nobody uses is unmounted")
    private.docker("rm", "-f", container)
    private.docker("volume", "rm", volume)


def test_containers_that_live_through_an_engine_restart_keep_their_files(images: Images) -> None:
    with PrivateEngine(["--live-restore"], own_plugins=True) as private, Driver(private) as driver:
        private.load(images.busybox)
        driver.set("shop/key", b"v")
        volume = driver.create(KEY)
        container = start(private, images, volume)
        private.restart()
        driver.restart()
        # The Engine has lost count: copying makes it unmount under the running container's id.
        private.docker("cp", f"{container}:/s/key", "-")
        assert read(private, container) == b"v"
        private.kill()
        private.start()
        wait_until(lambda: len(driver.events("started")) == 2, "the driver runs")
        threading.Event().wait(4 * QUICK.sweep)
        assert read(private, container) == b"v"
        private.docker("rm", "-f", container)
        wait_until(lambda: not driver.mounted(volume), "the volume nobody uses is unmounted")
        private.docker("volume", "rm", volume)


@pytest.mark.parametrize("order", ["agent first", "agent after"])
def test_reboot_injects_again_by_itself(order: str, private: PrivateEngine, images: Images) -> None:
    """The socket is systemd's: it is there before both, and the Engine waits for an answer."""
    driver = Driver(private)
    driver.listen()
    with driver:
        driver.set("shop/key", b"before")
        volume = driver.create(KEY)
        container = start(private, images, volume, "--restart", "always")
        assert read(private, container) == b"before"
        private.kill()
        driver.stop(signal.SIGKILL)
        kill_shims(private)
        driver.reboot()
        assert not driver.mounted(volume)
        driver.set("shop/key", b"after")
        if order == "agent first":
            driver.start()
            private.start()
        else:
            late = threading.Timer(4, driver.start)
            late.start()
            private.start()
            late.join()
        wait_until(
            lambda: private.docker("exec", container, "true", check=False).returncode == 0, "it runs", timeout=90
        )
        assert read(private, container) == b"after"
        private.docker("rm", "-f", container)
        wait_until(lambda: not driver.mounted(volume), "the volume nobody uses is unmounted")


def kill_shims(private: PrivateEngine) -> None:
    """End an Engine's containers as a power failure does: at once, and whoever watches them first."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8", errors="replace") as file:
                words = file.read()
            if "containerd-shim" in words and os.path.dirname(private.root) in words:
                with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
                    children = file.read().split()
                for process in (pid, *children):
                    os.kill(int(process), signal.SIGKILL)
        except OSError:
            continue


def test_what_a_former_agent_left_mounted_for_nobody_is_cleaned_at_start(
    private: PrivateEngine, images: Images, driver: Driver
) -> None:
    used = driver.create(KEY)
    container = start(private, images, used)
    driver.stop()
    os.unlink(os.path.join(driver.state, "volumes.json"))
    left = os.path.join(driver.mounts, f"left{secrets.token_hex(4)}")
    empty = os.path.join(driver.mounts, "empty")
    for path in (left, empty):
        os.mkdir(path)
    run_program(["mount", "-t", "tmpfs", "dso", left])
    with open(os.path.join(left, "key"), "w") as file:
        file.write("v")
    held = os.open(os.path.join(left, "key"), os.O_RDONLY)
    driver.timing = QUICK._replace(grace=0)  # the Engine asks for the definition first, and then unmounts nothing
    try:
        driver.start()
        assert not os.path.exists(left)
        assert not os.path.exists(empty)
        assert os.pread(held, 10, 0) == b"\0", "it was removed without being overwritten"
    finally:
        os.close(held)
    assert read(private, container) == b"v", "a container uses it, though nobody knows what for"
    private.docker("rm", "-f", container)
    wait_until(lambda: not driver.mounted(used), "the last container's end is noticed")


APART = ("unshare", "-m")  # as with `PrivateTmp=yes` in its unit
APART_FOR_GOOD = (*APART, "setpriv", "--bounding-set", "-sys_chroot")


def test_agent_that_may_not_leave_a_mount_name_space_of_its_own_says_so() -> None:
    """Where PID 1 can be looked at, it finds out at its start."""
    inside = f'{" ".join(APART_FOR_GOOD)} "$@" & wait'
    prefix = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", inside, "sh")
    driver = Driver(prefix=prefix)
    driver.start()
    try:
        status = driver.status()
        assert not status["available"]
        assert "mount name space of its own" in status["reason"]
        assert not os.path.exists(driver.socket), "a driver that cannot work must not be found by the Engine"
    finally:
        driver.prefix = ()
        driver.stop(signal.SIGKILL)
        driver.__exit__(None, None, None)


def test_engine_that_does_not_see_our_mounts_is_told_why(private: PrivateEngine, images: Images) -> None:
    with Driver(private, prefix=APART_FOR_GOOD) as driver:
        driver.set("shop/key", b"v")
        volume = driver.create(KEY)
        words = ["run", "--rm", "--network", "none", "-v", f"{volume}:/s:ro", images.busybox, "true"]
        assert "mount name space of its own" in private.docker(*words, check=False).err
        driver.stop()
        driver.prefix = ()


def test_agent_without_root_says_so_and_makes_no_socket() -> None:
    driver = Driver(prefix=("setpriv", "--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin"))
    driver.start()
    try:
        assert "takes an agent that runs as root" in driver.status()["reason"].replace("take an", "takes an")
        assert not os.path.exists(driver.socket)
    finally:
        driver.stop()
        driver.prefix = ()
        driver.__exit__(None, None, None)
