"""The machine that the tests of systemd run on behaves as one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.support.systemd import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.engine import Images


@pytest.fixture(scope="module")
def machine() -> Iterator[Machine]:
    with Machine() as running:
        yield running


_UNIT = """
[Service]
ExecStart=/bin/sh -c 'echo started; exec sleep infinity'
[Install]
WantedBy=multi-user.target
"""


def test_it_has_systemd_and_docker_and_no_python(machine: Machine) -> None:
    assert machine.run("cat", "/proc/1/comm").out == "systemd\n"
    assert machine.run("systemctl", "is-system-running").out == "running\n"
    assert machine.run("docker", "version", "--format", "{{.Server.Version}}").out.startswith("26.")
    assert machine.shell("ls /usr/bin/python* /usr/local/bin/python*", check=False).out == ""


def test_a_reboot_keeps_the_disk_and_the_stacks_and_loses_run(machine: Machine, images: Images) -> None:
    machine.load(images.busybox)
    kept = ["--name", "kept", "--restart", "always", "--stop-signal", "KILL"]
    machine.run("docker", "run", "-d", *kept, images.busybox, "sleep", "infinity")
    machine.write("/etc/systemd/system/hello.service", _UNIT)
    machine.run("systemctl", "enable", "--now", "hello.service")
    machine.shell("touch /run/lost /etc/kept /var/lib/docker/kept")
    boot = machine.run("cat", "/proc/1/stat").out.split()[21]  # when PID 1 started
    machine.reboot()
    assert machine.run("cat", "/proc/1/stat").out.split()[21] != boot
    machine.shell("test -e /etc/kept && test -e /var/lib/docker/kept && ! test -e /run/lost")
    machine.wait_for("hello.service", "active")
    assert machine.journal("hello.service").count("sh[") == 2  # the journal is kept
    assert machine.run("docker", "inspect", "--format", "{{.State.Running}}", "kept").out == "true\n"
    assert len(machine.processes("hello.service")) == 1
    machine.run("docker", "rm", "-f", "kept")
