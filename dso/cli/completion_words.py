"""Completion of the words of a command that argparse parses, read from its parser."""

from __future__ import annotations

from dso.cli.completion import (
    DIRECTORIES,
    FILES,
    NOTHING,
    Answer,
    commands_of,
    global_flags,
    subcommands,
    value_of_global,
)
from dso.cli.invocation import GLOBAL_FLAGS

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dso.cli.completion import Line

_OF_FILES = {"FILE", "PATH", "RELEASE", "SOCKET"}


def answer_of(parser: argparse.ArgumentParser, words: Sequence[str], current: str, line: Line) -> Answer:
    """What the word at the cursor could become; `words` are those between the command and it."""
    reading = _Reading(parser, line)
    for word in words:
        reading.take(word)
    return reading.answer(current)


class _Reading:
    """The words read so far: which command it is by now, which flags it has, what comes next."""

    def __init__(self, parser: argparse.ArgumentParser, line: Line) -> None:
        self._parser: argparse.ArgumentParser | None = parser
        self._line = line
        self._given: list[argparse.Action] = []
        self._waiting: argparse.Action | str | None = None  # a flag whose value is the next word
        self._only_words = False  # behind `--`

    def take(self, word: str) -> None:
        """Read a word that stands before the cursor."""
        if self._waiting is not None:
            if isinstance(self._waiting, str):
                self._line.take(self._waiting, word)
            self._waiting = None
        elif word == "--" and not self._only_words:
            self._only_words = True
        elif word.startswith("-") and word != "-" and not self._only_words:
            self._take_flag(word)
        else:
            self._take_positional(word)

    def _take_flag(self, word: str) -> None:
        flag, equals, value = word.partition("=")
        if flag in GLOBAL_FLAGS:
            if equals:
                self._line.take(flag, value)
            elif flag != "--debug":
                self._waiting = flag
            return
        letters = [flag] if flag.startswith("--") else [f"-{letter}" for letter in flag[1:]]
        for position, letter in enumerate(letters, 1):
            action = self._options().get(letter)
            if action is None:
                return
            self._given.append(action)
            if action.nargs is None:  # it takes a value: the rest of the word, else the next one
                self._waiting = action if position == len(letters) and not equals else None
                return

    def _take_positional(self, word: str) -> None:
        below = subcommands(self._parser) if self._parser else {}
        if below:
            self._parser = below.get(word)
        else:
            self._line.positionals.append(word)

    def answer(self, current: str) -> Answer:
        """What the word at the cursor could become."""
        if self._parser is None:
            return NOTHING
        if self._waiting is not None:
            return self._value(self._waiting, current)
        if current.startswith("-") and not self._only_words:
            flag, equals, value = current.partition("=")
            if not equals:
                return Answer((*self._flags(), *global_flags())).beginning_with(current)
            known = flag if flag in GLOBAL_FLAGS else self._options().get(flag)
            return self._value(known, value) if known else NOTHING
        if subcommands(self._parser):
            return Answer(commands_of(self._parser)).beginning_with(current)
        action = self._next_positional()
        return self._value(action, current) if action else NOTHING

    def _options(self) -> dict[str, argparse.Action]:
        return self._parser._option_string_actions if self._parser else {}  # noqa: SLF001  # no public name

    def _flags(self) -> list[tuple[str, str]]:
        """The flags that may still come, each under its long name."""
        parser = self._parser
        if parser is None:
            return []
        excluded = set(self._given)
        for group in parser._mutually_exclusive_groups:  # noqa: SLF001
            if excluded & set(group._group_actions):  # noqa: SLF001
                excluded |= set(group._group_actions)  # noqa: SLF001
        repeatable = {action for action in excluded if type(action).__name__ == "_AppendAction"}
        offered = [one for one in parser._actions if one.option_strings and one not in excluded - repeatable]  # noqa: SLF001
        return [
            (name, (action.help or "") % vars(action))
            for action in offered
            if action.help != "==SUPPRESS=="
            for name in _long_names(action)
        ]

    def _next_positional(self) -> argparse.Action | None:
        """The argument that a further word is for."""
        parser = self._parser
        positionals = [one for one in parser._actions if not one.option_strings] if parser else []  # noqa: SLF001
        position = len(self._line.positionals)
        if positionals and positionals[-1].nargs in ("*", "+"):
            position = min(position, len(positionals) - 1)
        return positionals[position] if position < len(positionals) else None

    def _value(self, action: argparse.Action | str, current: str) -> Answer:
        if isinstance(action, str):
            return value_of_global(action, current)
        if action.choices is not None:
            return Answer([(str(choice), "") for choice in action.choices]).beginning_with(current)
        return _named(str(action.metavar), self._line, current)


def _long_names(action: argparse.Action) -> list[str]:
    long = [name for name in action.option_strings if name.startswith("--")]
    return long or list(action.option_strings[:1])


def _named(metavar: str, line: Line, current: str) -> Answer:
    """What stands for an argument with this name in the help."""
    kinds = set(metavar.split("|"))
    if kinds & _OF_FILES:
        return Answer((), FILES)
    if "DIR" in kinds:
        return Answer((), DIRECTORIES)
    from dso.cli import completion_names

    return completion_names.answer_for(metavar, line, current)
