"""Docker's flags, DSO's flags and the command: who owns which word."""

import pytest

from dso.cli.invocation import parse_invocation
from dso.errors import UsageError


def parse(line):
    found = parse_invocation(line.split())
    return found.docker_args, found.command, found.words, found.options


@pytest.mark.parametrize(
    ("line", "docker_args", "command", "words"),
    [
        ("dso up -d", [], "up", ["-d"]),
        ("up -d", [], "up", ["-d"]),
        ("-c prod dso up -c x.yaml", ["-c", "prod"], "up", ["-c", "x.yaml"]),
        ("--context=prod -H ssh://h dso status", ["--context=prod", "-H", "ssh://h"], "status", []),
        ("--tls --tlscacert ca dso compose ps", ["--tls", "--tlscacert", "ca"], "compose", ["ps"]),
        ("dso", [], "help", []),
        ("", [], "help", []),
        ("dso --help", [], "help", []),
        ("dso --version", [], "version", []),
    ],
)
def test_words_are_split_at_the_plugins_name(line, docker_args, command, words):
    assert parse(line)[:3] == (docker_args, command, words)


def test_own_flags_stand_before_the_command_too():
    *_, options = parse("dso --mode local --debug up")
    assert (options.mode, options.debug) == ("local", True)
    docker_args, command, _, options = parse("-c x.yaml up")
    assert (docker_args, command, options.config) == ([], "up", "x.yaml")


@pytest.mark.parametrize("line", ["dso --nope up", "dso --mode", "dso --mode=cloudy up", "dso --debug=maybe up"])
def test_mistakes_are_usage_errors(line):
    with pytest.raises(UsageError):
        parse(line)


def test_a_flag_of_composes_before_the_command_is_told_its_place():
    with pytest.raises(UsageError) as caught:
        parse("dso -f compose.yaml up")
    assert "behind the command" in caught.value.hint
