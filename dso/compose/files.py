"""Which files Compose would read when no `-f` is given: giving one of our own switches its discovery off.

Source: docs.docker.com "How Compose works" (default names, override files, parent directories) and
"Pre-defined environment variables" (COMPOSE_FILE, COMPOSE_PATH_SEPARATOR, COMPOSE_ENV_FILES).
"""

from __future__ import annotations

import os

from dso.paths import PRIVATE_VARIABLES
from dso.system.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from dso.compose.command import ComposeCommand

_DEFAULT_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDE_NAMES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
STDIN = "-"
_MAX_ENV_FILE = 4 * 1024 * 1024  # as dso.config.dotenv, which most need not load


def file_flags(command: ComposeCommand, environment: Mapping[str, str] = os.environ) -> list[str]:
    """The flags that make Compose find, with one more `-f` behind them, what it finds without.

    Those are its default files when the user gives none. With nothing but standard input, which
    counts as lying in the current directory, that directory has to be said.

    Raises:
        EnvFileError: a `.env` file that may set COMPOSE_FILE is malformed.
        FileAccessError: it cannot be read.
    """
    given = command.global_values("-f", "--file")
    if given:
        placed = set(given) != {STDIN} or command.global_values("--project-directory", "--workdir")
        return [] if placed else ["--project-directory", os.getcwd()]
    directory = _working_directory(command)
    found = _from_variable(command, directory, environment) or _discovered(directory)
    return [word for path in found for word in ("-f", path)]


def reads_stdin(command: ComposeCommand) -> bool:
    """Whether one of the Compose files is standard input (`-f -`)."""
    return STDIN in command.global_values("-f", "--file")


def _working_directory(command: ComposeCommand) -> str:
    given = command.global_values("--project-directory", "--workdir")
    return os.path.abspath(given[-1]) if given else os.getcwd()


def _from_variable(command: ComposeCommand, directory: str, environment: Mapping[str, str]) -> list[str]:
    """COMPOSE_FILE, from the environment or else from the project's env files."""
    values = {**_env_file_values(command, directory, environment), **environment}
    paths = values.get("COMPOSE_FILE", "")
    if not paths:
        return []
    separator = values.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return [os.path.abspath(path) for path in paths.split(separator)]


def project_variables(command: ComposeCommand, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables Compose interpolates with: those of the project's env files, and before them the environment's.

    Raises:
        EnvFileError, FileAccessError: an env file is malformed or cannot be read.
    """
    return {
        **_env_file_values(command, _working_directory(command), environment, only_with=b""),
        **_public(environment),
    }


def _public(environment: Mapping[str, str]) -> dict[str, str]:
    """What Compose gets of the environment, and files can take."""
    return {name: value for name, value in environment.items() if name not in PRIVATE_VARIABLES}


def _env_file_values(
    command: ComposeCommand, directory: str, environment: Mapping[str, str], *, only_with: bytes = b"COMPOSE_"
) -> dict[str, str]:
    """The variables of those env files that contain `only_with`: most need no parse."""
    files = command.global_values("--env-file")
    if not files and environment.get("COMPOSE_ENV_FILES"):
        files = environment["COMPOSE_ENV_FILES"].split(",")
    if not files and environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() not in ("1", "true"):
        default = os.path.join(directory, ".env")
        files = [default] if os.path.isfile(default) else []
    values: dict[str, str] = {}

    def lookup(name: str) -> str | None:
        found = None if name in PRIVATE_VARIABLES else environment.get(name)
        return values.get(name) if found is None else found

    for path in files:
        content = read_file(path, "the env file", _MAX_ENV_FILE, pipes=True)
        if only_with in content:
            from dso.config.dotenv import decode, parse

            values.update(parse(decode(content), lookup=lookup, source=path))
    return values


def _discovered(directory: str) -> list[str]:
    """The first default name in this directory or the nearest parent, and its override file."""
    while True:
        names = [name for name in _DEFAULT_NAMES if os.path.exists(os.path.join(directory, name))]
        if names:
            overrides = [name for name in _OVERRIDE_NAMES if os.path.exists(os.path.join(directory, name))]
            return [os.path.join(directory, name) for name in (*names[:1], *overrides[:1])]
        parent = os.path.dirname(directory)
        if parent == directory:
            return []
        directory = parent
