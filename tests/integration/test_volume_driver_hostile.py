"""Containers that mount a volume writable and make everything of it that they can: the trouble stays theirs."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from typing import TYPE_CHECKING

import pytest

from dso.protocol.agent import VolumeFile
from tests.support.volume_driver import Driver
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images
    from tests.support.private_engine import PrivateEngine

KEY = VolumeFile("key", "dso://shop/key")
DEEP = VolumeFile("d/key", "dso://shop/key")
FS_IOC_SETFLAGS, FS_IMMUTABLE = 0x40086602, 0x10  # <linux/fs.h>


@pytest.fixture(scope="module")
def driver(private: PrivateEngine) -> Iterator[Driver]:
    with Driver(private) as driver:
        driver.set("shop/key", b"v")
        yield driver


def read(private: PrivateEngine, images: Images, volume: str, path: str = "/s/key") -> bytes:
    """What a container reads. A busy Engine can lose what a short one prints: the dot tells that from nothing."""
    words = ["run", "--rm", "--network", "none", "-v", f"{volume}:/s:ro", images.busybox]
    script = f"cat {path} && echo ."
    return wait_until(lambda: private.docker(*words, "sh", "-ec", script).stdout, "its output").removesuffix(b".\n")


def shape(private: PrivateEngine, images: Images, volume: str, script: str, *options: str) -> None:
    """Run a script in a container that may write to the volume, to its end."""
    mount = ["--rm", "--network", "none", "-v", f"{volume}:/s", *options]
    private.docker("run", *mount, images.busybox, "sh", "-ec", script)


def faults(driver: Driver, volume: str) -> list[str]:
    return [event["message"] for event in driver.events("volume.failed") if event["volume"] == volume]


def ended(driver: Driver, volume: str) -> None:
    wait_until(lambda: not driver.mounted(volume), f"{volume} is unmounted")


def make_immutable(path: str) -> None:
    """As chattr(1) does with +i, which busybox has not."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, FS_IOC_SETFLAGS, struct.pack("l", FS_IMMUTABLE))
    except OSError as error:
        if error.errno != errno.ENOTTY:
            raise
        pytest.skip("a tmpfs of this kernel has no such attribute: it came with Linux 6.6")
    finally:
        os.close(descriptor)


SHAPES = {
    "a large file of many names": """
        dd if=/dev/zero of=/s/0 bs=1M count=90
        i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo /s/$i; done | xargs -n 1 ln /s/0
    """,
    "a sparse file": "dd if=/dev/zero of=/s/sparse bs=1 count=1 seek=1000000000000",
    "many files": "mkdir /s/m; cd /s/m; i=0; while [ $i -lt 30000 ]; do i=$((i+1)); : > $i; done",
    "deep directories": "cd /s; i=0; while [ $i -lt 1500 ]; do i=$((i+1)); mkdir x; cd x; done",
    "pipes and devices": "mkfifo /s/p /s/..dso; mknod /s/zero c 1 5; mknod /s/disk b 8 0; rm /s/key; mkfifo /s/key",
    "links": "rm /s/key; ln -s /etc/shadow /s/key; ln -s / /s/all; ln -s key /s/..dso; ln -s loop /s/loop",
}


@pytest.mark.parametrize("script", SHAPES.values(), ids=SHAPES)
def test_what_a_container_left_in_a_volume_is_taken_away_in_bounded_work(
    script: str, driver: Driver, private: PrivateEngine, images: Images
) -> None:
    """With one file of 90 MiB under 20,000 names, overwriting each was 1.8 TB of writing."""
    volume = driver.create(KEY, DEEP)
    shape(private, images, volume, script)
    ended(driver, volume)
    assert faults(driver, volume) == []
    assert read(private, images, volume) == b"v"


def test_what_cannot_be_removed_keeps_no_container_from_its_files(
    driver: Driver, private: PrivateEngine, images: Images
) -> None:
    """After `chattr +i`, which takes CAP_LINUX_IMMUTABLE in a container."""
    volume = driver.create(KEY)
    mount = ["--network", "none", "-v", f"{volume}:/s"]
    hold = private.docker("run", "-d", "--init", *mount, images.busybox, "sleep", "1000").out.strip()
    try:
        make = "echo x > /s/stuck; mkdir /s/in; echo x > /s/in/stuck"
        shape(private, images, volume, make)
        for name in ("stuck", "in/stuck"):
            make_immutable(os.path.join(driver.mounts, volume, name))
        assert read(private, images, volume) == b"v"
    finally:
        private.docker("rm", "-f", hold)
    ended(driver, volume)
    assert "not all of it could be overwritten: operation not permitted" in faults(driver, volume)[0].lower()
    assert read(private, images, volume) == b"v"


def test_a_container_that_goes_on_writing_hinders_no_start_and_no_other_volume(
    driver: Driver, private: PrivateEngine, images: Images
) -> None:
    """It fills again and again what the agent might empty: strays, and the name that new content had."""
    volume, other = driver.create(KEY, DEEP), driver.create(KEY)
    script = """
        while :; do
            mkdir -p /s/..dso /s/stray; head -c 65536 /dev/zero >> /s/..dso/0; head -c 65536 /dev/zero >> /s/stray/$i
            i=$((i+1)); [ $((i % 50)) != 0 ] || rm -rf /s/stray /s/..dso; : > /tmp/goes
        done 2> /dev/null
    """
    mount = ["--network", "none", "-v", f"{volume}:/s"]
    hostile = private.docker("run", "-d", "--init", *mount, images.busybox, "sh", "-c", script).out.strip()
    try:
        private.docker("exec", hostile, "sh", "-c", "until [ -e /tmp/goes ]; do sleep 0.1; done")
        for round_ in range(5):
            driver.set("shop/key", b"%d" % round_)
            assert read(private, images, other) == b"%d" % round_
            assert read(private, images, volume, "/s/d/key") == b"%d" % round_
    finally:
        private.docker("rm", "-f", hostile)
        driver.set("shop/key", b"v")
    ended(driver, volume)
    assert not driver.mounted(other)
