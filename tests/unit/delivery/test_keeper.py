"""Acting on an Engine that refuses things a real one seldom refuses."""

from __future__ import annotations

import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from dso.delivery import image, keeper
from dso.delivery.archive import read_files
from dso.delivery.plan import SecretFile, ServiceVolume
from dso.errors import ContainerNotFoundError, EngineError, EngineUnsupportedError, KeeperError, VolumeConflictError
from dso.secret import SecretValue
from dso.system.http import Response
from tests.support import listed

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

KEY = b"k" * 32
EINVAL = (
    "error while mounting volume '/var/lib/docker/volumes/shop_dso/_data': failed to mount local volume: "
    "mount tmpfs:/var/lib/docker/volumes/shop_dso/_data, flags: 0xe, data: size=64m,mode=0755,noswap: invalid argument"
)


# What an Engine says whose machine is not what an image is for (Docker 28, of a loaded image, from either store).
FOREIGN = (
    "The requested image's platform (linux/amd64) does not match the detected host platform (linux/arm64/v8) "
    "and no specific platform was requested"
)


def refusal(status: int, message: str) -> Response:
    return Response(status, {}, json.dumps({"message": message}).encode())


class FakeEngine:
    """Records calls; `refuse_start` and the others say what goes wrong."""

    identity = "fake"
    api_version = "1.45"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.created: list[Mapping[str, Any]] = []
        self.written: list[tuple[str, bytes]] = []
        self.images = set(image.IDS["amd64"])
        self.architecture = "amd64"
        self.refuse_start = ""  # message, for configurations whose mounts have the option noswap
        self.refuse_every_start = ""
        self.refuse_exec = False
        self.manifest: bytes | None = None
        self.key = KEY
        self.foreign: dict[str, Any] = {}  # what is otherwise of the service's volume
        self.gone: set[str] = set()
        self.listed_volumes = 0
        self.loses_content = False
        self.refuse_put = ""

    def containers(
        self, labels: Sequence[str] = (), statuses: Sequence[str] = (), limit: int = 0, volumes: Sequence[str] = ()
    ) -> list[dict[str, Any]]:
        if not self.written:
            return []
        return [listed.keeper("api", Id="k1", Labels=self.created[-1]["Labels"])]

    def volumes(self, **filters: Sequence[str]) -> list[dict[str, Any]]:
        self.listed_volumes += 1
        if not self.created or "volumes" in self.gone:
            return []
        mounts = self.created[-1]["HostConfig"]["Mounts"]
        return [
            {
                "Name": mount["Source"],
                "Driver": mount["VolumeOptions"]["DriverConfig"]["Name"],
                "Options": mount["VolumeOptions"]["DriverConfig"]["Options"],
                "Labels": mount["VolumeOptions"]["Labels"],
                **(self.foreign if mount["Source"] == "shop_dso_api" else {}),
            }
            for mount in mounts
        ]

    def get_archive(self, container_id: str, path: str) -> bytes | None:
        return self.manifest if path.endswith("@manifest") else None

    def inspect_container(self, name: str) -> dict[str, Any]:
        if "keeper" in self.gone:
            raise ContainerNotFoundError("there is no such container")
        return {"State": {"Status": "restarting", "ExitCode": 159}, "RestartCount": 3}

    def create_container(self, name: str, configuration: Mapping[str, Any]) -> Response:
        wanted = configuration["Image"]
        if wanted not in self.images:
            return refusal(404, f"No such image: {wanted}")
        self.created.append(configuration)
        warnings = [] if wanted in image.IDS.get(self.architecture, ()) else [FOREIGN]
        return Response(201, {}, json.dumps({"Id": f"k{len(self.created)}", "Warnings": warnings}).encode())

    def start_container(self, container_id: str) -> Response:
        options = self.created[-1]["HostConfig"]["Mounts"][0]["VolumeOptions"]["DriverConfig"]["Options"]["o"]
        message = self.refuse_every_start or (self.refuse_start if "noswap" in options else "")
        return refusal(500, message) if message else Response(204, {}, b"")

    def remove_container(self, container_id: str) -> None:
        self.calls.append(("remove", container_id))

    def remove_volume(self, name: str) -> bool:
        self.calls.append(("remove volume", name))
        return True

    def put_archive(self, container_id: str, directory: str, archive: bytes) -> None:
        if self.refuse_put:
            self.manifest = None
            raise EngineError(self.refuse_put)
        self.written.append((container_id, archive))
        self.manifest = None if self.loses_content else _last_manifest(self)

    def execute(self, container_id: str, command: Sequence[str]) -> None:
        self.calls.append(("exec", container_id, *command))
        if self.refuse_exec:
            raise EngineError("exec is forbidden here")

    def load_image(self, archive: bytes) -> None:
        architecture = next(one for one in image.IDS if image.archive(one) == archive)
        self.calls.append(("load", architecture))
        self.images.add(image.IDS[architecture][0])

    def version(self) -> dict[str, Any]:
        self.calls.append(("version",))
        return {"Arch": self.architecture}


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(image, "likely_architecture", lambda: "amd64")


@pytest.fixture
def engine() -> FakeEngine:
    return FakeEngine()


def deliver(engine: FakeEngine, *names: str) -> None:
    files = tuple(SecretFile(name, SecretValue(b"value of " + name.encode()), 0, 0, 0o444) for name in names)
    keeper.deliver(engine, "shop", [ServiceVolume("api", files)], vault_id="v", mac_key=engine.key)  # type: ignore[arg-type]


def options(configuration: Mapping[str, Any]) -> set[str]:
    mounts = configuration["HostConfig"]["Mounts"]
    return {mount["VolumeOptions"]["DriverConfig"]["Options"]["o"] for mount in mounts}


def test_noswap_is_used_where_the_kernel_has_it(engine: FakeEngine) -> None:
    deliver(engine, "x")
    assert [options(made) for made in engine.created] == [{"size=64m,mode=0755,nodev,nosuid,noexec,noswap"}]
    assert engine.calls == []


def test_kernel_without_noswap_gets_volumes_without_it(engine: FakeEngine) -> None:
    engine.refuse_start = EINVAL
    deliver(engine, "x")
    assert [options(made) for made in engine.created][1:] == [{"size=64m,mode=0755,nodev,nosuid,noexec"}]
    assert engine.calls == [("remove", "k1"), ("remove volume", "shop_dso"), ("remove volume", "shop_dso_api")]
    assert [container for container, _ in engine.written] == ["k2"]


def test_keeper_that_cannot_start_is_not_left_behind(engine: FakeEngine) -> None:
    engine.refuse_every_start = "no space left on device"
    with pytest.raises(EngineError, match="no space left on device"):
        deliver(engine, "x")
    assert ("remove", "k1") in engine.calls
    assert len(engine.created) == 1
    assert engine.written == []


def test_invalid_argument_that_noswap_is_not_to_blame_for_is_reported(engine: FakeEngine) -> None:
    engine.refuse_every_start = EINVAL
    with pytest.raises(EngineError, match="invalid argument"):
        deliver(engine, "x")
    assert len(engine.created) == 2
    assert engine.written == []


def test_image_is_loaded_when_it_is_missing_and_used_by_its_id(engine: FakeEngine) -> None:
    engine.images.clear()
    deliver(engine, "x")
    assert engine.calls == [("load", "amd64")]
    assert [made["Image"] for made in engine.created] == [image.IDS["amd64"][0]]


def test_engine_of_another_architecture_gets_the_image_for_it(engine: FakeEngine) -> None:
    engine.images.clear()
    engine.architecture = "arm64"
    deliver(engine, "x")
    assert engine.calls == [("load", "amd64"), ("version",), ("remove", "k1"), ("load", "arm64")]
    assert [made["Image"] for made in engine.created] == [image.IDS["amd64"][0], image.IDS["arm64"][0]]
    assert [container for container, _ in engine.written] == ["k2"]


def test_machine_of_an_unknown_architecture_asks_for_the_engines(
    engine: FakeEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image, "likely_architecture", lambda: "")
    engine.images.clear()
    deliver(engine, "x")
    assert engine.calls == [("version",), ("load", "amd64")]


def test_engine_of_an_architecture_without_a_program_is_refused(engine: FakeEngine) -> None:
    engine.images.clear()
    engine.architecture = "riscv64"
    with pytest.raises(EngineUnsupportedError, match="riscv64"):
        deliver(engine, "x")
    assert ("remove", "k1") in engine.calls


@pytest.mark.parametrize("refuse", [False, True])
def test_removed_file_is_emptied_even_where_exec_is_forbidden(refuse: bool, engine: FakeEngine) -> None:
    deliver(engine, "kept", "gone")
    engine.refuse_exec = refuse
    deliver(engine, "kept")
    files = dict(read_files(engine.written[-1][1]))
    assert files["api/gone"] == b""
    assert "api/kept" not in files
    assert ("exec", "k1", "/pause", "/run/dso/api/gone") in engine.calls


def _last_manifest(engine: FakeEngine) -> bytes:
    """The manifest as GET /containers/ID/archive shows it."""
    return _archive_of([content for name, content in read_files(engine.written[-1][1]) if name == "@manifest"][-1])


def _archive_of(manifest: bytes) -> bytes:
    from dso.delivery.archive import Archive

    archive = Archive(0)
    archive.add_file("@manifest", manifest)
    return archive.finish()


def test_manifest_comes_first_in_doubt_and_last_as_it_then_is(engine: FakeEngine) -> None:
    deliver(engine, "a", "b")
    entries = list(read_files(engine.written[-1][1]))
    assert [name for name, _ in entries] == ["@manifest", "api/a", "api/b", "@manifest"]
    before, after = (json.loads(content)["services"]["api"] for name, content in entries if name == "@manifest")
    assert [state[0] for state in before.values()] == ["", ""]
    assert all(len(state[0]) == 32 for state in after.values())


def test_replaced_file_is_written_aside_and_linked_to_its_place(engine: FakeEngine) -> None:
    deliver(engine, "a")
    engine.key = b"x" * 32
    deliver(engine, "a")
    with tarfile.open(fileobj=io.BytesIO(engine.written[-1][1])) as tar:
        entries = [(m.name, m.type, m.linkname, m.mode) for m in tar if m.name != "@manifest"]
    assert entries == [
        ("@before", tarfile.LNKTYPE, "@manifest", 0o400),  # fails if the files that stay are not there any more
        ("api/..dso", tarfile.DIRTYPE, "", 0o700),
        ("api/..dso/0", tarfile.REGTYPE, "", 0o444),
        ("api/a", tarfile.LNKTYPE, "api/..dso/0", 0o444),
        ("api/..dso", tarfile.REGTYPE, "", 0),  # takes the place, and the content, of the directory
        ("api/..dso", tarfile.DIRTYPE, "", 0o700),
    ]


def test_files_in_directories_get_them_once(engine: FakeEngine) -> None:
    deliver(engine, "a/b/c", "a/d")
    with tarfile.open(fileobj=io.BytesIO(engine.written[-1][1])) as tar:
        assert [(m.name, m.mode) for m in tar if m.isdir()] == [("api/a", 0o755), ("api/a/b", 0o755)]


def test_damaged_manifest_counts_as_lost(engine: FakeEngine) -> None:
    deliver(engine, "a")
    engine.manifest = b"no archive at all" * 100
    deliver(engine, "a")
    assert len(engine.written) == 2


def test_keeper_has_no_privileges_and_no_compose_label(engine: FakeEngine) -> None:
    deliver(engine, "a")
    (configuration,) = engine.created
    assert not [label for label in configuration["Labels"] if label.startswith("com.docker.compose")]
    host = configuration["HostConfig"]
    assert configuration["Healthcheck"] == {"Test": ["NONE"]}
    assert (host["NetworkMode"], host["ReadonlyRootfs"], host["CapDrop"]) == ("none", True, ["ALL"])
    assert host["SecurityOpt"] == ["no-new-privileges"]
    assert b"value of" not in json.dumps(configuration).encode()


def test_volume_that_is_not_ours_stops_the_delivery_before_the_keeper_runs(engine: FakeEngine) -> None:
    engine.foreign = {"Options": {"type": "tmpfs", "device": "/srv/plain", "o": "bind"}}
    with pytest.raises(VolumeConflictError, match="shop_dso_api"):
        deliver(engine, "a")
    assert engine.written == []
    assert engine.calls == [("remove", "k1"), ("remove volume", "shop_dso")]  # the foreign one stays


def test_volumes_of_a_keeper_are_looked_at_again_unless_its_manifest_has_this_vaults_seal(engine: FakeEngine) -> None:
    deliver(engine, "a")
    engine.listed_volumes = 0
    deliver(engine, "a")
    deliver(engine, "b")
    assert engine.listed_volumes == 0
    engine.foreign = {"Options": None}
    for manifest in (None, _archive_of(b'{"delivered_at":1,"seal":"copied","services":{}}')):
        engine.manifest = manifest
        with pytest.raises(VolumeConflictError, match="shop_dso_api"):
            deliver(engine, "a")
    engine.key = b"x" * 32
    with pytest.raises(VolumeConflictError, match="shop_dso_api"):
        deliver(engine, "a")


def test_keeper_that_has_lost_what_was_written_is_an_error(engine: FakeEngine) -> None:
    engine.loses_content = True
    with pytest.raises(KeeperError, match=r"does not stay up.* restarting, was started again 3 times .* 159"):
        deliver(engine, "a")
    engine.gone.add("keeper")
    with pytest.raises(KeeperError, match="somebody has removed it"):
        deliver(engine, "a")


def test_keeper_that_lost_the_files_that_stay_is_an_error(engine: FakeEngine) -> None:
    deliver(engine, "a")
    engine.refuse_put = "link /run/dso/@manifest /run/dso/@before: no such file or directory"
    with pytest.raises(KeeperError, match="does not stay up"):
        deliver(engine, "a", "b")


def test_other_refusals_of_an_archive_are_the_engines_errors(engine: FakeEngine) -> None:
    engine.refuse_put = "no space left on device"
    with pytest.raises(EngineError, match="no space left"):
        deliver(engine, "a")


def test_nothing_wanted_asks_the_engine_nothing(engine: FakeEngine) -> None:
    keeper.deliver(None, "shop", [], vault_id="v", mac_key=KEY)  # type: ignore[arg-type]
