"""The Engine's side of Cloud volumes: what the Engine is asked, and what its refusals mean."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dso.delivery.connection import find_target
from dso.delivery.volume import ensure_volumes, unreachable_reason
from dso.errors import EngineError, FileSecretsUnavailableError, VolumeConflictError
from dso.system.http import Response
from tests.support import listed

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = listed.volume("api")
CONFLICT = "create shop_dso_api: driver 'local' already has volume 'shop_dso_api': volume name must be unique"


class FakeEngine:
    """Refuses volumes with the messages it is given, one after the other."""

    def __init__(self, *messages: str, existing: list[dict[str, Any]] | None = None, in_use: bool = False) -> None:
        self.messages = list(messages)
        self.existing = existing or []
        self.in_use = in_use
        self.users: list[dict[str, Any]] = []
        self.calls: list[str] = []

    def create_volume(self, name: str, driver: str, options: Mapping[str, str], labels: Mapping[str, str]) -> Response:
        self.calls.append(f"create {name} {driver} {options['spec']} {labels['io.dso.service']}")
        message = self.messages.pop(0) if self.messages else ""
        return Response(500 if message else 201, {}, json.dumps({"message": message}).encode())

    def containers(self, volumes: list[str]) -> list[dict[str, Any]]:
        assert volumes == ["shop_dso_api", "shop_dso_db"]
        return self.users

    def volumes(self, **_filters: object) -> list[dict[str, Any]]:
        return self.existing

    def remove_volume(self, name: str) -> bool:
        self.calls.append(f"remove {name}")
        return not self.in_use


def ensure(engine: FakeEngine) -> None:
    ensure_volumes(engine, "shop", "dso", {"api": "A", "db": "B"})  # type: ignore[arg-type]


def test_one_request_for_each_service() -> None:
    engine = FakeEngine()
    ensure(engine)
    assert engine.calls == ["create shop_dso_api dso A api", "create shop_dso_db dso B db"]


@pytest.mark.parametrize(
    "message",
    [
        'create shop_dso_api: error looking up volume plugin dso: plugin "dso" not found',
        "error looking up volume plugin dso: Plugin does not implement the requested driver",
    ],
)
def test_unknown_driver_is_told_as_file_secrets_that_cannot_be_had(message: str) -> None:
    with pytest.raises(FileSecretsUnavailableError) as caught:
        ensure(FakeEngine(message))
    assert message in caught.value.message
    assert "--mode=local" in caught.value.hint


def test_refusal_of_the_driver_is_the_engines_error() -> None:
    with pytest.raises(EngineError, match="permission denied"):
        ensure(FakeEngine("VolumeDriver.Create: permission denied"))


def test_former_volume_of_ours_that_nobody_uses_makes_way() -> None:
    engine = FakeEngine(CONFLICT, existing=[OURS])
    ensure(engine)
    assert engine.calls[:3] == ["create shop_dso_api dso A api", "remove shop_dso_api", "create shop_dso_api dso A api"]


def test_former_volume_of_another_agent_makes_way() -> None:
    former = listed.volume("api", Driver="other", Options={"spec": "{}"})
    engine = FakeEngine(CONFLICT, existing=[former])
    ensure(engine)
    assert engine.calls[1] == "remove shop_dso_api"


@pytest.mark.parametrize(
    ("change", "in_use"),
    [
        ({"Labels": None}, False),
        ({"Labels": {**OURS["Labels"], "io.dso.project": "other"}}, False),
        ({"Options": {"type": "tmpfs", "device": "/srv/precious", "o": "bind"}}, False),
        ({"Options": None}, False),
        ({"Driver": "nfs"}, False),
        ({}, True),
    ],
)
def test_volume_of_somebody_else_or_in_use_is_a_conflict(change: dict[str, Any], in_use: bool) -> None:
    engine = FakeEngine(CONFLICT, CONFLICT, existing=[{**OURS, **change}], in_use=in_use)
    with pytest.raises(VolumeConflictError, match="shop_dso_api") as caught:
        ensure(engine)
    assert "docker dso down" in caught.value.hint
    assert in_use or not [call for call in engine.calls if call.startswith("remove")]


def test_container_of_another_project_that_mounts_one_stops_everything() -> None:
    engine = FakeEngine()
    engine.users = [listed.user("evil", "shop_dso_db", project="evil")]
    with pytest.raises(VolumeConflictError, match="container evil mounts the volume shop_dso_db"):
        ensure(engine)
    assert engine.calls == []


@pytest.mark.parametrize(
    ("args", "environ", "is_reachable"),
    [
        ([], {}, True),
        (["-H", "unix:///tmp/other.sock"], {}, True),
        ([], {"DOCKER_HOST": "unix:///run/user/1000/docker.sock"}, True),
        ([], {"DOCKER_HOST": "unix:///x.sock", "DOCKER_TLS_VERIFY": "1"}, True),
        (["-H", "tcp://10.0.0.1:2376"], {}, False),
        ([], {"DOCKER_HOST": "ssh://me@prod"}, False),
        (["-c", "unknown"], {"HOME": "/nonexistent"}, True),  # the Engine then says itself whether it has the driver
    ],
)
def test_engine_elsewhere_cannot_reach_a_driver_here(
    args: list[str], environ: dict[str, str], is_reachable: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/nonexistent")
    reason = unreachable_reason(find_target(args, environ))
    assert (reason == "") is is_reachable
    assert is_reachable or "which need not be this machine" in reason
