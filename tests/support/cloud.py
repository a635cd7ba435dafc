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


def new_driver() -> str:
    """A driver's name that no other test has."""
    return f"dsotest{secrets.token_hex(4)}"


class CloudAgent(Agent):
    """An agent with one provider `fake`, and a volume driver called `driver`.

    An Engine asks every driver it has ever used for its volumes, and waits 15 seconds for one that is
    gone. So whoever lets an Engine use the driver takes a PrivateEngine, and one name for all its agents.
    """

    def __init__(
        self,
        secrets_of_provider: Mapping[str, Mapping[str, object]],
        rest: str = "",
        *,
        driver: str | None = None,
        variant: str = "source",
        **settings: object,
    ) -> None:
        """`rest` is what else stands in dso.yaml, `settings` the provider's own."""
        self.driver = driver or new_driver()
        os.makedirs(PLUGINS, exist_ok=True)
        super().__init__(variant=variant, volume_socket=f"{PLUGINS}/{self.driver}.sock")
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
