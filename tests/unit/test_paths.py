"""Where the agent is looked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dso import paths

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine whose system socket and users' runtime directories are under tmp_path; this user is not root."""
    monkeypatch.delenv(paths.SOCKET_VARIABLE, raising=False)
    monkeypatch.setattr(paths, "SYSTEM_SOCKET", str(tmp_path / "system.sock"))
    monkeypatch.setattr("os.getuid", lambda: 1000)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return tmp_path


def test_variable_comes_first_then_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.find_agent_socket("/configured.sock") == "/configured.sock"
    monkeypatch.setenv(paths.SOCKET_VARIABLE, "/given.sock")
    assert paths.find_agent_socket("/configured.sock") == "/given.sock"


def test_roots_agent_comes_before_ones_own_if_it_is_there(places: Path) -> None:
    own = places / "dso.sock"
    assert paths.find_agent_socket() == str(places / "system.sock")  # for the error
    own.touch()
    assert paths.find_agent_socket() == str(own)
    (places / "system.sock").touch()
    assert paths.find_agent_socket() == str(places / "system.sock")


def test_places_of_root_and_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_RUNTIME_DIR")
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/home/ann")
    assert paths.agent_socket(0) == paths.SYSTEM_SOCKET
    assert paths.agent_socket(1000) == "/run/user/1000/dso.sock"
    assert (paths.agent_state_dir(0), paths.agent_state_dir(1000)) == ("/var/lib/dso", "/home/ann/.local/state/dso")
    assert (paths.agent_runtime_dir(0), paths.agent_runtime_dir(1000)) == ("/run/dso", "/run/user/1000/dso")
    assert (paths.volume_socket(0), paths.volume_socket(1000)) == ("/run/docker/plugins/dso.sock", None)
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert paths.agent_state_dir(1000) == "/state/dso"
