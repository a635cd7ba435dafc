"""The keeper's image is the same bytes each time, and its ids follow from them."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from typing import TYPE_CHECKING, Any

import pytest

from dso.delivery import image, pause
from dso.errors import EngineUnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

ARCHITECTURES = ("amd64", "arm64")


def contents(architecture: str) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(image.archive(architecture))) as tar:
        return {member.name: tar.extractfile(member).read() for member in tar}


def blob(found: Mapping[str, bytes], digest: str) -> bytes:
    content = found["blobs/" + digest.replace(":", "/")]
    assert digest == "sha256:" + hashlib.sha256(content).hexdigest()
    return content


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_ids_are_those_of_the_image_that_is_made(architecture: str) -> None:
    found = contents(architecture)
    (listed,) = json.loads(found["index.json"])["manifests"]
    manifest = json.loads(blob(found, listed["digest"]))
    (of_docker,) = json.loads(found["manifest.json"])
    assert image.IDS[architecture] == (manifest["config"]["digest"], listed["digest"])
    assert of_docker["Config"] == "blobs/" + manifest["config"]["digest"].replace(":", "/")
    assert [layer["digest"] for layer in manifest["layers"]] == json.loads(blob(found, manifest["config"]["digest"]))[
        "rootfs"
    ]["diff_ids"]


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_image_holds_one_program_and_nothing_that_acts(architecture: str) -> None:
    found = contents(architecture)
    config: dict[str, Any] = json.loads(blob(found, image.IDS[architecture][0]))
    assert config["config"] == {"Entrypoint": ["/pause"]}
    assert (config["architecture"], config["os"]) == (architecture, "linux")
    (layer,) = config["rootfs"]["diff_ids"]
    with tarfile.open(fileobj=io.BytesIO(blob(found, layer))) as tar:
        (program,) = tar.getmembers()
        assert (program.name, program.mode, program.uid, program.gid) == ("pause", 0o555, 0, 0)
        assert tar.extractfile(program).read() == pause.executable(architecture)


def test_images_are_known_by_their_ids_alone() -> None:
    every = [image_id for ids in image.IDS.values() for image_id in ids]
    assert len(set(every)) == 4
    assert all(map(image.is_ours, every))
    assert not any(map(image.is_ours, ("", "dso/keeper:1", "sha256:" + "0" * 64, every[0][:20])))


def test_containerds_id_is_tried_first_where_containerd_stores_images() -> None:
    config, manifest = image.IDS["amd64"]
    assert image.candidates("amd64", (1, 45)) == (config, manifest)
    assert image.candidates("amd64", (1, 52)) == (manifest, config)
    assert image.candidates("riscv64", (1, 45)) == ()


def test_an_architecture_without_a_program_is_refused() -> None:
    with pytest.raises(EngineUnsupportedError, match="riscv64"):
        image.archive("riscv64")
