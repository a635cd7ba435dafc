"""What a keeper's end depends on is asked of the Engine in as few words as it takes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from dso import paths
from dso.delivery import keeper
from dso.delivery.engine import LIVE_STATUSES
from dso.delivery.identity import COMPOSE_PROJECT_LABEL
from dso.delivery.plan import Manifest
from dso.errors import KeeperError
from tests.support import listed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class FakeEngine:
    """An Engine with a keeper of `shop`, whose containers are listed as running, newest first.

    `status` says in what state they really are, `listings` what was listed: of which project (or "every"), how many.
    """

    identity = "fake"

    def __init__(self, **status: str) -> None:
        self.status = status
        self.listings: list[tuple[str, int]] = []
        self.removed: list[str] = []
        self.keeper: dict[str, Any] = {}  # what is otherwise of the keeper
        self.existing: list[dict[str, Any]] = []
        self.users: list[dict[str, Any]] = []
        self.limits = True  # False: as an Engine that counts before it filters

    def containers(
        self, labels: Sequence[str] = (), statuses: Sequence[str] = (), limit: int = 0, volumes: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        if f"{paths.LABEL_ROLE}=keeper" in labels:
            return [listed.keeper("api", **self.keeper)]
        if volumes:
            return [found for found in self.users if found["Mounts"][0]["Name"] in volumes]
        (label,) = labels
        assert statuses == LIVE_STATUSES
        self.listings.append((label.partition("=")[2] or "every", limit))
        found = [{"Id": name, "Labels": {COMPOSE_PROJECT_LABEL: "shop"}} for name in self.status]
        if limit:
            return found[:limit] if self.limits else []
        return found

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"State": {"Status": self.status[name]}}

    def volumes(self, **filters: Sequence[str]) -> list[dict[str, Any]]:
        return self.existing

    def remove_volume(self, name: str) -> bool:
        self.removed.append(name)
        return not self.users

    def remove_container(self, container_id: str) -> None:
        self.removed.append(container_id)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))


def release(engine: FakeEngine) -> bool:
    return keeper.release(engine, "shop", remove_volumes=False)  # type: ignore[arg-type]


def sweep(engine: FakeEngine, spared: str | None = None) -> list[str]:
    return keeper.sweep(engine, vault_id="v", spared=spared)  # type: ignore[arg-type]


def test_one_container_that_runs_is_enough_to_keep_the_keeper() -> None:
    engine = FakeEngine(newest="running", oldest="running")
    assert release(engine) is False
    assert engine.listings == [("shop", 1)]


def test_all_are_looked_at_when_the_newest_runs_no_more() -> None:
    engine = FakeEngine(newest="exited", oldest="running")
    assert release(engine) is False
    assert engine.listings == [("shop", 1), ("shop", 0)]


def test_an_engine_that_limits_in_its_own_way_takes_no_keeper_away() -> None:
    engine = FakeEngine(newest="running")
    engine.limits = False
    assert release(engine) is False


def test_a_keeper_goes_when_none_runs() -> None:
    engine = FakeEngine(newest="exited")
    assert release(engine) is True
    assert engine.removed == ["keeper"]


def test_a_sweep_does_not_look_again_at_a_project_that_was_spared() -> None:
    engine = FakeEngine(newest="running")
    assert sweep(engine, spared="shop") == []
    assert engine.listings == []
    assert engine.removed == []


def test_a_sweep_spares_no_other_project() -> None:
    engine = FakeEngine()
    assert sweep(engine, spared="blog") == ["shop"]
    assert engine.listings == [("every", 0)]
    assert engine.removed == ["keeper"]


def test_what_only_has_a_keepers_labels_is_left_alone_and_named() -> None:
    engine = FakeEngine()
    engine.keeper = {"ImageID": "sha256:another", "Names": ["/evil"]}
    assert sweep(engine) == []
    with pytest.raises(KeeperError, match="evil has the labels of a keeper and is not one"):
        release(engine)
    assert engine.removed == []
    (state,) = keeper.states(engine)  # type: ignore[arg-type]
    assert (state.project, state.impostor, state.content) == ("shop", "evil", False)


def test_a_keeper_whose_volumes_are_not_ours_holds_nothing_for_status() -> None:
    engine = FakeEngine()
    engine.existing = [listed.volume(), listed.volume("api", Options={"type": "none", "o": "bind", "device": "/srv"})]
    (state,) = keeper.states(engine)  # type: ignore[arg-type]
    assert (state.project, state.impostor) == ("shop", "keeper")


def test_what_holds_on_to_secrets_that_are_swept_is_named_when_all_is_swept() -> None:
    engine = FakeEngine()
    engine.existing = [listed.volume("api")]
    engine.users = [listed.user("evil", "shop_dso_api", project="evil")]
    with pytest.raises(KeeperError, match="evil goes on using file secrets"):
        sweep(engine)
    assert "keeper" in engine.removed


def test_volumes_that_only_have_our_labels_are_left_alone() -> None:
    engine = FakeEngine()
    bound = {"type": "tmpfs", "device": "/srv/precious", "o": "bind"}
    nfs = listed.volume("db", Driver="nfs", Options={"share": "precious"})
    agents = listed.volume("web", Driver="dso", Options={"spec": "{}"})
    engine.existing = [listed.volume("api", Options=bound), nfs, listed.volume(), agents]
    assert keeper.release(engine, "shop", remove_volumes=True)  # type: ignore[arg-type]
    assert engine.removed == ["keeper", "shop_dso", "shop_dso_web"]
    engine.removed.clear()
    engine.keeper = {"Labels": {}}
    engine.existing = [listed.volume("api", Options=bound)]
    assert sweep(engine) == []
    assert engine.removed == []


def test_a_container_that_goes_on_using_the_secrets_is_named() -> None:
    engine = FakeEngine()
    engine.existing = [listed.volume("api")]
    engine.users = [listed.user("evil", "shop_dso_api", project="evil")]
    with pytest.raises(KeeperError, match="evil goes on using file secrets of project shop"):
        keeper.release(engine, "shop", remove_volumes=True)  # type: ignore[arg-type]


def test_a_delivery_in_the_future_keeps_no_keeper(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = FakeEngine()
    for delivered_at, swept in ((2**40, ["shop"]), (int(time.time()), [])):
        manifest = Manifest(delivered_at, {})
        monkeypatch.setattr(keeper, "read_manifest", lambda *_, found=manifest: found)
        assert keeper.sweep(engine, vault_id="another") == swept  # type: ignore[arg-type]
