"""What the command line says before the command itself is looked at."""

from __future__ import annotations

from dso.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

PLUGIN_NAME = "dso"

# Docker's own global flags, which precede the plugin's name (`docker -c prod dso up`).
_DOCKER_VALUE_FLAGS = frozenset(
    {"--config", "-c", "--context", "-H", "--host", "-l", "--log-level", "--tlscacert", "--tlscert", "--tlskey"}
)
_MODES = ("local", "cloud")


class Options:
    """DSO's own flags, which any command may carry.

    `mode` is "local", "cloud" or None; `config` the path after -c/--config or None.
    """

    __slots__ = ("config", "debug", "dry_run", "format", "mode")

    def __init__(self) -> None:
        self.mode: str | None = None
        self.config: str | None = None
        self.debug = False
        self.dry_run = False
        self.format = "table"

    def take(self, words: Sequence[str], index: int, *, accepted: frozenset[str]) -> int:
        """Read the flag at words[index] if it is one of `accepted`; returns how many words it took (0: not ours).

        Raises:
            UsageError: its value is missing or makes no sense.
        """
        flag, equals, value = words[index].partition("=")
        if flag not in accepted:
            return 0
        if flag in ("--debug", "--dry-run"):
            if equals and value not in ("true", "false"):
                raise UsageError(f"{flag} takes no value")
            setattr(self, flag[2:].replace("-", "_"), value != "false")
            return 1
        if not equals:
            if index + 1 >= len(words):
                raise UsageError(f"{flag} needs a value")
            value = words[index + 1]
        if flag == "--mode":
            self.mode = _one_of("--mode", value, _MODES)
        elif flag == "--format":
            self.format = _one_of("--format", value, ("table", "json"))
        else:
            self.config = value
        return 1 if equals else 2


GLOBAL_FLAGS = frozenset({"--mode", "-c", "--config", "--debug"})


class Invocation:
    """One call of DSO: Docker's global flags, DSO's, the command and the words after it."""

    __slots__ = ("command", "docker_args", "options", "words")

    def __init__(self, docker_args: list[str], options: Options, command: str, words: list[str]) -> None:
        self.docker_args = docker_args
        self.options = options
        self.command = command
        self.words = words


def parse_invocation(argv: Sequence[str]) -> Invocation:
    """Split `argv` (without the program's name).

    Docker hands a plugin the full line, its own global flags and the plugin's name included;
    standalone (`docker-dso up`) both are missing.

    Raises:
        UsageError: an unknown flag before the command, or a flag without its value.
    """
    docker_args, words = _split_at_plugin_name(list(argv))
    options = Options()
    index = 0
    while index < len(words) and words[index].startswith("-"):
        if words[index] in ("-h", "--help"):
            return Invocation(docker_args, options, "help", words[index + 1 :])
        if words[index] in ("-v", "--version"):
            return Invocation(docker_args, options, "version", words[index + 1 :])
        taken = options.take(words, index, accepted=GLOBAL_FLAGS)
        if not taken:
            hint = "see `docker dso --help`; Compose's flags go behind the command"
            raise UsageError(f"unknown flag {words[index]!r}", hint=hint)
        index += taken
    command = words[index] if index < len(words) else "help"
    return Invocation(docker_args, options, command, words[index + 1 :])


def _split_at_plugin_name(argv: list[str]) -> tuple[list[str], list[str]]:
    index = 0
    while index < len(argv) and argv[index].startswith("-"):
        index += 2 if argv[index] in _DOCKER_VALUE_FLAGS else 1
    if index < len(argv) and argv[index] == PLUGIN_NAME:
        return argv[:index], argv[index + 1 :]
    return [], argv


def _one_of(flag: str, value: str, allowed: tuple[str, ...]) -> str:
    if value not in allowed:
        raise UsageError(f"{flag} takes {' or '.join(allowed)}, not {value!r}")
    return value
