"""The Docker Engine the tests use, asked through the `docker` command."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, NamedTuple

from tests.support.process import Result, environment, run

if TYPE_CHECKING:
    from collections.abc import Mapping

# What Compose and DSO put on everything that belongs to a project.
PROJECT_LABELS = ("com.docker.compose.project", "io.dso.project")


DEFAULT_HOST = "unix:///var/run/docker.sock"


class Images(NamedTuple):
    """The images of build/machine/images.sh."""

    busybox: str = "dso-test/busybox"
    scratch: str = "dso-test/scratch"
    postgres: str = "dso-test/postgres"


class Engine:
    """An Engine that answers, and where it keeps its state.

    `env` selects it: an Engine of the tester's own context, or another daemon's socket.
    """

    def __init__(self, env: Mapping[str, str] | None = None) -> None:
        self.env = dict(env or {})
        info = json.loads(self.docker("info", "--format", "{{json .}}").stdout)
        if info.get("ServerErrors"):
            raise AssertionError(f"the Docker Engine does not answer: {info['ServerErrors']}")
        self.root: str = info["DockerRootDir"]
        if not os.path.isdir(os.path.join(self.root, "containers")):
            raise AssertionError(f"the Engine's data root {self.root} is not on this machine: use a local Engine")

    @classmethod
    def of_the_tester(cls) -> Engine:
        """The Engine `docker` reaches here, kept reachable for children that have another HOME."""
        host = run(["docker", "context", "inspect", "--format", "{{.Endpoints.docker.Host}}"]).out.strip()
        return cls({} if host == DEFAULT_HOST else {"DOCKER_HOST": host})

    def docker(self, *args: str, check: bool = True, input: bytes | None = None) -> Result:  # noqa: A002
        """`docker ARGS` against this Engine."""
        return run(["docker", *args], env=environment(extra=self.env), check=check, input=input)

    def ids(self, kind: str, project: str) -> list[str]:
        """Ids of a project's containers, volumes or networks (`kind` in the singular), stopped ones too."""
        flags = ["--all", "--no-trunc"] if kind == "container" else []
        found = {}
        for label in PROJECT_LABELS:
            listed = self.docker(kind, "ls", "-q", *flags, "--filter", f"label={label}={project}")
            found.update(dict.fromkeys(listed.out.split()))
        return list(found)

    def leftovers(self, project: str) -> list[str]:
        """Everything of a project that is still there, as "container NAME", "volume NAME", "network NAME"."""
        left = []
        for kind, name in (("container", "{{.Name}}"), ("volume", "{{.Name}}"), ("network", "{{.Name}}")):
            for id_ in self.ids(kind, project):
                shown = self.docker(kind, "inspect", "--format", name, id_, check=False)
                if shown.returncode == 0:
                    left.append(f"{kind} {shown.out.strip().lstrip('/')}")
        unlabelled = self.docker("volume", "ls", "-q", "--filter", f"name=^{project}_dso_").out.split()
        return left + [line for line in (f"volume {name}" for name in unlabelled) if line not in left]

    def remove(self, project: str) -> None:
        """Remove everything of a project, running or not."""
        for _attempt in range(2):  # a keeper that restarts may come back between the listing and the removal
            for container in self.ids("container", project):
                self.docker("container", "rm", "-f", "-v", container, check=False)
            for kind in ("volume", "network"):
                for id_ in self.ids(kind, project):
                    self.docker(kind, "rm", id_, check=False)
        for line in self.leftovers(project):
            kind, name = line.split(" ")
            self.docker(kind, "rm", *(["-f"] if kind == "container" else []), name, check=False)

    def inspect(self, project: str) -> bytes:
        """`docker inspect` of everything of a project, and of the images its containers run from."""
        containers = self.ids("container", project)
        subjects = containers + self.ids("volume", project) + self.ids("network", project)
        if containers:
            subjects += set(self.docker("inspect", "--format", "{{.Image}}", *containers).out.split())
        return self.docker("inspect", *subjects).stdout if subjects else b""

    def logs(self, project: str) -> bytes:
        """What all containers of a project printed."""
        shown = [self.docker("logs", container, check=False) for container in self.ids("container", project)]
        return b"".join(each.stdout + each.stderr for each in shown)
