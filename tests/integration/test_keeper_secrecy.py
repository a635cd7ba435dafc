"""Plaintext of a delivered file is in memory and nowhere else, while the stack runs and afterwards."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dso.delivery.plan import SecretFile
from dso.errors import VolumeConflictError
from dso.secret import SecretValue
from tests.support.canary import Canary, assert_absent
from tests.support.delivery import MOUNT, Stack, files, volume
from tests.support.rawdisk import Disk

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.engine import Engine, Images


@pytest.fixture
def stack(engine: Engine, images: Images, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("HOME", str(tmp_path))
    found = Stack(engine, "/var/run/docker.sock", images.busybox)
    yield found
    found.remove()


def test_plaintext_is_on_no_disk_while_running_and_after(stack: Stack, engine: Engine, tmp_path: Path) -> None:
    text, binary, replaced, removed = Canary.new(), Canary.binary(), Canary.new(), Canary.new()
    places = [str(tmp_path)]
    stack.deliver(files("api", text=replaced.value, binary=binary.value, removed=removed.value))
    container = stack.run("api", "sh", "-c", f"cat {MOUNT}/* >/dev/null; sleep 1000")
    stack.deliver(files("api", text=text.value, binary=binary.value))
    stack.docker("restart", "-t", "0", container)
    shown = stack.docker("exec", container, "cat", f"{MOUNT}/text", f"{MOUNT}/binary").stdout
    assert shown == text.value + binary.value
    every = (text, binary, replaced, removed)
    stopped = [engine.inspect(stack.name), engine.logs(stack.name)]
    assert_absent(*every, engine=engine, places=places, outputs={"inspect": stopped[0], "logs": stopped[1]})
    stack.docker("rm", "-f", container)
    assert stack.release(remove_volumes=True)
    assert_absent(*every, engine=engine, places=places)
    assert stack.volumes() == []


def test_no_block_of_the_disk_ever_held_plaintext(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted files, journal and slack included; a variable's value, which is there, shows that the search works."""
    first, second, removed, variable = (Canary.new() for _ in range(4))
    with Disk() as disk:
        monkeypatch.setenv("HOME", disk.mount)
        disk.private.load(images.busybox)
        stack = Stack(disk.private, disk.private.path, images.busybox)
        stack.deliver(files("api", key=first.value, removed=removed.value))
        options = ["--env", f"X={variable.text}"]
        container = stack.run("api", "sh", "-c", f"cat {MOUNT}/* >/dev/null; sleep 1000", options=options)
        stack.deliver(files("api", key=second.value))
        stack.deliver(files("api", key=second.value), files("db", key=second.value))
        stack.docker("restart", "-t", "0", container)
        assert stack.docker("exec", container, "cat", f"{MOUNT}/key").stdout == second.value
        stack.docker("rm", "-f", container)
        assert stack.release(remove_volumes=True)
        stack.client.close()
        assert disk.find(variable)
        assert disk.find(first, second, removed) == []


def test_export_and_commit_have_no_plaintext(stack: Stack, engine: Engine, tmp_path: Path) -> None:
    canary = Canary.new()
    stack.deliver(files("api", key=canary.value))
    container = stack.run("api", "sleep", "1000")
    (keeper,) = stack.keepers()
    image = f"{stack.name}-committed"
    try:
        outputs = {}
        for name in (container, keeper):
            outputs[f"export of {name}"] = stack.docker("export", name).stdout
            stack.docker("commit", name, image)
            outputs[f"commit of {name}"] = stack.docker("save", image).stdout
            assert len(outputs[f"export of {name}"]) > 1000
        assert_absent(canary, engine=engine, outputs=outputs, places=[str(tmp_path)])
    finally:
        stack.docker("rmi", "-f", image, check=False)


def test_released_secret_is_gone_for_containers_too(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    container = stack.run("api", "sleep", "1000")
    stack.docker("stop", "-t", "0", container)
    assert stack.release()
    stack.docker("start", container)
    assert stack.docker("exec", container, "ls", "-A", MOUNT).out == ""


def test_keeper_can_do_nothing_but_hold(stack: Stack) -> None:
    stack.deliver(files("api", key=b"x"))
    (keeper,) = stack.keepers()
    shown = stack.docker("top", keeper, "-o", "pid,args").out.splitlines()
    assert len(shown) == 2
    pid = int(shown[1].split()[0])
    with open(f"/proc/{pid}/status") as file:
        status = dict(line.split(":\t", 1) for line in file.read().splitlines() if ":\t" in line)
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    with open(f"/proc/{pid}/net/dev") as file:
        assert [line.split(":")[0].strip() for line in file.readlines()[2:]] == ["lo"]
    refused = stack.docker("exec", keeper, "/bin/sh", check=False)
    assert "no such file" in refused.out + refused.err
    assert "does not support reading" in stack.docker("logs", keeper, check=False).err
    changes = stack.docker("diff", keeper).out.split("\n")
    assert not [line for line in changes if line and not line[2:].startswith(("/run", "/dev", "/etc", "/proc", "/sys"))]


@pytest.mark.parametrize("which", ["service", "parent"])
def test_foreign_volume_is_refused_and_nothing_is_written(which: str, stack: Stack, engine: Engine) -> None:
    canary = Canary.new()
    name = f"{stack.name}_dso" + ("_api" if which == "service" else "")
    stack.docker("volume", "create", name)
    with pytest.raises(VolumeConflictError, match=name):
        stack.deliver(files("api", key=canary.value))
    assert stack.keepers() == []
    assert stack.volumes() == [name]
    assert_absent(canary, engine=engine)


def test_volume_with_our_labels_on_a_disk_is_refused(stack: Stack) -> None:
    labels = ["--label", "io.dso.role=volume", "--label", f"io.dso.project={stack.name}"]
    stack.docker("volume", "create", *labels, f"{stack.name}_dso_api")
    with pytest.raises(VolumeConflictError):
        stack.deliver(files("api", key=b"x"))


def test_link_planted_by_a_container_leads_nowhere(stack: Stack) -> None:
    """A container that mounts the volume writable, against the override, cannot redirect a delivery."""
    stack.deliver(files("api", key=b"1"), files("db", key=b"db"))
    mount = f"{stack.name}_dso_api:/s"
    planted = "rm /s/key && ln -s ../db/key /s/key && ln -s /run/dso/db /s/d"
    stack.docker("run", "--rm", "--network", "none", "-v", mount, stack.image, "sh", "-c", planted)
    stack.deliver(volume("api", *files("api", key=b"2").files, SecretFile("d/key", SecretValue(b"3"), 0, 0, 0o444)))
    assert stack.read("api", "key", "d/key") == [b"2", b"3"]
    assert stack.read("db", "key") == [b"db"]
