"""The keeper's image, which is known by its content: docs/decisions/0016-keeper-identity.md.

An image's id is a SHA-256: of its configuration where the Engine stores images itself, of its manifest
where containerd does. Both are DSO's own bytes, and they name the one layer by its SHA-256. So an
image that has one of these ids is this image, whatever its tag, its labels or who brought it here.
"""

from __future__ import annotations

from dso.delivery import pause
from dso.delivery.archive import Archive

REPOSITORY, TAG = "dso/keeper", "1"  # for people who list images; nothing is ever looked up by it

# For each architecture (the Engine's name) the id in the Engine's own store and the one in containerd's. They follow
# from the bytes that `archive` makes, which a test compares.
IDS = {
    "amd64": (
        "sha256:0014781d8047af9bbb1e03761950dffd891da21dc4b48aa3522f1ebfaecc81fa",
        "sha256:5b781cfea930be7d67685925e3e25be9270047aabe982eb8ff50e6ed09f74c97",
    ),
    "arm64": (
        "sha256:24d4ca3a31d13ca576ddeb07881626cf53e82fddc994e6b993a188768f46e2f9",
        "sha256:35d1663ecd5e3280b13256e9a5c654c60992ca4f17379534413a6668f264eabb",
    ),
}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}  # by uname's names
_CONTAINERD_BY_DEFAULT = (1, 52)  # the API of Engine 29, whose new installations store images in containerd
_EPOCH = "1970-01-01T00:00:00Z"
_OCI = "application/vnd.oci.image"


def is_ours(image_id: str) -> bool:
    """Whether an image of this id is the keeper's image."""
    return any(image_id in ids for ids in IDS.values())


def candidates(architecture: str, api_version: tuple[int, ...]) -> tuple[str, ...]:
    """The ids the image may have on an Engine, the likelier one first; none for an unknown architecture."""
    ids = IDS.get(architecture, ())
    return ids[::-1] if api_version >= _CONTAINERD_BY_DEFAULT else ids


def likely_architecture() -> str:
    """This machine's, which is most often the Engine's too."""
    from os import uname

    return _MACHINES.get(uname().machine, "")


def archive(architecture: str) -> bytes:
    """The image as `docker load` takes it, in Docker's form and in OCI's; the same bytes each time.

    Raises:
        EngineUnsupportedError: there is no program for this architecture.
    """
    from hashlib import sha256

    from dso.system.json_fast import dumps

    blobs: dict[str, bytes] = {}

    def add(content: bytes) -> str:
        digest = sha256(content).hexdigest()
        blobs[f"blobs/sha256/{digest}"] = content
        return digest

    def described(kind: str, content: bytes) -> dict[str, object]:
        return {"mediaType": f"{_OCI}.{kind}", "digest": f"sha256:{add(content)}", "size": len(content)}

    files = Archive(0)
    files.add_file(pause.NAME, pause.executable(architecture), mode=0o555)
    layer = described("layer.v1.tar", files.finish())
    config = {
        "architecture": architecture,
        "config": {"Entrypoint": [f"/{pause.NAME}"]},
        "created": _EPOCH,
        "history": [{"created": _EPOCH, "created_by": "docker dso"}],
        "os": "linux",
        "rootfs": {"diff_ids": [layer["digest"]], "type": "layers"},
    }
    configuration = described("config.v1+json", dumps(config).encode())
    manifest = described(
        "manifest.v1+json",
        dumps(
            {
                "schemaVersion": 2,
                "mediaType": f"{_OCI}.manifest.v1+json",
                "config": configuration,
                "layers": [layer],
            }
        ).encode(),
    )
    names = {"io.containerd.image.name": f"docker.io/{REPOSITORY}:{TAG}", "org.opencontainers.image.ref.name": TAG}
    platform = {"architecture": architecture, "os": "linux"}
    index = {"schemaVersion": 2, "manifests": [{**manifest, "annotations": names, "platform": platform}]}
    of_docker = {
        "Config": _path(configuration),
        "RepoTags": [f"{REPOSITORY}:{TAG}"],
        "Layers": [_path(layer)],
    }
    made = Archive(0)
    made.add_file("oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    made.add_file("index.json", dumps(index).encode())
    made.add_file("manifest.json", dumps([of_docker]).encode())
    for name, content in blobs.items():
        made.add_file(name, content)
    return made.finish()


def _path(descriptor: dict[str, object]) -> str:
    return "blobs/" + str(descriptor["digest"]).replace(":", "/")
