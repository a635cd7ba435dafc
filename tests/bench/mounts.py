"""What a volume of the agent's adds to the start of a container."""

from __future__ import annotations

import json
import os
import secrets
from typing import TYPE_CHECKING

from tests.bench.agent import REFERENCES, VALUE, started
from tests.bench.measure import Case
from tests.support.process import environment

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.support.agent import Agent
    from tests.support.engine import Engine

PLUGIN_SOCKETS = "/run/docker/plugins"  # where the Engine looks for drivers


class Containers:
    """Two containers that end at once, one with a volume of the agent's and one with an ordinary one.

    Use it in a `with`. Needs root: the Engine finds the driver in a directory of root's.
    """

    def __init__(self, engine: Engine, image: str) -> None:
        self._engine = engine
        self._image = image
        self._name = f"dsobench{secrets.token_hex(4)}"
        self._made: list[tuple[str, str]] = []
        self._agent: Agent | None = None

    def cases(self, docker: str) -> list[Case]:
        """Starting each of them, to its end; the first reads the secret, the second the same from its volume."""
        env = environment(extra=self._engine.env)

        def case(key: str, label: str, kind: str) -> Case:
            return Case(key, label, (docker, "start", "-a", f"{self._name}-{kind}"), env, "/", VALUE.encode())

        return [
            case("start-dso", "`docker start -a`, a secret in a volume of the agent's", "dso"),
            case("start-plain", "`docker start -a`, a file in an ordinary volume", "plain"),
        ]

    def __enter__(self) -> Self:
        try:
            self._make()
        except BaseException:
            self._remove()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._remove()

    def _make(self) -> None:
        self._agent = started(volume_socket=os.path.join(PLUGIN_SOCKETS, f"{self._name}.sock"))
        spec = json.dumps({"files": [{"name": "password", "template": REFERENCES[0]}], "secrets": []})
        self._volume("dso", "--driver", self._name, "--opt", f"spec={spec}")
        self._volume("plain")
        write = ["sh", "-c", f"echo {VALUE} >/v/password"]
        self._engine.docker("run", "--rm", "-v", f"{self._name}-plain:/v", self._image, *write)
        for kind in ("dso", "plain"):
            name = f"{self._name}-{kind}"
            words = ["--name", name, "--network", "none", "-v", f"{name}:/v:ro", self._image, "cat", "/v/password"]
            self._engine.docker("create", *words)
            self._made.append(("container", name))

    def _volume(self, kind: str, *options: str) -> None:
        self._engine.docker("volume", "create", *options, f"{self._name}-{kind}")
        self._made.append(("volume", f"{self._name}-{kind}"))

    def _remove(self) -> None:
        for kind, name in reversed(self._made):
            self._engine.docker(kind, "rm", "-f", name, check=False)
        if self._agent is not None:
            self._agent.__exit__(None, None, None)
