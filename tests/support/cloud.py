"""Cloud Mode for a test: an agent whose volume driver this machine's Engine finds, and a user who uses it."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from dso import paths
from tests.support.agent import Agent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.support.home import DsoHome

PLUGINS = "/run/docker/plugins"  # where the Engine looks for drivers


class CloudAgent(Agent):
    """An agent with one provider `fake`, and a volume driver of a name of its own."""

    def __init__(
        self, secrets_of_provider: Mapping[str, Mapping[str, object]], rest: str = "", **settings: object
    ) -> None:
        """`rest` is what else stands in dso.yaml, `settings` the provider's own."""
        self.driver = f"dsotest{secrets.token_hex(4)}"
        os.makedirs(PLUGINS, exist_ok=True)
        super().__init__(volume_socket=f"{PLUGINS}/{self.driver}.sock")
        self.secrets = dict(secrets_of_provider)
        self.write_secrets(self.secrets)
        self.use_fake(rest, **settings)

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
