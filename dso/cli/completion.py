"""What could be typed next on a command line: commands, flags and their values, names."""

from __future__ import annotations

from dso.cli.commands import COMMANDS, COMPOSE_COMMANDS
from dso.cli.invocation import GLOBAL_FLAGS
from dso.cli.parser import GLOBAL_FLAGS as DESCRIBED_FLAGS
from dso.cli.parser import build_parser

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    Candidates = Iterable[tuple[str, str]]

# Directives (ShellCompDirective in cobra's completions.go): what the shell does besides offering the candidates.
FILES = 0  # offers files where there are no candidates
NO_SPACE = 2  # puts no space behind the one it chooses
NO_FILES = 4
DIRECTORIES = 16  # offers directories
KEEP_ORDER = 32

_PLAIN = frozenset("_-./:=@,+%")  # besides letters and digits, what no shell reads as anything but itself


class Answer:
    """Candidates, each with a description or "", and the directive."""

    __slots__ = ("candidates", "directive")

    def __init__(self, candidates: Candidates, directive: int = NO_FILES) -> None:
        self.candidates = list(candidates)
        self.directive = directive

    def beginning_with(self, text: str) -> Answer:
        """Only the candidates that begin so."""
        return Answer([found for found in self.candidates if found[0].startswith(text)], self.directive)

    def lines(self, *, with_descriptions: bool) -> list[str]:
        """As the shell's script reads it.

        What has blanks, or characters that mean something to a shell, is left out. No name of ours has them; what
        Compose finds in a file of a stranger's may (a profile), and not every script quotes what it puts on the line.
        """
        lines = [
            f"{value}\t{description}" if description and with_descriptions else value
            for value, description in self.candidates
            if all(each.isalnum() or each in _PLAIN for each in value) and description.isprintable()
        ]
        return [*lines, f":{self.directive}"]


NOTHING = Answer(())


class Line:
    """What was typed before the word at the cursor, as far as completion needs it.

    `command` is the first word that is no flag, `positionals` those behind it (of a group, behind its command),
    `mode` and `config` the values of DSO's own flags.
    """

    __slots__ = ("command", "config", "mode", "positionals")

    def __init__(self) -> None:
        self.command = ""
        self.mode: str | None = None
        self.config: str | None = None
        self.positionals: list[str] = []

    def take(self, flag: str, value: str) -> None:
        """Remember the value of a flag that any command takes."""
        if flag == "--mode":
            self.mode = value
        elif flag in ("-c", "--config"):
            self.config = value


def answer(words: Sequence[str], current: str) -> Answer:
    """What `current`, the word at the cursor, could become.

    Args:
        words: those between `docker dso` and the cursor.
        current: the word at the cursor, as far as it is typed.

    Raises:
        DsoError, OSError: what is asked for candidates fails; there is nothing to offer then.
    """
    line = Line()
    index = 0
    while index < len(words) and words[index].startswith("-"):
        flag, equals, value = words[index].partition("=")
        takes_value = flag in GLOBAL_FLAGS and flag != "--debug" and not equals
        if takes_value and index + 1 == len(words):
            return value_of_global(flag, current)
        index += 1
        if takes_value:
            value = words[index]
            index += 1
        line.take(flag, value)
    if index == len(words):
        return _at_command(current)
    return _behind(words[index], words[index + 1 :], current, line)


def _at_command(current: str) -> Answer:
    flag, equals, value = current.partition("=")
    if equals and flag in GLOBAL_FLAGS:
        return value_of_global(flag, value)
    if current.startswith("-"):
        more = (("--help", "show the commands"), ("--version", "show the version"))
        return Answer((*global_flags(), *more)).beginning_with(current)
    return Answer(commands_of(build_parser())).beginning_with(current)


def _behind(command: str, words: Sequence[str], current: str, line: Line) -> Answer:
    if command == "help":
        return NOTHING if words else Answer(commands_of(build_parser())).beginning_with(current)
    if command not in COMMANDS:
        return NOTHING
    line.command = command
    parser = subcommands(build_parser(only=command))[command]
    if command in COMPOSE_COMMANDS:
        from dso.cli.completion_compose import answer_as_compose

        return answer_as_compose(command, parser, words, current)
    from dso.cli.completion_words import answer_of

    return answer_of(parser, words, current, line)


def value_of_global(flag: str, value: str) -> Answer:
    """The values of a flag that every command takes."""
    if flag == "--mode":
        return Answer([("local", "the vault of this user"), ("cloud", "the agent")]).beginning_with(value)
    return Answer((), FILES if flag != "--debug" else NO_FILES)


def global_flags() -> list[tuple[str, str]]:
    """The flags every command takes, under their long names."""
    return [(written.split(", ")[-1].split(" ", maxsplit=1)[0], text) for written, text in DESCRIBED_FLAGS]


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of a parser's commands by name; none when it has none."""
    for action in parser._actions:  # noqa: SLF001  # argparse has no public name for it
        if isinstance(action.choices, dict):
            return action.choices
    return {}


def commands_of(parser: argparse.ArgumentParser) -> list[tuple[str, str]]:
    """The commands of a parser, with what its help says of each."""
    for action in parser._actions:  # noqa: SLF001
        if isinstance(action.choices, dict):
            described = action._get_subactions()  # type: ignore[attr-defined]  # noqa: SLF001
            return [(one.dest, one.help or "") for one in described]
    return []
