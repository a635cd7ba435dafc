"""The volume driver with a real Engine: what a container finds, when, and what is left afterwards."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING

import pytest

from dso.protocol.agent import VolumeFile
from tests.support.canary import Canary, assert_absent
from tests.support.engine import Engine
from tests.support.process import ChildFailedError
from tests.support.volume_driver import Driver
from tests.support.wait import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.engine import Images
    from tests.support.private_engine import PrivateEngine

KEY = VolumeFile("key", "dso://shop/key")


@pytest.fixture(scope="module")
def driver(private: PrivateEngine) -> Iterator[Driver]:
    with Driver(private) as driver:
        yield driver


@pytest.fixture
def run(private: PrivateEngine, images: Images) -> Iterator[Callable[..., str]]:
    """`run("-v", "x:/s", command=[...])` starts a container in the background; its id."""
    started = []

    def run(*options: str, command: tuple[str, ...] = ("sleep", "1000"), image: str = images.busybox) -> str:
        words = ["run", "--detach", "--init", "--network", "none", *options, image, *command]
        started.append(private.docker(*words).out.strip())
        return started[-1]

    yield run
    for container in started:
        private.docker("rm", "-f", container, check=False)


def engine_of(private: PrivateEngine) -> Engine:
    """As canaries are looked for."""
    return Engine({"DOCKER_HOST": private.host})


def in_container(private: PrivateEngine, images: Images, volume: str, *command: str) -> bytes:
    """What a command in a new container prints; the volume is /s."""
    words = ["run", "--rm", "--network", "none", "-v", f"{volume}:/s:ro", images.busybox, *command]
    return private.docker(*words).stdout


def test_file_is_there_before_the_first_instruction(driver: Driver, private: PrivateEngine, images: Images) -> None:
    """The container's program is `cat` itself: nothing runs before it that could wait."""
    for _ in range(10):
        value = secrets.token_hex(16).encode()
        driver.set("shop/key", value)
        volume = driver.create(KEY)
        assert in_container(private, images, volume, "cat", "/s/key") == value


def test_owner_and_mode_are_exact_and_directories_can_be_entered(
    driver: Driver, private: PrivateEngine, images: Images
) -> None:
    driver.set("shop/key", b"v")
    wanted = [("a", 0, 0, 0o444), ("b", 1000, 1001, 0o400), ("d/e/c", 4294967294, 65534, 0o755), ("z", 7, 7, 0)]
    files = [VolumeFile(name, "dso://shop/key", uid, gid, mode) for name, uid, gid, mode in wanted]
    volume = driver.create(*files)
    shown = in_container(private, images, volume, "stat", "-c", "%n %u %g %a", *(f"/s/{name}" for name, *_ in wanted))
    assert shown.decode().splitlines() == [f"/s/{name} {uid} {gid} {mode:o}" for name, uid, gid, mode in wanted]
    about = in_container(private, images, volume, "stat", "-c", "%u %g %a", "/s", "/s/d", "/s/d/e")
    assert about.decode().split("\n")[:3] == ["0 0 755"] * 3


def test_user_without_rights_reads_its_own_file_and_no_other(
    driver: Driver, private: PrivateEngine, images: Images
) -> None:
    driver.set("shop/key", b"v")
    volume = driver.create(KEY._replace(uid=1000, mode=0o400), VolumeFile("root", "dso://shop/key", mode=0o400))
    words = ["run", "--rm", "--network", "none", "--user", "1000:1000", "-v", f"{volume}:/s:ro", images.busybox]
    assert private.docker(*words, "cat", "/s/key").stdout == b"v"
    assert "Permission denied" in private.docker(*words, "cat", "/s/root", check=False).err


def test_templates_are_filled_with_bytes_as_they_are(driver: Driver, private: PrivateEngine, images: Images) -> None:
    binary = bytes(range(256))
    driver.set("shop/key", binary)
    volume = driver.create(KEY, VolumeFile("conf", "[a]\nx = {{dso://shop/key}}\n"))
    assert in_container(private, images, volume, "cat", "/s/key", "/s/conf") == binary + b"[a]\nx = " + binary + b"\n"


def test_volume_is_nothing_but_a_definition_while_nobody_uses_it(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    driver.set("shop/key", b"v")
    volume = driver.create(KEY)
    assert not driver.mounted(volume)
    first, second = run("-v", f"{volume}:/s:ro"), run("-v", f"{volume}:/x:ro")
    assert driver.mounted(volume)
    private.docker("rm", "-f", first)
    assert private.docker("exec", second, "cat", "/x/key").stdout == b"v"
    private.docker("rm", "-f", second)
    assert not driver.mounted(volume)
    assert not os.path.exists(os.path.join(driver.mounts, volume))


def test_many_containers_at_once_on_one_volume(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    from concurrent.futures import ThreadPoolExecutor

    driver.set("shop/key", b"v")
    volume = driver.create(KEY)
    with ThreadPoolExecutor(8) as pool:
        containers = list(pool.map(lambda _: run("-v", f"{volume}:/s:ro"), range(12)))
        read = list(pool.map(lambda each: private.docker("exec", each, "cat", "/s/key").stdout, containers))
        assert read == [b"v"] * 12
        list(pool.map(lambda each: private.docker("rm", "-f", each), containers[1:]))
        assert private.docker("exec", containers[0], "cat", "/s/key").stdout == b"v"
    private.docker("rm", "-f", containers[0])
    assert not driver.mounted(volume)


def test_restarted_container_finds_the_present_value(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    driver.set("shop/key", b"old")
    volume = driver.create(KEY)
    container = run("-v", f"{volume}:/s:ro")
    driver.set("shop/key", b"new")
    assert private.docker("exec", container, "cat", "/s/key").stdout == b"old"
    private.docker("restart", "-t", "0", container)
    assert private.docker("exec", container, "cat", "/s/key").stdout == b"new"


def test_start_of_another_container_brings_a_running_one_the_new_value(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    driver.set("shop/key", b"old")
    volume = driver.create(KEY)
    first = run("-v", f"{volume}:/s:ro")
    driver.set("shop/key", b"new")
    run("-v", f"{volume}:/s:ro")
    assert private.docker("exec", first, "cat", "/s/key").stdout == b"new"


def test_one_file_of_a_volume_by_subpath(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    driver.set("shop/key", b"pem")
    volume = driver.create(VolumeFile("tls/pem", "dso://shop/key", 1000, 1000, 0o400), KEY)
    mount = f"type=volume,source={volume},target=/etc/tls/key.pem,readonly,volume-nocopy,volume-subpath=tls/pem"
    container = run("--mount", mount, "--user", "1000:1000")
    assert private.docker("exec", container, "cat", "/etc/tls/key.pem").stdout == b"pem"
    assert private.docker("exec", container, "ls", "/etc/tls").out == "key.pem\n"
    private.docker("restart", "-t", "0", container)
    assert private.docker("exec", container, "cat", "/etc/tls/key.pem").stdout == b"pem"
    private.docker("rm", "-f", container)
    assert not driver.mounted(volume)


def test_copying_out_of_a_container_takes_nothing_away(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    """`docker cp` mounts and unmounts under the running container's own id."""
    driver.set("shop/key", b"v")
    volume = driver.create(KEY)
    container = run("-v", f"{volume}:/s:ro")
    for _ in range(3):
        assert b"v" in private.docker("cp", f"{container}:/s/key", "-").stdout
    assert private.docker("exec", container, "cat", "/s/key").stdout == b"v"
    private.docker("stop", "-t", "0", container)
    assert not driver.mounted(volume)
    assert b"v" in private.docker("cp", f"{container}:/s/key", "-").stdout
    assert not driver.mounted(volume)


def test_volume_in_use_cannot_be_removed(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    driver.set("shop/key", b"v")
    volume = driver.create(KEY)
    container = run("-v", f"{volume}:/s:ro")
    assert "volume is in use" in private.docker("volume", "rm", volume, check=False).err
    # The Engine itself would not ask for this; another one might, or somebody with `curl`.
    answer = json.loads(driver.call("VolumeDriver.Remove", {"Name": volume}).stdout)
    assert answer["Err"] == f"volume {volume} is in use"
    assert private.docker("exec", container, "cat", "/s/key").stdout == b"v"
    private.docker("rm", "-f", container)
    private.docker("volume", "rm", volume)
    assert volume not in private.docker("volume", "ls", "-q").out.split()


def test_failed_start_names_the_secret_and_the_provider_and_leaves_nothing(
    driver: Driver, private: PrivateEngine, images: Images
) -> None:
    driver.fail("shop/none", "not_found")
    volume = driver.create(VolumeFile("key", "dso://shop/none"))
    with pytest.raises(ChildFailedError, match=r"dso://shop/none: the backend said no \(provider test\)"):
        in_container(private, images, volume, "true")
    assert not driver.mounted(volume)
    assert not os.path.exists(os.path.join(driver.mounts, volume))
    private.docker("volume", "rm", volume)


def test_start_waits_for_a_provider_that_comes_back(driver: Driver, private: PrivateEngine, images: Images) -> None:
    from concurrent.futures import ThreadPoolExecutor

    driver.fail("shop/late", "unavailable")
    volume = driver.create(VolumeFile("key", "dso://shop/late"))
    with ThreadPoolExecutor(1) as pool:
        started = pool.submit(in_container, private, images, volume, "cat", "/s/key")
        wait_until(lambda: [one for one in driver.events("volume.waiting") if one["volume"] == volume], "it waits")
        driver.set("shop/late", b"at last")
        assert started.result(60) == b"at last"


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"files": [{"name": "key", "template": "plain text"}]}, "has no reference"),
        ({"files": [{"name": "../key", "template": "dso://a/b"}]}, "no file's name"),
        ({"files": [{"name": "key", "template": "dso://a/../b"}]}, "malformed reference"),
        ({"files": [], "values": {"key": "v"}}, "unknown field"),
    ],
)
def test_volume_with_anything_but_references_is_refused(
    spec: object, words: str, driver: Driver, private: PrivateEngine, images: Images
) -> None:
    name = f"dsotest{secrets.token_hex(4)}"
    words_of = ["volume", "create", "--driver", driver.name]
    refused = private.docker(*words_of, "--opt", f"spec={json.dumps(spec)}", name, check=False)
    assert words in refused.err
    assert "unknown option 'value'" in private.docker(*words_of, "--opt", "value=v", name, check=False).err
    assert name not in private.docker("volume", "ls", "-q").out.split()


def test_plaintext_is_nowhere_while_running_and_after(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    text, binary, replaced = Canary.new(), Canary.binary(), Canary.new()
    driver.set("shop/text", replaced.value)
    driver.set("shop/binary", binary.value)
    volume = driver.create(VolumeFile("text", "x{{dso://shop/text}}y"), VolumeFile("b", "dso://shop/binary"))
    container = run("-v", f"{volume}:/s:ro", command=("sh", "-c", "cat /s/* >/dev/null; sleep 1000"))
    driver.set("shop/text", text.value)
    private.docker("restart", "-t", "0", container)
    shown = private.docker("exec", container, "cat", "/s/text", "/s/b").stdout
    assert shown == b"x" + text.value + b"y" + binary.value
    image = f"dsotest{secrets.token_hex(4)}"
    try:
        private.docker("commit", container, image)
        outputs = {
            "inspect": private.docker("inspect", container, volume).stdout,
            "export": private.docker("export", container).stdout,
            "commit": private.docker("save", image).stdout,
            "log": driver.told().encode(),
            "get": driver.call("VolumeDriver.Get", {"Name": volume}).stdout,
        }
        assert b"dso://shop/text" in outputs["inspect"]
        places = [os.path.dirname(driver.state)]
        assert_absent(text, binary, replaced, engine=engine_of(private), outputs=outputs, places=places)
    finally:
        private.docker("rmi", "-f", image, check=False)
    private.docker("rm", "-f", container)
    private.docker("volume", "rm", volume)
    assert_absent(text, binary, replaced, engine=engine_of(private), places=places)


def test_other_users_of_the_host_cannot_reach_the_files(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    """Files are 0444 by default, so that a container's user can read them; the directory above keeps others out."""
    from tests.support.process import run as start

    driver.set("shop/key", b"v")
    volume = driver.create(KEY)
    run("-v", f"{volume}:/s:ro")
    path = os.path.join(driver.mounts, volume, "key")
    os.chmod(os.path.dirname(driver.state), 0o711)
    os.chmod(driver.runtime, 0o711)
    with open(path, "rb") as file:
        assert file.read() == b"v"
    as_nobody = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", "cat", path]
    assert "Permission denied" in start(as_nobody, check=False).err


def test_links_planted_by_a_container_lead_nowhere(
    driver: Driver, private: PrivateEngine, images: Images, run: Callable[..., str]
) -> None:
    """A container that mounts the volume writable cannot make the agent write, empty or remove anything else."""
    victim = os.path.join(os.path.dirname(driver.state), "victim")
    os.makedirs(f"{victim}/d")
    for name in ("key", "d/key"):
        with open(f"{victim}/{name}", "w") as file:
            file.write("untouched")
    driver.set("shop/key", b"v")
    volume = driver.create(KEY, VolumeFile("d/key", "dso://shop/key"))
    planted = f"rm -r /s/*; ln -s {victim}/key /s/key; ln -s {victim}/d /s/d; ln -s {victim} /s/all; mkfifo /s/fifo"
    deep = (
        "cd /s; for i in $(seq 300); do mkdir x; cd x; done 2>/dev/null; ln -s / root; touch /tmp/planted; sleep 1000"
    )
    container = run("-v", f"{volume}:/s", command=("sh", "-c", f"{planted}; {deep}"))
    wait_until(
        lambda: private.docker("exec", container, "ls", "/tmp/planted", check=False).out != "", "it plants links"
    )
    assert in_container(private, images, volume, "cat", "/s/key", "/s/d/key") == b"vv"
    assert in_container(private, images, volume, "ls", "/s") == b"d\nkey\n"
    private.docker("exec", container, "sh", "-c", planted)
    private.docker("rm", "-f", container)
    assert not driver.mounted(volume)
    for name in ("key", "d/key"):
        with open(f"{victim}/{name}") as file:
            assert file.read() == "untouched"
