"""Write the man pages to a directory: `man.py OUTDIR` makes OUTDIR/man1, man5 and man8.

What commands and flags mean is read from the parsers, so every command has its page; the rest is in build/pages, and
dso.yaml(5) is docs/dso-yaml.md, which a test holds together with what the program reads. The pages bear DSO's version
and the date of SOURCE_DATE_EPOCH, or none.
"""

from __future__ import annotations

import os
import re
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from argparse_manpage.manpage import Manpage

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from build import commandline, exit_codes, roff  # noqa: E402  # found through the line above
from dso.agent.main import build_parser as agent_parser  # noqa: E402
from dso.cli.parser import build_parser  # noqa: E402
from dso.version import SHORT_DESCRIPTION, VERSION  # noqa: E402

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Sequence

    from build.commandline import Command

PAGES = ROOT / "build" / "pages"
MANUAL = "Docker Secret Operator"
_UNESCAPED_BAR = re.compile(r"(?<!\\)\|")
Lines = list[str]


def main(argv: Sequence[str]) -> None:
    """Write all pages."""
    outdir = Path(argv[1])
    for name, text in pages().items():
        path = outdir / f"man{name.rpartition('.')[2]}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def pages() -> dict[str, str]:
    """Each page by its file's name."""
    commands = commandline.commands()
    found = {"docker-dso.1": _of_everything(commands), "dso-agent.8": _of_agent(), "dso.yaml.5": _of_configuration()}
    for command in commands:
        found[f"{_name(command)}.1"] = _of_command(command)
    return found


def _of_everything(commands: Sequence[Command]) -> str:
    parser = build_parser()
    listed = [
        line for one in commands for line in roff.item(f".BR {roff.escape(_name(one))} (1)", roff.prose(one.summary))
    ]
    text = (PAGES / "docker-dso.md").read_text(encoding="utf-8")
    description, _, references = text.partition("## ")
    after = [
        *roff.from_markdown("## " + references),
        *roff.from_markdown((PAGES / "docker-dso-end.md").read_text(encoding="utf-8")),
        *_exit_status(),
        *_see_also("dso.yaml(5)", "dso-agent(8)", *(f"{_name(one)}(1)" for one in commands)),
    ]
    return _page(
        parser,
        "docker-dso",
        SHORT_DESCRIPTION,
        synopsis=["docker dso [FLAGS] COMMAND [ARGUMENTS]", "docker dso help [COMMAND]"],
        description=roff.from_markdown(description),
        before=[roff.section("Commands"), *listed],
        after=after,
    )


def _of_command(command: Command) -> str:
    others = ["docker-dso(1)"]
    if "Cloud Mode" in command.summary or "agent" in command.summary:
        others += ["dso.yaml(5)", "dso-agent(8)"]
    parts: Lines = []
    for one in command.below:
        parts += _part(one)
    first = [roff.section("Commands"), *parts] if parts else []
    return _page(
        command.parser,
        _name(command),
        command.summary,
        synopsis=[one.usage for one in command.below] or [command.usage],
        description=_prose(command.parser.description),
        before=first,
        after=[*_notes(command.parser.epilog), *_see_also(*others)],
    )


def _of_agent() -> str:
    parser = agent_parser()
    description = roff.from_markdown((PAGES / "dso-agent.md").read_text(encoding="utf-8"))
    end = roff.from_markdown((PAGES / "dso-agent-end.md").read_text(encoding="utf-8"))
    signals = commandline.blocks(parser.epilog)[0].paragraph.removeprefix("Signals: ").partition(" Exit codes:")[0]
    return _page(
        parser,
        "dso-agent",
        "serve secrets to docker dso and to the Docker Engine",
        number="8",
        synopsis=[commandline.usage(parser, "dso-agent")],
        description=description,
        after=[
            roff.section("Signals"),
            roff.prose(signals),
            *end,
            *_see_also("docker-dso(1)", "dso.yaml(5)", "systemd(1)"),
        ],
    )


def _of_configuration() -> str:
    text = (ROOT / "docs" / "dso-yaml.md").read_text(encoding="utf-8")
    lines = [
        _title("dso.yaml", "5"),
        roff.section("Name"),
        roff.escape("dso.yaml - configuration of DSO's Cloud Mode"),
        roff.section("Description"),
        *roff.from_markdown(text),
        *_see_also("docker-dso(1)", "dso-agent(8)"),
    ]
    return "\n".join(_tidied(lines)) + "\n"


def _page(  # noqa: PLR0913  # what a page is made of
    parser: argparse.ArgumentParser,
    name: str,
    summary: str,
    *,
    number: str = "1",
    synopsis: Iterable[str],
    description: Lines,
    before: Lines | None = None,
    after: Lines,
) -> str:
    """A page with the parser's flags; `before` comes before them, `after` behind."""
    parser.description = parser.epilog = None
    page = _manpage(parser)
    page.prog = name
    page.description = summary.replace("`", "")
    page.add_section("synopsis", "=", "\n.br\n".join(map(roff.bold, synopsis)))
    page.add_section("description", "=", "\n".join([*description, *(before or [])]))
    _, *lines = str(page).splitlines()  # the title it makes has a date that not every man understands
    return "\n".join(_tidied([_title(name, number), *lines, *after])) + "\n"


def _manpage(parser: argparse.ArgumentParser) -> Manpage:
    """The parser's page, without sub-commands and what nothing is said of."""
    for group in parser._action_groups:  # noqa: SLF001  # argparse has no public names for what it holds
        group._group_actions = [one for one in group._group_actions if commandline.is_shown(one)]  # noqa: SLF001
        for action in group._group_actions:  # noqa: SLF001
            if action.choices:
                action.metavar = commandline.value_of(action)
    page = Manpage(parser, {"date": "of no account"})  # see _page; its own way to find one is not asked
    page.mf.format_text = lambda text: roff.prose(" ".join(text.split()))
    return page


def _part(command: Command) -> Lines:
    """A command of a group, as a part of the group's page."""
    lines = [roff.subsection(command.words), *_prose(command.parser.description)]
    formatter = _manpage(command.parser).mf
    for _, actions in commandline.groups(command.parser):
        for action in actions:
            lines += formatter._format_action(action)  # noqa: SLF001  # Manpage itself calls it for whole groups only
    return lines + [line for one in command.below for line in _part(one)] + _blocks(command.parser.epilog)


def _notes(epilog: str | None) -> Lines:
    """What stands below the flags in `--help`: examples in a section of their own."""
    lines: Lines = []
    for block in commandline.blocks(epilog):
        title = roff.section(block.heading or "Notes")
        lines += [title] if title not in lines else []
        lines += roff.example(block.lines) if block.heading else [".PP", roff.prose(block.paragraph)]
    return lines


def _blocks(epilog: str | None) -> Lines:
    """The same within a part of a section."""
    lines: Lines = []
    for block in commandline.blocks(epilog):
        if block.heading:
            lines += [".PP", roff.prose(f"{block.heading.capitalize()}:"), *roff.example(block.lines)]
        else:
            lines += [".PP", roff.prose(block.paragraph)]
    return lines


def _prose(text: str | None) -> Lines:
    return [line for block in commandline.blocks(text) for line in (".PP", roff.prose(block.paragraph))]


def _exit_status() -> Lines:
    """docs/exit-codes.md without the names of classes."""
    _, _, introduction, table = exit_codes.render().split("\n\n")
    rows = [_UNESCAPED_BAR.split(row) for row in table.splitlines()]
    kept = "\n".join("|".join([*row[:2], *row[3:]]) for row in rows)
    return [roff.section("Exit status"), *roff.from_markdown(f"{introduction}\n\n{kept}")]


def _see_also(*names: str) -> Lines:
    """References to pages, each as `name(1)`."""
    found = [f".BR {roff.escape(name.replace('(', ' ('))}" for name in names]
    return [roff.section("See also"), *(f"{each}," for each in found[:-1]), found[-1]]


def _name(command: Command) -> str:
    """The page's name: `docker-dso-up`."""
    return command.words.replace(" ", "-")


def _title(name: str, number: str) -> str:
    return f'.TH "{roff.escape(name.upper())}" "{number}" "{_date()}" "DSO {VERSION}" "{MANUAL}"'


def _date() -> str:
    """The day of SOURCE_DATE_EPOCH; nothing without it, for two builds have to make the same page."""
    given = os.environ.get("SOURCE_DATE_EPOCH")
    return time.strftime("%Y-%m-%d", time.gmtime(int(given))) if given else ""


def _tidied(lines: Iterable[str]) -> Lines:
    """Without empty lines in running text, and without the beginning of a paragraph where one begins anyway."""
    kept: Lines = []
    literal = False
    for line in lines:
        literal = line == ".EX" or (literal and line != ".EE")
        begins_anyway = line == ".PP" and kept[-1].startswith((".SH", ".SS"))
        if (line or literal) and not begins_anyway:
            kept.append(line)
    return kept


if __name__ == "__main__":
    main(sys.argv)
