"""The volume driver without a kernel to mount and an Engine to ask: directories stand for file systems in memory."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from typing import TYPE_CHECKING, Any

import pytest

from dso.agent.mounts import Mounted, Mounts, Usage
from dso.agent.mountspace import THREADS
from dso.agent.resolver import UnresolvedError
from dso.agent.volume.checks import VolumeError
from dso.agent.volume.definitions import CLAIM_SECONDS
from dso.agent.volumecontent import Timing
from dso.agent.volumedriver import VolumeDriver
from dso.agent.volumes import Engine, identify
from dso.protocol import codes
from dso.protocol.agent import Fault, VolumeFile, VolumeSpec
from dso.protocol.volume import VOLUME_BYTES
from dso.secret import SecretValue

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping
    from pathlib import Path

    from dso.agent.volume.definitions import Definition

OURS = identify(os.getpid())  # an Engine that runs
GONE = Engine(OURS.pid, f"{OURS.pid}:1")  # one that was restarted
NAME = "shop_dso_api"
QUICK = Timing(patience=5, first_pause=0.001, longest_pause=0.002, grace=300, sweep=1000)


def spec(*names: str) -> VolumeSpec:
    owner = (os.getuid(), os.getgid())
    return VolumeSpec([VolumeFile(name, f"dso://shop/{name}", *owner) for name in names])


async def made(driver: VolumeDriver, **volumes: VolumeSpec) -> None:
    """Have the Engine make volumes."""
    for name, one in volumes.items():
        await driver.create(name, {"spec": json.dumps(one.to_json())})


class FakeMounts(Mounts):
    """Mounting makes a mark, unmounting moves the directory away; `users` are volumes containers have."""

    def __init__(self, directory: str) -> None:
        super().__init__(directory)
        self.users: set[str] = set()
        self.is_complete = True
        self.present: set[str] = set()
        self.fault: OSError | None = None
        self.unseen = False

    def probe(self) -> str:
        os.makedirs(self.directory, exist_ok=True)
        return ""

    def mount(self, path: str) -> None:
        if self.fault is not None:
            raise self.fault
        self.present.add(path)

    def unmount(self, path: str) -> None:
        self.present.discard(path)

    def find(self, path: str) -> Mounted | None:
        return Mounted(path, None) if path in self.present else None

    def volumes(self) -> dict[str, Mounted]:
        return {os.path.basename(path): Mounted(path, None) for path in self.present}

    def usage(self, mounted: Mapping[str, Mounted]) -> Usage:
        return Usage(frozenset(self.users & mounted.keys()), self.is_complete)

    def is_seen_by(self, process: int, path: str) -> bool:
        return not self.unseen


class Scene:
    """A driver, what it is given, and what it told."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.mounts = FakeMounts(str(directory / "run" / "volumes"))
        self.values: dict[str, bytes | Fault] = {}
        self.renders = 0
        self.rendering = asyncio.Event()
        self.events: list[tuple[str, dict[str, Any]]] = []
        self.now = 1000.0
        self.boot = "boot"
        self.timing = QUICK
        self.before_render: Callable[[], Awaitable[None]] | None = None
        self.driver = self.new()

    def new(self) -> VolumeDriver:
        self.driver = VolumeDriver(
            self.render,
            state_dir=str(self.directory / "state"),
            runtime_dir=str(self.directory / "run"),
            name="dso",
            emit=self.emit,
            boot=lambda: self.boot,
            timing=self.timing,
            mounts=self.mounts,
            clock=lambda: self.now,
        )
        return self.driver

    def emit(self, event: str, /, **fields: Any) -> None:
        self.events.append((event, fields))

    async def render(self, wanted: VolumeSpec) -> list[tuple[VolumeFile, SecretValue]]:
        self.renders += 1
        self.rendering.set()
        if self.before_render is not None:
            await self.before_render()
        found = [(file, self.values.get(file.name, b"v")) for file in wanted.files]
        faults = [value for _, value in found if isinstance(value, Fault)]
        if faults:
            raise UnresolvedError(faults)
        return [(file, SecretValue(value)) for file, value in found if isinstance(value, bytes)]

    def path(self, name: str = NAME) -> str:
        return os.path.join(self.mounts.directory, name)

    def is_gone(self, name: str = NAME) -> bool:
        return not os.path.lexists(self.path(name))

    def content(self, name: str = NAME) -> dict[str, bytes]:
        found = {}
        for entry in os.listdir(self.path(name)):
            with open(os.path.join(self.path(name), entry), "rb") as file:
                found[entry] = file.read()
        return found

    def told(self, event: str) -> list[dict[str, Any]]:
        return [fields for name, fields in self.events if name == event]

    def run(self, play: Callable[[VolumeDriver], Awaitable[object]], *, start: bool = True) -> None:
        async def whole() -> None:
            if start:
                await self.driver.start()
            try:
                await asyncio.wait_for(play(self.driver), 60)
            finally:
                await self.driver.close()

        asyncio.run(whole())


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def fault(code: str) -> Fault:
    return Fault(code, "it said no", reference="dso://shop/key", provider="vault-prod")


def test_mount_fills_and_the_last_unmount_empties(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a", "b")})
        assert driver.path(NAME) == driver.get(NAME)["Mountpoint"] == ""
        assert await driver.mount(NAME, "1", OURS) == driver.path(NAME) == scene.path()
        assert await driver.mount(NAME, "2", OURS) == scene.path()
        assert driver.status() == {"name": "dso", "available": True, "reason": "", "volumes": 1, "mounted": 1}
        await driver.unmount(NAME, "1")
        assert scene.content() == {"a": b"v", "b": b"v"}
        await driver.unmount(NAME, "2")
        assert scene.is_gone()
        assert driver.status()["mounted"] == 0

    scene.run(play)


def test_same_id_counts_as_often_as_it_was_mounted(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        for _ in range(2):
            await driver.mount(NAME, "1", OURS)
        await driver.unmount(NAME, "1")
        assert scene.content() == {"a": b"v"}
        await driver.unmount(NAME, "1")
        assert scene.is_gone()

    scene.run(play)


def test_restarted_engine_counts_from_the_beginning(scene: Scene) -> None:
    """It uses the ids it wrote down, and never unmounts for its former process."""

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.mount(NAME, "1", GONE)
        await driver.mount(NAME, "1", OURS)
        await driver.unmount(NAME, "1")
        assert scene.is_gone()

    scene.run(play)


def test_unknown_ids_and_volumes_can_be_unmounted(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.unmount(NAME, "never mounted")
        await driver.unmount("no_such_volume", "1")
        await driver.mount(NAME, "1", OURS)
        await driver.unmount(NAME, "another")
        assert scene.content() == {"a": b"v"}
        with pytest.raises(VolumeError, match="no volume's name"):
            await driver.unmount("../../etc", "1")

    scene.run(play)


def test_nothing_is_taken_from_a_process_that_uses_it_whatever_the_engine_says(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.mount(NAME, "1", OURS)
        scene.mounts.users = {NAME}
        await driver.unmount(NAME, "1")
        assert scene.content() == {"a": b"v"}
        assert [one["volume"] for one in scene.told("volume.retained")] == [NAME]
        await driver.sweep()
        assert scene.content() == {"a": b"v"}
        scene.mounts.users = set()
        await driver.sweep()
        assert scene.is_gone()

    scene.run(play)


def test_holds_the_engine_forgot_pin_nothing_for_ever(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a"), "other": spec("a")})
        await driver.mount(NAME, "1", OURS)
        await driver.mount("other", "1", GONE)
        await driver.sweep()
        assert scene.content() == {"a": b"v"}, "its container may be about to start"
        assert scene.is_gone("other"), "the Engine is gone, and no process has it"
        scene.now += QUICK.grace + 1
        scene.mounts.is_complete = False
        await driver.sweep()
        assert scene.content() == {"a": b"v"}, "some processes cannot be looked at"
        scene.mounts.is_complete = True
        scene.mounts.users = {NAME}
        await driver.sweep()
        assert scene.content() == {"a": b"v"}, "a process has it"
        scene.mounts.users = set()
        await driver.sweep()
        assert scene.is_gone()
        await driver.unmount(NAME, "1")

    scene.run(play)


def test_unmount_of_another_takes_forgotten_holds_with_it(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.mount(NAME, "forgotten", GONE)
        await driver.mount(NAME, "1", OURS)
        await driver.unmount(NAME, "1")
        assert scene.is_gone()

    scene.run(play)


def test_holds_of_an_engine_that_cannot_be_seen_count_for_ever(scene: Scene) -> None:
    """In another process name space its containers cannot be seen either."""

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.mount(NAME, "1")
        scene.now += 1e6
        await driver.sweep()
        assert scene.content() == {"a": b"v"}

    scene.run(play)


def test_content_follows_the_secret_and_the_definition_at_each_mount(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a", "b")})
        await driver.mount(NAME, "1", OURS)
        scene.values["a"] = b"changed"
        await driver.register({NAME: spec("a", "c")}, 0)
        assert scene.content() == {"a": b"v", "b": b"v"}
        await driver.mount(NAME, "2", OURS)
        assert scene.content() == {"a": b"changed", "c": b"v"}
        assert scene.told("volume.mounted")[1]["changed"] == ["a", "c", "b"]

    scene.run(play)


def test_definition_that_changes_while_values_are_fetched_counts(scene: Scene) -> None:
    async def change() -> None:
        if scene.renders == 1:
            await scene.driver.register({NAME: spec("new")}, 0)

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("old")})
        scene.before_render = change
        await driver.mount(NAME, "1", OURS)
        assert scene.content() == {"new": b"v"}

    scene.run(play)


def test_mounts_of_one_volume_wait_for_each_other_and_others_do_not(scene: Scene) -> None:
    running: list[int] = []

    async def slow() -> None:
        running.append(len(running))
        await asyncio.sleep(0.01)
        assert running.pop() < 2

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a"), "other": spec("a")})
        scene.before_render = slow
        names = [NAME, "other"] * 5
        await asyncio.gather(*(driver.mount(name, str(number), OURS) for number, name in enumerate(names)))
        assert scene.renders == 10
        assert scene.content() == scene.content("other") == {"a": b"v"}

    scene.run(play)


@pytest.mark.parametrize("code", sorted(codes.TRANSIENT))
def test_mount_is_tried_again_while_a_provider_is_down(code: str, scene: Scene) -> None:
    async def come_back() -> None:
        if scene.renders == 4:
            del scene.values["key"]

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("key")})
        scene.values["key"] = fault(code)
        scene.before_render = come_back
        await driver.mount(NAME, "1", OURS)

    scene.run(play)
    assert scene.renders == 4
    assert len(scene.told("volume.waiting")) == 1


def test_mount_that_waited_long_enough_fails_with_secret_and_provider(scene: Scene) -> None:
    scene.timing = QUICK._replace(patience=0.05)
    scene.new()

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("key")})
        scene.values["key"] = fault(codes.UNAVAILABLE)
        with pytest.raises(VolumeError, match=r"dso://shop/key: it said no \(provider vault-prod\) \(tried for 0 s\)"):
            await driver.mount(NAME, "1", OURS)

    scene.run(play)
    assert scene.renders > 1
    assert scene.is_gone()


def test_provider_that_never_answers_fails_the_mount_too(scene: Scene) -> None:
    scene.timing = QUICK._replace(patience=0.05)
    scene.new()

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("key")})
        scene.before_render = asyncio.Event().wait  # type: ignore[assignment]
        with pytest.raises(VolumeError, match="did not answer"):
            await driver.mount(NAME, "1", OURS)

    scene.run(play)


@pytest.mark.parametrize("code", sorted((codes.PROVIDER_CODES | {codes.UNKNOWN_SECRET}) - codes.TRANSIENT))
def test_mount_fails_at_once_when_waiting_cannot_help(code: str, scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("key", "other")})
        scene.values |= {"key": fault(code), "other": fault(codes.UNAVAILABLE)._replace(reference="dso://shop/other")}
        with pytest.raises(VolumeError, match="vault-prod") as caught:
            await driver.mount(NAME, "1", OURS)
        assert "dso://shop/key" in str(caught.value)
        assert "dso://shop/other" in str(caught.value)

    scene.run(play)
    assert scene.renders == 1


def test_engine_that_hangs_up_while_we_wait_leaves_nothing(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("key")})
        scene.values["key"] = fault(codes.UNAVAILABLE)
        mounting = asyncio.create_task(driver.mount(NAME, "1", OURS))
        await scene.rendering.wait()
        mounting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await mounting
        del scene.values["key"]
        await driver.mount(NAME, "2", OURS)
        await driver.unmount(NAME, "2")
        assert scene.is_gone()

    scene.run(play)


def test_engine_that_hangs_up_while_we_write_is_taken_back(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("key")})
        loop, reached, go_on = asyncio.get_running_loop(), asyncio.Event(), asyncio.Event()
        real = scene.mounts.mount

        def mount(path: str) -> None:
            loop.call_soon_threadsafe(reached.set)
            asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
            real(path)

        monkeypatch.setattr(scene.mounts, "mount", mount)
        mounting = asyncio.create_task(driver.mount(NAME, "1", OURS))
        await reached.wait()
        mounting.cancel()
        await asyncio.sleep(0)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await mounting
        await driver.close()
        assert scene.told("volume.mounted")
        assert scene.is_gone()
        assert driver.status()["mounted"] == 0

    scene.run(play)


def test_agent_that_ends_tells_those_who_wait(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("key")})
        scene.values["key"] = fault(codes.UNAVAILABLE)
        mounting = asyncio.create_task(driver.mount(NAME, "1", OURS))
        await scene.rendering.wait()
        driver.give_up()
        with pytest.raises(VolumeError, match=r"dso://shop/key: it said no .*\(dso-agent ends\)"):
            await mounting
        with pytest.raises(VolumeError, match="dso-agent ends"):
            await driver.mount(NAME, "2", OURS)

    scene.run(play)


def test_failed_mount_leaves_no_directory(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        scene.mounts.fault = OSError(12, "Cannot allocate memory", scene.path())
        with pytest.raises(VolumeError, match="cannot allocate memory"):
            await driver.mount(NAME, "1", OURS)
        assert scene.is_gone()
        scene.mounts.fault = None
        await driver.mount(NAME, "1", OURS)

    scene.run(play)


def test_full_volume_is_told_with_the_file_and_what_others_use_stays(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a", "b")})
        await driver.mount(NAME, "1", OURS)
        scene.values |= {"a": b"new", "b": b"new"}
        with monkeypatch.context() as patch:

            def fail(*_args: object) -> None:
                raise OSError(28, "No space left on device")

            patch.setattr("dso.agent.volumefiles.write_all", fail)
            with pytest.raises(VolumeError, match=r"no space left on device \(a\)"):
                await driver.mount(NAME, "2", OURS)
        assert scene.content() == {"a": b"v", "b": b"v"}
        await driver.unmount(NAME, "1")
        assert scene.is_gone()

    scene.run(play)


def test_more_than_a_volume_may_hold_is_refused_before_anything_is_mounted(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a", "b")})
        scene.values["a"] = bytes(VOLUME_BYTES - 4096)
        with pytest.raises(VolumeError, match=f"the limit is {VOLUME_BYTES}"):
            await driver.mount(NAME, "1", OURS)
        assert scene.is_gone()

    scene.run(play)


def test_engine_that_does_not_see_the_mount_is_told(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        scene.mounts.unseen = True
        with pytest.raises(VolumeError, match="mount name space of its own"):
            await driver.mount(NAME, "1", OURS)
        assert scene.is_gone()

    scene.run(play)


def test_full_run_directory_is_no_reason_to_fail(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})

        def fail(*_args: object, **_more: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr("dso.agent.volumes.write_atomic", fail)
        monkeypatch.setattr("dso.agent.volume.definitions.write_atomic", fail)
        await driver.mount(NAME, "1", OURS)
        assert scene.content() == {"a": b"v"}
        await driver.unmount(NAME, "1")
        assert scene.is_gone()
        with pytest.raises(VolumeError, match="cannot be kept: no space left"):
            await made(driver, other=spec("a"))
        with pytest.raises(VolumeError, match="cannot be removed: no space left"):
            await driver.remove(NAME)

    scene.run(play)
    assert len(scene.told("volume.state_unwritten")) >= 2


def test_create_takes_references_only_and_one_option(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        option = json.dumps(spec("a").to_json())
        await driver.create(NAME, {"spec": option})
        await driver.create(NAME, {"spec": option})
        await driver.create(NAME, {})
        await driver.create(NAME, {"spec": json.dumps(spec("b").to_json())})
        assert driver.get(NAME)["Status"]["files"] == {"b": "dso://shop/b"}
        refused = [
            ({"size": "1m"}, "unknown option 'size'"),
            ({"spec": "{"}, "cannot be read"),
            ({"spec": "[]"}, "no JSON object"),
            ({"spec": json.dumps(VolumeSpec([VolumeFile("a", "hunter2")]).to_json())}, "has no reference"),
        ]
        for options, words in refused:
            with pytest.raises(VolumeError, match=words) as caught:
                await driver.create("new", options)
            assert "hunter2" not in str(caught.value)
        with pytest.raises(VolumeError, match="no such volume: new"):
            await driver.create("new", {})
        assert [one["Name"] for one in driver.volumes()] == [NAME]

    scene.run(play)


def test_create_does_not_change_a_volume_in_use_but_register_does(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.mount(NAME, "1", OURS)
        await driver.create(NAME, {"spec": json.dumps(spec("a").to_json())})
        with pytest.raises(VolumeError, match="in use with another definition"):
            await driver.create(NAME, {"spec": json.dumps(spec("b").to_json())})
        await driver.register({NAME: spec("b")}, 0)
        assert driver.get(NAME)["Status"] == {"files": {"b": "dso://shop/b"}, "containers": 1}

    scene.run(play)


def test_remove_is_refused_while_in_use(scene: Scene) -> None:
    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.mount(NAME, "1", OURS)
        with pytest.raises(VolumeError, match="is in use"):
            await driver.remove(NAME)  # by somebody else than the Engine that has it
        scene.mounts.users = {NAME}
        with pytest.raises(VolumeError, match="is in use"):
            await driver.remove(NAME, OURS)
        scene.mounts.users = set()
        await driver.remove(NAME, OURS)  # the Engine says that none of its containers has it
        assert scene.is_gone()
        assert driver.volumes() == []
        for ask in (driver.get, driver.path):
            with pytest.raises(VolumeError, match="no such volume"):
                ask(NAME)
        with pytest.raises(VolumeError, match="no such volume"):
            await driver.remove(NAME)
        with pytest.raises(VolumeError, match="no such volume"):
            await driver.mount(NAME, "1", OURS)

    scene.run(play)


def test_next_agent_takes_over_what_is_used_and_clears_the_rest(scene: Scene) -> None:
    async def first(driver: VolumeDriver) -> None:
        await made(driver, **{name: spec("a") for name in ("held", "used", "unused", "forgotten")})
        for name in ("held", "used", "unused", "forgotten"):
            await driver.mount(name, "1", OURS)
        for name in ("used", "unused"):
            del driver._state.holds[name]
        driver._state.save_holds()
        driver._definitions.forget("forgotten")

    scene.run(first)
    assert len(scene.mounts.present) == 4, "an agent that ends unmounts nothing"
    os.mkdir(scene.path("left_empty"))
    scene.mounts.users = {"used"}
    scene.new()

    async def second(driver: VolumeDriver) -> None:
        assert [one["volume"] for one in scene.told("volume.adopted")] == ["held", "used"]
        assert sorted(os.listdir(scene.mounts.directory)) == ["held", "used"]
        await driver.unmount("held", "1")
        await driver.mount("used", "2", OURS)
        await driver.unmount("used", "2")
        assert scene.content("used") == {"a": b"v"}, "a container uses it that nobody remembers"
        assert os.listdir(scene.mounts.directory) == ["used"]

    scene.run(second)


def test_after_a_reboot_nobody_holds_anything(scene: Scene) -> None:
    async def first(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        await driver.mount(NAME, "1", OURS)

    async def second(driver: VolumeDriver) -> None:
        assert driver.status()["mounted"] == 0
        await driver.mount(NAME, "2", OURS)
        await driver.unmount(NAME, "2")
        assert scene.is_gone()

    scene.run(first)
    scene.mounts.present.clear()
    scene.boot = "another"
    scene.new()
    scene.run(second)


def test_foreign_files_in_the_way_are_told_and_left_alone(scene: Scene) -> None:
    os.makedirs(scene.path("foreign"))
    with open(os.path.join(scene.path("foreign"), "file"), "w") as file:
        file.write("x")

    async def nothing(_driver: VolumeDriver) -> None:
        pass

    scene.run(nothing)
    assert "not ours and in the way" in scene.told("volume.failed")[0]["message"]
    assert os.listdir(scene.path("foreign")) == ["file"]


def test_driver_that_cannot_mount_says_why(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene.mounts, "probe", lambda: "no rights")

    async def play(driver: VolumeDriver) -> None:
        assert driver.status()["available"] is False
        assert driver.status()["reason"] == "no rights"
        await made(driver, **{NAME: spec("a")})
        with pytest.raises(VolumeError, match="no rights"):
            await driver.mount(NAME, "1", OURS)

    scene.run(play)


def test_defect_of_the_resolver_is_no_endless_wait(scene: Scene) -> None:
    async def break_down() -> None:
        raise KeyError("defect")

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("a")})
        scene.before_render = break_down
        with pytest.raises(KeyError):
            await driver.mount(NAME, "1", OURS)

    scene.run(play)
    assert scene.renders == 1


def test_permission_is_asked_for_the_definition_as_it_is_then(scene: Scene) -> None:
    seen: list[dict[str, Definition]] = []

    async def refuse(others: Mapping[str, Definition]) -> None:
        seen.append(dict(others))
        raise PermissionError

    async def play(driver: VolumeDriver) -> None:
        await made(driver, **{NAME: spec("first")})
        found = await asyncio.gather(
            driver.register({NAME: spec("theirs")}, 0),
            driver.register({NAME: spec("mine"), "other": spec("x")}, 1001, refuse),
            return_exceptions=True,
        )
        assert found[0] is None
        assert isinstance(found[1], PermissionError)
        assert [sorted(others) for others in seen] == [[NAME]]
        assert [file.name for file in seen[0][NAME].spec.files] == ["theirs"]
        assert list(driver.get(NAME)["Status"]["files"]) == ["theirs"]
        with pytest.raises(VolumeError, match="no such volume"):
            await driver.create("other", {})

    scene.run(play)


def test_what_the_engine_has_not_made_does_not_exist_for_it(scene: Scene) -> None:
    """A name that somebody defined must not lead the Engine to us: `docker run -v postgres_data:/x` would take it."""

    async def permit(_others: Mapping[str, Definition]) -> None:
        return

    async def play(driver: VolumeDriver) -> None:
        await driver.register({"postgres_data": spec("a")}, 1002, permit)
        assert driver.volumes() == []
        assert driver.status()["volumes"] == 0
        for ask in (driver.get, driver.path):
            with pytest.raises(VolumeError, match="no such volume"):
                ask("postgres_data")
        with pytest.raises(VolumeError, match="no such volume"):
            await driver.mount("postgres_data", "1", OURS)
        await driver.create("postgres_data", {})
        await driver.mount("postgres_data", "1", OURS)

    scene.run(play)


def test_a_definition_ends_that_the_engine_made_no_volume_of(scene: Scene) -> None:
    async def permit(_others: Mapping[str, Definition]) -> None:
        return

    async def play(driver: VolumeDriver) -> None:
        await driver.register({"made": spec("a"), "unmade": spec("a")}, 1002, permit)
        await driver.create("made", {})
        scene.now += CLAIM_SECONDS
        await driver.sweep()
        with pytest.raises(VolumeError, match="no such volume"):
            await driver.create("unmade", {})
        scene.now += 1e9
        await driver.sweep()
        assert [one["Name"] for one in driver.volumes()] == ["made"]

    scene.run(play)


def test_a_volume_that_is_slow_keeps_no_other_waiting(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as there are threads: here all but one are stuck in what containers made."""
    stuck = THREADS - 1
    arrived = threading.Barrier(stuck + 1, timeout=60)
    goes_on = threading.Event()
    real = scene.mounts.take_down

    def take_down(path: str) -> str:
        if os.path.basename(path).startswith("slow"):
            arrived.wait()
            goes_on.wait(60)
        return real(path)

    monkeypatch.setattr(scene.mounts, "take_down", take_down)

    async def play(driver: VolumeDriver) -> None:
        slow = [f"slow{number}" for number in range(stuck)]
        await made(driver, **{name: spec("a") for name in [*slow, NAME]})
        for name in slow:
            await driver.mount(name, "1", OURS)
        ending = [asyncio.create_task(driver.unmount(name, "1")) for name in slow]
        try:
            await asyncio.to_thread(arrived.wait)
            await driver.mount(NAME, "1", OURS)
            await driver.unmount(NAME, "1")
            assert scene.is_gone()
            assert not any(task.done() for task in ending)
        finally:
            goes_on.set()
            await asyncio.gather(*ending)

    scene.run(play)


def test_an_unexpected_fault_ends_no_sweep_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scene = Scene(tmp_path)
    monkeypatch.setattr(scene.driver, "_timing", QUICK._replace(sweep=0.001))
    rounds = 0
    thrice = asyncio.Event()

    async def sweep() -> None:
        nonlocal rounds
        rounds += 1
        if rounds == 3:
            thrice.set()
        raise ValueError("canary")

    async def play(driver: VolumeDriver) -> None:
        monkeypatch.setattr(driver, "sweep", sweep)
        await thrice.wait()
        assert "ValueError at" in scene.told("volume.failed")[0]["message"]
        assert "canary" not in str(scene.events)

    scene.run(play)
