"""Deliver files to real containers without the command line: for tests of the keeper itself."""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING

from dso.delivery import keeper
from dso.delivery.connection import Target
from dso.delivery.engine import Engine as Client
from dso.delivery.plan import SecretFile, ServiceVolume, volume_name
from dso.secret import SecretValue

if TYPE_CHECKING:
    from typing import Protocol

    from tests.support.process import Result

    class DockerEngine(Protocol):
        """What tests.support.engine.Engine and PrivateEngine have in common."""

        def docker(self, *args: str, check: bool = True, input: bytes | None = None) -> Result: ...  # noqa: A002


MAC_KEY = bytes(range(32))
MOUNT = "/run/secrets/dso"


def files(service: str, **content: bytes) -> ServiceVolume:
    """A service's files by name, readable by everybody."""
    return volume(service, *(SecretFile(name, SecretValue(value), 0, 0, 0o444) for name, value in content.items()))


def volume(service: str, *entries: SecretFile) -> ServiceVolume:
    """A service's files."""
    return ServiceVolume(service, entries)


class Stack:
    """A project that has a name, labels and volumes, but no Compose file.

    Attributes:
        image: what containers run from.
        client: DSO's own client of the Engine at `socket`.
        vault_id: unique, so that nobody else's sweep takes this project's keeper.
    """

    def __init__(self, docker: DockerEngine, socket: str, image: str) -> None:
        self.name = f"dsotest{secrets.token_hex(4)}"
        self.vault_id = secrets.token_hex(8)
        self.client = Client(Target([], socket, f"unix://{socket}"))
        self._docker = docker
        self.image = image

    def docker(self, *args: str, check: bool = True, input: bytes | None = None) -> Result:  # noqa: A002
        """`docker ARGS` against the Engine."""
        return self._docker.docker(*args, check=check, input=input)

    def deliver(self, *volumes: ServiceVolume) -> None:
        """What `up` does before it runs Compose."""
        with keeper.in_use(self.client, self.name):
            keeper.deliver(self.client, self.name, volumes, vault_id=self.vault_id, mac_key=MAC_KEY)

    def release(self, *, remove_volumes: bool = False) -> bool:
        """What `down` does after Compose."""
        return keeper.release(self.client, self.name, remove_volumes=remove_volumes)

    def sweep(self) -> list[str]:
        """What every `up`, `down` and `status` does."""
        return keeper.sweep(self.client, vault_id=self.vault_id)

    def state(self) -> keeper.KeeperState | None:
        """What `status` knows of this project."""
        return next((state for state in keeper.states(self.client) if state.project == self.name), None)

    def flags(self, service: str) -> list[str]:
        """How Compose would start a container of a service: labels and mount; no network."""
        mount = f"type=volume,source={volume_name(self.name, service)},target={MOUNT},readonly,volume-nocopy"
        labels = [f"com.docker.compose.project={self.name}", f"com.docker.compose.service={service}"]
        return ["--network", "none", "--mount", mount, *(word for label in labels for word in ("--label", label))]

    def run(
        self, service: str, *command: str, detach: bool = True, image: str = "", options: list[str] | None = None
    ) -> str:
        """Start a container of a service; its id, or what it printed when not detached."""
        how = ["--detach", "--init"] if detach else ["--rm"]
        words = ["run", *how, *self.flags(service), *(options or []), image or self.image, *command]
        return self.docker(*words).out.strip()

    def read(self, service: str, *names: str) -> list[bytes]:
        """The files as a new container finds them."""
        mount = f"{volume_name(self.name, service)}:{MOUNT}:ro"
        found = []
        for name in names:
            shown = self.docker("run", "--rm", "--network", "none", "-v", mount, self.image, "cat", f"{MOUNT}/{name}")
            found.append(shown.stdout)
        return found

    def keepers(self, *, running: bool = False) -> list[str]:
        """Ids of the project's keepers."""
        flags = ["--filter", f"label=io.dso.project={self.name}", "--filter", "label=io.dso.role=keeper"]
        return self.docker("ps", "-q", "--no-trunc", *([] if running else ["--all"]), *flags).out.split()

    def volumes(self) -> list[str]:
        """Names of the project's volumes, sorted."""
        return sorted(self.docker("volume", "ls", "-q", "--filter", f"name=^{self.name}_dso").out.split())

    def remove(self) -> None:
        """Remove everything of the project, whatever state the test left it in."""
        self.client.close()
        for label in ("io.dso.project", "com.docker.compose.project"):
            for container in self.docker("ps", "-aq", "--filter", f"label={label}={self.name}").out.split():
                self.docker("rm", "-f", container, check=False)
        for name in self.volumes():
            self.docker("volume", "rm", name, check=False)


def sha256(content: bytes) -> str:
    """As the probe image and sha256sum show it."""
    return hashlib.sha256(content).hexdigest()
