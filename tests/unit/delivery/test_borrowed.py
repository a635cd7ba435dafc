"""A Compose file that mounts what DSO made for others is refused; every other one costs no request."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dso.delivery.borrowed import refuse_borrowed
from dso.errors import ContainerNotFoundError, KeeperError, VolumeConflictError
from tests.support import listed

NAME = "other-dso-keeper-0011aabb"


class FakeEngine:
    """Has the volume of another project's service, and its keeper."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def volumes(self, name: list[str], label: list[str]) -> list[dict[str, Any]]:
        self.asked += name
        assert label == ["io.dso.role=volume"]
        return [each for each in (listed.volume("api", project="other"), listed.volume()) if name[0] in each["Name"]]

    def inspect_container(self, name: str) -> dict[str, Any]:
        self.asked.append(name)
        if name == "gone":
            raise ContainerNotFoundError("there is no such container")
        labels = {
            "other-web-1": {"io.dso.digest": "00"},
            NAME: {"io.dso.role": "keeper"},
            "ab": {"io.dso.role": "keeper"},
        }
        mounts = {"between": [{"Type": "volume", "Name": "other_dso_api"}], "vpn": [{"Type": "bind"}]}
        return {"Config": {"Labels": labels.get(name)}, "Mounts": mounts.get(name)}


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def check(engine: FakeEngine, **document: Any) -> None:
    refuse_borrowed(engine, {"name": "evil", **document})  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["other_dso_api", "shop_dso"])
def test_a_volume_that_dso_made_is_not_mounted(name: str, engine: FakeEngine) -> None:
    with pytest.raises(VolumeConflictError, match=f"mounts the volume {name} \\(as data\\)"):
        check(engine, volumes={"data": {"name": name, "external": True}})


@pytest.mark.parametrize(
    "definition",
    [
        {"network_mode": f"container:{NAME}"},
        {"pid": f"container:{NAME}"},
        {"ipc": "container:ab"},
        {"volumes_from": ["db", f"container:{NAME}:ro"]},
        {"volumes_from": ["container:ab"]},
    ],
)
def test_a_keeper_is_not_joined(definition: dict[str, Any], engine: FakeEngine) -> None:
    with pytest.raises(KeeperError, match="service web joins the container"):
        check(engine, services={"web": definition})


@pytest.mark.parametrize("container", ["other-web-1", "between"])
@pytest.mark.parametrize("definition", [{"pid": "container:%s"}, {"volumes_from": ["container:%s:ro"]}])
def test_a_container_with_secrets_shares_them_with_nobody(
    definition: dict[str, Any], container: str, engine: FakeEngine
) -> None:
    service = json.loads(json.dumps(definition) % container)
    with pytest.raises(VolumeConflictError, match=f"joins the container {container} .* gave secrets to"):
        check(engine, services={"web": service})


@pytest.mark.parametrize("joined", ["network_mode", "ipc"])
def test_a_container_with_secrets_shares_what_holds_none(joined: str, engine: FakeEngine) -> None:
    check(engine, services={"web": {joined: "container:other-web-1"}})


def test_what_has_dsos_own_labels_is_refused(engine: FakeEngine) -> None:
    with pytest.raises(VolumeConflictError, match=r"volume data .* io\.dso\.role"):
        check(engine, volumes={"data": {"name": "evil_data", "labels": {"io.dso.role": "volume"}}})
    with pytest.raises(KeeperError, match=r"service web .* io\.dso\.project"):
        check(engine, services={"web": {"labels": {"io.dso.project": "other"}}})


def test_other_files_pass_and_the_engine_is_asked_nothing(engine: FakeEngine) -> None:
    volumes: dict[str, Any] = {"data": {"name": "shop_data"}, "plain": None, "shared": {"name": "x", "external": True}}
    services = {
        "web": {"network_mode": "service:db", "pid": "host", "labels": {"io.dso.rotation": "restart"}},
        "db": {},
    }
    check(engine)
    check(engine, volumes=volumes, services=services)
    assert engine.asked == []


def test_what_only_looks_like_dsos_passes(engine: FakeEngine) -> None:
    volumes = {"mine": {"name": "shop_dso_mine"}}
    check(engine, volumes=volumes, services={"web": {"pid": "container:vpn", "ipc": "container:gone"}})
    assert engine.asked == ["shop_dso_mine", "vpn", "gone"]
