"""What a keeper's end depends on is asked of the Engine in as few words as it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dso import paths
from dso.delivery import keeper
from dso.delivery.engine import LIVE_STATUSES

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
        self.limits = True  # False: as an Engine that counts before it filters

    def containers(
        self, labels: Sequence[str] = (), statuses: Sequence[str] = (), limit: int = 0
    ) -> list[dict[str, Any]]:
        if f"{paths.LABEL_ROLE}=keeper" in labels:
            labels_of_it = {paths.LABEL_PROJECT: "shop", paths.LABEL_VAULT: "v"}
            return [{"Id": "keeper", "Labels": labels_of_it, "State": "running", "Created": 0, "Mounts": []}]
        (label,) = labels
        assert statuses == LIVE_STATUSES
        self.listings.append((label.partition("=")[2] or "every", limit))
        found = [{"Id": name, "Labels": {keeper.COMPOSE_PROJECT_LABEL: "shop"}} for name in self.status]
        if limit:
            return found[:limit] if self.limits else []
        return found

    def inspect_container(self, name: str) -> dict[str, Any]:
        return {"State": {"Status": self.status[name]}}

    def volumes(self, **filters: Sequence[str]) -> list[dict[str, Any]]:
        return []

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
