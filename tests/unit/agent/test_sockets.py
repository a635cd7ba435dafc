"""The sockets the agent listens on."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from typing import TYPE_CHECKING

import pytest

from dso.agent import sockets
from dso.agent.sockets import activated_sockets, bind
from dso.errors import AgentSocketError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A path short enough whatever pytest calls its directories."""
    monkeypatch.chdir(tmp_path)
    return "agent.sock"


def mode_of(path: str) -> int:
    return stat.S_IMODE(os.stat(path).st_mode)


def test_a_socket_is_ours_alone_unless_there_is_a_group(place: str) -> None:
    umask = os.umask(0)
    try:
        with bind(place, group=None).listener:
            assert mode_of(place) == 0o600
        os.unlink(place)
        with bind(place, group=os.getegid()).listener:
            assert mode_of(place) == 0o660
            assert os.stat(place).st_gid == os.getegid()
        assert os.umask(0) == 0, "the umask is as it was"
    finally:
        os.umask(umask)


def test_it_is_listened_on_at_once(place: str) -> None:
    with bind(place, group=None).listener, socket.socket(socket.AF_UNIX) as client:
        client.connect(place)


def test_a_file_that_a_dead_agent_left_is_replaced(place: str) -> None:
    bind(place, group=None).listener.close()
    left = os.stat(place).st_ino, os.stat(place).st_mtime_ns
    with bind(place, group=None).listener, socket.socket(socket.AF_UNIX) as client:
        assert (os.stat(place).st_ino, os.stat(place).st_mtime_ns) != left
        client.connect(place)


def test_a_second_agent_is_refused_and_the_first_goes_on(place: str) -> None:
    with bind(place, group=None).listener, socket.socket(socket.AF_UNIX) as client:
        with pytest.raises(AgentSocketError, match="another agent listens") as caught:
            bind(place, group=None)
        assert "--socket" in caught.value.hint
        client.connect(place)


def test_a_second_agent_is_refused_while_the_first_is_too_busy_to_accept(place: str) -> None:
    with socket.socket(socket.AF_UNIX) as busy, socket.socket(socket.AF_UNIX) as client:
        busy.bind(place)
        busy.listen(0)
        client.setblocking(False)
        client.connect(place)
        with pytest.raises(AgentSocketError, match="another agent listens"):
            bind(place, group=None)


def test_what_is_no_socket_is_left_alone(place: str) -> None:
    with open(place, "w") as file:
        file.write("precious")
    with pytest.raises(AgentSocketError, match="is no socket"):
        bind(place, group=None)
    with open(place) as file:
        assert file.read() == "precious"


def test_a_link_is_not_followed(place: str) -> None:
    bind("real.sock", group=None).listener.close()
    os.symlink("real.sock", place)
    with pytest.raises(AgentSocketError, match="is no socket"):
        bind(place, group=None)


def test_places_that_cannot_be_used_are_told(place: str) -> None:
    with pytest.raises(AgentSocketError, match="too long"):
        bind("x" * 108, group=None)
    with (
        open("file", "w"),
        pytest.raises(AgentSocketError, match="cannot listen at file/x") as caught,
    ):
        bind("file/x.sock", group=None)
    assert "DSO_SOCKET_PATH" in caught.value.hint


def test_directories_are_made_so_that_the_group_can_pass(place: str) -> None:
    umask = os.umask(0o077)
    try:
        with bind(f"a/b/{place}", group=None).listener:
            assert (mode_of("a"), mode_of("a/b")) == (0o755, 0o755)
    finally:
        os.umask(umask)


def test_somebody_who_holds_the_directorys_lock_cannot_keep_the_agent_away(
    place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "_LOCK_PATIENCE", 0.05)
    descriptor = os.open(".", os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with bind(place, group=None).listener:
            assert os.path.exists(place)
    finally:
        os.close(descriptor)


def test_only_the_file_we_made_is_removed(place: str) -> None:
    first = bind(place, group=None)
    first.listener.close()
    os.rename(place, "kept")  # so that its inode is not used again
    with bind(place, group=None).listener:
        first.remove()
        assert os.path.exists(place)
    second = bind(place, group=None)
    second.listener.close()
    second.remove()
    assert not os.path.exists(place)
    second.remove()


# systemd's


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch, place: str) -> Iterator[list[tuple[str, socket.socket]]]:
    found: list[tuple[str, socket.socket]] = []
    monkeypatch.setattr(sockets, "listen_sockets", lambda: found)
    yield found
    for _, one in found:
        one.close()


def listening(path: str) -> socket.socket:
    found = socket.socket(socket.AF_UNIX)
    found.bind(path)
    found.listen()
    return found


def test_without_systemd_there_are_none(passed: list[tuple[str, socket.socket]]) -> None:
    assert activated_sockets("agent.sock", "volume.sock") == (None, None)


@pytest.mark.parametrize(
    ("agent_name", "volume_name"), [("agent", "volume"), ("dso.socket", "dso-volume.socket"), ("unknown", "unknown")]
)
def test_sockets_are_told_apart_by_name_else_by_path(
    passed: list[tuple[str, socket.socket]], agent_name: str, volume_name: str
) -> None:
    passed += [(volume_name, listening("volume.sock")), (agent_name, listening("agent.sock"))]
    agent, volume = activated_sockets("agent.sock", "volume.sock")
    assert agent is not None
    assert volume is not None
    assert (agent.listener, agent.path) == (passed[1][1], "agent.sock")
    assert (volume.listener, volume.path) == (passed[0][1], "volume.sock")


def test_systemds_files_are_not_removed(passed: list[tuple[str, socket.socket]]) -> None:
    passed.append(("agent", listening("agent.sock")))
    agent, _ = activated_sockets("agent.sock", None)
    assert agent is not None
    agent.remove()
    assert os.path.exists("agent.sock")


def test_a_socket_nobody_knows_is_an_error(passed: list[tuple[str, socket.socket]]) -> None:
    passed.append(("web", listening("other.sock")))
    with pytest.raises(AgentSocketError, match="'web' at other") as caught:
        activated_sockets("agent.sock", None)
    assert "FileDescriptorName" in caught.value.hint


def test_a_socket_of_the_network_is_an_error(passed: list[tuple[str, socket.socket]]) -> None:
    passed.append(("agent", socket.create_server(("127.0.0.1", 0))))
    with pytest.raises(AgentSocketError, match="no Unix socket"):
        activated_sockets("agent.sock", None)
