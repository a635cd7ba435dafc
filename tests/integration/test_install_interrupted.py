"""An installation that fails or is ended, at many points: the former version works, and the next run mends all."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.support.install import Host
from tests.support.process import run, started
from tests.support.release import Key, Release

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = ("lib/docker/cli-plugins/docker-dso", "bin/dso-agent", "lib/dso/plugins/dso-provider-vault")
COMMANDS = ("mv", "ln", "cp", "chmod", "mkdir")  # those by which the installer changes anything

# A command that ends the shell that calls it, at the call with the number $AT; before it does its work.
_ENDING = """#!/bin/sh
number=$(($(cat "{counter}") + 1))
echo $number >"{counter}"
[ $number != "{at}" ] || kill -{signal} $PPID
exec /bin/{name} "$@"
"""


@pytest.fixture(scope="module")
def place() -> Iterator[str]:
    path = tempfile.mkdtemp(prefix="dso-install-", dir="/var/tmp")
    os.chmod(path, 0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def releases(place: str) -> tuple[Release, Release]:
    """A former one, and one in which everything is different, files are gone and others new."""
    key = Key.make(place)
    for name in ("1", "2"):
        os.mkdir(f"{place}/{name}")
    former, new = Release("1.0.0", key, f"{place}/1"), Release("2.0.0", key, f"{place}/2")
    for each in (former, new):  # fewer files, more quickly
        for name in [name for name in each.tree if "azure" in name or "huawei" in name or "zsh" in name]:
            del each.tree[name]
    former.tree["man/man1/docker-dso-gone.1"] = b"gone\n"
    new.tree["man/man1/docker-dso-new.1"] = b"new\n"
    return former.pack(), new.pack()


@pytest.fixture
def host(place: str) -> Iterator[Host]:
    path = tempfile.mkdtemp(dir=place)
    os.chmod(path, 0o755)
    yield Host(path)
    shutil.rmtree(path)


class Ending:
    """Commands in front of PATH that end the installer."""

    def __init__(self, host: Host, signal: str) -> None:
        self.directory = f"{host.directory}/ending"
        self.counter = f"{host.directory}/counter"
        self.signal = signal
        self.path = f"{self.directory}:{host.path}"
        os.mkdir(self.directory)

    def at(self, number: int) -> None:
        """End it at the call with this number; 0: never."""
        with open(self.counter, "w") as file:
            file.write("0\n")
        for name in COMMANDS:
            path = os.path.join(self.directory, name)
            with open(path, "w") as file:
                file.write(_ENDING.format(counter=self.counter, at=number, signal=self.signal, name=name))
            os.chmod(path, 0o755)

    def calls(self) -> int:
        """How many there were."""
        with open(self.counter) as file:
            return int(file.read())


def whole(host: Host, releases: tuple[Release, Release]) -> None:
    """Every program is the one of a release, and runs."""
    for path in PROGRAMS:
        name = f"bin/{os.path.basename(path)}"
        found = host.files()[path]
        assert found.mode == 0o755
        assert found.content in [each.tree[name] for each in releases]
        assert "Version" in host.run(f"/usr/local/{path}").out


@pytest.mark.parametrize("former", [True, False], ids=["upgrade", "first"])
def test_an_installer_that_was_killed_is_made_up_for_by_the_next(
    former: bool, host: Host, releases: tuple[Release, Release]
) -> None:
    host.install(releases[1])
    wanted = host.files()
    host.reset()
    if former:
        host.install(releases[0])
    before, directories = host.files(), host.directories()
    ending = Ending(host, "KILL")
    ordinary, host.path = host.path, ending.path
    ending.at(0)
    host.install(releases[1])
    calls = ending.calls()
    assert calls > 40
    for number in range(1, calls + 1, 5):
        host.reset(before)
        ending.at(number)
        host.path = ending.path
        command = ["dash", releases[1].script, "--offline", releases[1].tarball]
        assert host.run(*command, check=False).returncode == -9, number
        shutil.rmtree(host.tmp)  # which a boot clears
        os.mkdir(host.tmp)
        host.path = ordinary
        if former:
            whole(host, releases)
        host.install(releases[1])
        assert host.files() == wanted, number
    if not former:
        host.run("/usr/local/lib/dso/uninstall.sh")
        assert host.directories() == directories


@pytest.mark.parametrize("signal", ["TERM", "INT", "HUP"])
def test_an_installer_that_is_interrupted_puts_everything_back(
    signal: str, host: Host, releases: tuple[Release, Release]
) -> None:
    host.install(releases[0])
    before = host.files()
    ending = Ending(host, signal)
    ordinary, host.path = host.path, ending.path
    ending.at(0)
    host.install(releases[1])
    calls = ending.calls()
    for number in range(2 + len(signal), calls, 9):
        host.reset(before)
        ending.at(number)
        host.path = ending.path
        ended = host.install(releases[1], check=False)
        assert ended.returncode > 128, number
        host.path = ordinary
        if host.files() != before:  # the last moments: all is done, but for tidying up
            host.install(releases[1])
            assert number > calls - 3


def test_a_first_installation_that_is_interrupted_leaves_nothing(host: Host, releases: tuple[Release, Release]) -> None:
    ending = Ending(host, "TERM")
    ordinary, host.path = host.path, ending.path
    ending.at(0)
    host.install(releases[1])
    calls = ending.calls()
    for number in range(4, calls - 3, 9):
        host.reset()
        ending.at(number)
        host.path = ending.path
        assert host.install(releases[1], check=False).returncode == 143
        assert host.files() == {}, number
        assert host.directories() == [], number
    host.path = ordinary


def test_after_a_kill_one_can_uninstall_as_well(host: Host, releases: tuple[Release, Release]) -> None:
    host.install(releases[0])
    ending = Ending(host, "KILL")
    ordinary, host.path = host.path, ending.path
    ending.at(0)
    host.install(releases[1])
    calls = ending.calls()
    host.reset()
    host.path = ordinary
    host.install(releases[0])
    ending.at(calls - 12)
    host.path = ending.path
    host.run("dash", releases[1].script, "--offline", releases[1].tarball, check=False)
    host.path = ordinary
    assert [name for name in host.files() if name.endswith(".dso-old")]
    host.run("/usr/local/lib/dso/uninstall.sh")
    assert host.files() == {}


@pytest.mark.parametrize("former", [True, False], ids=["upgrade", "first"])
def test_a_full_disk_changes_nothing(former: bool, host: Host, releases: tuple[Release, Release]) -> None:
    tree = dict(releases[1].tree)
    os.mkdir(f"{host.directory}/large")
    large = Release("3.0.0", releases[1].key, f"{host.directory}/large")
    large.tree = {**tree, "VERSION": b"3.0.0\n"}
    large.tree["bin/docker-dso"] = large.tree["bin/docker-dso"].replace(b"2.0.0", b"3.0.0")
    large.tree["bin/dso-agent"] += b"# padding\n" * 60_000
    large.pack()
    for size in ("400k", "600k"):
        run(["mount", "-t", "tmpfs", "-o", f"size={size},mode=755", "tmpfs", host.local])
        try:
            if former:
                host.install(releases[0])
            before, directories = host.files(), host.directories()
            refused = host.install(large, check=False)
            assert refused.returncode == 1
            assert "is the disk full" in refused.err
            assert host.files() == before
            assert host.directories() == directories
        finally:
            run(["umount", host.local])


def test_where_there_are_no_hard_links_a_copy_that_is_cut_off_replaces_nothing(
    host: Host, releases: tuple[Release, Release]
) -> None:
    host.install(releases[0])
    before = host.files()
    ordinary, directory = host.path, f"{host.directory}/full"
    os.mkdir(directory)
    copy = 'if [ "$1" = -p ]; then head -c 5 "$2" >"$3"; exit 1; fi; exec /bin/cp "$@"'
    for name, script in (("ln", 'case $1 in -f) exit 1;; *) exec /bin/ln "$@";; esac'), ("cp", copy)):
        with open(f"{directory}/{name}", "w") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(f"{directory}/{name}", 0o755)
    host.path = f"{directory}:{ordinary}"
    assert "is the disk full" in host.install(releases[1], check=False).err
    assert host.files() == before
    os.unlink(f"{directory}/cp")
    host.install(releases[1])
    assert b"version 2.0.0" in host.files()["lib/dso/manifest"].content


def test_an_agent_that_was_not_touched_is_not_restarted(host: Host, releases: tuple[Release, Release]) -> None:
    """What fails before the agent is restarted leaves it alone: by a systemctl and a chmod of our own."""
    host.install(releases[0])
    before, directory, log = host.files(), f"{host.directory}/programs", f"{host.directory}/log"
    os.mkdir(directory)
    for name, script in (("systemctl", f'echo "$*" >>{log}'), ("chmod", "case $2 in *agent*) exit 1;; esac")):
        with open(f"{directory}/{name}", "w") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(f"{directory}/{name}", 0o755)
    host.path = f"{directory}:{host.path}"
    run_of_systemd = 'mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/system && exec dash "$@"'
    words = [releases[1].script, "--offline", releases[1].tarball]
    assert "is the disk full" in host.run("sh", "-c", run_of_systemd, "sh", *words, check=False).err
    assert host.files() == before
    with open(log) as file:
        asked = file.read()
    assert "is-active --quiet dso-agent.service" in asked
    assert "restart" not in asked


def test_a_lock_of_a_process_that_is_no_more_is_none(host: Host, releases: tuple[Release, Release]) -> None:
    """Its number may be another shell's by now; and while it is under way nobody uninstalls."""
    host.install(releases[0])
    lock = f"{host.local}/lib/dso/.lock"
    with started(["sh", "-c", "read -r line"], stdin=subprocess.PIPE) as shell:
        os.symlink(str(shell.pid), lock)
        host.install(releases[1])
        with open(f"/proc/{shell.pid}/stat") as file:
            since = file.read().rpartition(") ")[2].split()[19]
        os.symlink(f"{shell.pid}.{since}", lock)
        for script in (f"dash {releases[1].script}", "sh /usr/local/lib/dso/uninstall.sh"):
            refused = host.run(
                *script.split(), *(["--offline", releases[1].tarball] if "dash" in script else []), check=False
            )
            assert f"installation is under way: process {shell.pid}" in refused.err
        assert b"version 2.0.0" in host.files()["lib/dso/manifest"].content
        shell.communicate(b"\n")
    host.run("/usr/local/lib/dso/uninstall.sh")
    assert host.files() == {}


def test_two_installers_do_not_get_into_each_others_way(host: Host, releases: tuple[Release, Release]) -> None:
    """The second one is started while the first one is half-way: by a command that the first one calls."""
    host.install(releases[0])
    directory = f"{host.directory}/second"
    os.mkdir(directory)
    said = f"{directory}/said"
    second = f"dash {releases[0].script} --offline {releases[0].tarball} --providers vault"
    with open(f"{directory}/chmod", "w") as file:
        file.write(f'#!/bin/sh\nPATH={host.path}\n[ -e {said} ] || {second} >{said} 2>&1\nexec chmod "$@"\n')
    os.chmod(f"{directory}/chmod", 0o755)
    host.path = f"{directory}:{host.path}"
    host.install(releases[1])
    with open(f"{directory}/said") as file:
        assert "another installation is under way: process " in file.read()
    assert b"version 2.0.0" in host.files()["lib/dso/manifest"].content
