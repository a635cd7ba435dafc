"""Cloud Mode for a test: an agent, its volume driver, and a user who uses it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from dso import paths
from tests.support.agent import Agent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.home import DsoHome
    from tests.support.private_engine import PrivateEngine

DRIVER = "dso"


class CloudAgent(Agent):
    """An agent with one provider `fake`, and a volume driver called `DRIVER`.

    `engine`, where an Engine is to find the driver, has to be one with plugins of its own.
    """

    def __init__(
        self,
        secrets_of_provider: Mapping[str, Mapping[str, object]],
        rest: str = "",
        *,
        engine: PrivateEngine | None = None,
        variant: str = "source",
        **settings: object,
    ) -> None:
        """`rest` is what else stands in dso.yaml, `settings` the provider's own; `variant` is the agent's."""
        super().__init__(variant=variant, volume_socket=f"{engine.plugins}/{DRIVER}.sock" if engine else None)
        if engine:
            self.runtime_dir = f"{engine.shared}/{os.path.basename(self.directory)}"
        self.secrets = dict(secrets_of_provider)
        self.write_secrets(self.secrets)
        self.use_fake(rest, agent=None, **settings)

    def serve(self, home: DsoHome) -> None:
        """Start it, and make everything this user runs use it, in Cloud Mode."""
        self.start()
        home.env.update({paths.SOCKET_VARIABLE: self.socket, paths.MODE_VARIABLE: "cloud"})

    def change(self, path: str, secret: Mapping[str, object]) -> None:
        """Give the provider another value for one secret, and have the agent fetch everything anew."""
        self.secrets[path] = secret
        self.write_secrets(self.secrets)
        self.refresh()

    def refresh(self) -> None:
        """Have everything fetched anew."""
        answer = self.request("POST", "/v1/reload")
        assert answer.status == 200, answer
