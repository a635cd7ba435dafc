"""Compose without the detour: the plugin's own program, started as Docker starts it.

`docker compose ...` first starts Docker, which asks the plugin for its metadata and then runs it:
two more Go programs' start-ups. See docs/decisions/0006-config-straight-from-the-plugin.md.
"""

from __future__ import annotations

import os

from dso import paths
from dso.errors import DockerNotFoundError, FileAccessError
from dso.system.files import read_file
from dso.system.proc import attach, child_environment, start

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from dso.system.proc import Running

# What tells a plugin that Docker runs it, with the command Docker was started by as its value.
_STARTED_BY = "DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND"
_PROGRAM = "docker-compose"
SYSTEM_DIRECTORIES = (  # in Docker's order: defaultSystemPluginDirs in cli-plugins/manager of docker/cli
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)
# Settings in config.json that only Docker can judge. Releases differ in whether extra directories come
# before or after the user's own. Go ignores the case of keys, and JSON may spell any letter as \uXXXX.
_DOUBTFUL = (b"aliases", b"clipluginsextradirs", b"\\u")
_MAX_CONFIG = 4 * 1024 * 1024


class Compose:
    """What `docker compose` runs: which program, and in which environment.

    Compose puts variables into files, and Docker gives its plugins some of its own. So what a reading
    says holds for what is run with the same `Compose`, and for nothing else.
    """

    __slots__ = ("_docker", "_plugin", "_variables")

    def __init__(self, docker: Sequence[str], variables: Mapping[str, str] | None = None) -> None:
        """Find the plugin's program; it is left to Docker where that is not certain.

        Args:
            docker: `docker` and its global flags.
            variables: those besides the user's own.
        """
        self._docker = docker
        self._variables = variables or {}
        self._plugin = find_plugin(docker[1:])

    def start(self, words: Sequence[str], *, stdin: int | None = None) -> Running:
        """Start what `docker compose <words>` would run, for its output; nothing is attached to a terminal.

        `stdin` is a descriptor for standard input that can be rewound; nothing to read by default.

        Should the plugin fail, `docker compose` is run after all, now and from then on: what it prints
        is what counts, as the plugin's own words do not tell a broken or foreign plugin from a broken
        Compose file.

        Raises:
            DockerNotFoundError: there is no `docker`.
        """

        def through_docker() -> Running:
            self._plugin = None
            if stdin is not None:
                os.lseek(stdin, 0, os.SEEK_SET)
            return start(self._command(words), environment=self._environment(), stdin=stdin)

        if self._plugin is None:
            return through_docker()
        try:
            return start(self._command(words), environment=self._environment(), stdin=stdin, otherwise=through_docker)
        except (OSError, DockerNotFoundError):  # not a program, or its interpreter is missing
            return through_docker()

    def attach(self, words: Sequence[str], *, stdin: int | None = None) -> int:
        """Run it on our own terminal and streams, and return its exit code; DockerNotFoundError."""
        command, environment = self._command(words), self._environment()
        return attach(command, environment=environment, stdin=stdin, runs_another=self._plugin is None)

    def _command(self, words: Sequence[str]) -> list[str]:
        command, *flags = self._docker
        return [self._plugin or command, *flags, "compose", *words]

    def _environment(self) -> dict[str, str]:
        started_by = {_STARTED_BY: self._docker[0]} if self._plugin else {}
        return child_environment({**self._variables, **started_by})


def start_completion(words: Sequence[str]) -> Running:
    """Start what answers the shell's question for `docker compose <words>`, the last being the one at the cursor.

    Asked for completion, Docker hands on none of its flags, and calls the plugin the command it was started by.

    Raises:
        DockerNotFoundError: there is no `docker`.
    """
    request = ["__complete", "compose", *words]
    plugin = find_plugin(())
    if plugin is not None:
        try:
            return start([plugin, *request], environment=child_environment({_STARTED_BY: "docker"}))
        except (OSError, DockerNotFoundError):  # as above
            pass
    return start(["docker", *request])


def find_plugin(flags: Sequence[str]) -> str | None:
    """The program that Docker with these global flags runs for `compose`; None when that is not certain.

    It is only certain if Docker has started us as a plugin: what is called `docker` may be anything.
    """
    if not os.environ.get(_STARTED_BY):
        return None
    directory = _config_directory(flags)
    if _leaves_doubt(directory + "/config.json"):
        return None
    for candidate in (directory + "/cli-plugins", *SYSTEM_DIRECTORIES):
        path = f"{candidate}/{_PROGRAM}"
        try:
            os.stat(path)
        except FileNotFoundError:
            continue
        except OSError:
            return None
        # Docker takes the first that exists, and looks no further if it cannot be run.
        return path if os.path.isfile(path) and os.access(path, os.X_OK) else None
    return None


def _config_directory(flags: Sequence[str]) -> str:
    found = ""
    for position, flag in enumerate(flags):
        name, equals, value = flag.partition("=")
        if name == "--config":
            found = value if equals else "".join(flags[position + 1 : position + 2])
    return found or os.environ.get("DOCKER_CONFIG") or paths.home() + "/.docker"


def _leaves_doubt(config: str) -> bool:
    try:
        text = read_file(config, "Docker's configuration", _MAX_CONFIG).lower()
    except FileAccessError as error:
        return not isinstance(error.__cause__, FileNotFoundError)
    return any(setting in text for setting in _DOUBTFUL)
