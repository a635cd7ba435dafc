"""docs/commands.md: made from the parsers, up to date, and complete."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

from build import commandline, reference
from dso.cli.commands import COMMANDS
from tests.support.process import ROOT

PAGE = os.path.join(ROOT, "docs", "commands.md")


def test_the_published_reference_is_up_to_date():
    subprocess.run([sys.executable, os.path.join(ROOT, "build", "reference.py"), "--check"], check=True)


def test_every_command_has_a_section():
    with open(PAGE) as page:
        headings = re.findall(r"^## (.*)$", page.read(), re.MULTILINE)
    assert headings[:-1] == [*(f"docker dso {command}" for command in COMMANDS), "dso-agent"]


def test_links_lead_somewhere():
    with open(PAGE) as page:
        text = page.read()
    anchors = {reference.anchor(heading.lower()) for heading in re.findall(r"^#+ (.*)$", text, re.MULTILINE)}
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors
    files = set(re.findall(r"\]\(([^#)]+)\)", text))
    assert files
    assert [target for target in files if not os.path.exists(os.path.join(ROOT, "docs", target))] == []


def parser_of_all_kinds() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("x")
    parser.add_argument("ref", metavar="REF", help="which")
    parser.add_argument("others", nargs="*", metavar="OTHER")
    parser.add_argument("-q", "--quiet", action="store_true", help="say less")
    parser.add_argument("--size", nargs="?", metavar="N", help="how much (default: %(default)s)", default=3)
    parser.add_argument("--hidden", help=argparse.SUPPRESS)
    kind = parser.add_mutually_exclusive_group(required=True)
    kind.add_argument("--one", action="store_true", help="this")
    kind.add_argument("--form", choices=("a", "b"), help="that")
    return parser


def test_usage_is_the_same_in_every_release_of_python():
    expected = "x [--quiet] [--size[=N]] (--one | --form a|b) REF [OTHER...]"
    assert commandline.usage(parser_of_all_kinds(), "x") == expected


def test_flags_are_listed_with_their_values_and_what_they_mean():
    groups = dict(commandline.groups(parser_of_all_kinds()))
    assert [commandline.invocation(one) for one in groups["arguments"]] == ["REF"]
    listed = [(commandline.invocation(one), commandline.help_of(one)) for one in groups["flags"]]
    assert listed[:2] == [("-q, --quiet", "say less"), ("--size[=N]", "how much (default: 3)")]
    assert [name for name, _ in listed[2:]] == ["--one", "--form a|b"]


def test_help_texts_are_paragraphs_and_blocks_that_stay_as_they_are():
    found = commandline.blocks("One\nparagraph.\n\nexamples:\n  x  y\n  z\n\nAnother: one.\n")
    assert [(block.heading, block.lines) for block in found] == [
        ("", ["One", "paragraph."]),
        ("examples", ["x  y", "z"]),
        ("", ["Another: one."]),
    ]
