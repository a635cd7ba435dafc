"""Containers and volumes as the Engine lists them, for tests without one."""

from __future__ import annotations

from typing import Any

from dso.delivery.image import IDS
from dso.delivery.plan import volume_name

TMPFS = "size=64m,mode=0755,nodev,nosuid,noexec"


def keeper(*services: str, project: str = "shop", **changes: Any) -> dict[str, Any]:
    """A keeper as in ContainerList; `changes` are other entries."""
    labels = {"io.dso.role": "keeper", "io.dso.project": project, "io.dso.vault": "v", "io.dso.keeper": "1"}
    return {
        "Id": "keeper",
        "Names": [f"/{project}-dso-keeper-0011aabb"],
        "ImageID": IDS["amd64"][0],
        "Command": "/pause",
        "State": "running",
        "Created": 0,
        "Labels": labels,
        "HostConfig": {"NetworkMode": "none"},
        "Mounts": [mount(project), *(mount(project, service) for service in services)],
        **changes,
    }


def mount(project: str, service: str | None = None, **changes: Any) -> dict[str, Any]:
    """A keeper's mount of a service's volume, or of the parent."""
    place = "/run/dso" + ("" if service is None else f"/{service}")
    name = volume_name(project, service)
    return {"Type": "volume", "Name": name, "Driver": "local", "Destination": place, "RW": True, **changes}


def user(name: str, volume: str, *, project: str | None = None, **labels: str) -> dict[str, Any]:
    """A container that mounts a volume, of a Compose project if one is named."""
    of_compose = {} if project is None else {"com.docker.compose.project": project}
    mounts = [{"Type": "volume", "Name": volume, "Driver": "local", "Destination": "/s"}]
    return {"Id": name, "Names": [f"/{name}"], "Labels": {**of_compose, **labels}, "Mounts": mounts, "ImageID": "x"}


def volume(
    service: str | None = None, *, project: str = "shop", options: str = TMPFS, **changes: Any
) -> dict[str, Any]:
    """A volume of Local Mode as in VolumeList; `changes` are other entries."""
    labels = {"io.dso.role": "volume", "io.dso.project": project}
    return {
        "Name": volume_name(project, service),
        "Driver": "local",
        "Labels": labels if service is None else {**labels, "io.dso.service": service},
        "Options": {"type": "tmpfs", "device": "tmpfs", "o": options},
        **changes,
    }
