"""Which files Compose would find; tests/integration holds the same cases against Compose itself."""

import os

import pytest

from dso.compose.command import ComposeCommand
from dso.compose.files import file_flags, reads_stdin


def found(globals_=(), environment=None):
    flags = file_flags(ComposeCommand("up", globals_, (), ()), environment or {})
    assert flags[::2] == ["-f"] * (len(flags) // 2)
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
    assert file_flags(ComposeCommand("up", (), (), ()), {}) == []


def test_standard_input_alone_lies_in_the_current_directory(tmp_path):
    command = ComposeCommand("up", ("-f", "-"), (), ())
    assert file_flags(command, {}) == ["--project-directory", str(tmp_path)]
    assert found(("-f", "-", "--project-directory", "p")) == []
