"""Which files Compose would read when no `-f` is given: giving one of our own switches its discovery off.

Source: docs.docker.com "How Compose works" (default names, override files, parent directories) and
"Pre-defined environment variables" (COMPOSE_FILE, COMPOSE_PATH_SEPARATOR, COMPOSE_ENV_FILES).
"""

from __future__ import annotations

import os
from typing import NamedTuple

from dso.paths import PRIVATE_VARIABLES
from dso.system.files import read_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dso.compose.command import ComposeCommand

_DEFAULT_NAMES = ("compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml")
_OVERRIDE_NAMES = (
    "compose.override.yml",
    "compose.override.yaml",
    "docker-compose.override.yml",
    "docker-compose.override.yaml",
)
_CHOOSING_VARIABLES = ("COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR")
STDIN = "-"
_MAX_ENV_FILE = 4 * 1024 * 1024  # as dso.config.dotenv, which most need not load


class ProjectFiles(NamedTuple):
    """The Compose files of a command line, and where they are.

    Attributes:
        flags: what makes Compose find, with one more `-f` behind them, what it finds without: its default files when
            the user gives none; with nothing but standard input, which counts as lying in the current directory, that
            directory.
        directories: those whose grants decide what the project may have, Compose's project directory first. There
            are several where files lie elsewhere and it is not the user who said so.
        remote: whether a file is taken from elsewhere than this machine's file system.
        words: the user's own flags that choose files.
        foreign: those of the directories that an env file brought in and that lie neither where the user is nor below:
            what is granted to one reaches other projects.
    """

    flags: tuple[str, ...]
    directories: tuple[str, ...]
    remote: bool = False
    words: tuple[str, ...] = ()
    foreign: tuple[str, ...] = ()


def find_files(command: ComposeCommand, environment: Mapping[str, str] = os.environ) -> ProjectFiles:
    """Find the Compose files by Compose's own rules.

    What the user types, and COMPOSE_FILE in the environment, is their word: only the project's directory counts.
    COMPOSE_FILE in an env file is the word of whoever wrote that. A strange project could name the file of one that
    has been granted more, and one of its own behind it; so the env file's directory counts and that of every file.

    Raises:
        EnvFileError: a `.env` file that may set COMPOSE_FILE is malformed.
        FileAccessError: it cannot be read.
    """
    given = command.global_values("-f", "--file")
    placed = command.global_values("--project-directory", "--workdir")
    start = _working_directory(command)
    words = tuple(word for pair in _choosing(command) for word in pair)
    if given:
        files = [path for path in given if path != STDIN]
        directory = start if placed or not files else os.path.dirname(os.path.abspath(files[0]))
        lone = () if files or placed else ("--project-directory", os.getcwd())
        return ProjectFiles(lone, (directory,), any(map(_is_remote, files)), words)
    found, sources = _from_variable(command, start, environment)
    lying = [*sources, *map(os.path.dirname, found)] if sources else []
    if not found:
        found = _discovered(start)
        lying = [os.path.dirname(path) for path in found]
    directory = start if placed or not found else os.path.dirname(found[0])
    flags = tuple(word for path in found for word in ("-f", path))
    directories = tuple(dict.fromkeys((directory, *lying))) if found else ()
    foreign = tuple(each for each in directories if not _is_below(each, start)) if sources else ()
    return ProjectFiles(flags, directories, words=words, foreign=foreign)


def _is_below(directory: str, top: str) -> bool:
    """Whether a directory is another one or below it, wherever symbolic links lead."""
    top = os.path.realpath(top)
    return os.path.commonpath((os.path.realpath(directory), top)) == top


def _choosing(command: ComposeCommand) -> Iterator[tuple[str, str]]:
    for flag, other in (("--file", "-f"), ("--project-directory", "--workdir"), ("--env-file", ""), ("--profile", "")):
        for value in command.global_values(flag, other):
            yield flag, value


def _is_remote(path: str) -> bool:
    """Whether Compose may take a word behind `-f` for something to fetch; what is no file here it would have to."""
    return path.startswith(("git@", "github.com/", "oci:")) or "://" in path or not os.path.lexists(path)


def reads_stdin(command: ComposeCommand) -> bool:
    """Whether one of the Compose files is standard input (`-f -`)."""
    return STDIN in command.global_values("-f", "--file")


def _working_directory(command: ComposeCommand) -> str:
    given = command.global_values("--project-directory", "--workdir")
    return os.path.abspath(given[-1]) if given else os.getcwd()


def _from_variable(
    command: ComposeCommand, directory: str, environment: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """The files COMPOSE_FILE names, and the directories of the env files that have a say in it, if any has."""
    sources: list[str] = []
    values = dict(environment)
    for path, found in _env_files(command, directory, environment):
        said = {name: value for name, value in found.items() if name in _CHOOSING_VARIABLES and name not in environment}
        if said:
            values.update(said)
            sources.append(os.path.dirname(os.path.abspath(path)))
    paths = values.get("COMPOSE_FILE", "")
    if not paths:
        return [], []
    separator = values.get("COMPOSE_PATH_SEPARATOR") or os.pathsep
    return [os.path.abspath(path) for path in paths.split(separator)], sources


def project_variables(command: ComposeCommand, environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The variables Compose interpolates with: those of the project's env files, and before them the environment's.

    Raises:
        EnvFileError, FileAccessError: an env file is malformed or cannot be read.
    """
    files = _env_files(command, _working_directory(command), environment, only_with=b"")
    values = {name: value for _, found in files for name, value in found.items()}
    return {**values, **_public(environment)}


def _public(environment: Mapping[str, str]) -> dict[str, str]:
    """What Compose gets of the environment, and files can take."""
    return {name: value for name, value in environment.items() if name not in PRIVATE_VARIABLES}


def _env_files(
    command: ComposeCommand, directory: str, environment: Mapping[str, str], *, only_with: bytes = b"COMPOSE_"
) -> list[tuple[str, dict[str, str]]]:
    """Those env files that contain `only_with`, with their variables: most need no parse."""
    files = command.global_values("--env-file")
    if not files and environment.get("COMPOSE_ENV_FILES"):
        files = environment["COMPOSE_ENV_FILES"].split(",")
    if not files and environment.get("COMPOSE_DISABLE_ENV_FILE", "").lower() not in ("1", "true"):
        default = os.path.join(directory, ".env")
        files = [default] if os.path.isfile(default) else []
    values: dict[str, str] = {}
    parsed = []

    def lookup(name: str) -> str | None:
        found = None if name in PRIVATE_VARIABLES else environment.get(name)
        return values.get(name) if found is None else found

    for path in files:
        content = read_file(path, "the env file", _MAX_ENV_FILE, pipes=True)
        if only_with in content:
            from dso.config.dotenv import decode, parse

            found = parse(decode(content), lookup=lookup, source=path)
            values.update(found)
            parsed.append((path, found))
    return parsed


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
