"""The words of a `docker compose` command line: what is global, what is the command's, which services it names."""

from __future__ import annotations

from dso.compose import flags
from dso.errors import UsageError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class ComposeCommand:
    """One `docker compose` command line, taken apart and able to be put together again.

    Attributes:
        globals: Compose's global flags and their values, in the order given.
        name: the subcommand, or "" when there is none (`docker dso compose --version`).
        arguments: every word after the subcommand that is Compose's, unchanged and in order.
        services: the services it names; for `run` the one it runs.
        container_words: how many of the arguments, at their end, are the container's own (`run`).
        no_deps: whether services it depends on stay as they are.
        asks_for_help: whether it only wants Compose's help.
    """

    __slots__ = ("arguments", "asks_for_help", "container_words", "globals", "name", "no_deps", "services")

    def __init__(
        self,
        name: str,
        globals_: Sequence[str],
        arguments: Sequence[str],
        services: Sequence[str],
        *,
        switches: Sequence[str] = (),
        container_words: int = 0,
    ) -> None:
        """Keep the parts; `switches` are the flags among the arguments that are Compose's and take no value."""
        self.name = name
        self.globals = tuple(globals_)
        self.arguments = tuple(arguments)
        self.services = tuple(services)
        self.container_words = container_words
        self.no_deps = any(_switches_on(word, "--no-deps") for word in switches)
        self.asks_for_help = any(word == "-h" or _switches_on(word, "--help") for word in switches)

    def global_values(self, *names: str) -> list[str]:
        """Every value given for a global flag, under any of its names."""
        return flag_values(self.globals, names)

    def words(self, *extra_globals: str) -> list[str]:
        """The command line after `docker compose`, with more global flags put in."""
        return [*self.globals, *extra_globals, *([self.name] if self.name else []), *self.arguments]

    @property
    def own_arguments(self) -> tuple[str, ...]:
        """The arguments without the container's own words."""
        return self.arguments[: len(self.arguments) - self.container_words]

    @property
    def brings_up(self) -> bool:
        """Whether this command creates or starts containers, which then need their secrets."""
        return self.name in flags.VALUES and not self.asks_for_help

    @property
    def may_end_project(self) -> bool:
        """Whether the project may have no running container afterwards, though this command starts none."""
        return self.name in flags.ENDING and not self.asks_for_help


def _switches_on(word: str, flag: str) -> bool:
    """Whether a word sets a boolean flag, by the values Go's strconv.ParseBool takes for true."""
    name, equals, value = word.partition("=")
    return name == flag and (not equals or value in ("1", "t", "T", "true", "TRUE", "True"))


def flag_values(words: Sequence[str], names: Sequence[str]) -> list[str]:
    """The values of a flag among words that are all flags: `-f x`, `-fx`, `-f=x`, `--file x` and `--file=x`."""
    values: list[str] = []
    index = 0
    while index < len(words):
        flag, equals, value = words[index].partition("=")
        short = words[index][:2]
        if flag in names:
            values.append(value if equals else words[index + 1])
            index += 1 if equals else 2
            continue
        if short in names and not words[index].startswith("--"):
            values.append(words[index][2:])
        elif flag in flags.GLOBAL_VALUES and not equals:
            index += 1
        index += 1
    return values


class _Words:
    """A cursor over the words, and what was found on the way."""

    def __init__(self, words: Sequence[str], take_own: Callable[[Sequence[str], int], int]) -> None:
        self.words = list(words)
        self.index = 0
        self.take_own = take_own

    def more(self) -> bool:
        return self.index < len(self.words)

    def peek(self) -> str:
        return self.words[self.index]

    def skip_own(self) -> bool:
        taken = self.take_own(self.words, self.index)
        self.index += taken
        return bool(taken)

    def flag(self, *, takes_value: bool) -> list[str]:
        """The flag at the cursor with its value, if that is a word of its own."""
        word = self.peek()
        count = 2 if takes_value and "=" not in word else 1
        found = self.words[self.index : self.index + count]
        if len(found) < count:
            raise UsageError(f"flag {word!r} needs a value")
        self.index += count
        return found


def parse_command(
    words: Sequence[str],
    take_own: Callable[[Sequence[str], int], int],
    *,
    name: str | None = None,
    describe: Callable[[str], str] = lambda _command: "",
) -> ComposeCommand:
    """Take apart what follows `docker dso compose`, or, with `name`, what follows `docker dso up`.

    Compose wants its global flags before the subcommand. `up` and `down`, whose own flags clash
    with none of them, take them behind as well, in any order.

    Args:
        words: the words.
        take_own: called where DSO's own flags may stand; returns how many words it took.
        name: the subcommand, when it is not among the words.
        describe: returns Compose's `--help` of a subcommand, asked for flags the tables do not know.

    Raises:
        UsageError: a flag lacks its value.
    """
    cursor = _Words(words, take_own)
    global_words: list[str] = []
    if name is None:
        global_words = _leading_globals(cursor)
        name = cursor.words[cursor.index] if cursor.more() else ""
        cursor.index += 1
    if name not in flags.VALUES and name not in flags.ENDING:
        return ComposeCommand(name, global_words, cursor.words[cursor.index :], ())
    return _own_words(cursor, name, global_words, describe)


def _leading_globals(cursor: _Words) -> list[str]:
    found: list[str] = []
    while cursor.more() and cursor.peek().startswith("-") and cursor.peek() != "-":
        if not cursor.skip_own():
            found += cursor.flag(takes_value=_takes_value(cursor.peek(), flags.GLOBAL_VALUES))
    return found


def _own_words(cursor: _Words, name: str, global_words: list[str], describe: Callable[[str], str]) -> ComposeCommand:
    """Read the subcommand's words; global flags among them go to `global_words`."""
    values = flags.VALUES.get(name, flags.ENDING.get(name, frozenset()))
    hoisted = name in ("up", "down")
    arguments: list[str] = []
    services: list[str] = []
    switches: list[str] = []
    while cursor.more():
        word = cursor.peek()
        if word == "--" or not word.startswith("-") or word == "-":
            rest = cursor.words[cursor.index + (word == "--") :]
            if name == "run":  # everything behind the service is the container's
                arguments += cursor.words[cursor.index :]
                container_words = max(len(rest) - 1, 0)
                return ComposeCommand(
                    name, global_words, arguments, rest[:1], switches=switches, container_words=container_words
                )
            if word == "--":
                arguments += cursor.words[cursor.index :]
                services += rest
                break
            arguments.append(word)
            services.append(word.partition("=")[0] if name == "scale" else word)
            cursor.index += 1
        elif cursor.skip_own():
            continue
        elif hoisted and _is_global(word, values | flags.SWITCHES.get(name, frozenset())):
            global_words += cursor.flag(takes_value=_takes_value(word, flags.GLOBAL_VALUES))
        else:
            found = cursor.flag(takes_value=_takes_value_in(name, word, values, describe))
            arguments += found
            switches += found if len(found) == 1 else []
    return ComposeCommand(name, global_words, arguments, services, switches=switches)


def _is_global(word: str, own: frozenset[str]) -> bool:
    """Whether a flag behind `up` or `down` is one of Compose's global flags, and none of the subcommand's."""
    flag = _flag_of(word)
    return flag not in own and (flag in flags.GLOBAL_VALUES or flag in flags.GLOBAL_ANYWHERE)


def _flag_of(word: str) -> str:
    """`--file=x` -> `--file`, `-fx` -> `-f`."""
    return word.partition("=")[0] if word.startswith("--") else word[:2]


def _takes_value(word: str, values: frozenset[str]) -> bool:
    """Whether the flag's value is the next word."""
    if word.startswith("--"):
        return word in values
    # Short flags can stand together (`-dt 5`): the first that takes a value ends the cluster.
    for position in range(1, len(word)):
        if "-" + word[position] in values:
            return position == len(word) - 1
    return False


def _takes_value_in(name: str, word: str, values: frozenset[str], describe: Callable[[str], str]) -> bool:
    """The same for a subcommand's flag; what the tables do not know is looked up in Compose's `--help`."""
    flag = word.partition("=")[0]
    switches = flags.SWITCHES.get(name, frozenset()) | flags.GLOBAL_SWITCHES
    if "=" in word or not word.startswith("--") or flag in values or flag in switches:
        return _takes_value(word, values)
    return _help_shows_value(describe(name), flag)


def _help_shows_value(help_text: str, flag: str) -> bool:
    """Whether a `--help` page lists the flag with a type (`--timeout int   Use ...`)."""
    for line in help_text.splitlines():
        before, found, after = line.partition(flag)
        if found and before.strip() in ("", "-" + before.strip()[1:2] + ",") and after[:1] == " ":
            return not after.startswith("  ") and bool(after.strip())
    return False
