"""The man pages: one for every command, complete, and such that no `man` complains."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from build import commandline, man, roff
from dso import paths
from tests.support.process import ROOT, run

if TYPE_CHECKING:
    from pathlib import Path

    from build.commandline import Command

DAY = "86400"


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory that `man.py` wrote, on the second day of 1970."""
    directory = tmp_path_factory.mktemp("man")
    make(directory)
    return directory


def make(directory: Path, **env: str) -> None:
    program = os.path.join(ROOT, "build", "man.py")
    subprocess.run(
        [sys.executable, program, str(directory)], env={**os.environ, "SOURCE_DATE_EPOCH": DAY, **env}, check=True
    )


def as_read(page: Path) -> str:
    """What a reader sees of a page, each word once."""
    shown = subprocess.run(
        ["mandoc", "-T", "utf8", "-O", "width=200", str(page)], check=True, capture_output=True, text=True
    ).stdout
    return re.sub(".\b", "", shown)


def words_of(text: str) -> str:
    return " ".join(text.split())


def all_of(commands: list[Command]) -> list[Command]:
    return [one for command in commands for one in (command, *all_of(command.below))]


def test_every_command_has_a_page_and_every_page_its_place(written: Path) -> None:
    names = {f"man1/docker-dso-{command.words.split()[2]}.1" for command in commandline.commands()}
    expected = names | {"man1/docker-dso.1", "man5/dso.yaml.5", "man8/dso-agent.8"}
    assert {str(path.relative_to(written)) for path in written.rglob("*.?")} == expected


def test_pages_show_every_command_flag_and_word_on_it(written: Path) -> None:
    for top in commandline.commands():
        shown = words_of(as_read(written / "man1" / f"docker-dso-{top.words.split()[2]}.1"))
        for command in all_of([top]):
            assert command.below or words_of(command.usage) in shown
            for _, actions in commandline.groups(command.parser):
                for action in actions:
                    plain = words_of(commandline.help_of(action).replace("`", ""))
                    missing = [name for name in [*action.option_strings, plain] if name not in shown]
                    assert missing == [], command.words


def test_page_of_the_program_lists_every_command_and_exit_code(written: Path) -> None:
    shown = as_read(written / "man1" / "docker-dso.1")
    assert [one.words for one in commandline.commands() if f"{one.words.replace(' ', '-')}(1)" not in shown] == []
    with open(os.path.join(ROOT, "docs", "exit-codes.md")) as page:
        codes = re.findall(r"^\| (\d+) ", page.read(), re.MULTILINE)
    assert len(codes) > 30
    listed = re.findall(r"^ {7}(\d+) {2,}\S", shown, re.MULTILINE)
    assert listed == codes


def test_every_variable_of_dsos_own_is_explained(written: Path) -> None:
    shown = as_read(written / "man1" / "docker-dso.1") + as_read(written / "man8" / "dso-agent.8")
    variables = [value for name, value in vars(paths).items() if name.endswith("_VARIABLE")]
    assert len(variables) >= 6
    assert [name for name in variables if not re.search(rf"^ {{7}}{name}$", shown, re.MULTILINE)] == []


def test_page_of_the_configuration_shows_what_the_documentation_says(written: Path) -> None:
    """All examples as they stand, and all that is named: nothing gets lost or changed on the way."""
    shown = as_read(written / "man5" / "dso.yaml.5")
    lines = {line.strip() for line in shown.splitlines()}
    flowing = words_of(shown)
    with open(os.path.join(ROOT, "docs", "dso-yaml.md")) as page:
        text = page.read()
    prose, examples = text.split("```")[::2], text.split("```")[1::2]
    example_lines = [line.strip() for part in examples for line in part.splitlines()[1:] if line.strip()]
    assert len(example_lines) > 50
    assert [line for line in example_lines if line not in lines] == []
    named = [words_of(found.replace("\\|", "|")) for part in prose for found in re.findall(r"`([^`]+)`", part)]
    assert [found for found in named if found not in flowing] == []


def test_no_page_has_a_fault(written: Path) -> None:
    pages = sorted(map(str, written.rglob("*.?")))
    linted = run(["mandoc", "-T", "lint", "-W", "warning", *pages], check=False)
    assert (linted.returncode, linted.out) == (0, "")
    for page in pages:
        formatted = run(["groff", "-man", "-ww", "-z", "-Tutf8", page])
        assert (formatted.out, formatted.err) == ("", "")


def test_pages_depend_on_the_given_day_only(written: Path, tmp_path: Path) -> None:
    def content(directory: Path) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in directory.rglob("*.?")}

    make(tmp_path / "same", PYTHONHASHSEED="1", TZ="Pacific/Apia", COLUMNS="40", LC_ALL="C")
    assert content(tmp_path / "same") == content(written)
    assert all('"1970-01-02"' in text.decode().splitlines()[0] for text in content(written).values())
    make(tmp_path / "undated", SOURCE_DATE_EPOCH="")
    undated = {name: text.replace(b'""', b'"1970-01-02"', 1) for name, text in content(tmp_path / "undated").items()}
    assert undated == content(written)


@pytest.mark.parametrize(
    "text",
    [".SH no request", "'tis no request", r"C:\new\fBfolder", "a-b --c", "~/x ^C `x", 'say "x"', r"\&", "%d %s"],
)
def test_text_is_shown_as_it_is(tmp_path: Path, text: str) -> None:
    page = tmp_path / "x.1"
    lines = ['.TH X 1 "1970-01-02"', ".SH NAME", r"x \- y", ".SH X", roff.line(roff.code(text)), *roff.example([text])]
    page.write_text("\n".join(lines) + "\n")
    assert [line.strip() for line in as_read(page).splitlines()].count(text) == 2


def test_markdown_that_would_be_printed_as_it_stands_is_an_error() -> None:
    for text in ("> quoted", "```\nno end", "<b>bold</b>", "![image](x.png)", "* other list"):
        with pytest.raises(ValueError):
            roff.from_markdown(text)


def test_generator_needs_nothing_but_the_directory() -> None:
    assert set(man.pages()) >= {"docker-dso.1", "docker-dso-up.1", "dso-agent.8", "dso.yaml.5"}
