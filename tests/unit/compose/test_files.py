"""Which files Compose would find; tests/integration holds the same cases against Compose itself."""

import os

import pytest

from dso.compose.command import ComposeCommand
from dso.compose.files import find_files, reads_stdin


def found(globals_=(), environment=None):
    flags = find_files(ComposeCommand("up", globals_, (), ()), environment or {}).flags
    assert flags[::2] == ("-f",) * (len(flags) // 2)
    return [os.path.relpath(path) for path in flags[1::2]]


@pytest.fixture(autouse=True)
def in_project(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def touch(*names):
    for name in names:
        os.makedirs(os.path.dirname(name) or ".", exist_ok=True)
        with open(name, "a", encoding="utf-8"):
            pass


def test_first_default_name_and_its_override_are_found():
    touch("docker-compose.yml", "compose.yml", "docker-compose.override.yml", "compose.override.yaml")
    assert found() == ["compose.yml", "compose.override.yaml"]


def test_parent_directories_are_searched(monkeypatch):
    touch("compose.yaml", "a/b/x")
    monkeypatch.chdir("a/b")
    assert found() == ["../../compose.yaml"]


def test_given_files_and_stdin_are_left_alone():
    touch("compose.yaml")
    assert found(("-f", "other.yaml")) == []
    assert found(("-f", "-", "-f", "other.yaml")) == []
    assert reads_stdin(ComposeCommand("up", ("-f", "-"), (), ()))
    assert not reads_stdin(ComposeCommand("up", (), (), ()))


def test_compose_file_variable_with_its_separator():
    touch("compose.yaml")
    assert found(environment={"COMPOSE_FILE": "a.yaml:b.yaml"}) == ["a.yaml", "b.yaml"]
    assert found(environment={"COMPOSE_FILE": "a.yaml,b.yaml", "COMPOSE_PATH_SEPARATOR": ","}) == ["a.yaml", "b.yaml"]


def test_compose_file_in_the_env_file_counts_unless_the_environment_has_it():
    with open(".env", "w", encoding="utf-8") as stream:
        stream.write("COMPOSE_FILE=a.yaml,b.yaml\nCOMPOSE_PATH_SEPARATOR=,\n")
    assert found() == ["a.yaml", "b.yaml"]
    assert found(environment={"COMPOSE_FILE": "c.yaml"}) == ["c.yaml"]


def test_project_directory_is_where_the_search_starts():
    touch("p/compose.yaml")
    assert found(("--project-directory", "p")) == ["p/compose.yaml"]


def test_nothing_found_gives_no_flag():
    assert find_files(ComposeCommand("up", (), (), ()), {}).flags == ()


def test_standard_input_alone_lies_in_the_current_directory(tmp_path):
    command = ComposeCommand("up", ("-f", "-"), (), ())
    assert find_files(command, {}).flags == ("--project-directory", str(tmp_path))
    assert found(("-f", "-", "--project-directory", "p")) == []


def directories(globals_=(), environment=None):
    """Where grants are looked up, relative to the current directory."""
    found = find_files(ComposeCommand("up", globals_, (), ()), environment or {})
    assert not found.remote
    return [os.path.relpath(path) for path in found.directories]


def test_the_directory_is_that_of_the_first_file_or_the_one_given():
    touch("compose.yaml", "shop/compose.yaml", "shop/x.yaml", "other/y.yaml")
    assert directories() == ["."]
    assert directories(("-f", "shop/x.yaml", "-f", "other/y.yaml")) == ["shop"]
    assert directories(("-f", "-", "-f", "other/y.yaml")) == ["other"]
    assert directories(("-f", "-")) == ["."]
    assert directories(("--project-directory", "other", "-f", "shop/x.yaml")) == ["other"]
    assert directories(("--project-directory", "shop")) == ["shop"]


def test_a_file_found_in_a_parent_directory_is_where_the_project_is(monkeypatch):
    touch("shop/compose.yaml", "shop/a/b/x")
    monkeypatch.chdir("shop/a/b")
    assert directories() == ["../.."]


def test_the_users_own_compose_file_variable_is_their_word():
    touch("compose.yaml", "shop/x.yaml", "other/y.yaml")
    assert directories(environment={"COMPOSE_FILE": "shop/x.yaml:other/y.yaml"}) == ["shop"]


@pytest.mark.parametrize("name", ["COMPOSE_FILE", "COMPOSE_PATH_SEPARATOR"])
def test_who_chooses_files_by_an_env_file_needs_what_each_of_their_directories_has(name):
    touch("shop/x.yaml", "evil/y.yaml")
    own = {"COMPOSE_FILE": "../shop/x.yaml:y.yaml"}
    os.chdir("evil")
    with open(".env", "w", encoding="utf-8") as file:
        file.write("COMPOSE_FILE=../shop/x.yaml:y.yaml\n" if name == "COMPOSE_FILE" else "COMPOSE_PATH_SEPARATOR=:\n")
    found = directories(environment={} if name == "COMPOSE_FILE" else own)
    assert found == ["../shop", "."]
    assert directories(("-f", "../shop/x.yaml")) == ["../shop"], "what is typed counts, and .env has no say"


def foreign(globals_=()):
    """Which directories no question grants, relative to the current one."""
    return [os.path.relpath(path) for path in find_files(ComposeCommand("up", globals_, (), ()), {}).foreign]


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ("compose.yaml:../compose.yaml", [".."]),
        ("../compose.yaml", [".."]),
        ("compose.yaml:../other/y.yaml", ["../other"]),
        ("compose.yaml:link/compose.yaml", ["link"]),
        ("deploy/x.yaml:compose.yaml", []),
        ("compose.yaml", []),
    ],
)
def test_what_an_env_file_brings_in_from_beside_or_above_is_foreign(chosen, expected):
    touch("compose.yaml", "other/y.yaml", "evil/compose.yaml", "evil/deploy/x.yaml")
    os.chdir("evil")
    os.symlink("..", "link")
    with open(".env", "w", encoding="utf-8") as file:
        file.write(f"COMPOSE_FILE={chosen}\n")
    assert foreign() == expected
    assert foreign(("-f", "../compose.yaml")) == [], "what is typed is the user's word"


def test_an_env_file_given_elsewhere_is_one_more_directory():
    touch("shop/x.yaml", "compose.yaml")
    os.makedirs("settings")
    with open("settings/prod.env", "w", encoding="utf-8") as file:
        file.write("COMPOSE_FILE=shop/x.yaml\nA=1\n")
    assert directories(("--env-file", "settings/prod.env")) == ["shop", "settings"]
    assert directories(environment={"COMPOSE_ENV_FILES": "settings/prod.env"}) == ["shop", "settings"]


@pytest.mark.parametrize(
    "path",
    [
        "oci://registry/x:1", "oci:registry/x", "https://github.com/x/y.git", "git@github.com:x/y.git", "ssh://x/y",
        "github.com/x/y", "missing.yaml",
    ],
)  # fmt: skip
def test_what_is_no_file_here_counts_as_remote(path):
    touch("compose.yaml")
    assert find_files(ComposeCommand("up", ("-f", "compose.yaml", "-f", path), (), ()), {}).remote


def test_without_files_there_is_no_directory():
    assert directories() == []


def test_the_words_that_choose_files_are_kept_to_be_repeated():
    touch("a.yaml")
    command = ComposeCommand("up", ("-fa.yaml", "--ansi", "never", "--profile=x", "-p", "n"), (), ())
    assert find_files(command, {}).words == ("--file", "a.yaml", "--profile", "x")
