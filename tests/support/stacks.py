"""Small stacks that start and stop at once, and what tests ask about them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.support.home import DsoHome
    from tests.support.project import Project

BUSYBOX = "image: dso-test/busybox\n    stop_signal: SIGKILL"
SLEEP = f"{BUSYBOX}\n    command: sleep 100000"
FILES = "/run/secrets/dso"


def store(home: DsoHome, **values: bytes | str) -> None:
    """Store secrets in namespace `v`, to the byte; the vault is made first if there is none."""
    home.dso("init")
    for name, value in values.items():
        home.dso("secret", "set", f"v/{name}", "--raw", input=value)


def services(**parts: str) -> str:
    """A Compose file of services: each its keys, indented by four; `services(api=f"{SLEEP}\\n    user: app")`."""
    return "services:\n" + "".join(f"  {name}:\n    {body}\n" for name, body in parts.items())


def variable(name: str, reference: str) -> str:
    """One variable as a service's whole `environment:`."""
    return f'\n    environment: {{{name}: "{reference}"}}'


def containers(project: Project) -> dict[str, str]:
    """Service -> id of its only container."""
    listed = project.engine.docker(
        "ps",
        "-a",
        "--no-trunc",
        "--filter",
        f"label=com.docker.compose.project={project.name}",
        "--format",
        '{{.Label "com.docker.compose.service"}} {{.ID}}',
    )
    return dict(line.split(" ") for line in listed.out.splitlines())
