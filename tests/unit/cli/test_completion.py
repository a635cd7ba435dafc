"""What `__complete` answers: what could be typed next, names and never values, and nothing on stderr."""

from __future__ import annotations

import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from dso import paths
from dso.cli import cmd_complete
from dso.cli.commands import COMMANDS, COMPOSE_COMMANDS
from dso.cli.completion import commands_of, subcommands
from dso.cli.parser import build_parser
from dso.protocol.state import CachedSecret, SecretInfo
from tests.support.fake_agent import FakeAgent

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.unit.cli.conftest import User

    Ask = Callable[..., list[str]]

VALUE = "c4n4ry"
NAMES = ["global/api_key", "shop/db", "shop/tls"]


@pytest.fixture
def stored(owner: User) -> User:
    """A user whose vault has a few secrets."""
    for name in NAMES:
        owner.ok("secret", "set", name, stdin=VALUE.encode())
    return owner


def asker(user: User) -> Ask:
    def ask(line: str, request: str = "__complete") -> list[str]:
        """The answer's lines for what is typed behind `docker dso `; a blank at its end begins an empty word."""
        done = user.dso(request, "dso", *line.split(" "))
        assert (done.code, done.err) == (0, ""), line
        assert VALUE not in done.out
        return done.out.splitlines()

    return ask


@pytest.fixture
def ask(stored: User) -> Ask:
    return asker(stored)


@pytest.fixture
def empty_ask(user: User) -> Ask:
    """The same where there is no vault."""
    return asker(user)


def values(answer: list[str]) -> list[str]:
    return [line.partition("\t")[0] for line in answer[:-1]]


def test_commands_are_offered_with_what_help_says_of_them(empty_ask: Ask) -> None:
    answer = empty_ask("")
    assert answer == [*(f"{name}\t{text}" for name, text in commands_of(build_parser())), ":4"]
    assert values(answer) == list(COMMANDS)
    assert empty_ask("sec") == ["secret\tStore, read and manage secrets", ":4"]
    assert values(empty_ask("secret ro")) == ["rollback"]
    assert values(empty_ask("help en")) == ["env"]


def test_every_command_of_every_group_is_offered(empty_ask: Ask) -> None:
    groups = {name: subcommands(parser) for name, parser in subcommands(build_parser()).items()}
    assert sum(bool(below) for below in groups.values()) >= 4
    for name, below in groups.items():
        if below:
            assert values(empty_ask(f"{name} ")) == list(below)


def leaves(parser: argparse.ArgumentParser, words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    below = subcommands(parser)
    if not below:
        yield words, parser
    for name, one in below.items():
        yield from leaves(one, f"{words}{name} ")


def test_every_flag_of_every_command_is_offered(empty_ask: Ask) -> None:
    seen = 0
    for words, parser in leaves(build_parser(), ""):
        if words.strip() in COMPOSE_COMMANDS:
            continue  # below, with what Compose says
        offered = values(empty_ask(f"{words}-"))
        flags = {name for action in parser._actions for name in action.option_strings if name.startswith("--")}
        assert flags | {"--mode", "--config", "--debug"} <= set(offered), words
        seen += len(flags)
    assert seen > 60


def test_without_descriptions_if_so_asked(ask: Ask) -> None:
    assert ask("sec", request="__completeNoDesc") == ["secret", ":4"]


def test_older_scripts_of_docker_leave_the_plugins_name_out(stored: User) -> None:
    assert stored.ok("__completeNoDesc", "secret", "get", "sh").out.splitlines() == ["shop/db", "shop/tls", ":4"]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("--mode ", ["local", "cloud"]),
        ("--mode=c", ["cloud"]),
        ("secret list --format ", ["table", "json"]),
        ("secret list --format=j", ["json"]),
        ("secret list --mode l", ["local"]),
        ("env export shop --format e", ["env"]),
        ("logs -f --level w", ["warning"]),
        ("logs --level=e", ["error"]),
        ("--config x.yaml --mode=local secret l", ["list"]),
        ("--debug -c x.yaml vault che", ["check"]),
        ("system setup --provider ", ["vault", "aws", "azure", "huawei"]),
        ("system setup --provider vault --provider a", ["aws", "azure"]),
    ],
)
def test_values_of_flags(empty_ask: Ask, line: str, expected: list[str]) -> None:
    assert values(empty_ask(line)) == expected


def test_flags_that_stand_there_are_not_offered_again_nor_what_excludes_them(empty_ask: Ask) -> None:
    assert "--quiet" in values(empty_ask("secret list --q"))
    assert values(empty_ask("secret list -q --q")) == []
    assert values(empty_ask("secret list --quiet --q")) == []
    assert "--keyfile" in values(empty_ask("vault add-key --"))
    assert "--keyfile" not in values(empty_ask("vault add-key --passphrase --"))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("secret get ", NAMES),
        ("secret get sh", ["shop/db", "shop/tls"]),
        ("secret get a", ["api_key"]),  # KEY stands for global/KEY
        ("secret get dso://s", ["dso://shop/db", "dso://shop/tls"]),
        ("secret get dsofile://g", ["dsofile://global/api_key"]),
        ("secret get -n sh", ["shop/db", "shop/tls"]),
        ("secret get -- sh", ["shop/db", "shop/tls"]),
        ("secret set --from-file x sh", ["shop/db", "shop/tls"]),
        ("secret set --raw --generate sh", ["shop/db", "shop/tls"]),
        ("secret edit shop/t", ["shop/tls"]),
        ("secret rm shop/db sh", ["shop/tls"]),
        ("secret rm -f shop/db shop/tls ", ["global/api_key"]),
        ("secret mv sh", ["shop/db", "shop/tls"]),
        ("secret history g", ["global/api_key"]),
        ("secret list s", ["shop"]),
        ("env export ", ["global", "shop"]),
        ("env import .env s", ["shop"]),
        ("secret get shop/db ", []),
        ("secret get nothing", []),
    ],
)
def test_names_of_secrets(ask: Ask, line: str, expected: list[str]) -> None:
    answer = ask(line)
    assert values(answer) == expected
    assert answer[-1] == ":4"


def test_allow_offers_what_can_be_granted_and_deny_what_was(
    ask: Ask, stored: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = tmp_path / "project"
    project.mkdir(mode=0o755)
    monkeypatch.chdir(project)
    assert ask("allow ") == ["shop", *NAMES, ":4"]
    assert ask("deny ") == [":4"]
    stored.ok("allow", "shop", "global/api_key")
    assert ask("deny ") == ["shop", "global/api_key", ":4"]
    assert ask("deny shop g") == ["global/api_key", ":4"]


def test_new_name_begins_with_a_namespace_and_goes_on(ask: Ask) -> None:
    assert ask("secret mv shop/db sh") == ["shop/", ":6"]


def test_versions_are_the_earlier_ones_newest_first(ask: Ask, stored: User) -> None:
    for value in (b"two", b"three"):
        stored.ok("secret", "set", "shop/db", stdin=value)
    answer = ask("secret rollback shop/db ")
    assert (values(answer), answer[-1]) == (["2", "1"], ":36")


def test_slots_are_known_without_a_key(ask: Ask, stored: User) -> None:
    stored.key_file.unlink()
    (slot,) = ask("vault remove-key ")[:-1]
    assert slot.endswith("\tkeyfile")
    assert values(ask("secret get ")) == []


@pytest.mark.parametrize(
    "line",
    [
        "env import ",
        "vault backup ",
        "secret set x --from-file ",
        "env export shop -o ",
        "--config ",
        "secret get x -c ",
        "system setup --from ",
    ],
)
def test_files_are_the_shells_to_offer(ask: Ask, line: str) -> None:
    assert ask(line) == [":0"]


@pytest.mark.parametrize(
    "line", ["nosuch ", "secret nosuch ", "secret get --nosuch=", "version ", "version x", "help up ", "logs --lines "]
)
def test_where_nothing_fits_nothing_is_offered(ask: Ask, line: str) -> None:
    assert ask(line) == [":4"]


def test_nobody_is_asked_for_a_passphrase_and_no_file_with_one_is_read(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_hidden(prompt: str) -> bytes:
        raise AssertionError(prompt)

    phrase = tmp_path / "phrase"
    phrase.write_text("correct horse battery staple")
    phrase.chmod(0o600)
    monkeypatch.setenv(paths.PASSPHRASE_FILE_VARIABLE, str(phrase))
    user.ok("init", "--passphrase")
    user.ok("secret", "set", "shop/db", stdin=b"x")
    monkeypatch.setattr("dso.system.terminal.ask_hidden", ask_hidden)
    assert asker(user)("secret get ") == [":4"]
    monkeypatch.delenv(paths.PASSPHRASE_FILE_VARIABLE)
    assert asker(user)("secret get ") == [":4"]


def test_key_in_the_environment_opens_the_vault(ask: Ask, stored: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(paths.MASTER_KEY_VARIABLE, stored.key_file.read_text().strip())
    stored.key_file.unlink()
    assert values(ask("secret get ")) == NAMES


def test_damaged_unsafe_and_missing_vaults_are_silent(ask: Ask, stored: User) -> None:
    stored.key_file.chmod(stat.S_IRUSR | stat.S_IROTH)
    assert ask("secret get ") == [":4"]
    stored.vault_file.write_bytes(b"no vault")
    assert ask("secret get ") == [":4"]
    stored.vault_file.unlink()
    assert ask("secret get ") == [":4"]
    assert ask("vault remove-key ") == [":4"]


def test_who_does_not_answer_is_not_waited_for(ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cmd_complete, "PATIENCE", 0.05)
    monkeypatch.setattr("dso.vault.store.Vault.open", lambda **_options: time.sleep(60))
    assert ask("secret get ") == [":4"]


# Cloud Mode


@pytest.fixture
def agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeAgent]:
    entries = [SecretInfo("prod/db", "v", "kv/db"), SecretInfo("prod/mail", "v", "mail")]
    cached = [
        CachedSecret("v", path, None, "3", 0.0, stale=False) for path in ("kv/db", "other", "no such $(reference)")
    ]
    with FakeAgent(tmp_path, {"prod/db": VALUE.encode()}, entries=entries, cached=cached) as agent:
        monkeypatch.setenv(paths.SOCKET_VARIABLE, agent.socket)
        monkeypatch.setenv(paths.MODE_VARIABLE, "cloud")
        yield agent


@pytest.mark.parametrize("command", ["fetch", "sync", "export"])
def test_names_are_those_the_agent_lets_the_user_read(empty_ask: Ask, agent: FakeAgent, command: str) -> None:
    assert values(empty_ask(f"{command} prod/m")) == ["prod/mail"]
    assert agent.asked() == ["GET /v1/secrets"]
    others = ["v/other"] if command != "export" else []  # without an entry, but in the agent's memory
    assert values(empty_ask(f"{command} ")) == ["prod/db", "prod/mail", *others]


def test_flag_on_the_line_chooses_the_mode(empty_ask: Ask, agent: FakeAgent, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(paths.MODE_VARIABLE)
    assert values(empty_ask("--mode=cloud fetch prod/d")) == ["prod/db"]
    assert values(empty_ask("fetch --mode cloud prod/d")) == ["prod/db"]
    assert values(empty_ask("fetch --mode local prod/d")) == []


def test_names_on_the_line_are_not_offered_again(empty_ask: Ask, agent: FakeAgent) -> None:
    assert "prod/db" not in values(empty_ask("sync prod/db "))
    assert "prod/mail" in values(empty_ask("sync prod/db "))


def test_no_agent_is_silence(empty_ask: Ask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(paths.SOCKET_VARIABLE, str(tmp_path / "none"))
    monkeypatch.setenv(paths.MODE_VARIABLE, "cloud")
    assert empty_ask("fetch ") == [":4"]


# What Compose completes

_DOCKER = """#!/bin/sh
echo "$*" >>"$LOG"
case "$*" in
    *" -") printf -- '--file\\tfiles\\n--dry-run\\tsimulate\\n--theirs\\tCompose knows\\n:4\\n' ;;
    *"--profile ") printf 'dev\\n$(touch x)\\na;b\\n`id`\\na b\\n:4\\n' ;;
    *"-f ") printf 'yaml\\nyml\\n:8\\n' ;;
    *) printf 'api\\nweb\\n:4\\n'; echo "WARN noise" >&2 ;;
esac
"""


@pytest.fixture
def compose(
    user: User, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], tuple[list[str], list[str]]]:
    """Asks with a `docker` that notes what it is asked; returns the answer, and that."""
    docker, log = tmp_path / "bin" / "docker", tmp_path / "log"
    docker.parent.mkdir()
    docker.write_text(_DOCKER)
    docker.chmod(0o755)
    monkeypatch.setenv("PATH", f"{docker.parent}:{os.environ['PATH']}")
    monkeypatch.setenv("LOG", str(log))
    monkeypatch.delenv("DOCKER_CLI_PLUGIN_ORIGINAL_CLI_COMMAND", raising=False)

    def ask(line: str) -> tuple[list[str], list[str]]:
        log.write_text("")
        answer = asker(user)(line)
        asked = [one.removeprefix("__complete compose ") for one in log.read_text().splitlines()]
        return answer, sorted(asked)

    return ask


@pytest.mark.parametrize(
    ("line", "asked"),
    [
        ("up ", "up "),
        ("up -d a", "up -d a"),
        ("up --dry-run --mode=local api ", "up api "),
        ("up -f x.yaml -d a", "-f x.yaml up -d a"),
        ("up -d -p shop --wait a", "-p shop up -d --wait a"),
        ("up --scale ", "up --scale "),
        ("down ", "down "),
        ("validate ", "up "),
        ("diff --exit-code w", "up w"),
        ("compose ", ""),
        ("compose -f x.yaml ", "-f x.yaml "),
        ("compose logs -f ", "logs -f "),
        ("compose exec api ", "exec api "),
        ("compose run --rm api ", "run --rm api "),
        ("compose --mode local -f x.yaml up --format json a", "-f x.yaml up a"),
    ],
)
def test_compose_is_asked_about_its_own_words(
    compose: Callable[[str], tuple[list[str], list[str]]], line: str, asked: str
) -> None:
    answer, questions = compose(line)
    assert questions == [asked]
    assert answer == (["yaml", "yml", ":8"] if line.endswith("-f ") else ["api", "web", ":4"])


def test_flags_are_dsos_and_composes(compose: Callable[[str], tuple[list[str], list[str]]]) -> None:
    answer, questions = compose("up -")
    assert questions == ["-", "up -"]
    own = ["--dry-run", "--format", "--mode", "--config", "--debug"]
    assert values(answer) == [*own, "--file", "--theirs"]
    assert "resolve everything" in answer[0]
    answer, questions = compose("validate -")
    assert questions == ["-"]
    assert values(answer) == ["--format", "--mode", "--config", "--debug", "--file", "--theirs"]
    answer, questions = compose("compose up -")
    assert questions == ["up -"]
    assert set(own) < set(values(answer))
    answer, _ = compose("compose ps -")
    assert values(answer) == ["--file", "--dry-run", "--theirs"]


def test_words_of_a_container_are_not_completed_as_flags_of_ours(
    compose: Callable[[str], tuple[list[str], list[str]]],
) -> None:
    answer, questions = compose("compose run api -")
    assert questions == ["run api -"]
    assert "--mode" not in values(answer)


@pytest.mark.parametrize(("line", "expected"), [("up --format ", ["table", "json"]), ("down --mode=c", ["cloud"])])
def test_values_of_dsos_flags_need_no_compose(
    compose: Callable[[str], tuple[list[str], list[str]]], line: str, expected: list[str]
) -> None:
    answer, questions = compose(line)
    assert (values(answer), questions) == (expected, [])
    assert compose("up -c ") == ([":0"], [])


def test_extensions_of_files_are_composes_answer_to_f(compose: Callable[[str], tuple[list[str], list[str]]]) -> None:
    assert compose("up -f ") == (["yaml", "yml", ":8"], ["-f "])


def test_what_a_shell_would_run_is_not_offered(compose: Callable[[str], tuple[list[str], list[str]]]) -> None:
    assert compose("up --profile ")[0] == ["dev", ":4"], "profiles are whatever a Compose file says"


def test_no_docker_is_silence(empty_ask: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert empty_ask("up ") == [":4"]
