"""The volume driver when memory, /run or the disk is full, and with mounts as the kernel makes them."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from dso.agent import mountinfo
from dso.agent.mounts import Mounts
from dso.protocol.agent import VolumeFile
from dso.protocol.volume import VOLUME_BYTES
from tests.support.process import PYTHON, started
from tests.support.process import run as start
from tests.support.volume_driver import Driver

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Images
    from tests.support.private_engine import PrivateEngine
    from tests.support.process import Result

KEY = VolumeFile("key", "dso://shop/key")


def in_container(private: PrivateEngine, images: Images, volume: str, *command: str) -> Result:
    words = ["run", "--rm", "--network", "none", "-v", f"{volume}:/s:ro", images.busybox, *command]
    return private.docker(*words, check=False)


def fill(directory: str) -> str:
    """Take all the room of a file system; the path of the file that has it."""
    path = os.path.join(directory, "filler")
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            return path
    return path


def test_full_run_directory_stops_no_container(private: PrivateEngine, images: Images) -> None:
    with Driver(private, run="size=256k") as driver:
        driver.set("shop/key", b"v")
        volume = driver.create(KEY)
        fill(driver.runtime)
        assert in_container(private, images, volume, "cat", "/s/key").stdout == b"v"
        assert driver.events("volume.state_unwritten")
        assert not driver.mounted(volume)


def test_run_directory_without_room_for_a_directory_is_told_and_outlived(
    private: PrivateEngine, images: Images
) -> None:
    with Driver(private, run="nr_inodes=12") as driver:
        driver.set("shop/key", b"v")
        volume = driver.create(KEY)
        taken: list[str] = []
        try:
            while True:
                taken.append(os.path.join(driver.runtime, f"taken{len(taken)}"))
                os.mkdir(taken[-1])
        except OSError:
            taken.pop()
        failed = in_container(private, images, volume, "true")
        assert f"volume {volume} cannot be filled: no space left on device" in failed.err
        assert os.listdir(driver.mounts) == []
        for path in taken:
            os.rmdir(path)
        assert in_container(private, images, volume, "cat", "/s/key").stdout == b"v"


def test_as_much_as_a_volume_may_hold_fits_and_can_be_replaced_at_once(private: PrivateEngine, images: Images) -> None:
    size = 4 * 1024 * 1024 - 4096
    names = [f"f{number}" for number in range(VOLUME_BYTES // (4 * 1024 * 1024))]
    with Driver(private) as driver:
        for name in names:
            driver.set(f"shop/{name}", b"1" * size)
        volume = driver.create(*(VolumeFile(name, f"dso://shop/{name}") for name in names))
        mount = ["-v", f"{volume}:/s:ro", "--network", "none"]
        container = private.docker("run", "-d", "--init", *mount, images.busybox, "sleep", "1000").out.strip()
        try:
            for name in names:
                driver.set(f"shop/{name}", b"2" * size)
            counted = in_container(private, images, volume, "sh", "-c", "cat /s/* | tr -d 1 | wc -c")
            assert int(counted.stdout) == size * len(names)
            driver.set("shop/f0", b"3" * (size + 4096))
            assert "bytes of memory; the limit is" in in_container(private, images, volume, "true").err
            shown = private.docker("exec", container, "sh", "-c", "cat /s/* | tr -d 1 | wc -c")
            assert int(shown.stdout) == size * len(names)
        finally:
            private.docker("rm", "-f", container)


def test_container_that_fills_its_volume_stops_the_next_one_and_not_the_agent(
    private: PrivateEngine, images: Images
) -> None:
    with Driver(private) as driver:
        driver.set("shop/key", b"old")
        volume = driver.create(KEY)
        words = ["run", "-d", "--init", "--network", "none", "-v", f"{volume}:/s", images.busybox]
        eat = "dd if=/dev/zero of=/s/filler bs=1M; touch /tmp/done; sleep 1000"
        container = private.docker(*words, "sh", "-c", eat).out.strip()
        try:
            private.docker("exec", container, "sh", "-c", "until [ -e /tmp/done ]; do sleep 0.1; done")
            driver.set("shop/key", b"new")
            assert "no space left on device (key)" in in_container(private, images, volume, "true").err
            assert private.docker("exec", container, "cat", "/s/key").stdout == b"old"
        finally:
            private.docker("rm", "-f", container)
        assert not driver.mounted(volume)
        assert in_container(private, images, volume, "cat", "/s/key").stdout == b"new"


def test_full_state_directory_refuses_definitions_and_keeps_the_others(private: PrivateEngine, images: Images) -> None:
    with Driver(private) as driver:
        driver.set("shop/key", b"v")
        volume = driver.create(KEY)
        driver.stop()
        start(["mount", "-t", "tmpfs", "-o", "size=64k", "state", driver.state])
        try:
            driver.start()
            volume = driver.create(KEY)
            filler = fill(driver.state)
            spec = f'spec={{"files": [{{"name": "x{"y" * 200}", "template": "dso://a/b"}}], "secrets": []}}'
            refused = private.docker("volume", "create", "-d", driver.name, "-o", spec, "dsotest_none", check=False)
            assert "cannot be kept: no space left on device" in refused.err
            assert in_container(private, images, volume, "cat", "/s/key").stdout == b"v"
            os.unlink(filler)
            private.docker("volume", "rm", volume)
        finally:
            driver.stop()
            start(["umount", driver.state])


@pytest.fixture
def mounts(tmp_path: Path) -> Iterator[Mounts]:
    found = Mounts(str(tmp_path / "volumes"))
    assert found.probe() == ""
    yield found
    for name in os.listdir(found.directory):
        start(["umount", "-l", os.path.join(found.directory, name)], check=False)


def make(mounts: Mounts, name: str = "v") -> str:
    path = os.path.join(mounts.directory, name)
    os.makedirs(path, exist_ok=True)
    mounts.mount(path)
    return path


def test_probe_leaves_nothing_and_locks_others_out(mounts: Mounts) -> None:
    assert os.listdir(mounts.directory) == []
    assert os.stat(mounts.directory).st_mode & 0o777 == 0o700


def test_mount_is_for_data_only_limited_and_never_swapped_out(mounts: Mounts) -> None:
    path = make(mounts)
    shown = start(["findmnt", "-no", "FSTYPE,OPTIONS", path]).out
    kind, options = shown.split()
    assert kind == "tmpfs"
    assert {"rw", "nosuid", "nodev", "noexec", "size=131072k", "mode=755"} <= set(options.split(","))
    release = tuple(map(int, os.uname().release.split(".")[:2]))
    assert ("noswap" in options.split(",")) == (release >= (6, 4))


def test_options_the_kernel_does_not_know_are_left_out_for_good(mounts: Mounts) -> None:
    mounts._wanted = [["no_such_option"], ["noswap", "nor_this"], ["mode=0750"], []]
    assert os.stat(make(mounts)).st_mode & 0o777 == 0o750
    assert mounts._wanted == [["mode=0750"], []]


def test_everything_at_a_path_is_unmounted_even_while_somebody_looks_into_it(mounts: Mounts) -> None:
    path = make(mounts)
    make(mounts)
    with started(["sleep", "1000"], cwd=path):
        mounts.unmount(path)
        assert mounts.find(path) is None
        os.rmdir(path)


def test_volumes_are_those_directly_below(mounts: Mounts) -> None:
    paths = {name: make(mounts, name) for name in ("a", "b")}
    os.mkdir(os.path.join(paths["a"], "inner"))
    start(["mount", "-t", "tmpfs", "x", os.path.join(paths["a"], "inner")])
    try:
        found = mounts.volumes()
        assert set(found) == {"a", "b"}
        assert found == {name: mounts.find(path) for name, path in paths.items()}
    finally:
        start(["umount", os.path.join(paths["a"], "inner")])


@pytest.mark.parametrize("is_used", [False, True], ids=["a copy of the name space", "a mount of its own"])
def test_only_a_mount_of_its_own_counts_as_use(is_used: bool, mounts: Mounts, tmp_path: Path) -> None:
    path = make(mounts)
    target = tmp_path / "target"
    target.mkdir()
    script = f"mount --bind {path} {target}" if is_used else "true"
    command = ["unshare", "-m", "sh", "-c", f"{script} && echo ready && exec sleep 1000"]
    with started(command, stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        assert mounts.usage(mounts.volumes()).names == ({"v"} if is_used else frozenset())
    assert mounts.usage(mounts.volumes()).names == frozenset()


def test_process_that_sees_the_mount_is_told_from_one_that_does_not(mounts: Mounts, tmp_path: Path) -> None:
    with started(["unshare", "-m", "sh", "-c", "echo ready; exec sleep 1000"], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"ready\n"
        path = make(mounts)
        assert mounts.is_seen_by(os.getpid(), path)
        assert not mounts.is_seen_by(process.pid, path)
        assert mounts.is_seen_by(1 << 22, path), "nobody can tell"


_APART = """
import sys
from dso.agent.mounts import Mounts
mounts, path = Mounts(sys.argv[1]), sys.argv[1] + "/v"
def say():
    print(*(any(f" {path} " in line for line in open(f"/proc/{who}/mountinfo")) for who in ("1", "self")), end=" ")
    print(*mounts.volumes(), mounts.find(path) is not None)
assert mounts.probe() == "", mounts.probe()
mounts.fill(path, [], 1)
say()
assert mounts.take_down(path) == ""
say()
"""


def test_agent_in_a_mount_name_space_of_its_own_mounts_in_that_of_pid_1(tmp_path: Path) -> None:
    """As in a hardened unit. PID 1 is a shell here."""
    outside = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", 'unshare -m "$@" & wait $!']
    command = [*outside, "sh", PYTHON, "-c", _APART, str(tmp_path / "volumes")]
    shown = start(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert shown.out == "True False v True\nFalse False False\n"


def test_without_rights_the_probe_says_so(tmp_path: Path) -> None:
    script = "import sys; from dso.agent.mounts import Mounts; print(Mounts(sys.argv[1]).probe())"
    command = ["setpriv", "--bounding-set", "-sys_admin", PYTHON, "-c", script, str(tmp_path / "volumes")]
    shown = start(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert "runs as root" in shown.out
    assert os.listdir(tmp_path / "volumes") == []
    assert not [entry for entry in mountinfo.read() if entry.point.startswith(str(tmp_path))]
