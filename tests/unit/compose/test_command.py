"""Compose's words: what is global, what is a value, what is a service."""

import pytest

from dso.cli.invocation import Options
from dso.compose.command import parse_command
from dso.errors import UsageError

ACCEPTED = frozenset({"--mode", "-c", "--config", "--debug", "--dry-run", "--format"})


def parse(line, name=None, describe=lambda _: ""):
    options = Options()
    command = parse_command(
        line.split(), lambda words, at: options.take(words, at, accepted=ACCEPTED), name=name, describe=describe
    )
    return command, options


@pytest.mark.parametrize(
    ("line", "globals_", "arguments", "services"),
    [
        ("", (), (), ()),
        ("-d", (), ("-d",), ()),
        ("-f a.yaml -d -p shop", ("-f", "a.yaml", "-p", "shop"), ("-d",), ()),
        ("-d --file=a.yaml api", ("--file=a.yaml",), ("-d", "api"), ("api",)),
        ("api --profile x db", ("--profile", "x"), ("api", "db"), ("api", "db")),
        ("-fa.yaml api", ("-fa.yaml",), ("api",), ("api",)),
        ("-dt 5 api", (), ("-dt", "5", "api"), ("api",)),
        ("-t5 api", (), ("-t5", "api"), ("api",)),
        ("--timeout 5 --scale api=2 api", (), ("--timeout", "5", "--scale", "api=2", "api"), ("api",)),
        ("-d -- -x", (), ("-d", "--", "-x"), ("-x",)),
        ("--env-file .e --project-directory /p -w", ("--env-file", ".e", "--project-directory", "/p"), ("-w",), ()),
        ("-f - -d", ("-f", "-"), ("-d",), ()),
    ],
)
def test_up_takes_global_flags_in_any_order(line, globals_, arguments, services):
    command, _ = parse(line, "up")
    assert (command.globals, command.arguments, command.services) == (globals_, arguments, services)
    assert command.words() == [*globals_, "up", *arguments]


def test_override_goes_behind_the_users_files():
    command, _ = parse("-f a.yaml up -d")
    assert command.words("-f", "/proc/1/fd/3") == ["-f", "a.yaml", "-f", "/proc/1/fd/3", "up", "-d"]


def test_own_flags_are_taken_out_wherever_they_stand():
    command, options = parse("--mode=local -f a.yaml up -c x.yaml --dry-run -d api --debug")
    assert command.words() == ["-f", "a.yaml", "up", "-d", "api"]
    assert (options.mode, options.config, options.dry_run, options.debug) == ("local", "x.yaml", True, True)


def test_words_behind_the_service_of_run_are_the_containers():
    command, options = parse("run --rm -e A=1 api sh -c --dry-run --debug -f x")
    assert command.services == ("api",)
    assert command.arguments == ("--rm", "-e", "A=1", "api", "sh", "-c", "--dry-run", "--debug", "-f", "x")
    assert not options.dry_run
    assert not options.debug


def test_other_commands_keep_every_word():
    command, options = parse("logs -f --tail 3 --dry-run api")
    assert command.words() == ["logs", "-f", "--tail", "3", "--dry-run", "api"]
    assert not options.dry_run
    assert not command.brings_up


def test_scale_names_services_before_the_number():
    assert parse("scale api=3 db=1")[0].services == ("api", "db")


def test_down_takes_global_flags_behind():
    command, _ = parse("-v -p shop --rmi local", "down")
    assert command.words() == ["-p", "shop", "down", "-v", "--rmi", "local"]


def test_flag_the_tables_do_not_know_is_looked_up_in_composes_help():
    page = "Options:\n      --brand-new string   Does x\n      --switch-new         Does y\n  -q, --quiet-new int   z\n"
    command, _ = parse("--brand-new v --switch-new api", "up", lambda _: page)
    assert command.services == ("api",)
    assert parse("--quiet-new 3 api", "up", lambda _: page)[0].services == ("api",)


def test_missing_value_is_a_usage_error():
    with pytest.raises(UsageError):
        parse("-d --timeout", "up")
    with pytest.raises(UsageError):
        parse("--mode", "up")


def test_global_values_are_found_in_every_spelling():
    command, _ = parse("-f a --file=b -fc --file d --profile -x up")
    assert command.global_values("-f", "--file") == ["a", "b", "c", "d"]


@pytest.mark.parametrize("flag", ["--no-deps", "--no-deps=true"])
def test_no_deps_is_seen(flag):
    assert parse(f"{flag} api", "up")[0].no_deps
    assert not parse("api", "up")[0].no_deps


@pytest.mark.parametrize(
    ("line", "services"),
    [("run api psql -h db", ("api",)), ("run --rm api x --help", ("api",)), ("run -- api sh -c x", ("api",))],
)
def test_words_of_the_container_are_no_flags_of_composes(line, services):
    command, _ = parse(line)
    assert command.brings_up
    assert command.services == services
    assert "psql" not in command.own_arguments
    assert not parse("run api npm ci --no-deps")[0].no_deps
    assert parse("run --no-deps=1 api npm")[0].no_deps


@pytest.mark.parametrize("line", ["run --help api", "run -h", "up --help", "down --help"])
def test_help_of_compose_starts_and_ends_nothing(line):
    command, _ = parse(line)
    assert not command.brings_up
    assert not command.may_end_project


def test_run_without_a_service_is_left_to_compose_to_refuse():
    command, _ = parse("run --rm")
    assert (command.services, command.own_arguments) == ((), ("--rm",))


def test_value_with_the_services_name_is_not_taken_for_it():
    command, _ = parse("run --name api -e X=dso://a/b api sh")
    assert command.own_arguments == ("--name", "api", "-e", "X=dso://a/b", "api")
