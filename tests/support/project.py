"""A Compose project in a directory of its own, and everything Docker made for it."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

from tests.support import evidence

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.engine import Engine
    from tests.support.home import DsoHome
    from tests.support.process import Result
    from tests.support.tty import Terminal


class Project:
    """A project directory whose base name is unique, so that Compose names the project after it.

    A test that gives its project another name (`name:`, `-p`) adds it to `names`: everything under
    all names is removed afterwards.
    """

    def __init__(self, directory: str, home: DsoHome, engine: Engine) -> None:
        self.directory = directory
        self.name = os.path.basename(directory)
        self.names = [self.name]
        self.home = home
        self.engine = engine
        os.makedirs(directory)
        evidence.of(self)

    def path(self, *parts: str) -> str:
        return os.path.join(self.directory, *parts)

    def write(self, name: str, content: str | bytes, mode: int = 0o644) -> str:
        """Write a file of the project, with its directories; returns its path."""
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        os.chmod(path, mode)
        return path

    def compose_yaml(self, text: str) -> str:
        """Write compose.yaml."""
        return self.write("compose.yaml", text)

    # What the user runs, in the project's directory.

    def dso(
        self,
        *args: str,
        input: bytes | str | None = None,  # noqa: A002  # subprocess.run's name for it
        env: Mapping[str, str] | None = None,
        check: bool = True,
        timeout: float = 120,
    ) -> Result:
        """`docker dso ARGS`."""
        return self.home.run(*args, input=input, env=env, cwd=self.directory, check=check, timeout=timeout)

    def compose(self, *args: str, env: Mapping[str, str] | None = None, check: bool = True) -> Result:
        """Plain `docker compose ARGS`."""
        return self.home.command("docker", "compose", *args, env=env, cwd=self.directory, check=check)

    def terminal(self, *argv: str, env: Mapping[str, str] | None = None) -> Terminal:
        """Any command on a terminal, in the project's directory."""
        return self.home.terminal(*argv, env=env, cwd=self.directory)

    # What came of it.

    def containers(self, service: str | None = None, *, running: bool = False) -> list[str]:
        """Ids of the services' containers, in order of creation; keepers are not among them."""
        filters = [f"label=com.docker.compose.project={self.name}"]
        filters += [f"label=com.docker.compose.service={service}"] if service else []
        flags = [word for each in filters for word in ("--filter", each)]
        listed = self.engine.docker("ps", "-q", "--no-trunc", *([] if running else ["--all"]), *flags)
        return listed.out.split()[::-1]

    def container(self, service: str) -> str:
        """The id of a service's only container."""
        (found,) = self.containers(service)
        return found

    def keepers(self) -> list[str]:
        """Ids of the project's keeper containers, running or not."""
        flags = ["--filter", f"label=io.dso.project={self.name}", "--filter", "label=io.dso.role=keeper"]
        return self.engine.docker("ps", "-aq", "--no-trunc", *flags).out.split()

    def inspect(self, service: str) -> dict[str, Any]:
        """`docker inspect` of a service's only container."""
        (found,) = json.loads(self.engine.docker("inspect", self.container(service)).stdout)
        return dict(found)

    def exec(self, service: str, *argv: str, check: bool = True, user: str | None = None) -> Result:
        """Run a command inside a service's only container."""
        flags = ["--user", user] if user else []
        return self.engine.docker("exec", *flags, self.container(service), *argv, check=check)

    def logs(self, service: str) -> Result:
        """What a service's only container printed."""
        return self.engine.docker("logs", self.container(service))

    def evidence(self) -> dict[str, str]:
        """For messages: its containers and what they printed."""
        if not os.path.exists(self.directory):
            return {}
        flags = ["--all", "--filter", f"label=com.docker.compose.project={self.name}"]
        listed = self.engine.docker("ps", "--format", "{{.Names}}: {{.Status}} {{.Command}}", *flags, check=False)
        return {f"containers of {self.name}": listed.out + self.engine.logs(self.name).decode("utf-8", "replace")}

    def leftovers(self) -> list[str]:
        """Containers (keepers too), volumes and networks that are still there."""
        return [line for name in self.names for line in self.engine.leftovers(name)]

    def assert_nothing_left(self) -> None:
        """Fail unless everything of the project is gone, as it has to be after `docker dso down -v`."""
        assert self.leftovers() == []

    def remove(self) -> None:
        """Remove everything, whatever state the test left it in."""
        for name in self.names:
            self.engine.remove(name)
