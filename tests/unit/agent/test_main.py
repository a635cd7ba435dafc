"""The command line of dso-agent."""

from __future__ import annotations

import os

import pytest

from dso import paths
from dso.agent import main as command
from dso.agent.daemon import Options, Places
from dso.agent.main import build_parser, main
from dso.config.model import AgentConfig, CloudConfig
from dso.version import VERSION


@pytest.fixture(autouse=True)
def harmless(monkeypatch):
    """The tests' own process stays as it is."""
    monkeypatch.setattr(command, "harden", list)
    for name in (paths.SOCKET_VARIABLE, paths.PLUGIN_DIR_VARIABLE, "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)


def configuration(**agent: str) -> CloudConfig:
    return CloudConfig("f", {}, {}, None, AgentConfig(**agent))


def test_version(capsys):
    assert main(["dso-agent", "--version"]) == 0
    assert capsys.readouterr().out == f"dso-agent {VERSION}\n"


def test_help_names_every_flag_and_variable(capsys):
    assert main(["dso-agent", "--help"]) == 0
    told = capsys.readouterr().out
    for word in ("--config", "--socket", "--plugin-dir", "--check", "--log-level", "--log-format", "--version"):
        assert word in told
    assert "$DSO_SOCKET_PATH" in told
    assert "$DSO_PLUGIN_DIR" in told


@pytest.mark.parametrize("words", [["--nope"], ["--log-level", "loud"], ["word"], ["--conf", "x"]])
def test_a_faulty_command_line_ends_as_dockers_do(words, capsys):
    assert main(["dso-agent", *words]) == 125
    assert "usage: dso-agent" in capsys.readouterr().err


def test_a_missing_configuration_says_what_to_do(tmp_path, capsys):
    assert main(["dso-agent", "--config", str(tmp_path / "none.yaml")]) == 44
    told = capsys.readouterr().err
    assert told.startswith(f"Error: there is no {tmp_path}/none.yaml\n  hint: ")


def test_a_faulty_configuration_says_where(tmp_path, capsys):
    path = tmp_path / "dso.yaml"
    path.write_text("version: 1\nproviders: {a: {type: fake}}\nsecrts: []\n")
    assert main(["dso-agent", "--check", "--config", str(path)]) == 44
    told = capsys.readouterr().err
    assert f"Error: {path}, line 3: " in told
    assert "did you mean secrets?" in told


def test_whatever_goes_wrong_ends_without_the_text_of_an_exception(tmp_path, capsys, monkeypatch):
    def fail(*_arguments, **_named):
        raise ValueError("hunter2")

    monkeypatch.setattr(command, "load_config", fail)
    assert main(["dso-agent", "--config", "x"]) == 70
    told = capsys.readouterr().err
    assert "ValueError at " in told
    assert "hunter2" not in told


def test_root_reads_the_systems_configuration(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert command._default_config() == "/etc/dso/dso.yaml"


def test_others_read_their_own_and_are_told_when_there_is_none(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert main(["dso-agent"]) == 3
    assert f"there is no {tmp_path}/.config/dso/dso.yaml" in capsys.readouterr().err
    (tmp_path / ".config" / "dso").mkdir(parents=True)
    (tmp_path / ".config" / "dso" / "dso.yaml").write_text("")
    assert command._default_config() == f"{tmp_path}/.config/dso/dso.yaml"
    (tmp_path / "dso").mkdir()
    (tmp_path / "dso" / "dso.yaml").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert command._default_config() == f"{tmp_path}/dso/dso.yaml"


def test_a_place_is_the_command_lines_else_the_configurations_else_the_users(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert Places.of(Options("f"), configuration()) == Places(
        "/var/run/dso.sock", "/usr/local/lib/dso/plugins", "/var/lib/dso", "/run/dso", "/run/docker/plugins/dso.sock"
    )
    given = configuration(socket="/c.sock", plugin_dir="/c", state_dir="/s", runtime_dir="/r", volume_socket="/v.sock")
    assert Places.of(Options("f"), given) == Places("/c.sock", "/c", "/s", "/r", "/v.sock")
    assert Places.of(Options("f", "/o.sock", "/o"), given) == Places("/o.sock", "/o", "/s", "/r", "/v.sock")


def test_another_user_has_places_of_its_own_and_no_volume_driver(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/1000")
    monkeypatch.setenv("XDG_STATE_HOME", "/home/a/state")
    assert Places.of(Options("f"), configuration()) == Places(
        "/run/user/1000/dso.sock", "/usr/local/lib/dso/plugins", "/home/a/state/dso", "/run/user/1000/dso", None
    )


def test_the_manual_page_can_be_made_from_the_parser():
    parser = build_parser()
    assert parser.prog == "dso-agent"
    assert all(action.help for action in parser._actions)
