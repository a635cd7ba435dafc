"""What the parsers of the command line say, for the pages made from them: man pages and docs/commands.md.

Of the texts in `--help` it understands: paragraphs, and a line that ends with a colon with indented lines below
it, which are as they are (`examples:`).
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, NamedTuple

from dso.cli.completion import commands_of, subcommands
from dso.cli.parser import build_parser

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Block(NamedTuple):
    """A paragraph, or with a heading lines that are as they are."""

    heading: str
    lines: list[str]

    @property
    def paragraph(self) -> str:
        """The lines as one."""
        return " ".join(line.strip() for line in self.lines)


class Command(NamedTuple):
    """A command, and the commands below it if it is a group. `words` is what is typed: `docker dso secret set`."""

    words: str
    summary: str
    parser: argparse.ArgumentParser
    below: list[Command]

    @property
    def usage(self) -> str:
        """The usage line."""
        return usage(self.parser, self.words)


def commands() -> list[Command]:
    """All commands, as `--help` orders them."""
    parser = build_parser()
    return below(parser, parser.prog)


def below(parser: argparse.ArgumentParser, words: str) -> list[Command]:
    """The commands of a parser."""
    parsers = subcommands(parser)
    return [
        Command(f"{words} {name}", summary, parsers[name], below(parsers[name], f"{words} {name}"))
        for name, summary in commands_of(parser)
    ]


def blocks(text: str | None) -> list[Block]:
    """The parts of a help text."""
    found: list[Block] = []
    for part in (text or "").strip("\n").split("\n\n"):
        lines = part.splitlines()
        if len(lines) > 1 and lines[0].endswith(":") and all(line.startswith("  ") for line in lines[1:]):
            found.append(Block(lines[0].removesuffix(":"), [line[2:] for line in lines[1:]]))
        elif lines:
            found.append(Block("", lines))
    return found


def groups(parser: argparse.ArgumentParser) -> Iterator[tuple[str, list[argparse.Action]]]:
    """The arguments and flags that have something said of them, under the titles `--help` has."""
    for group in parser._action_groups:  # noqa: SLF001  # argparse has no public names for what it holds
        shown = [action for action in group._group_actions if is_shown(action)]  # noqa: SLF001
        if shown:
            yield (
                {"positional arguments": "arguments", "options": "flags"}.get(str(group.title), str(group.title)),
                shown,
            )


def is_shown(action: argparse.Action) -> bool:
    """Whether there is something to list: not `--help`, no sub-commands, nothing without a word on it."""
    known = isinstance(action, argparse._HelpAction | argparse._SubParsersAction)  # noqa: SLF001
    return bool(action.help) and action.help != argparse.SUPPRESS and not known


def help_of(action: argparse.Action) -> str:
    """What `--help` says of an argument or flag."""
    return (action.help or "") % vars(action)


def value_of(action: argparse.Action) -> str:
    """How the value is written: `FILE`, `table|json`; "" for a flag without one."""
    if action.nargs == 0:
        return ""
    if isinstance(action.metavar, str):
        return action.metavar
    return "|".join(map(str, action.choices)) if action.choices else action.dest.upper()


def usage(parser: argparse.ArgumentParser, words: str) -> str:
    """The usage line. argparse's own is another in each release of Python."""
    if parser.usage:
        return parser.usage
    parts = [words]
    done: set[argparse.Action] = set()
    for action in sorted(parser._actions, key=lambda one: not one.option_strings):  # noqa: SLF001
        if action in done or isinstance(action, argparse._HelpAction) or action.help == argparse.SUPPRESS:  # noqa: SLF001
            continue
        together, required = _alternatives(parser, action)
        done |= set(together)
        text = " | ".join(_in_usage(one) for one in together)
        optional = not action.required if action.option_strings else action.nargs in ("?", "*")
        if len(together) > 1 and required:
            text = f"({text})"
        elif optional and not required:
            text = f"[{text}]"
        parts.append(text)
    return " ".join(parts)


def _alternatives(parser: argparse.ArgumentParser, action: argparse.Action) -> tuple[Sequence[argparse.Action], bool]:
    """The action with those that exclude it, and whether one of them is required."""
    for group in parser._mutually_exclusive_groups:  # noqa: SLF001
        if action in group._group_actions:  # noqa: SLF001
            return group._group_actions, group.required  # noqa: SLF001
    return [action], False


def _in_usage(action: argparse.Action) -> str:
    if isinstance(action, argparse._SubParsersAction):  # noqa: SLF001
        return f"{action.metavar} ..."
    value = value_of(action)
    if not action.option_strings:
        return f"{value}..." if action.nargs in ("*", "+") else value
    if isinstance(action, argparse.BooleanOptionalAction):
        return " | ".join(action.option_strings)
    name = action.option_strings[-1]
    if not value:
        return name
    return f"{name}[={value}]" if action.nargs == "?" else f"{name} {value}"


def invocation(action: argparse.Action) -> str:
    """How an argument or flag is listed: `REF`, `-o, --output FILE`."""
    value = value_of(action)
    names = ", ".join(action.option_strings)
    if not names or not value or isinstance(action, argparse.BooleanOptionalAction):
        return names or value
    return f"{names}[={value}]" if action.nargs == "?" else f"{names} {value}"
