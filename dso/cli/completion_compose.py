"""Completion of the commands that hand their words to Compose: mostly Compose's own."""

from __future__ import annotations

from dso.cli.completion import FILES, NO_FILES, NOTHING, Answer

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from dso.compose.command import ComposeCommand

_HERE = "\0"  # stands for the word at the cursor; no word of a command line can have it
_ERROR = 1


def answer_as_compose(command: str, parser: argparse.ArgumentParser, words: Sequence[str], current: str) -> Answer:
    """What the word at the cursor could become; `words` are those between the command and it.

    Args:
        command: one of `dso.cli.commands.COMPOSE_COMMANDS`.
        parser: its parser, which has DSO's own flags.
        words: the words before the cursor.
        current: the word at the cursor.
    """
    from dso.compose.command import parse_command

    name = None if command == "compose" else "down" if command == "down" else "up"
    own = _OwnFlags(parser)
    found = parse_command([*words, _HERE], own.take, name=name)
    if own.waiting is not None:
        return _value(own.waiting, current)
    before_command = _HERE in found.globals or found.name == _HERE
    takes_flags = found.name == _HERE or _HERE in found.services
    takes_own = takes_flags and (before_command or found.brings_up or found.may_end_project)
    flag, equals, value = current.partition("=")
    if takes_own and equals and flag in own.actions:
        return _value(own.actions[flag], value)
    wants_flags = takes_flags and current.startswith("-") and "--" not in found.arguments
    theirs = _ask_compose(_requests(command, found, current, wants_flags=wants_flags))
    if not (wants_flags and takes_own):
        return theirs
    ours = own.offered(current)
    known = {each for each, _ in ours}
    if command in ("validate", "diff"):
        known.add("--dry-run")  # they start nothing anyway
    return Answer([*ours, *(each for each in theirs.candidates if each[0] not in known)], NO_FILES)


class _OwnFlags:
    """DSO's own flags of a command; `waiting` is the one whose value the cursor is at."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        self.actions = {name: action for name, action in parser._option_string_actions.items() if "help" not in name}  # noqa: SLF001
        self.actions.pop("-h", None)
        self.waiting: argparse.Action | None = None

    def take(self, words: Sequence[str], index: int) -> int:
        """How many words an own flag and its value take; 0: it is none (see `parse_command`)."""
        flag, equals, _ = words[index].partition("=")
        action = self.actions.get(flag)
        if action is None:
            return 0
        if equals or action.nargs == 0:
            return 1
        if words[index + 1] == _HERE:
            self.waiting = action
        return 2

    def offered(self, current: str) -> list[tuple[str, str]]:
        """Those that begin as the word at the cursor."""
        long = {action: name for name, action in self.actions.items() if name.startswith("--")}
        return [(name, action.help or "") for action, name in long.items() if name.startswith(current)]


def _value(action: argparse.Action, current: str) -> Answer:
    if action.choices is not None:
        return Answer([(str(choice), "") for choice in action.choices]).beginning_with(current)
    return Answer((), FILES)


def _requests(command: str, found: ComposeCommand, current: str, *, wants_flags: bool) -> list[list[str]]:
    """The command lines to have Compose complete: its own one, and where its global flags may stand, these too."""
    if _HERE in found.globals:
        return [[*found.globals[: found.globals.index(_HERE)], current]]
    if found.name == _HERE:
        return [[*found.globals, current]]
    words = [*found.globals, found.name, *found.arguments]
    own = [*words[: words.index(_HERE)], current]
    if not wants_flags or command == "compose":
        return [own]
    anywhere = [*found.globals, current]
    return [own, anywhere] if command in ("up", "down") else [anywhere]


def _ask_compose(requests: Sequence[Sequence[str]]) -> Answer:
    """What Compose answers; all are asked at the same time."""
    from dso.compose.plugin import start_completion

    running = [start_completion(request) for request in requests]
    answers = [_read(one.wait().stdout.decode("utf-8", "replace")) for one in running]
    candidates = {value: text for one in reversed(answers) for value, text in one.candidates}
    return Answer(candidates.items(), answers[0].directive) if answers else NOTHING


def _read(printed: str) -> Answer:
    *lines, last = printed.splitlines() or [""]
    directive = int(last[1:]) if last[:1] == ":" and last[1:].isdigit() else _ERROR
    if directive & _ERROR:
        return NOTHING
    return Answer([(value, text) for value, _, text in (line.partition("\t") for line in lines)], directive)
