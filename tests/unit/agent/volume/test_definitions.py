"""Definitions: whose they are, how many there may be, when they end, and what the next agent finds."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from dso.agent.volume import definitions
from dso.agent.volume.checks import VolumeError
from dso.agent.volume.definitions import CLAIM_SECONDS, ROOT, USER_BYTES, USER_VOLUMES, Definitions, QuotaError
from dso.protocol.agent import SecretEntry, VolumeFile, VolumeSpec

if TYPE_CHECKING:
    from pathlib import Path

SPEC = VolumeSpec(
    (VolumeFile("tls/key", "dso://shop/key", 1000, 1000, 0o400), VolumeFile("conf", "a={{dso://shop/a}}\n")),
    (SecretEntry("shop/a", "vault", "path/a", "3"),),
)
OTHER = VolumeSpec((VolumeFile("key", "dsofile://shop/key#field?version=2"),), ())
LARGE = VolumeSpec((VolumeFile("conf", "{{dso://shop/a}}" + "x" * 50_000),), ())
ALICE, BOB = 1001, 1002


class Table(Definitions):
    """With shorter calls, and what was wrong with the file."""

    def __init__(self, directory: Path, driver: str = "dso") -> None:
        super().__init__(str(directory), driver)
        self.faults = self.load()
        self.now = 0.0

    def say(self, uid: int, **volumes: VolumeSpec) -> None:
        """As `PUT /v1/volumes`."""
        self.put(volumes, uid, self.now, is_trusted=uid == ROOT)

    def engine_makes(self, name: str, spec: VolumeSpec | None = None) -> None:
        self.make(name, spec, self.now)

    def specs(self) -> dict[str, VolumeSpec]:
        return {name: one.spec for name, one in self.volumes.items()}

    def owners(self) -> dict[str, int | None]:
        return {name: one.owner for name, one in self.volumes.items()}


@pytest.fixture
def table(tmp_path: Path) -> Table:
    return Table(tmp_path)


def test_definitions_are_there_for_the_next_agent(table: Table, tmp_path: Path) -> None:
    table.say(ALICE, one=SPEC)
    table.engine_makes("one", SPEC)
    table.engine_makes("two", OTHER)
    table.engine_makes("three", OTHER)
    table.forget("two")
    again = Table(tmp_path)
    assert again.volumes == table.volumes
    assert again.specs() == {"one": SPEC, "three": OTHER}
    assert again.owners() == {"one": ALICE, "three": ROOT}
    assert (tmp_path / "volumes.json").stat().st_mode & 0o777 == 0o600


def test_what_a_former_release_wrote_is_taken_over_and_never_ends(tmp_path: Path) -> None:
    body = {"format": 1, "volumes": {"one": SPEC.to_json(), "two": OTHER.to_json()}}
    (tmp_path / "volumes.json").write_text(json.dumps(body, indent=1))
    table = Table(tmp_path)
    assert table.faults == []
    assert (table.specs(), table.owners()) == ({"one": SPEC, "two": OTHER}, {"one": None, "two": None})
    table.expire(1e9)
    assert set(table.foreign({"one": OTHER, "two": OTHER}, ALICE)) == {"one"}, "what stays the same is no change"
    table.say(ALICE, one=OTHER)
    again = Table(tmp_path)
    assert (again.specs(), again.owners()) == ({"one": OTHER, "two": OTHER}, {"one": ALICE, "two": None})


# Whose a definition is.


def test_nobodys_claim_is_in_another_ones_way(table: Table) -> None:
    """A stranger who names the volume first, and again, neither stops the owner's `up` nor chooses what it gets."""
    table.say(BOB, shop_dso_api=OTHER)
    assert table.foreign({"shop_dso_api": SPEC}, ALICE) == {}
    table.say(ALICE, shop_dso_api=SPEC)
    table.say(BOB, shop_dso_api=OTHER)
    table.engine_makes("shop_dso_api", SPEC)  # `docker dso up` tells the Engine what it told us
    assert (table.specs(), table.owners()) == ({"shop_dso_api": SPEC}, {"shop_dso_api": ALICE})
    assert set(table.foreign({"shop_dso_api": OTHER}, BOB)) == {"shop_dso_api"}
    assert table.foreign({"shop_dso_api": OTHER}, ALICE) == {}


def test_a_stranger_who_says_the_same_becomes_no_owner(table: Table) -> None:
    for uid in (ALICE, BOB):
        table.say(uid, shop_dso_api=SPEC)
    table.engine_makes("shop_dso_api", SPEC)
    assert table.owners() == {"shop_dso_api": ROOT}
    assert set(table.foreign({"shop_dso_api": OTHER}, BOB)) == {"shop_dso_api"}


def test_a_claim_is_no_volume(table: Table, tmp_path: Path) -> None:
    """Else a name such as postgres_data, claimed by somebody, would lead the Engine to us with another's volume."""
    table.say(BOB, postgres_data=OTHER)
    assert table.volumes == {}
    assert not (tmp_path / "volumes.json").exists()


def test_the_engine_may_leave_it_to_the_only_claim(table: Table) -> None:
    table.say(ALICE, one=SPEC)
    table.engine_makes("one")
    assert (table.specs(), table.owners()) == ({"one": SPEC}, {"one": ALICE})
    table.engine_makes("one")
    with pytest.raises(VolumeError, match="no such volume: two"):
        table.engine_makes("two")


def test_the_engine_is_asked_which_of_two_claims_it_means(table: Table) -> None:
    table.say(ALICE, one=SPEC, two=SPEC)
    table.say(BOB, one=OTHER, two=SPEC)
    with pytest.raises(VolumeError, match="users 1001 and 1002 do not agree"):
        table.engine_makes("one")
    table.engine_makes("two")
    assert table.owners() == {"two": ROOT}


def test_whoever_changes_a_volume_does_not_come_to_own_it(table: Table) -> None:
    table.say(ALICE, one=SPEC)
    table.engine_makes("one")
    table.say(ROOT, one=OTHER)
    assert (table.specs(), table.owners()) == ({"one": OTHER}, {"one": ALICE})
    table.engine_makes("one", SPEC)
    assert (table.specs(), table.owners()) == ({"one": SPEC}, {"one": ALICE})


def test_a_removed_volume_is_for_anybody_to_define_anew(table: Table) -> None:
    table.engine_makes("one", SPEC)
    table.forget("one")
    assert table.foreign({"one": OTHER}, BOB) == {}
    table.say(BOB, one=OTHER)
    table.engine_makes("one")
    assert table.owners() == {"one": BOB}


# When it ends.


def test_what_the_engine_does_not_make_ends_and_what_it_made_does_not(table: Table) -> None:
    table.say(ALICE, made=SPEC, unmade=SPEC)
    table.engine_makes("made")
    table.now = CLAIM_SECONDS - 1
    table.say(BOB, unmade=SPEC, later=SPEC)
    table.now = CLAIM_SECONDS
    table.expire(table.now)
    table.engine_makes("unmade")
    assert table.owners() == {"made": ALICE, "unmade": BOB}, "each claim has its own time"
    table.now *= 2
    with pytest.raises(VolumeError, match="no such volume"):
        table.engine_makes("later")
    table.expire(1e9)
    assert set(table.volumes) == {"made", "unmade"}


def test_saying_it_again_gives_it_time_again(table: Table) -> None:
    table.say(ALICE, one=SPEC)
    table.now = CLAIM_SECONDS - 1
    table.say(ALICE, one=SPEC)
    table.now = 2 * CLAIM_SECONDS - 2
    table.engine_makes("one")


# How many there may be.


def test_one_user_cannot_fill_the_table(table: Table, tmp_path: Path) -> None:
    """10,000 definitions by one user, as many at a time as one likes: the others and root have their room."""
    with pytest.raises(QuotaError, match="user 1002 would have 1001 volumes, and may have 1000"):
        table.say(BOB, **{f"v{number}": OTHER for number in range(USER_VOLUMES + 1)})
    refused = 0
    for number in range(0, 10_000, 100):
        try:
            table.say(BOB, **{f"v{each}": OTHER for each in range(number, number + 100)})
        except QuotaError:
            refused += 1
    assert refused == 90
    table.say(ALICE, shop_dso_api=SPEC)
    table.say(ROOT, root_dso_api=SPEC)
    for name in ("shop_dso_api", "root_dso_api", "by_hand"):
        table.engine_makes(name, SPEC)
    assert Table(tmp_path).specs() == {"shop_dso_api": SPEC, "root_dso_api": SPEC, "by_hand": SPEC}


def test_one_user_may_have_so_many_bytes(table: Table) -> None:
    fit = USER_BYTES // 50_100
    table.say(BOB, **{f"v{number}": LARGE for number in range(fit)})
    with pytest.raises(QuotaError, match="bytes of definitions, and may have 2097152"):
        table.say(BOB, one=LARGE)
    table.say(BOB, v0=SPEC)
    table.say(BOB, one=SPEC)
    table.say(ALICE, one=LARGE)


def test_what_the_engine_made_of_a_user_counts_too(table: Table) -> None:
    """Otherwise one's volumes, small when they are made, could be grown until there is no room for anybody's."""
    for number in range(60):
        table.say(BOB, **{f"v{number}": OTHER})
        table.engine_makes(f"v{number}")
    fit = USER_BYTES // 50_100
    for number in range(fit):
        table.say(BOB, **{f"v{number}": LARGE})
    with pytest.raises(QuotaError):
        table.say(BOB, **{f"v{fit}": LARGE})
    table.say(BOB, v0=OTHER)  # less than before is always possible


def test_all_users_together_leave_room_for_root(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "CLAIMS", 6)
    for uid in range(2001, 2004):
        table.say(uid, one=SPEC, two=SPEC)
    with pytest.raises(QuotaError, match="all users together would have 7 volumes, and may have 6"):
        table.say(ALICE, one=SPEC)
    table.say(2001, one=OTHER)
    table.say(ROOT, **{f"v{number}": SPEC for number in range(10)})
    table.engine_makes("one", SPEC)
    table.say(ALICE, two=SPEC)


def test_a_refusal_says_when_there_may_be_room_again(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(definitions, "USER_VOLUMES", 1)
    table.say(BOB, one=SPEC)
    table.now = 600
    with pytest.raises(QuotaError) as caught:
        table.say(BOB, two=SPEC)
    assert caught.value.retry_after == CLAIM_SECONDS - 600
    table.now += caught.value.retry_after
    table.say(BOB, two=SPEC)


def test_number_of_volumes_is_limited_for_the_engine_too(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever may use the Engine is root; a defect must not fill the disk all the same."""
    monkeypatch.setattr(definitions, "MAX_VOLUMES", 2)
    for name in ("one", "two"):
        table.engine_makes(name, SPEC)
    with pytest.raises(VolumeError, match="2 volumes already") as caught:
        table.engine_makes("three", SPEC)
    assert "docker volume ls -q -f driver=dso -f dangling=true | xargs -r docker volume rm" in str(caught.value)
    table.engine_makes("two", OTHER)
    with pytest.raises(VolumeError, match="these are 3 volumes"):
        table.say(ROOT, a=SPEC, b=SPEC, c=SPEC)
    table.say(ROOT, a=SPEC, b=SPEC)
    with pytest.raises(QuotaError, match="user 0 would have 3 volumes"):
        table.say(ROOT, c=SPEC)


def test_size_of_all_definitions_is_limited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table(tmp_path, "other-driver")
    for name in ("one", "two"):
        table.engine_makes(name, LARGE)
    monkeypatch.setattr(definitions, "MAX_BYTES", (tmp_path / "volumes.json").stat().st_size)
    with pytest.raises(VolumeError, match=r"definitions of all volumes would take [0-9]+ bytes, and may") as caught:
        table.engine_makes("three", OTHER)
    assert "driver=other-driver" in str(caught.value)
    assert table.specs() == Table(tmp_path).specs() == {"one": LARGE, "two": LARGE}
    table.say(ROOT, two=OTHER)  # smaller ones still replace those there are
    table.engine_makes("three", OTHER)
    monkeypatch.setattr(definitions, "MAX_BYTES", 1)
    table.forget("one")  # and room can always be made
    assert Table(tmp_path).specs() == {"two": OTHER, "three": OTHER}


def test_limits_are_far_from_what_projects_need() -> None:
    assert definitions.MAX_BYTES == 16 << 20
    assert definitions.USER_VOLUMES >= 1_000


# Writing and reading.


def test_several_definitions_are_set_or_none(table: Table, tmp_path: Path) -> None:
    table.engine_makes("one", SPEC)
    with pytest.raises(VolumeError, match="has no reference"):
        table.say(ROOT, one=OTHER, two=OTHER, bad=VolumeSpec([VolumeFile("x", "plain")]))
    with pytest.raises(VolumeError, match="no volume's name"):
        table.say(ROOT, **{"one": OTHER, "two": OTHER, "../bad": SPEC})
    with pytest.raises(VolumeError, match="no such volume"):
        table.engine_makes("two")
    assert table.specs() == Table(tmp_path).specs() == {"one": SPEC}


def test_definitions_that_cannot_be_written_are_not_believed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.engine_makes("one", SPEC)
    table.say(ALICE, two=SPEC)

    def fail(*_args: object, **_more: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(definitions, "write_atomic", fail)
        for work in (
            lambda: table.engine_makes("two"),
            lambda: table.say(ROOT, one=OTHER, three=OTHER),
            lambda: table.forget("one"),
        ):
            with pytest.raises(OSError, match="No space left"):
                work()
    assert table.specs() == {"one": SPEC}
    with pytest.raises(VolumeError, match="no such volume"):
        table.engine_makes("three")
    table.engine_makes("two")


def test_what_is_defined_already_is_not_written_again(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    table.engine_makes("one", SPEC)
    monkeypatch.setattr(definitions, "write_atomic", None)
    table.say(BOB, one=VolumeSpec.from_json(SPEC.to_json()))
    table.engine_makes("one", VolumeSpec.from_json(SPEC.to_json()))
    assert table.owners() == {"one": ROOT}


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"format": 1, "volumes": []}', b'{"format": 3}', b"\xff"])
def test_damaged_file_is_kept_aside_and_told(content: bytes, tmp_path: Path) -> None:
    Table(tmp_path).engine_makes("one", SPEC)
    file = tmp_path / "volumes.json"
    file.write_bytes(content)
    table = Table(tmp_path)
    assert table.volumes == {}
    assert "volumes.json cannot be read" in table.faults[0]
    table.engine_makes("two", OTHER)
    assert (tmp_path / "volumes.json.damaged").read_bytes() == content


def test_one_bad_definition_takes_no_other_with_it(tmp_path: Path) -> None:
    Table(tmp_path).engine_makes("one", SPEC)
    file = tmp_path / "volumes.json"
    body = json.loads(file.read_text())
    good = body["volumes"]["one"]
    bad = {"files": [{"name": "x", "template": "plain"}]}
    body["volumes"] |= {"bad": {"owner": 0, "spec": bad}, "worse": 7, "../x": good, "whose": {**good, "owner": -1}}
    file.write_text(json.dumps(body))
    table = Table(tmp_path)
    assert table.specs() == {"one": SPEC}
    assert len(table.faults) == 4
