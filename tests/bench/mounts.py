"""What a volume of the agent's adds to the start of a container.

On an Engine of the benchmark's own: every Engine asks each driver that it ever saw, until it is started anew, so that a
driver which has gone would slow down the machine's.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from tests.bench.agent import REFERENCES, VALUE, started
from tests.bench.measure import Case
from tests.support.private_engine import PrivateEngine
from tests.support.process import environment

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from tests.support.agent import Agent

DRIVER = "dsobench"
KINDS = ("dso", "plain")


class Containers:
    """Two containers that end at once, one with a volume of the agent's and one with an ordinary one.

    Use it in a `with`. Needs root.
    """

    def __init__(self, image: str) -> None:
        self._image = image
        self._engine = PrivateEngine(own_plugins=True)
        self._agent: Agent | None = None

    def cases(self, docker: str) -> list[Case]:
        """Starting each of them, to its end; both read a file, from the volume."""

        def case(kind: str, label: str) -> Case:
            words = (docker, "-H", self._engine.host, "start", "-a", kind)
            return Case(f"start-{kind}", f"`docker start -a`, {label}", words, environment(), "/", VALUE.encode())

        return [case("dso", "a secret in a volume of the agent's"), case("plain", "a file in an ordinary volume")]

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
        engine = self._engine
        engine.start()
        engine.load(self._image)
        socket = os.path.join(engine.plugins, f"{DRIVER}.sock")
        self._agent = started(volume_socket=socket, runtime_dir=os.path.join(engine.shared, "run"))
        spec = json.dumps({"files": [{"name": "password", "template": REFERENCES[0]}], "secrets": []})
        engine.docker("volume", "create", "--driver", DRIVER, "--opt", f"spec={spec}", "dso")
        engine.docker("volume", "create", "plain")
        write = ["sh", "-c", f"printf %s {VALUE} >/v/password"]
        engine.docker("run", "--rm", "--network", "none", "-v", "plain:/v", self._image, *write)
        for name in KINDS:
            words = ["--name", name, "--network", "none", "-v", f"{name}:/v:ro", self._image, "cat", "/v/password"]
            engine.docker("create", *words)

    def _remove(self) -> None:
        for name in KINDS:
            self._engine.docker("rm", "-f", name, check=False)
            self._engine.docker("volume", "rm", name, check=False)
        if self._agent is not None:
            self._agent.__exit__(None, None, None)
        self._engine.__exit__(None, None, None)
