"""What has to be done, without an Engine: `plan` is pure."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dso.delivery.plan import (
    IN_DOUBT,
    KEEPER_FORMAT,
    FileState,
    Keeper,
    Manifest,
    Observed,
    RemoveKeeper,
    SecretFile,
    ServiceVolume,
    StartKeeper,
    Wanted,
    WriteFiles,
    file_mac,
    keeper_seal,
    plan,
    volume_name,
)
from dso.errors import UnsuitableValueError
from dso.protocol.volume import VOLUME_BYTES
from dso.secret import SecretValue

KEY = b"k" * 32


def file(name: str, value: bytes = b"value", *, uid: int = 0, gid: int = 0, mode: int = 0o444) -> SecretFile:
    return SecretFile(name, SecretValue(value), uid, gid, mode)


def wanted(*volumes: ServiceVolume, vault_id: str = "vault", key: bytes = KEY, project: str = "shop") -> Wanted:
    return Wanted(project, volumes, vault_id, key, now=100)


def keeper(
    id_: str, *services: str, holds: bool = True, vault_id: str = "vault", version: str = KEEPER_FORMAT
) -> Keeper:
    return Keeper(id_, "shop", frozenset(services), holds, 0, vault_id, version)


def delivered(goal: Wanted) -> Manifest:
    """The manifest after everything wanted was written."""
    services = {
        volume.service: {
            f.name: FileState(file_mac(goal.mac_key, goal.project, volume.service, f), f.uid, f.gid, f.mode)
            for f in volume.files
        }
        for volume in goal.volumes
    }
    return Manifest(50, services)


API = ServiceVolume("api", (file("password", uid=1000, mode=0o400), file("key")))
DB = ServiceVolume("db", (file("password", b"other"),))


def test_first_delivery_starts_a_keeper_and_writes_everything() -> None:
    goal = wanted(API, DB)
    start, write = plan(Observed([], None), goal)
    assert start == StartKeeper(("api", "db"))
    assert isinstance(write, WriteFiles)
    assert write.changed == (("api", API.files[0]), ("api", API.files[1]), ("db", DB.files[0]))
    assert write.removed == ()
    assert write.after == delivered(goal)._replace(delivered_at=100)
    assert write.during.services == {"api": {"password": IN_DOUBT, "key": IN_DOUBT}, "db": {"password": IN_DOUBT}}


def test_nothing_is_done_when_everything_is_there() -> None:
    goal = wanted(API, DB)
    assert plan(Observed([keeper("k", "api", "db")], delivered(goal)), goal) == []


@pytest.mark.parametrize(
    "change",
    [{"value": SecretValue(b"new")}, {"uid": 1}, {"gid": 1}, {"mode": 0o400}],
    ids=["value", "uid", "gid", "mode"],
)
def test_only_the_changed_file_is_written(change: dict[str, Any]) -> None:
    before = wanted(API, DB)
    changed = API.files[1]._replace(**change)
    goal = wanted(API._replace(files=(API.files[0], changed)), DB)
    (write,) = plan(Observed([keeper("k", "api", "db")], delivered(before)), goal)
    assert isinstance(write, WriteFiles)
    assert write.changed == (("api", changed),)
    assert write.during.services["api"] == {**delivered(before).services["api"], "key": IN_DOUBT}
    assert write.after.services == delivered(goal).services


def test_other_vault_key_writes_everything_again() -> None:
    goal = wanted(API, key=b"x" * 32)
    (write,) = plan(Observed([keeper("k", "api")], delivered(wanted(API))), goal)
    assert isinstance(write, WriteFiles)
    assert len(write.changed) == 2


def test_file_that_is_no_longer_wanted_is_removed() -> None:
    goal = wanted(API._replace(files=API.files[:1]))
    (write,) = plan(Observed([keeper("k", "api")], delivered(wanted(API))), goal)
    assert isinstance(write, WriteFiles)
    assert (write.changed, write.removed) == ((), (("api", "key"),))
    assert write.during.services["api"]["key"] == IN_DOUBT
    assert "key" not in write.after.services["api"]


def test_service_without_files_any_more_is_emptied() -> None:
    observed = Observed([keeper("k", "api", "db")], delivered(wanted(API, DB)))
    (write,) = plan(observed, wanted(API, ServiceVolume("db", ())))
    assert isinstance(write, WriteFiles)
    assert write.removed == (("db", "password"),)


def test_services_that_are_not_named_keep_what_they_have() -> None:
    observed = Observed([keeper("k", "api", "db")], delivered(wanted(API, DB)))
    assert plan(observed, wanted(API)) == []
    (write,) = plan(observed, wanted(API._replace(files=API.files[:1])))
    assert isinstance(write, WriteFiles)
    assert write.after.services["db"] == delivered(wanted(DB)).services["db"]


def test_new_service_gets_a_keeper_for_the_union_before_the_old_one_goes() -> None:
    observed = Observed([keeper("old", "db")], delivered(wanted(DB)))
    start, write, remove = plan(observed, wanted(API))
    assert start == StartKeeper(("api", "db"))
    assert isinstance(write, WriteFiles)
    assert [service for service, _ in write.changed] == ["api", "api"]
    assert write.after.services.keys() == {"api", "db"}
    assert remove == RemoveKeeper("old")


def test_stopped_keeper_goes_first_and_its_services_stay() -> None:
    """Containers may still hold the volumes of a keeper that was stopped by hand."""
    actions = plan(Observed([keeper("dead", "db", holds=False)], None), wanted(API))
    assert actions[:2] == [RemoveKeeper("dead"), StartKeeper(("api", "db"))]


def test_second_keeper_of_a_broken_off_replacement_goes() -> None:
    goal = wanted(API, DB)
    observed = Observed([keeper("old", "db"), keeper("new", "api", "db")], delivered(goal))
    assert plan(observed, goal) == [RemoveKeeper("old")]


@pytest.mark.parametrize("other", [{"vault_id": "another"}, {"version": "0"}])
def test_keeper_of_another_vault_or_format_is_replaced(other: dict[str, Any]) -> None:
    goal = wanted(API)
    assert plan(Observed([keeper("k", "api", **other)], delivered(goal)), goal) == [
        StartKeeper(("api",)),
        RemoveKeeper("k"),
    ]


def test_lost_memory_means_everything_is_written_again() -> None:
    (write,) = plan(Observed([keeper("k", "api")], None), wanted(API))
    assert isinstance(write, WriteFiles)
    assert len(write.changed) == 2


def test_broken_off_delivery_is_repaired_even_when_the_old_value_is_wanted_again() -> None:
    old = wanted(API)
    new = wanted(API._replace(files=(file("password", b"new", uid=1000, mode=0o400), API.files[1])))
    (write,) = plan(Observed([keeper("k", "api")], delivered(old)), new)
    assert isinstance(write, WriteFiles)
    (repair,) = plan(Observed([keeper("k", "api")], write.during), old)
    assert isinstance(repair, WriteFiles)
    assert repair.changed == (("api", API.files[0]),)


def test_broken_off_removal_is_repeated() -> None:
    goal = wanted(API._replace(files=API.files[:1]))
    (write,) = plan(Observed([keeper("k", "api")], delivered(wanted(API))), goal)
    assert isinstance(write, WriteFiles)
    (again,) = plan(Observed([keeper("k", "api")], write.during), goal)
    assert isinstance(again, WriteFiles)
    assert again.removed == (("api", "key"),)


def test_no_files_at_all_need_no_keeper() -> None:
    assert plan(Observed([], None), wanted(ServiceVolume("api", ()))) == []
    assert plan(Observed([keeper("dead", "db", holds=False)], None), wanted(ServiceVolume("api", ()))) == []


def test_only_services_with_former_content_are_staged() -> None:
    before = wanted(API)
    new = API._replace(files=(*API.files, file("more")))
    (added,) = plan(Observed([keeper("k", "api")], delivered(before)), wanted(new))
    assert isinstance(added, WriteFiles)
    assert added.staged == frozenset()
    other = wanted(API, key=b"x" * 32)
    (replaced,) = plan(Observed([keeper("k", "api")], delivered(before)), other)
    assert isinstance(replaced, WriteFiles)
    assert replaced.staged == {"api"}
    (tidied,) = plan(Observed([keeper("k", "api")], replaced.during), wanted(ServiceVolume("api", ())))
    assert isinstance(tidied, WriteFiles)
    assert tidied.staged == {"api"}  # a broken off delivery may have left something there


def test_files_that_do_not_fit_are_refused_before_anything_is_done() -> None:
    large = SecretValue(bytes(1 << 20))
    fits = ServiceVolume("api", tuple(file("x")._replace(name=str(n), value=large) for n in range(59)))
    assert plan(Observed([], None), wanted(fits))
    too_many = fits._replace(files=(*fits.files, file("y")._replace(value=large)))
    with pytest.raises(UnsuitableValueError, match=str(VOLUME_BYTES)):
        plan(Observed([], None), wanted(too_many))


@pytest.mark.parametrize("name", ["", "..dso", "..dso/x", "/etc/passwd", "a//b", "../db/password", "a/..", ".", "a\0b"])
def test_names_that_leave_the_volume_are_refused(name: str) -> None:
    with pytest.raises(UnsuitableValueError, match="service api cannot have a secret in a file called"):
        plan(Observed([], None), wanted(ServiceVolume("api", (file(name),))))


@pytest.mark.parametrize("longest", ["x" * 255, "d/" + "x" * 255, "é" * 127])
def test_name_too_long_for_a_file_is_refused_before_anything_is_done(longest: str) -> None:
    assert plan(Observed([], None), wanted(ServiceVolume("api", (file(longest),))))
    with pytest.raises(UnsuitableValueError, match="255 bytes"):
        plan(Observed([], None), wanted(ServiceVolume("api", (file(longest + "é"),))))


@pytest.mark.parametrize("service", ["", "..", "a/b", "@manifest"])
def test_services_that_would_be_mounted_elsewhere_are_refused(service: str) -> None:
    with pytest.raises(ValueError):
        plan(Observed([], None), wanted(ServiceVolume(service, (file("x"),))))


def test_two_files_of_one_name_are_refused() -> None:
    with pytest.raises(UnsuitableValueError, match="one name"):
        plan(Observed([], None), wanted(ServiceVolume("api", (file("x"), file("x", b"2")))))


def test_equal_values_have_unequal_macs_in_different_places() -> None:
    places = [("shop", "api", "a"), ("shop", "api", "b"), ("shop", "db", "a"), ("other", "api", "a")]
    macs = {file_mac(KEY, project, service, file(name)) for project, service, name in places}
    assert len(macs) == 4
    assert file_mac(b"x" * 32, "shop", "api", file("a")) not in macs


def test_manifest_survives_encoding_and_never_holds_a_value() -> None:
    manifest = delivered(wanted(API, DB))
    assert Manifest.decode(manifest.encode()) == manifest
    assert b"value" not in manifest.encode()


@pytest.mark.parametrize(
    "text",
    [
        *[b"", b"[]", b"{}", b"\xff", b"null", b'{"delivered_at":1,"services":{}}'],
        b'{"delivered_at":1e999,"seal":"","services":{}}',
        b'{"delivered_at":1,"seal":"","services":{"a":{"b":[1]}}}',
    ],
)
def test_damaged_manifest_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError):
        Manifest.decode(text)


def test_a_seal_is_one_keepers_one_projects_and_one_vaults() -> None:
    seals = {keeper_seal(key, *rest) for key, *rest in ((KEY, "shop", "1"), (KEY, "shop", "2"), (KEY, "blog", "1"))}
    assert len(seals | {keeper_seal(b"x" * 32, "shop", "1")}) == 4


def test_volume_names_are_predictable() -> None:
    assert volume_name("shop", "api") == "shop_dso_api"
    assert volume_name("shop") == "shop_dso"


FILES = st.builds(
    SecretFile,
    st.sampled_from(["a", "b", "c"]),
    st.binary(min_size=1, max_size=2).map(SecretValue),
    st.integers(0, 1),
    st.integers(0, 1),
    st.sampled_from([0o400, 0o444]),
)
VOLUMES = st.dictionaries(
    st.sampled_from(["api", "db", "web"]), st.lists(FILES, max_size=3, unique_by=lambda file: file.name), max_size=3
).map(lambda found: [ServiceVolume(service, tuple(files)) for service, files in found.items()])


class World:
    """An Engine in miniature: carries out actions, so that sequences of deliveries can be checked."""

    def __init__(self) -> None:
        self.keepers: list[Keeper] = []
        self.started = 0
        self.manifest: Manifest | None = None
        self.content: dict[tuple[str, str], tuple[bytes, int, int, int]] = {}

    def deliver(self, volumes: list[ServiceVolume], *, break_off: bool) -> None:
        goal = wanted(*volumes)
        for action in plan(Observed(self.keepers, self.manifest), goal):
            if isinstance(action, StartKeeper):
                self.started += 1
                self.keepers.append(keeper(str(self.started), *action.services))
            elif isinstance(action, RemoveKeeper):
                self.keepers = [found for found in self.keepers if found.id != action.id]
            else:
                self.write(action, break_off=break_off)
                if break_off:
                    return

    def write(self, action: WriteFiles, *, break_off: bool) -> None:
        self.manifest = action.during
        for removed in action.removed:
            self.content.pop(removed, None)
        for service, f in action.changed[: len(action.changed) // 2 if break_off else None]:
            self.content[service, f.name] = (f.value.reveal(), f.uid, f.gid, f.mode)
        if not break_off:
            self.manifest = action.after


@given(st.lists(st.tuples(VOLUMES, st.booleans()), max_size=6), VOLUMES)
def test_after_any_history_a_whole_delivery_leaves_exactly_what_is_wanted(
    history: list[tuple[list[ServiceVolume], bool]], last: list[ServiceVolume]
) -> None:
    world = World()
    for volumes, break_off in history:
        world.deliver(volumes, break_off=break_off)
    before = dict(world.content)
    world.deliver(last, break_off=False)
    named = {volume.service for volume in last}
    goal = {(volume.service, f.name): (f.value.reveal(), f.uid, f.gid, f.mode) for volume in last for f in volume.files}
    others = {place: content for place, content in before.items() if place[0] not in named}
    assert world.content == {**goal, **others}
    assert len(world.keepers) <= 1
    assert {service for service, _ in world.content} <= {s for found in world.keepers for s in found.services}
    assert plan(Observed(world.keepers, world.manifest), wanted(*last)) == []
